"""Losses divided by their running means."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rllib_multienv.learners.combine.combiner import require_number
from rllib_multienv.learners.combine.critic import Array, CriticCombiner


@dataclass
class LossScale(CriticCombiner):
    """Divides each critic's loss by its running mean, so that all are about one.

    Args:
        decay: Of the running means, in each step; in [0, 1).
    """

    decay: float = 0.99

    def __post_init__(self) -> None:
        """Check the decay."""
        require_number(self, "decay", lambda decay: 0 <= decay < 1, "a number in [0, 1)")
        self.sums: dict[str, tuple[float, float]] = {}  # of losses, and of their weights

    def solve(self, losses: Array, env_ids: Sequence[str], norms: Array | None) -> Array:
        """See :meth:`CriticCombiner.solve`."""
        for env_id, loss in zip(env_ids, losses.tolist(), strict=True):
            total, weight = self.sums.get(env_id, (0.0, 0.0))
            self.sums[env_id] = self.decay * total + loss, self.decay * weight + 1
        return np.array([self.sums[env_id][1] / self.sums[env_id][0] for env_id in env_ids])
