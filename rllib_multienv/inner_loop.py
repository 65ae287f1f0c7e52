"""Adaptation by gradients: steps on a task's own episodes, as MAML, ProMP and Reptile take them.

The policy that adapts in a runner or in `MultiEnvAgent.adapt` (`TaskPolicies`) and the meta-gradient of a learner
(`InnerLoop.meta_loss`) take the same steps (`InnerLoop.adapted`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from rllib_multienv.discounting import discounted_sums
from rllib_multienv.nets import ActorCritic, Inputs, distribution_for
from rllib_multienv.nets.config import require, require_choice, require_whole

__all__ = ["InnerLoop", "StepSizes", "TaskPolicies", "TaskRows", "linear_advantages", "start_parameters"]

Parameters = Mapping[str, Tensor]

_STEP_SIZES = "step_sizes"
#: The child of a network that has the latents of tasks of training (`latent_loop`).
TASK_LATENTS = "task_latents"
# As in the implementations of MAML and ProMP: observations beyond this, and the ridge of the regression.
_LARGEST_FEATURE, _RIDGE = 10.0, 1e-5


class TaskRows(NamedTuple):
    """What was seen and done in n steps of one task.

    Attributes:
        obs: ``[n, width]``.
        actions: ``[n]`` or ``[n, A]``, the network's.
        logp: ``[n]``, log probabilities under the policy that acted.
        dist_inputs: ``[n, num_inputs]`` of that policy.
        advantages: ``[n]``.
    """

    obs: Tensor
    actions: Tensor
    logp: Tensor
    dist_inputs: Tensor
    advantages: Tensor


def linear_advantages(
    features: np.ndarray, rewards: np.ndarray, ends: np.ndarray, *, gamma: float, lambda_: float
) -> np.ndarray:
    """Advantages by generalised advantage estimation with a baseline that is fitted to these steps, standardised.

    The baseline is the ridge regression of discounted returns on the features, their squares, and time, its square and
    its cube (Duan et al. 2016, arXiv 1604.06778). Nothing follows the end of an episode, whatever ended it.

    Args:
        features: ``[n, I]``, numbers of the observations; steps are in order of time.
        rewards: ``[n]``.
        ends: bool ``[n]``, last steps of episodes.
        gamma: Discount factor.
        lambda_: Trace decay.

    Returns:
        float32 ``[n]``.
    """
    pieces = np.split(np.arange(len(rewards)), np.flatnonzero(ends[:-1]) + 1)  # an episode each
    time = np.concatenate([np.arange(len(piece)) for piece in pieces])[:, None] / 100.0  # [n, 1]
    numbers = np.clip(features, -_LARGEST_FEATURE, _LARGEST_FEATURE).astype(np.float64)
    design = np.hstack([numbers, numbers**2, time, time**2, time**3, np.ones_like(time)])  # [n, 2 I + 4]
    returns = np.concatenate([discounted_sums(rewards[piece][::-1], gamma)[::-1] for piece in pieces])  # [n]
    gram = design.T @ design + _RIDGE * np.eye(design.shape[1])
    values = design @ np.linalg.lstsq(gram, design.T @ returns, rcond=None)[0]  # [n]
    following = np.append(values[1:], 0.0)
    following[[piece[-1] for piece in pieces]] = 0.0
    deltas = rewards + gamma * following - values
    advantages = np.concatenate([discounted_sums(deltas[piece][::-1], gamma * lambda_)[::-1] for piece in pieces])
    return ((advantages - advantages.mean()) / max(advantages.std(), 1e-8)).astype(np.float32)


class StepSizes(nn.Module):
    """A learned step size for each number of each adapted parameter (Meta-SGD, Li et al. 2017, arXiv 1707.09835).

    It is the child ``step_sizes`` of a network. Parameters that the network gets later have the fixed step size.
    """

    def __init__(self, parameters: Parameters, lr: float) -> None:
        super().__init__()
        sizes = {name.replace(".", "/"): nn.Parameter(torch.full_like(value, lr)) for name, value in parameters.items()}
        self.sizes = nn.ParameterDict(sizes)

    @classmethod
    def add_to(cls, network: ActorCritic, parameters: Parameters, lr: float) -> None:
        """Let the step sizes of what a network adapts be learned."""
        network.add_module(_STEP_SIZES, cls(parameters, lr))

    @classmethod
    def add_where_in(cls, network: ActorCritic, weights: Parameters) -> None:
        """Add them if a state dict has them."""
        prefix = f"{_STEP_SIZES}.sizes."
        own = {name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)}
        if own:
            cls.add_to(network, own, 0.0)

    @classmethod
    def of(cls, network: ActorCritic) -> dict[str, Tensor]:
        """The learned step sizes of a network by the names of its parameters; empty where they are not learned."""
        child = getattr(network, _STEP_SIZES, None)
        return {name.replace("/", "."): size for name, size in child.sizes.items()} if isinstance(child, cls) else {}


def start_parameters(network: ActorCritic) -> dict[str, nn.Parameter]:
    """The parameters that are adapted, those of the policy, by name."""
    own = {id(parameter) for parameter in network.actor_parameters()}
    return {
        name: parameter
        for name, parameter in network.named_parameters()
        if id(parameter) in own and not name.startswith((f"{_STEP_SIZES}.", f"{TASK_LATENTS}."))
    }


@dataclass(frozen=True, kw_only=True)
class InnerLoop:
    """How a policy adapts to a task: steps of the policy gradient, each on the episodes since the last one.

    Attributes:
        method: ``"maml"``: the steps are those of the score function (Finn et al. 2017, arXiv 1703.03400). ``"promp"``:
            of the likelihood ratio, whose second derivatives also have the sampling distribution (Rothfuss et al. 2019,
            arXiv 1810.06784). ``"reptile"``: as for MAML; the start moves towards what is adapted (Nichol et al. 2018,
            arXiv 1803.02999).
        lr: Step size of the first step (alpha).
        lr_decay: Factor of the step sizes, learned ones too, from each step to the next.
        steps: Steps that training looks ahead.
        episodes: Episodes before each step.
        order: 1: the meta-gradient leaves second derivatives out.
        gamma: Discount factor.
        lambda_: Lambda of generalised advantage estimation.
    """

    method: Literal["maml", "promp", "reptile"] = "promp"
    lr: float = 0.1
    lr_decay: float = 0.5
    steps: int = 1
    episodes: int = 10
    order: Literal[1, 2] = 2
    gamma: float = 0.99
    lambda_: float = 1.0

    def __post_init__(self) -> None:
        """Check the fields.

        Raises:
            ValueError: Names the field, its value, and what would be right.
        """
        require_choice(self, "method", ("maml", "promp", "reptile"))
        require_choice(self, "order", (1, 2))
        require_whole(self, "steps", at_least=0)
        require_whole(self, "episodes")
        for name in ("lr", "lr_decay"):
            value = getattr(self, name)
            require(isinstance(value, int | float) and value > 0, name, value, "a number above 0")

    @property
    def trial_episodes(self) -> int:
        """Episodes of a task in training: those before each step, and those after the last."""
        return self.episodes * (self.steps + 1)

    def start(self, network: ActorCritic) -> Parameters:
        """What is adapted, by name, as it is before the first step of a new task."""
        return start_parameters(network)

    def trained(self, network: ActorCritic, env_id: str) -> Mapping[str, nn.Parameter]:
        """The parameters that the meta-gradient of an environment is of, by name, beside step sizes."""
        return start_parameters(network)

    def of_task(self, trained: Parameters, task: int) -> Parameters:
        """What the policy of a training task depends on before the first step, from values of `trained`."""
        return trained

    def is_adapted(self, name: str) -> bool:
        """Whether steps change what has this name in `of_task`."""
        return True

    def policy(self, network: ActorCritic, env_id: str, parameters: Parameters, obs: Tensor) -> Tensor:
        """Distribution inputs ``[n, num_inputs]`` for observations ``[n, width]`` of a task."""
        return network.policy_with(parameters, env_id, obs)

    def policies(self, network: ActorCritic, env_id: str, parameters: Parameters, obs: Tensor) -> Tensor:
        """The same ``[B, num_inputs]`` for one observation of each of B tasks, with parameters ``[B, ...]``."""
        return network.policies_with(parameters, env_id, obs)

    def check(self, network: ActorCritic, kind: str) -> None:
        """Check that a network of this kind has the derivatives.

        Raises:
            ValueError: It has not.
        """
        if self.order == 2 and self.method != "reptile" and not network.twice_differentiable:
            raise ValueError(
                f"order=2: the {kind!r} network has first derivatives only. Set training(order=1), or use another "
                "network: generated, specific or mlp."
            )

    def rows(
        self, network: ActorCritic, env_id: str, columns: Mapping[str, np.ndarray], device: torch.device | str = "cpu"
    ) -> TaskRows:
        """Steps of a task with their advantages.

        Args:
            network: The network.
            env_id: The environment.
            columns: Fields of `TaskRows` but for the advantages, and those of `linear_advantages`: ``"rewards"`` and
                ``"ends"``; ``[n, ...]`` each.
            device: Where tensors go.
        """
        advantages = self.advantages(network.interfaces[env_id], env_id, columns)
        arrays = [*(columns[name] for name in TaskRows._fields[:-1]), advantages]
        return TaskRows(*(torch.from_numpy(np.ascontiguousarray(array)).to(device) for array in arrays))

    def advantages(self, interface: Any, env_id: str, columns: Mapping[str, np.ndarray]) -> np.ndarray:
        """``[n]``, see `linear_advantages`; columns as for `rows`."""
        obs = torch.from_numpy(np.ascontiguousarray(columns["obs"]))
        numbers = Inputs.of(env_id, interface.observation, obs).numbers.numpy()
        return linear_advantages(numbers, columns["rewards"], columns["ends"], gamma=self.gamma, lambda_=self.lambda_)

    def adapted(
        self,
        network: ActorCritic,
        env_id: str,
        parameters: Parameters,
        rows: TaskRows,
        sizes: Parameters,
        *,
        number: int = 0,
        create_graph: bool = False,
    ) -> dict[str, Tensor]:
        """The parameters after a step.

        Args:
            network: The network.
            env_id: The environment.
            parameters: By name, where the step starts.
            rows: What was experienced with these parameters.
            sizes: First step sizes by name; `lr` where there is none.
            number: Steps of this task before.
            create_graph: Whether the step's gradient is differentiated too.
        """
        with torch.enable_grad():
            own = {name: p if p.requires_grad else p.detach().requires_grad_() for name, p in parameters.items()}
            distribution = self._distribution(network, env_id, own, rows)
            logp = distribution.logp(rows.actions)  # [n]
            score = torch.exp(logp - rows.logp) if self.method == "promp" else logp  # [n]
            loss = -(score * rows.advantages).mean()
            before = {name: value for name, value in own.items() if self.is_adapted(name)}
            gradients = torch.autograd.grad(loss, list(before.values()), create_graph=create_graph, allow_unused=True)
            factor = self.lr_decay**number
            after = {
                name: value if gradient is None else value - factor * sizes.get(name, self.lr) * gradient
                for (name, value), gradient in zip(before.items(), gradients, strict=True)
            }
            return {**own, **after}

    def meta_loss(
        self,
        network: ActorCritic,
        env_id: str,
        parameters: Parameters,
        sizes: Parameters,
        stages: Sequence[TaskRows],
        *,
        clip_param: float,
        kl_coeff: float = 0.0,
    ) -> Tensor:
        """The loss of a task, a scalar whose gradient is the meta-gradient.

        That is the clipped objective of PPO of the adapted policy on the episodes after the last step. Reptile's
        gradient is the way from what is adapted, by a step on those episodes too, to the start.

        Args:
            network: The network.
            env_id: The environment.
            parameters: The start, by name, with gradient.
            sizes: Step sizes by name, with gradient; `lr` where there is none.
            stages: The episodes before each step, then those after the last.
            clip_param: Bound on the probability ratio's distance from one.
            kl_coeff: Factor of the KL divergence of the policies before each step from those that sampled (ProMP).
        """
        present: Parameters = parameters
        divergence: Tensor | float = 0.0
        for number, rows in enumerate(stages if self.method == "reptile" else stages[:-1]):
            if kl_coeff:
                before = self._distribution(network, env_id, present, rows)
                divergence = divergence + type(before).from_logits(rows.dist_inputs).kl(before).mean() / self.steps
            graph = self.order == 2 and self.method != "reptile"
            present = self.adapted(network, env_id, present, rows, sizes, number=number, create_graph=graph)
        if self.method == "reptile":
            ways = [(start * (start - present[name]).detach()).sum() for name, start in parameters.items()]
            return torch.stack(ways).sum() + kl_coeff * divergence
        rows = stages[-1]
        ratio = torch.exp(self._distribution(network, env_id, present, rows).logp(rows.actions) - rows.logp)  # [n]
        clipped = ratio.clamp(1.0 - clip_param, 1.0 + clip_param)
        return -torch.minimum(ratio * rows.advantages, clipped * rows.advantages).mean() + kl_coeff * divergence

    def _distribution(self, network: ActorCritic, env_id: str, parameters: Parameters, rows: TaskRows) -> Any:
        inputs = self.policy(network, env_id, parameters, rows.obs)  # [n, num_inputs]
        return distribution_for(network.interfaces[env_id]).from_logits(inputs)


class TaskPolicies:
    """The policies of B tasks of an environment, each of which takes its steps as soon as it has their episodes.

    Args:
        inner_loop: The steps.
        network: The network; its parameters are the start.
        env_id: The environment.
        num_tasks: B.
        starts: What is adapted of each task before its first step, ``[B, ...]`` each; default: `InnerLoop.start`.
    """

    def __init__(
        self,
        inner_loop: InnerLoop,
        network: ActorCritic,
        env_id: str,
        num_tasks: int,
        starts: Parameters | None = None,
    ) -> None:
        self._inner_loop, self._network, self._env_id = inner_loop, network, env_id
        start = {name: value.detach() for name, value in inner_loop.start(network).items()}
        self._starts = starts or {name: value.expand(num_tasks, *value.shape) for name, value in start.items()}
        self._sizes = {name: size.detach() for name, size in StepSizes.of(network).items()}
        # [B, ...] each; None: all are at the network's own start.
        self._adapted = None if starts is None else self._all_at_the_start()
        self._kept: list[dict[str, np.ndarray]] = []  # columns [B, ...] of the last time steps
        self._since = np.zeros(num_tasks, int)  # [B], the first of these that the next step is made of
        self._episodes = np.zeros(num_tasks, int)  # [B], since then
        self._steps = np.zeros(num_tasks, int)  # [B], that were taken

    def _all_at_the_start(self) -> dict[str, Tensor]:
        return {name: value.clone() for name, value in self._starts.items()}

    @torch.no_grad()
    def __call__(self, obs: Tensor) -> Tensor:
        """Distribution inputs ``[B, num_inputs]`` for observations ``[B, width]``, one of each task."""
        if self._adapted is None:
            return self._network.policy({self._env_id: obs})[self._env_id]
        return self._inner_loop.policies(self._network, self._env_id, self._adapted, obs)

    def observe(
        self, columns: Mapping[str, np.ndarray], rewards: np.ndarray, ends: np.ndarray, done: np.ndarray, valid: Any
    ) -> None:
        """See what came of actions, and take the steps that are due.

        Args:
            columns: ``"obs"``, ``"actions"``, ``"logp"`` and ``"dist_inputs"``, ``[B, ...]`` each; see `TaskRows`.
            rewards: ``[B]``.
            ends: bool ``[B]``, the step ended an episode.
            done: bool ``[B]``, it was the last of the task.
            valid: bool ``[B]``, the step was experience.
        """
        self._kept.append({**columns, "rewards": rewards, "ends": ends, "valid": valid})
        self._episodes += ends
        due = (self._episodes >= self._inner_loop.episodes) | done
        if not due.any():
            return
        stepped = np.flatnonzero(due & ~done)
        if len(stepped):
            first = int(self._since[stepped].min())
            stacked = {key: np.stack([kept[key] for kept in self._kept[first:]]) for key in self._kept[-1]}
            for task in stepped.tolist():
                self._adapt(task, {key: column[self._since[task] - first :, task] for key, column in stacked.items()})
        if self._adapted is not None:
            for name, value in self._adapted.items():
                rows = torch.from_numpy(done).to(value.device)
                value[rows] = self._starts[name][rows]
        self._steps[done] = 0
        self._since[due], self._episodes[due] = len(self._kept), 0
        first = int(self._since.min())
        del self._kept[:first]
        self._since -= first

    def _adapt(self, task: int, columns: Mapping[str, np.ndarray]) -> None:
        valid = columns["valid"]
        device = next(iter(self._starts.values())).device
        own = {key: column[valid] for key, column in columns.items()}
        rows = self._inner_loop.rows(self._network, self._env_id, own, device)
        if self._adapted is None:
            self._adapted = self._all_at_the_start()
        before = {name: value[task] for name, value in self._adapted.items()}
        number = int(self._steps[task])
        after = self._inner_loop.adapted(self._network, self._env_id, before, rows, self._sizes, number=number)
        self._steps[task] += 1
        for name, value in after.items():
            self._adapted[name][task] = value.detach()
