"""The description of an environment that networks are built from, and its observations as they get them."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from rllib_multienv.spaces.rows import ActionPart, ActionRow, ObservationRow

__all__ = ["VALUE_MEASURED", "VALUE_NAMES", "Inputs", "Interface", "StateActionInterface", "untold"]

#: Words and measured features of a value, the same in all environments.
VALUE_NAMES = ("value",)
VALUE_MEASURED = ((1.0,),)


class Interface(Protocol):
    """Sizes and kinds of one environment's observations and actions. `SpaceSpec` satisfies it by structure."""

    @property
    def description(self) -> str:
        """Text by which networks tell environments apart; their ids are labels (see `EnvSpec.description`)."""

    @property
    def observation(self) -> ObservationRow:
        """Layout of observations."""

    @property
    def action(self) -> ActionRow:
        """Layout of actions."""

    @property
    def obs_names(self) -> Sequence[str]:
        """A few words for each number of the observation; empty if nothing is known."""

    @property
    def action_names(self) -> Sequence[str]:
        """The same for each logit, then for each continuous component, of the action."""

    @property
    def obs_measured(self) -> Sequence[Sequence[float]]:
        """``[I, K]`` features of each component of the observation, measured in a rollout; empty if not measured."""

    @property
    def action_measured(self) -> Sequence[Sequence[float]]:
        """``[A, K']``, the same for each logit, then for each continuous component, of the action."""

    @property
    def obs_size(self) -> int:
        """Numbers of the observation, ``observation.numbers``."""

    @property
    def action_size(self) -> int:
        """Logits and continuous components of the action."""

    @property
    def discrete(self) -> bool:
        """Whether the action is a single choice."""

    @property
    def action_low(self) -> Sequence[float]:
        """Lower bounds of the continuous components."""

    @property
    def action_high(self) -> Sequence[float]:
        """Upper bounds of the continuous components."""

    @property
    def squashed(self) -> bool:
        """Whether ``tanh`` keeps continuous actions in (-1, 1); otherwise they are clipped."""

    @property
    def world(self) -> str:
        """Name of the world that the environment is a member of (`world_attention`); empty for none."""

    @property
    def world_copies(self) -> int:
        """Copies of the environment in one world."""


@dataclass(frozen=True)
class StateActionInterface:
    """The environment of an action value Q(s, a): a network with one output per discrete action.

    A single choice is not in the observation: every action has an output. Any other action is part of the numbers of
    the observation, after the state, and the only output is its value.

    Attributes:
        environment: the environment itself.
        discrete: as in `Interface`; the outputs are read like those for discrete actions.
    """

    environment: Interface
    discrete: bool = True
    action_low: tuple[float, ...] = ()
    action_high: tuple[float, ...] = ()
    squashed: bool = False
    world: str = ""
    world_copies: int = 1

    @property
    def description(self) -> str:
        """As in `Interface`."""
        return self.environment.description

    @property
    def observation(self) -> ObservationRow:
        """As in `Interface`, without a mask."""
        of_state = self.environment.observation
        return ObservationRow(self.obs_size, of_state.images, of_state.texts)

    @property
    def action(self) -> ActionRow:
        """As in `Interface`."""
        return ActionRow((ActionPart("categorical" if self.discrete else "continuous", self.action_size),))

    @property
    def obs_names(self) -> Sequence[str]:
        """Nothing: networks describe state and action apart."""
        return ()

    @property
    def action_names(self) -> Sequence[str]:
        """As in `Interface`."""
        return self.environment.action_names if self.environment.discrete else VALUE_NAMES

    @property
    def obs_measured(self) -> Sequence[Sequence[float]]:
        """Nothing, as for `obs_names`."""
        return ()

    @property
    def action_measured(self) -> Sequence[Sequence[float]]:
        """As in `Interface`; a value has the same constant in all environments."""
        return self.environment.action_measured if self.environment.discrete else VALUE_MEASURED

    @property
    def obs_size(self) -> int:
        """As in `Interface`."""
        return self.environment.obs_size + (0 if self.environment.discrete else self.environment.action_size)

    @property
    def action_size(self) -> int:
        """As in `Interface`."""
        return self.environment.action_size if self.environment.discrete else 1


def untold(interface: Interface) -> Interface:
    """The same environment without its description."""
    if isinstance(interface, StateActionInterface):
        return replace(interface, environment=untold(interface.environment))
    told = copy.copy(interface)
    object.__setattr__(told, "description", "any")
    return told


class Inputs(NamedTuple):
    """The rows of one environment's observations, taken apart.

    Attributes:
        numbers: ``[B, I]``.
        media: bytes of images, then of texts, ``[B, M]``; None without.
        mask: bytes ``[B, num_logits]``, 0 for actions that are forbidden; None without.
    """

    numbers: Tensor
    media: Tensor | None = None
    mask: Tensor | None = None

    @classmethod
    def of(cls, env_id: str, row: ObservationRow, rows: Tensor | Inputs) -> Inputs:
        """Take rows ``[B, width]`` apart, if they are not yet; without images, text and mask they are the numbers.

        Raises:
            ValueError: observations have another shape.
        """
        if isinstance(rows, Inputs):
            return rows
        if rows.ndim != 2 or rows.shape[1] != row.width:
            raise ValueError(f"{env_id}: observations have shape {tuple(rows.shape)}, expected [B, {row.width}]")
        if not row.packed:
            return cls(rows)
        if rows.dtype != torch.uint8:
            raise ValueError(f"{env_id}: observations have dtype {rows.dtype}, expected torch.uint8")
        numbers, media, mask = rows.split([4 * row.numbers, row.extra - row.mask, row.mask], 1)
        # Rows may begin anywhere in memory; numbers must begin at multiples of their size.
        numbers = numbers.clone(memory_format=torch.contiguous_format).view(torch.float32)  # [B, I]
        return cls(numbers, media if media.shape[1] else None, mask if row.mask else None)

    def detach(self) -> Inputs:
        """The same without gradients."""
        return self._replace(numbers=self.numbers.detach())
