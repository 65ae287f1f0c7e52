"""The network of HiP-BMDP (Zhang et al. 2020, arXiv 2007.07206): each task is known by an embedding alone.

Policy, values, action values and a model of transitions and rewards are told the environment by one vector theta, and
by nothing else, so that environments that differ in hidden parameters differ in theta. An environment that is added
later begins with the mean embedding of those that have its sizes, or of all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple

import torch
from torch import Tensor, nn

from rllib_multienv.spaces.rows import ActionPart, ActionRow

from .action_values import action_numbers
from .config import require
from .context import TaskContext
from .generated import GeneratedActorCritic, Middle
from .interface import Inputs, Interface, StateActionInterface, untold
from .parameters import env_key
from .task_encoder import TaskEncoderNetConfig

__all__ = ["HiPActorCritic", "HiPNetConfig", "Predicted", "TaskModels", "share_context"]


@dataclass(frozen=True, kw_only=True)
class HiPNetConfig(TaskEncoderNetConfig):
    """Config of `HiPActorCritic`, a network with a task encoder that is told the environment by theta alone.

    Attributes:
        context: what theta is made of, as in `TaskNetConfig`; the paper's is ``"embedding"``, a parameter of each
            environment. With ``"vectors"`` it is a map of what is known of the tasks.
    """

    type: ClassVar[str] = "hip"
    algorithm: ClassVar[str | None] = "MultiEnvHiPBMDP"

    context: Literal["computed", "words", "vectors", "embedding"] = "embedding"

    def __post_init__(self) -> None:
        """Check the fields."""
        super().__post_init__()
        for name in ("memory", "inputs", "world_attention"):
            require(not getattr(self, name), name, getattr(self, name), "left out: the models predict single steps")

    def of_components(self, interface: Interface) -> Tensor:
        """See `GeneratedNetConfig`; here and below without the environment's description."""
        return super().of_components(untold(interface))

    def of_actions(self, interface: Interface) -> Tensor:
        """See `GeneratedNetConfig`."""
        return super().of_actions(untold(interface))

    def of_environment(self, interface: Interface) -> Tensor:
        """See `GeneratedNetConfig`."""
        return super().of_environment(untold(interface))

    def build(self, interfaces: Mapping[str, Interface]) -> HiPActorCritic:
        """Build the network for these environments; others can be added later."""
        return HiPActorCritic(self, interfaces)


@dataclass(frozen=True)
class _ModelInterface(StateActionInterface):
    """An environment whose observation is a state with an action, and whose action is what follows.

    That is the change of each number of the observation, and the reward.
    """

    discrete: bool = False

    @property
    def obs_size(self) -> int:
        """Numbers of the observation and of the action, whose choices are one-hot."""
        return self.environment.obs_size + self.environment.action_size

    @property
    def action_size(self) -> int:
        """Numbers of the observation, and the reward."""
        return self.environment.obs_size + 1

    @property
    def action(self) -> ActionRow:
        """As in `Interface`."""
        return ActionRow((ActionPart("continuous", self.action_size),))

    @property
    def action_names(self) -> tuple[str, ...]:
        """As in `Interface`."""
        names = self.environment.obs_names
        return (*(f"change {name}" for name in names), "reward") if names else ()

    @property
    def action_measured(self) -> tuple[tuple[float, ...], ...]:
        """As in `Interface`; of a reward nothing is measured."""
        of_state = [tuple(features) for features in self.environment.obs_measured]
        return (*of_state, (0.0,) * len(of_state[0])) if of_state else ()


class Predicted(NamedTuple):
    """What a model says of the next step of B rows.

    Attributes:
        change: ``[B, I]``, mean of the change of the observation's numbers.
        log_std: ``[B, I]``, logarithm of its standard deviation.
        reward: ``[B]``.
    """

    change: Tensor
    log_std: Tensor
    reward: Tensor

    def negative_log_likelihood(self, changes: Tensor, beta: float = 0.0) -> Tensor:
        """Mean over ``[B, I]`` changes, without constant: ``((mu - d) / sigma)^2 / 2 + log sigma``; 0 if I is 0.

        With ``beta`` each term weighs ``sigma^(2 beta)``, without gradient, so that what is predicted well already does
        not keep the model from the rest (Seitzer et al. 2022, arXiv 2203.09168).
        """
        squared = (self.change - changes).square() * torch.exp(-2.0 * self.log_std)  # [B, I]
        terms = 0.5 * squared + self.log_std
        if beta:
            terms = terms * torch.exp(2.0 * beta * self.log_std.detach())
        return terms.sum() / max(1, changes.numel())


