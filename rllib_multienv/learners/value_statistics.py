"""Running statistics of each environment's value targets, the same on all learners."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

#: Weight of the newest update in the running means.
RATE = 0.1
_SMALLEST_STD = 1e-2


@dataclass
class _Running:
    """Exponential means whose weights sum to one from the first update on (as Adam's with bias correction)."""

    weight: float = 0.0
    mean: float = 0.0
    square: float = 0.0
    error: float = 0.0

    def add(self, mean: float, square: float, error: float) -> None:
        self.weight += RATE * (1.0 - self.weight)
        share = RATE / self.weight
        self.mean += share * (mean - self.mean)
        self.square += share * (square - self.square)
        self.error += share * (error - self.error)


class ValueStatistics:
    """Mean and deviation of the value targets, and the mean squared error of V, of each environment.

    Learners have different environments, and not always the same ones; each adds what it has, and after the sum over
    learners all of them hold the statistics of all.
    """

    def __init__(self) -> None:
        self._running: dict[str, _Running] = {}

    def update(
        self,
        targets: Mapping[str, Tensor],
        predictions: Mapping[str, Tensor],
        env_ids: Sequence[str],
        reduce: Callable[[Tensor], None] = lambda sums: None,
    ) -> None:
        """Count the data of one update.

        Args:
            targets: ``[N_e]`` of this learner's environments; an environment's learners all have all of its rows.
            predictions: V before the update, ``[N_e]``.
            env_ids: All environments of the run, in the order that all learners use.
            reduce: Replaces a tensor by its sum over all learners.
        """
        sums = torch.zeros(len(env_ids), 4, dtype=torch.float64)
        for row, env_id in enumerate(env_ids):
            if env_id in targets:
                target, error = targets[env_id].double(), (targets[env_id] - predictions[env_id]).double()
                sums[row] = torch.stack(
                    [torch.ones_like(target[0]), target.mean(), target.square().mean(), error.square().mean()]
                ).cpu()
        reduce(sums)
        for env_id, (count, *means) in zip(env_ids, sums.tolist(), strict=True):
            if count:
                self._running.setdefault(env_id, _Running()).add(*(value / count for value in means))

    def moments(self, env_id: str) -> tuple[float, float]:
        """Mean and standard deviation of an environment's value targets; 0 and 1 before any were seen."""
        known = self._running.get(env_id)
        if known is None:
            return 0.0, 1.0
        return known.mean, max((known.square - known.mean**2), _SMALLEST_STD**2) ** 0.5

    def error(self, env_id: str) -> float:
        """Running mean of the squared error of V; 1 before any was seen."""
        known = self._running.get(env_id)
        return 1.0 if known is None else known.error

    def get_state(self) -> dict[str, Any]:
        """The running means by environment."""
        return {env_id: dict(vars(running)) for env_id, running in self._running.items()}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Take over a state of :meth:`get_state`."""
        self._running = {env_id: _Running(**values) for env_id, values in state.items()}
