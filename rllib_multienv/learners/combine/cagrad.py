"""Conflict-averse gradient descent (CAGrad; Liu et al. 2021, arXiv 2110.14048)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rllib_multienv.learners.combine.combiner import require_number
from rllib_multienv.learners.combine.gram import Array, GramCombiner


@dataclass
class CAGrad(GramCombiner):
    """The direction near the mean gradient whose worst improvement of an environment is largest.

    Algorithm 1 of the paper, divided by ``1 + c^2`` as in its code, times the number of environments. The paper's dual
    problem, ``w G 1 / K + c |g_0| sqrt(w G w)`` over the simplex, is solved to convergence.

    Args:
        c: Radius of the search, in norms of the mean gradient; in [0, 1). 0 is the sum of losses.
    """

    c: float = 0.5

    def __post_init__(self) -> None:
        """Check c."""
        require_number(self, "c", lambda c: 0 <= c < 1, "a number in [0, 1)")

    def solve(self, gram: Array, env_ids: Sequence[str]) -> Array:
        """See :meth:`GramCombiner.solve`."""
        from scipy.optimize import minimize

        num = len(gram)
        mean = gram.mean(1)  # [K], products with the mean gradient g_0
        size = np.sqrt(max(mean.mean(), 0.0))  # |g_0|
        if size**2 <= 1e-12 * gram.diagonal().mean():
            return np.zeros(num)  # the mean gradient is zero, and with it the ball around it
        gram, mean = gram / size**2, mean / size**2  # now |g_0| = 1

        def objective(w: Array) -> tuple[float, Array]:
            norm = np.sqrt(max(w @ gram @ w, 1e-16))
            return w @ mean + self.c * norm, mean + self.c * gram @ w / norm

        found = minimize(
            objective,
            np.full(num, 1 / num),
            jac=True,
            method="SLSQP",
            bounds=[(0, 1)] * num,
            constraints={"type": "eq", "fun": lambda w: w.sum() - 1, "jac": lambda w: np.ones(num)},
            options={"ftol": 1e-10, "maxiter": 200},
        ).x
        weights: Array = 1 + num * found * self.c / np.sqrt(max(found @ gram @ found, 1e-16))
        return weights / (1 + self.c**2)
