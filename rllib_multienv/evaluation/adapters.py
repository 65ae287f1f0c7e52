"""Ways to adapt to a task: by memory, or by steps of a gradient. A checkpoint names its agent's way.

Another way is an `Adapter` and a line in `ADAPTERS`; the algorithm's configuration names it in its ``adapter``.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar, Protocol, cast

import numpy as np
import torch

from rllib_multienv.envs.copies import VectorStep
from rllib_multienv.gym_ids import did_you_mean
from rllib_multienv.inner_loop import InnerLoop, TaskPolicies
from rllib_multienv.latent_loop import LatentLoop, check_numbers
from rllib_multienv.nets import HiPActorCritic, distribution_for
from rllib_multienv.policy import AgentPolicy


class Adapter(Protocol):
    """An agent that adapts to B tasks at once, each in a copy of its own.

    It adapts between two calls as it likes: by memory of what it has seen, or by steps of a gradient or of a posterior
    at the end of each episode.
    """

    def begin(self, num_tasks: int) -> None:
        """B new tasks begin, of which nothing is known."""

    def act(self, raw: np.ndarray) -> Any:
        """Actions in the environment's own terms for raw observations ``[B, ...]``."""

    def observe(self, step: VectorStep) -> None:
        """See what came of these actions; ``step.episode_ends`` says where episodes ended."""


class MemoryAdapter:
    """Acts with the policy; what it knows of a task is in its memory.

    Args:
        policy: The policy.
        env_id: The environment.
        explore: Draw actions instead of taking the mode.
        generator: Source of the draws.
        draws: Draw actions whatever ``explore`` is.
    """

    def __init__(
        self, policy: AgentPolicy, env_id: str, explore: bool, generator: torch.Generator, *, draws: bool = False
    ) -> None:
        self._policy, self._env_id, self._explore, self._generator = policy, env_id, explore or draws, generator
        self._state: torch.Tensor | None = None

    def begin(self, num_tasks: int) -> None:
        """See `Adapter.begin`."""
        self._state = None

    def act(self, raw: np.ndarray) -> Any:
        """See `Adapter.act`."""
        actions, self._state = self._policy.act_on_raw(self._env_id, raw, self._explore, self._generator, self._state)
        return actions

    def observe(self, step: VectorStep) -> None:
        """See `Adapter.observe`."""
        self._state = self._policy.begun(self._state, step.terminated | step.truncated)


class GradientAdapter:
    """Acts with a policy for each task, which takes steps of the gradient between episodes.

    Args:
        policy: The policy, which has no memory; its parameters are the start.
        env_id: The environment.
        explore: Has no effect: all actions are drawn.
        generator: Source of the draws.
        fields: Those of `loop_class`.
    """

    loop_class: ClassVar[type[InnerLoop]] = InnerLoop

    def __init__(
        self, policy: AgentPolicy, env_id: str, explore: bool, generator: torch.Generator, **fields: Any
    ) -> None:
        if policy.network.memory is not None:
            raise ValueError("inner_loop: a network with memory does not adapt by steps of a gradient.")
        self._policy, self._env_id, self._generator = policy, env_id, generator
        self._inner_loop = self.loop_class(**fields)

    def begin(self, num_tasks: int) -> None:
        """See `Adapter.begin`."""
        self._policies = TaskPolicies(self._inner_loop, self._policy.network, self._env_id, num_tasks)

    def act(self, raw: np.ndarray) -> Any:
        """See `Adapter.act`."""
        spaces, rows = self._policy.space_specs[self._env_id], self._policy.rows(self._env_id, raw)
        inputs = self._policies(rows)
        distribution = distribution_for(spaces).from_logits(inputs)
        actions = distribution.sample(generator=self._generator)
        columns = {"obs": rows, "actions": actions, "logp": distribution.logp(actions), "dist_inputs": inputs}
        self._seen = {key: column.cpu().numpy() for key, column in columns.items()}
        return spaces.action_to_env(self._seen["actions"])

    def observe(self, step: VectorStep) -> None:
        """See `Adapter.observe`."""
        assert step.episode_ends is not None  # in trials
        done = step.terminated | step.truncated
        self._policies.observe(self._seen, step.rewards, step.episode_ends, done, ~step.is_reset)


