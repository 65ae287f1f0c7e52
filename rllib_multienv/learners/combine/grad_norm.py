"""Gradient norms balanced by the rate of training (GradNorm; Chen et al. 2018, arXiv 1711.02257)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from rllib_multienv.learners.combine.combiner import require_number
from rllib_multienv.learners.combine.critic import Array, CriticCombiner, PerEnvironmentAdam


@dataclass
class GradNorm(CriticCombiner):
    """Learns weights of the critic's losses under which gradients have one norm, larger where a loss lags behind.

    Norms are those of all the critic's gradients; the paper has its last shared layer's, which unlike environments may
    not have (docs/deviations.md, 37).

    Args:
        alpha: How strongly an environment whose loss falls slowly is favoured; 0: all norms are equal.
        lr: Learning rate of the weights.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"losses", "gram"})

    alpha: float = 1.5
    lr: float = 0.025

    def __post_init__(self) -> None:
        """Begin with weights of one."""
        require_number(self, "lr", lambda lr: lr > 0, "a number above 0")
        require_number(self, "alpha", lambda alpha: alpha >= 0, "a number of at least 0")
        self.weights = PerEnvironmentAdam(self.lr, 1.0)
        self.first_losses: dict[str, float] = {}

    def solve(self, losses: Array, env_ids: Sequence[str], norms: Array | None) -> Array:
        """See :meth:`CriticCombiner.solve`; Algorithm 1 of the paper."""
        assert norms is not None
        for env_id, loss in zip(env_ids, losses.tolist(), strict=True):
            self.first_losses.setdefault(env_id, loss)
        ratio = losses / np.array([self.first_losses[env_id] for env_id in env_ids])  # [K]
        norms = norms / norms.mean()
        weighted = self.weights.of(env_ids) * norms
        target = weighted.mean() * (ratio / ratio.mean()) ** self.alpha
        self.weights.step(env_ids, np.sign(weighted - target) * norms)
        moved = self.weights.of(env_ids).clip(min=1e-3)
        self.weights.set(env_ids, moved * len(moved) / moved.sum())
        return self.weights.of(env_ids)
