"""Distral's policies (Teh et al. 2017, arXiv 1707.04175): one for each task, and one distilled from all of them.

SAC trains both (algorithms/sac/module.py). The distilled policy is not told which environment it acts in. Where
observations or actions differ between environments it is a network for any sizes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Self

import torch
from torch import Tensor

from .action_values import ActionValues
from .actor_critic import ActorCritic, Outputs, Part
from .config import NetConfig, net_config_from_dict, require
from .generated import GeneratedNetConfig
from .interface import Inputs, Interface, untold
from .memory import State
from .specific import SpecificNetConfig

__all__ = ["DistralActorCritic", "DistralNetConfig"]


@dataclass(frozen=True, kw_only=True)
class DistralNetConfig(NetConfig):
    """Config of `DistralActorCritic`.

    Attributes:
        tasks: network of the task policies, and of values and action values.
        distilled: network of the distilled policy.
        alpha: how strongly the tasks' policies are drawn to the distilled one, c_KL / (c_KL + c_Ent) in the paper;
            SAC's temperature is c_KL + c_Ent.
        columns: 1: a task's policy is its network's. 2: it is the product of the network's and the distilled policy to
            the power of `alpha`, so that what tasks have in common is learned once.
    """

    type: ClassVar[str] = "distral"
    for_any: ClassVar[bool] = True
    algorithm: ClassVar[str | None] = "MultiEnvSAC"

    tasks: NetConfig = field(default_factory=SpecificNetConfig)
    distilled: NetConfig = field(default_factory=GeneratedNetConfig)
    alpha: float = 0.5
    columns: Literal[1, 2] = 1

    def __post_init__(self) -> None:
        """Check the fields; networks may be given as mappings of their fields."""
        for name in ("tasks", "distilled"):
            if isinstance(value := getattr(self, name), Mapping):
                object.__setattr__(self, name, net_config_from_dict(value))
            own = getattr(self, name)
            require(isinstance(own, NetConfig) and own.memory is None, name, own, "a network config without memory")
        super().__post_init__()
        for name in ("image_encoder", "text_encoder"):
            require(getattr(self, name) is None, name, getattr(self, name), "set in tasks and distilled")
        require(self.memory is None, "memory", self.memory, "None")
        require(0.0 <= self.alpha < 1.0, "alpha", self.alpha, "in [0, 1)")
        require(self.columns in (1, 2), "columns", self.columns, "1 or 2")

    def _of_both(self, change: Any) -> Self:
        return dataclasses.replace(self, tasks=change(self.tasks), distilled=change(self.distilled))

    def build(self, interfaces: Mapping[str, Interface]) -> DistralActorCritic:
        """Build the networks for these environments; others can be added later."""
        return DistralActorCritic(self, interfaces)

    def build_critic(self, interfaces: Mapping[str, Interface], *, num_estimates: int = 2) -> ActionValues:
        """Action values of the tasks' network."""
        return self.tasks.build_critic(interfaces, num_estimates=num_estimates)

    def for_environments(self, interfaces: Mapping[str, Interface]) -> Self:
        """See `NetConfig.for_environments`."""
        return self._of_both(lambda network: network.for_environments(interfaces))

    def check_environments(self, interfaces: Mapping[str, Interface]) -> None:
        """See `NetConfig.check_environments`."""
        for env_id, interface in interfaces.items():
            _check_actions(env_id, interface)
        self.tasks.check_environments(interfaces)
        self.distilled.check_environments({env_id: untold(one) for env_id, one in interfaces.items()})

    @property
    def needs_measurements(self) -> bool:
        """See `NetConfig.needs_measurements`."""
        return self.tasks.needs_measurements or self.distilled.needs_measurements

    def without_dropout(self) -> Self:
        """See `NetConfig.without_dropout`."""
        return self._of_both(lambda network: network.without_dropout())

    def to_dict(self) -> dict[str, Any]:
        """See `NetConfig.to_dict`."""
        return {**super().to_dict(), "tasks": self.tasks.to_dict(), "distilled": self.distilled.to_dict()}


