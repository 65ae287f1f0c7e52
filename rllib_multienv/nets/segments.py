"""How sequences of many lengths lie in one flat token tensor.

Everything that acts on single tokens (linear layers, normalisation, activations) works on the flat tensor
``[num_tokens, H]`` of *all* environments at once. Only what looks along a sequence goes through the groups:
all sequences of one length, whichever environments they come from, form one group, whose tokens are
contiguous and can be viewed as ``[count, length, H]`` without a copy. There is no padding and no mask.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

from torch import Tensor

__all__ = ["Group", "Segments"]


@dataclass(frozen=True, slots=True)
class Group:
    """``count`` sequences of ``length`` tokens each: tokens from ``start``, rows (sequences) from ``row``."""

    length: int
    count: int
    start: int
    row: int

    @property
    def stop(self) -> int:
        """One past the last token of the group."""
        return self.start + self.length * self.count

    @property
    def row_stop(self) -> int:
        """One past the last row of the group."""
        return self.row + self.count

    def tokens(self, flat: Tensor) -> Tensor:
        """View the group's tokens of ``flat [num_tokens, H]`` as ``[count, length, H]``."""
        return flat[self.start : self.stop].view(self.count, self.length, -1)

    def rows(self, flat: Tensor) -> Tensor:
        """View the group's rows of ``flat [num_rows, H]`` as ``[count, H]``."""
        return flat[self.row : self.row_stop]


@dataclass(frozen=True)
class Segments:
    """The groups of one packed tensor, in the order in which their tokens lie in it."""

    groups: tuple[Group, ...]

    @classmethod
    def of(cls, lengths_and_counts: Iterable[tuple[int, int]]) -> Segments:
        """Lay out ``(length, count)`` pairs one after the other; neighbours of equal length are one group."""
        merged: list[list[int]] = []
        for length, count in lengths_and_counts:
            if length < 1:
                raise ValueError(f"a sequence needs at least one token, got length {length}")
            if merged and merged[-1][0] == length:
                merged[-1][1] += count
            else:
                merged.append([length, count])
        groups, start, row = [], 0, 0
        for length, count in merged:
            groups.append(Group(length, count, start, row))
            start += length * count
            row += count
        return cls(tuple(groups))

    @cached_property
    def num_tokens(self) -> int:
        """Tokens of all groups."""
        return self.groups[-1].stop if self.groups else 0

    @cached_property
    def num_rows(self) -> int:
        """Sequences of all groups."""
        return self.groups[-1].row_stop if self.groups else 0

    @cached_property
    def max_length(self) -> int:
        """The longest sequence (0 if there is none)."""
        return max((group.length for group in self.groups), default=0)

    @cached_property
    def token_counts(self) -> list[int]:
        """Tokens per group, for ``Tensor.split``."""
        return [group.length * group.count for group in self.groups]
