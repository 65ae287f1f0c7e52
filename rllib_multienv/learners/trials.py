"""Whole trials from fragments."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Generic, TypeVar

from rllib_multienv.rollout import Rollout

__all__ = ["OpenTrials"]

T = TypeVar("T")


class OpenTrials(Generic[T]):
    """Puts the trials of an environment together that go over several fragments."""

    def __init__(self) -> None:
        self._parts: dict[tuple[int, int], list[T]] = {}  # what there is of trials by fragment and copy
        self._num_rollouts = 0

    def whole(
        self, rollouts: Sequence[Rollout], part_of: Callable[[Rollout, tuple[int, int, int]], T]
    ) -> Iterator[list[T]]:
        """The parts of each trial that ends in the fragments of one iteration and whose beginning is known.

        Args:
            rollouts: The fragments, in the same order of runners each time.
            part_of: Makes a part of a rollout and one of its `Rollout.chunks`.
        """
        if len(rollouts) != self._num_rollouts:  # a fragment was lost, and the others may have another place now
            self._parts.clear()
        self._num_rollouts = len(rollouts)
        for number, rollout in enumerate(rollouts):
            for chunk in rollout.chunks():
                b, first, stop = chunk
                begun = self._parts.pop((number, b), None)
                if rollout.first[first, b]:
                    begun = []
                if begun is None:
                    continue  # the beginning of this trial is not known
                parts = [*begun, part_of(rollout, chunk)]
                if rollout.done[stop - 1, b]:
                    yield parts
                else:
                    self._parts[number, b] = parts

    def get_state(self) -> tuple[int, dict[Any, Any]]:
        """What `set_state` takes."""
        return self._num_rollouts, dict(self._parts)

    def set_state(self, state: tuple[int, dict[Any, Any]]) -> None:
        """Take over a state."""
        self._num_rollouts, parts = state
        self._parts = dict(parts)