class TaskModels(nn.Module):
    """Gaussian transitions and rewards of a state and an action, in the task of an embedding theta.

    Args:
        config: the network's.
        interfaces: the environments.
        context: theta of each environment.
    """

    def __init__(self, config: HiPNetConfig, interfaces: Mapping[str, Interface], context: TaskContext) -> None:
        super().__init__()
        inputs = {env_id: _ModelInterface(interface) for env_id, interface in interfaces.items()}
        self.network = GeneratedActorCritic(config.without_dropout(), inputs)
        self.network.drop_critic()
        del self.network.actor.decoders["logits"]  # all outputs are numbers
        share_context(self.network, context)

    def forward(self, obs: Mapping[str, Tensor], numbers: Mapping[str, Tensor]) -> dict[str, Predicted]:
        """Predictions for rows ``[B, width]`` and actions as numbers ``[B, A]``, by environment.

        Rows of one environment may be given under the id of another one with the same spaces: then they are what would
        follow in that one.
        """
        inputs, sizes = {}, {}
        for env_id, rows in obs.items():
            environment = self._environment(env_id)
            own = Inputs.of(env_id, environment.observation, rows)
            inputs[env_id] = Inputs(torch.cat([own.numbers, numbers[env_id]], 1), own.media)  # [B, I + A]
            sizes[env_id] = environment.obs_size
        outputs = self.network.run(inputs, parts=("actor",)).policy  # each [B, 2 (I + 1)]
        predicted = {}
        for env_id, output in outputs.items():
            mean, log_std = output.chunk(2, 1)  # each [B, I + 1]
            size = sizes[env_id]
            predicted[env_id] = Predicted(mean[:, :size], log_std[:, :size], mean[:, size])
        return predicted

    def changes(self, env_id: str, obs: Tensor, next_obs: Tensor) -> Tensor:
        """``[B, I]``, the changes of the numbers of observations ``[B, width]``."""
        row = self._environment(env_id).observation
        before, after = (Inputs.of(env_id, row, rows).numbers for rows in (obs, next_obs))
        return after - before

    def numbers(self, env_id: str, actions: Tensor) -> Tensor:
        """Actions as numbers ``[B, A]``: choices are one-hot."""
        row = self._environment(env_id).action
        return action_numbers(row, actions[:, None].float() if row.discrete else actions)

    def _environment(self, env_id: str) -> Interface:
        found = self.network.interfaces[env_id]
        assert isinstance(found, _ModelInterface)
        return found.environment


class HiPActorCritic(GeneratedActorCritic):
    """Policy and values (`GeneratedActorCritic`) and `models`, all of which know an environment by its theta alone.

    Attributes:
        models: transitions and rewards; learners have them, and agents from a checkpoint.
    """

    critic_only = (*GeneratedActorCritic.critic_only, "models")

    def __init__(self, config: HiPNetConfig, interfaces: Mapping[str, Interface]) -> None:
        super().__init__(config, interfaces)
        share_context(self, self.context)
        self.models = TaskModels(config, interfaces, self.context)
        self._is_built = True

    @property
    def knows_any(self) -> bool:
        """Yes: others have the mean embedding."""
        return True

    @property
    def context(self) -> TaskContext:
        """Theta of each environment."""
        middle: Any = self.actor.middle
        context: TaskContext = middle.context
        return context

    def thetas(self, env_ids: Sequence[str]) -> Tensor:
        """``[E, C]``, the embeddings of these environments."""
        return self.context.table(env_ids, self.actor.norm.weight)

    def theta(self, env_id: str) -> nn.Parameter:
        """``[C]``, the parameter of an environment, where embeddings are parameters."""
        found = self.context.rows[env_key(env_id)]
        assert isinstance(found, nn.Parameter)
        return found

    def add_env(self, env_id: str, interface: Interface) -> None:
        """See `ActorCritic.add_env`; a new environment begins with the mean embedding."""
        known = tuple(self.interfaces)
        super().add_env(env_id, interface)
        if not getattr(self, "_is_built", False) or env_id in known:
            return
        if self.context.mode == "embedding" and known:
            sizes = interface.obs_size, interface.action
            alike = [e for e in known if (self.interfaces[e].obs_size, self.interfaces[e].action) == sizes]
            with torch.no_grad():
                self.theta(env_id).copy_(self.thetas(alike or known).mean(0))
        if hasattr(self, "models"):
            self.models.network.add_env(env_id, _ModelInterface(interface))

    def remove_env(self, env_id: str) -> None:
        """See `ActorCritic.remove_env`."""
        super().remove_env(env_id)
        if hasattr(self, "models"):
            self.models.network.remove_env(env_id)


def share_context(network: nn.Module, context: TaskContext) -> None:
    """Give all parts of a network the same vectors of environments."""
    for module in list(network.modules()):
        if isinstance(module, Middle):
            module.context = context
