"""What all networks have in common: observations of many environments in, policies and values out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar, Protocol

from torch import Tensor, nn

__all__ = ["ActorCritic", "Interface"]


class Interface(Protocol):
    """What a network needs to know of an environment. `SpaceSpec` satisfies it by structure."""

    @property
    def obs_size(self) -> int:
        """Length of the flat observation."""

    @property
    def action_size(self) -> int:
        """Number of actions if discrete, else the length of the flat action."""

    @property
    def discrete(self) -> bool:
        """Whether the actions are discrete."""

    @property
    def action_low(self) -> Sequence[float]:
        """Lower bounds, one per action component; empty if discrete."""

    @property
    def action_high(self) -> Sequence[float]:
        """Upper bounds, one per action component; empty if discrete."""


class ActorCritic(nn.Module, ABC):
    """Policy and value function for several environments at once.

    Observations come as ``{env_id: [B, I]}`` with any subset of the known environments and a batch size of
    each environment's own. Distribution inputs are logits ``[B, n]`` (discrete) or mean and log standard
    deviation, one after the other, ``[B, 2 A]`` (continuous); values are ``[B]``.

    Attributes:
        interfaces: the known environments by id; not part of the state dict.
        critic_only: names of the children that only `value` uses. They may be deleted where just the policy is needed.
    """

    critic_only: ClassVar[tuple[str, ...]] = ("critic",)

    def __init__(self) -> None:
        super().__init__()
        self.interfaces: dict[str, Interface] = {}

    def add_env(self, env_id: str, interface: Interface) -> None:
        """Make an environment known.

        Raises:
            ValueError: the id is known already, with other sizes.
        """
        known = self.interfaces.get(env_id)
        if known is not None and known != interface:
            raise ValueError(f"environment {env_id!r} is known already with another interface; remove it first")
        self.interfaces[env_id] = interface

    def remove_env(self, env_id: str) -> None:
        """Forget an environment.

        Raises:
            KeyError: the id is not known.
        """
        if env_id not in self.interfaces:
            raise KeyError(f"unknown environment {env_id!r}; known: {sorted(self.interfaces)}")
        del self.interfaces[env_id]

    @abstractmethod
    def policy(self, obs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Distribution inputs of every environment in ``obs``."""

    @abstractmethod
    def value(self, obs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Values ``[B]`` of every environment in ``obs``."""

    def forward(self, obs: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Distribution inputs and values."""
        return self.policy(obs), self.value(obs)

    @abstractmethod
    def actor_parameters(self) -> list[nn.Parameter]:
        """Parameters of the policy, and those that both share."""

    @abstractmethod
    def critic_parameters(self) -> list[nn.Parameter]:
        """The remaining parameters."""
