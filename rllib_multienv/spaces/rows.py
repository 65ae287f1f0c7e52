"""Rows: the form that observations and actions of any space have between environments and networks.

An observation is one row of an array. Without images, text or an action mask it is float32 ``[I]``, its numbers.
Otherwise it is uint8: the bytes of its float32 numbers, then its images, its text and its action mask, so that every
array between runner and network stays one array, and images stay bytes. Needs NumPy only, so that networks can use it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal, NamedTuple

import numpy as np

__all__ = ["ActionPart", "ActionRow", "ImageShape", "ObservationRow"]


class ImageShape(NamedTuple):
    """One image of an observation, in the environment's own order of axes."""

    height: int
    width: int
    channels: int
    channels_first: bool = False

    @property
    def size(self) -> int:
        """Bytes."""
        return self.height * self.width * self.channels


@dataclass(frozen=True)
class ObservationRow:
    """Layout of an environment's observations.

    Attributes:
        numbers: I, at least 1; an observation without numbers has a constant 0.
        images: The images.
        texts: Length of each text in bytes, padded with 0.
        mask: Length of the action mask, one byte for each logit (`ActionRow.num_logits`); 0 without one.
    """

    numbers: int
    images: tuple[ImageShape, ...] = ()
    texts: tuple[int, ...] = ()
    mask: int = 0

    @cached_property
    def extra(self) -> int:
        """Bytes after the numbers."""
        return sum(image.size for image in self.images) + sum(self.texts) + self.mask

    @property
    def packed(self) -> bool:
        """Whether rows are bytes."""
        return self.extra > 0

    @property
    def width(self) -> int:
        """Length of a row."""
        return 4 * self.numbers + self.extra if self.packed else self.numbers

    def join(self, numbers: np.ndarray, extra: np.ndarray | None) -> np.ndarray:
        """Rows ``[B, width]`` from numbers ``[B, I]`` and, where rows are packed, bytes ``[B, extra]``."""
        numbers = numbers.astype(np.float32, copy=False)
        if not self.packed:
            return numbers
        assert extra is not None
        return np.concatenate([np.ascontiguousarray(numbers).view(np.uint8), extra], axis=1)  # [B, 4 I + extra]

    def split(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        """The inverse of `join`."""
        if not self.packed:
            return rows, None
        head = 4 * self.numbers
        return np.ascontiguousarray(rows[:, :head]).view(np.float32), rows[:, head:]  # [B, I], [B, extra]


class ActionPart(NamedTuple):
    """An independent factor of the action distribution.

    ``categorical`` chooses one of `size`, ``bernoulli`` has `size` bits, ``continuous`` has `size` numbers in [-1, 1].
    """

    kind: Literal["categorical", "bernoulli", "continuous"]
    size: int


@dataclass(frozen=True)
class ActionRow:
    """Layout of an environment's actions: their distribution is the product of independent parts.

    A single categorical part has actions int64 ``[B]``. Otherwise actions are float32 ``[B, width]``: for each part in
    order the chosen index (categorical, one column), the bits, or the numbers. At most one part is continuous, the
    last. Distribution inputs are ``[B, num_inputs]``: the logits of all parts in order, then means, then log standard
    deviations.
    """

    parts: tuple[ActionPart, ...]

    @cached_property
    def discrete(self) -> bool:
        """Whether the action is a single choice."""
        return len(self.parts) == 1 and self.parts[0].kind == "categorical"

    @cached_property
    def num_logits(self) -> int:
        """Logits of all categorical and Bernoulli parts."""
        return sum(part.size for part in self.parts if part.kind != "continuous")

    @cached_property
    def num_continuous(self) -> int:
        """Continuous components."""
        return sum(part.size for part in self.parts if part.kind == "continuous")

    @cached_property
    def num_inputs(self) -> int:
        """Distribution inputs of a row."""
        return self.num_logits + 2 * self.num_continuous

    @cached_property
    def width(self) -> int:
        """Columns of an action."""
        return sum(1 if part.kind == "categorical" else part.size for part in self.parts)

    def numbers(self, actions: np.ndarray) -> np.ndarray:
        """Actions ``[B]`` or ``[B, width]`` as ``[B, num_logits + num_continuous]``, with a one for each choice."""
        columns, place, actions = [], 0, actions.reshape(len(actions), -1)
        for kind, size in self.parts:
            width = 1 if kind == "categorical" else size
            own = actions[:, place : place + width]
            columns.append(np.eye(size)[own[:, 0].astype(np.int64)] if kind == "categorical" else own)
            place += width
        return np.concatenate(columns, axis=1)
