"""Fast adaptive multi-task optimisation (FAMO; Liu et al. 2023, arXiv 2306.03792)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rllib_multienv.learners.combine.combiner import require_number
from rllib_multienv.learners.combine.critic import Array, CriticCombiner, PerEnvironmentAdam


@dataclass
class FAMO(CriticCombiner):
    """Weighs the critic's losses so that all their logarithms fall alike, from the losses alone.

    The change of a loss is that from one step's minibatch to the next one's, where the paper computes the losses of the
    same minibatch again after the step (docs/deviations.md, 37).

    Args:
        lr: Learning rate of the weights' logits.
        decay: How strongly the weights are drawn to each other (the paper's gamma).
    """

    lr: float = 0.025
    decay: float = 1e-3

    def __post_init__(self) -> None:
        """Begin with equal logits."""
        require_number(self, "lr", lambda lr: lr > 0, "a number above 0")
        require_number(self, "decay", lambda decay: decay >= 0, "a number of at least 0")
        self.logits = PerEnvironmentAdam(self.lr, 0.0)
        self.last: dict[str, float] = {}

    def solve(self, losses: Array, env_ids: Sequence[str], norms: Array | None) -> Array:
        """See :meth:`CriticCombiner.solve`; Algorithm 1 of the paper, times the number of environments."""
        logs = dict(zip(env_ids, np.log(losses).tolist(), strict=True))
        again = [env_id for env_id in env_ids if env_id in self.last]
        if again:
            fall = np.array([self.last[env_id] - logs[env_id] for env_id in again])  # [K]
            logits = self.logits.of(again)
            shares = _softmax(logits)
            self.logits.step(again, shares * (fall - shares @ fall) + self.decay * logits)
        self.last |= logs
        weights: Array = _softmax(self.logits.of(env_ids)) / losses
        return len(losses) * weights / weights.sum()


def _softmax(logits: Array) -> Array:
    found: Array = np.exp(logits - logits.max())
    return found / found.sum()
