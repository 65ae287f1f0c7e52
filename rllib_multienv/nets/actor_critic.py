"""What all networks have in common: observations of many environments in, policies and values out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar, Protocol

from torch import Tensor, nn

from .value_bins import ValueBins

__all__ = ["ActorCritic", "Interface"]


class Interface(Protocol):
    """What a network is told about an environment. `SpaceSpec` satisfies it by structure."""

    @property
    def description(self) -> str:
        """Text by which networks tell environments apart; their ids are labels (see `EnvSpec.description`)."""

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
        value_bins: the bins over which values are a distribution; None where they are numbers.
        critic_only: names of the children that only `value` uses. They may be deleted where just the policy is needed.
    """

    critic_only: ClassVar[tuple[str, ...]] = ("critic",)

    def __init__(self) -> None:
        super().__init__()
        self.interfaces: dict[str, Interface] = {}
        self.value_bins: ValueBins | None = None

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

    def check_observations(self, obs: Mapping[str, Tensor]) -> None:
        """Check that observations are of known environments and of their sizes.

        Raises:
            KeyError: an environment is not known.
            ValueError: observations have another shape than ``[B, I]``.
        """
        for env_id, value in obs.items():
            if env_id not in self.interfaces:
                raise KeyError(f"unknown environment {env_id!r}; known: {sorted(self.interfaces)}")
            size = self.interfaces[env_id].obs_size
            if value.ndim != 2 or value.shape[1] != size:
                raise ValueError(f"{env_id}: observations have shape {tuple(value.shape)}, expected [B, {size}]")

    @abstractmethod
    def policy(self, obs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Distribution inputs of every environment in ``obs``."""

    @abstractmethod
    def value(self, obs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Values ``[B]`` of every environment in ``obs``."""

    def forward(self, obs: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Distribution inputs and values, or what values are read from where there are `value_bins`."""
        return self.policy(obs), self.value(obs)

    def read_values(self, outputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Values ``[B]`` from the second result of `forward`: ``[B]``, or logits ``[B, K]`` over `value_bins`."""
        if self.value_bins is None:
            return dict(outputs)
        return {env_id: self.value_bins.read(logits) for env_id, logits in outputs.items()}

    @abstractmethod
    def actor_parameters(self) -> list[nn.Parameter]:
        """Parameters of the policy, and those that both share."""

    @abstractmethod
    def critic_parameters(self) -> list[nn.Parameter]:
        """The remaining parameters."""
