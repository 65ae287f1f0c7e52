"""Weights from learned variances (Kendall et al. 2018, arXiv 1705.07115)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rllib_multienv.learners.combine.combiner import require_number
from rllib_multienv.learners.combine.critic import Array, CriticCombiner, PerEnvironmentAdam


@dataclass
class UncertaintyWeighting(CriticCombiner):
    """Divides each critic's loss by a learned variance: ``exp(-s) L + s`` is minimised over s too.

    The log variances s are the combiner's, not parameters of the network, so that an agent has none of an environment.

    Args:
        lr: Learning rate of the log variances.
    """

    lr: float = 0.025

    def __post_init__(self) -> None:
        """Begin with variances of one."""
        require_number(self, "lr", lambda lr: lr > 0, "a number above 0")
        self.log_variances = PerEnvironmentAdam(self.lr, 0.0)

    def solve(self, losses: Array, env_ids: Sequence[str], norms: Array | None) -> Array:
        """See :meth:`CriticCombiner.solve`."""
        weights: Array = np.exp(-self.log_variances.of(env_ids))
        self.log_variances.step(env_ids, 1 - weights * losses)
        return weights
