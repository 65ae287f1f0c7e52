"""The description of an environment that networks are built from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

__all__ = ["Interface", "StateActionInterface"]


class Interface(Protocol):
    """Sizes and kinds of one environment's observations and actions. `SpaceSpec` satisfies it by structure."""

    @property
    def description(self) -> str:
        """Text by which networks tell environments apart; their ids are labels (see `EnvSpec.description`)."""

    @property
    def obs_names(self) -> Sequence[str]:
        """A few words for each component of the observation; empty if nothing is known."""

    @property
    def action_names(self) -> Sequence[str]:
        """The same for each discrete action, or component of a continuous action."""

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


@dataclass(frozen=True)
class StateActionInterface:
    """The environment of an action value Q(s, a): a network with one output per discrete action.

    A continuous action is part of the observation, after the state, and the only output is its value. Discrete actions
    are not in the observation; every action has an output.

    Attributes:
        environment: the environment itself.
        discrete: as in `Interface`; the outputs are read like those for discrete actions.
    """

    environment: Interface
    discrete: bool = True
    action_low: tuple[float, ...] = ()
    action_high: tuple[float, ...] = ()

    @property
    def description(self) -> str:
        """As in `Interface`."""
        return self.environment.description

    @property
    def obs_names(self) -> Sequence[str]:
        """Nothing: networks describe state and action apart."""
        return ()

    @property
    def action_names(self) -> Sequence[str]:
        """As in `Interface`."""
        return self.environment.action_names if self.environment.discrete else ("value",)

    @property
    def obs_size(self) -> int:
        """As in `Interface`."""
        return self.environment.obs_size + (0 if self.environment.discrete else self.environment.action_size)

    @property
    def action_size(self) -> int:
        """As in `Interface`."""
        return self.environment.action_size if self.environment.discrete else 1
