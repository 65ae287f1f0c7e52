"""Gradients as a bargaining game (Nash-MTL; Navon et al. 2022, arXiv 2202.01017)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rllib_multienv.learners.combine.gram import Array, GramCombiner

_RIDGE = 1e-8
_STEPS = 100


class NashMTL(GramCombiner):
    """The Nash bargaining solution: weights a with ``G a = 1 / a``, so that every environment gains its own share.

    The paper's authors solve a sequence of convex problems. Here Newton's method finds the minimum of the convex
    ``a G a / 2 - sum(log(a))``, which has that gradient. G is divided by its norm, as in their code: gradients that
    are all equal have weights of one.
    """

    def solve(self, gram: Array, env_ids: Sequence[str]) -> Array:
        """See :meth:`GramCombiner.solve`.

        The function is self-concordant: steps shortened by the Newton decrement never leave its domain.
        """
        gram = gram / np.linalg.norm(gram) + _RIDGE * np.eye(len(gram))  # some conflict has no solution without
        weights = 1 / np.sqrt(gram.diagonal())
        for _ in range(_STEPS):
            slope = gram @ weights - 1 / weights  # [K]
            step = np.linalg.solve(gram + np.diag(weights**-2), slope)
            decrement = np.sqrt(max(step @ slope, 0.0))
            weights = weights - step / (1 + decrement if decrement > 0.25 else 1)
            if decrement < 1e-10:
                break
        return weights