class EmbeddingAdapter:
    """Acts with an embedding of each task (HiP-BMDP), which is inferred from the transitions seen in it.

    Tasks begin with the mean embedding of training. After an episode the transition model says which embedding of
    training makes what was seen so far in the task most likely, and steps of Adam go on from there.

    Args:
        policy: The policy, whose network has models.
        env_id: The environment.
        explore: Draw actions instead of taking the mode.
        generator: Source of the draws.
        steps, lr: Of Adam; without steps the embedding is one of training.
        rows: Transitions of a task that are looked at, evenly spaced over all of them.
    """

    def __init__(
        self,
        policy: AgentPolicy,
        env_id: str,
        explore: bool,
        generator: torch.Generator,
        *,
        steps: int = 100,
        lr: float = 0.02,
        rows: int = 256,
    ) -> None:
        if not (isinstance(policy.network, HiPActorCritic) and hasattr(policy.network, "models")):
            raise ValueError("embedding: a task is inferred by a network of type 'hip' with its models.")
        self._policy, self._env_id, self._explore, self._generator = policy, env_id, explore, generator
        self._steps, self._lr, self._rows = steps, lr, rows

    def begin(self, num_tasks: int) -> None:
        """See `Adapter.begin`."""
        spaces = self._policy.space_specs[self._env_id]
        self._network = copy.deepcopy(cast(HiPActorCritic, self._policy.network))
        for env_id in self._policy.space_specs.keys() - self._policy.checkpoint.space_specs.keys():
            self._network.remove_env(env_id)
        known = self._policy.checkpoint.space_specs.items()
        self._known = [env_id for env_id, of_known in known if of_known.has_spaces_of(spaces)] or [e for e, _ in known]
        self._tasks = [f"{self._env_id} {number}" for number in range(num_tasks)]  # each an environment of the network
        for task in self._tasks:
            self._network.add_env(task, spaces)
        self._seen: list[tuple[torch.Tensor, ...]] = []  # of each time step: obs, actions, next obs, validity, all [B]

    @torch.no_grad()
    def act(self, raw: np.ndarray) -> Any:
        """See `Adapter.act`."""
        spaces, self._obs = self._policy.space_specs[self._env_id], self._policy.rows(self._env_id, raw)
        each = dict(zip(self._tasks, self._obs.split(1), strict=True))  # [1, width]
        outputs = self._network(each, parts=("actor",)).policy
        distribution = distribution_for(spaces).from_logits(torch.cat([outputs[task] for task in self._tasks]))
        chosen = distribution if self._explore else distribution.to_deterministic()
        self._actions = chosen.sample(generator=self._generator)
        return spaces.action_to_env(self._actions.cpu().numpy())

    def observe(self, step: VectorStep) -> None:
        """See `Adapter.observe`."""
        assert step.episode_ends is not None  # in trials
        last = step.obs.copy()
        for number, final in step.final_obs.items():
            last[number] = final
        hidden = step.episode_ends & ~(step.terminated | step.truncated)  # by the first observation of a new episode
        valid = torch.from_numpy(~(step.is_reset | hidden))
        self._seen.append((self._obs, self._actions, self._policy.rows(self._env_id, last), valid))
        if step.episode_ends.any():
            self._infer(np.flatnonzero(step.episode_ends).tolist())

    @property
    def embeddings(self) -> torch.Tensor:
        """``[B, C]``, those of the tasks."""
        return self._network.thetas(self._tasks).detach()

    def _infer(self, numbers: list[int]) -> None:
        """Fit the embeddings of these tasks to what was seen in them."""
        network, models = self._network, self._network.models
        obs, actions, after, valid = (torch.stack(column, 1) for column in zip(*self._seen, strict=True))  # [B, T, ...]
        rows, given, changes = {}, {}, {}
        for number in numbers:
            found = valid[number].nonzero()[:, 0]
            if not len(found):
                continue
            evenly = torch.linspace(0, len(found) - 1, min(len(found), self._rows)).round().long()
            own, task = found[evenly].to(obs.device), self._tasks[number]
            rows[task], given[task] = obs[number, own], models.numbers(task, actions[number, own])
            changes[task] = models.changes(task, rows[task], after[number, own])

        def losses() -> torch.Tensor:
            predicted = models(rows, given)
            return torch.stack([predicted[task].negative_log_likelihood(changes[task]) for task in rows])

        if not rows or network.context.mode != "embedding":
            return
        thetas = [network.theta(task) for task in rows]
        with torch.no_grad():
            tried = []
            for env_id in self._known:
                for theta in thetas:
                    theta.copy_(network.theta(env_id))
                tried.append(losses())
            for theta, best in zip(thetas, torch.stack(tried).argmin(0).tolist(), strict=True):
                theta.copy_(network.theta(self._known[best]))
        optimizer = torch.optim.Adam(thetas, lr=self._lr)
        for _ in range(self._steps):
            for theta, gradient in zip(thetas, torch.autograd.grad(losses().sum(), thetas), strict=True):
                theta.grad = gradient
            optimizer.step()