class DistralActorCritic(ActorCritic):
    """Task policies with values (``tasks``), and the distilled policy (``distilled``).

    Actions are a single choice, or continuous.
    """

    def __init__(self, config: DistralNetConfig, interfaces: Mapping[str, Interface]) -> None:
        super().__init__()
        self.config = config
        self.tasks = config.tasks.build(interfaces)
        self.distilled = config.distilled.build({env_id: untold(one) for env_id, one in interfaces.items()})
        self.distilled.drop_critic()
        self.value_bins = self.tasks.value_bins
        self.critic_only = tuple(f"tasks.{name}" for name in self.tasks.critic_only)  # type: ignore[misc]
        for env_id, interface in interfaces.items():
            _check_actions(env_id, interface)
            self.interfaces[env_id] = interface

    def add_env(self, env_id: str, interface: Interface) -> None:
        """See `ActorCritic.add_env`."""
        _check_actions(env_id, interface)
        super().add_env(env_id, interface)
        self.tasks.add_env(env_id, interface)
        self.distilled.add_env(env_id, untold(interface))

    def remove_env(self, env_id: str) -> None:
        """See `ActorCritic.remove_env`."""
        super().remove_env(env_id)
        self.tasks.remove_env(env_id)
        self.distilled.remove_env(env_id)

    def drop_critic(self) -> None:
        """See `ActorCritic.drop_critic`."""
        self.tasks.drop_critic()

    def distilled_policy(self, obs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Distribution inputs of the distilled policy for every environment in ``obs``."""
        return self.distilled.policy(obs)

    def run(
        self,
        inputs: Mapping[str, Inputs],
        state: State | None = None,
        first: Mapping[str, Tensor] | None = None,
        valid: Mapping[str, Tensor] | None = None,
        *,
        parts: Sequence[Part] = ("actor", "critic"),
        apart: bool = False,
        present: Mapping[str, Tensor] | None = None,
    ) -> Outputs:
        """See `ActorCritic.run`."""
        outputs = self.tasks.run(inputs, parts=parts, apart=apart, present=present)
        if self.config.columns == 1 or "actor" not in parts:
            return outputs
        distilled = self.distilled.run(inputs, parts=("actor",), apart=apart, present=present).policy
        policy = {
            env_id: _product(own, distilled[env_id], self.config.alpha, discrete=self.interfaces[env_id].discrete)
            for env_id, own in outputs.policy.items()
        }
        return outputs._replace(policy=policy)

    def encode(self, part: Part, obs: Mapping[str, Tensor], media: Tensor | None = None) -> Tensor:
        """Of the tasks' network; see `ActorCritic.encode`."""
        return self.tasks.encode(part, obs, media)

    def decode(self, part: Part, rows: Tensor, counts: Mapping[str, int]) -> dict[str, Tensor]:
        """Of the tasks' network; see `ActorCritic.decode`."""
        return self.tasks.decode(part, rows, counts)


def _check_actions(env_id: str, interface: Interface) -> None:
    if interface.action.num_logits and not interface.discrete:
        raise ValueError(
            f"environment {env_id!r}: Distral takes a single choice or continuous actions, not bits, several choices "
            "or a mix"
        )


def _product(own: Tensor, distilled: Tensor, alpha: float, *, discrete: bool) -> Tensor:
    """Inputs of the distribution ``own * distilled^alpha``, normalised; of a Gaussian, before it is squashed."""
    if discrete:
        return own + alpha * distilled
    (mean, log_std), (of_distilled, its_log_std) = own.chunk(2, 1), distilled.chunk(2, 1)  # each [B, A]
    precision, its_precision = torch.exp(-2.0 * log_std), alpha * torch.exp(-2.0 * its_log_std)
    total = precision + its_precision
    return torch.cat([(precision * mean + its_precision * of_distilled) / total, -0.5 * torch.log(total)], 1)