class LatentAdapter(GradientAdapter):
    """Its steps change the latents of each task alone, which start at the prior (MAESN)."""

    loop_class: ClassVar[type[InnerLoop]] = LatentLoop

    def __init__(self, policy: AgentPolicy, env_id: str, *args: Any, **fields: Any) -> None:
        super().__init__(policy, env_id, *args, **fields)
        check_numbers(policy.space_specs[env_id])


#: Ways to adapt by the name that checkpoints have; each takes policy, env id, explore, generator, and the checkpoint's
#: other fields.
ADAPTERS: dict[str, type[Any]] = {
    "memory": MemoryAdapter,
    "inner_loop": GradientAdapter,
    "embedding": EmbeddingAdapter,
    "latent_loop": LatentAdapter,
}


def chosen_way(way: Mapping[str, Any], inner_loop: InnerLoop | Mapping[str, Any] | None) -> dict[str, Any]:
    """The way to adapt on request, see `MultiEnvAgent.adapt`.

    Args:
        way: That of the checkpoint.
        inner_loop: The steps that are asked for, or some of their fields.

    Raises:
        ValueError: Names the field that is wrong or unknown.
    """
    if inner_loop is None:
        return dict(way)
    if not isinstance(inner_loop, InnerLoop | Mapping):
        raise ValueError(f"inner_loop={inner_loop!r}: must be an InnerLoop, or a mapping of its fields.")
    loops = {name: one.loop_class for name, one in ADAPTERS.items() if issubclass(one, GradientAdapter)}
    way = way if way["type"] in loops else {"type": "inner_loop"}
    known = [field.name for field in dataclasses.fields(loops[way["type"]])]
    given = vars(inner_loop) if isinstance(inner_loop, InnerLoop) else inner_loop
    for name in given:
        if name not in known:
            raise ValueError(f"inner_loop={given!r}: unknown key {name!r}.{did_you_mean(str(name), known)}")
    chosen = {**way, **given}
    loops[way["type"]](**{name: value for name, value in chosen.items() if name != "type"})
    return chosen


def make_adapter(
    way: Mapping[str, Any], policy: AgentPolicy, env_id: str, *, explore: bool, generator: torch.Generator
) -> Adapter:
    """What adapts to tasks of an environment.

    Args:
        way: ``type``, a name in `ADAPTERS`, and its fields.
        policy: The agent's policy.
        env_id: The environment.
        explore: Draw actions instead of taking the mode.
        generator: Source of the draws.

    Raises:
        ValueError: There is no such way, or the network cannot adapt like that.
    """
    fields = dict(way)
    name = fields.pop("type")
    if name not in ADAPTERS:
        raise ValueError(f"The agent adapts by {name!r}; this version knows {', '.join(map(repr, ADAPTERS))}.")
    adapter: Adapter = ADAPTERS[name](policy, env_id, explore, generator, **fields)
    return adapter
