"""Projection onto the dual cone of all gradients (UPGrad; Quinton and Rey 2024, arXiv 2406.16232)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rllib_multienv.learners.combine.gram import Array, GramCombiner, factor, nonnegative_least_squares


class UPGrad(GramCombiner):
    """Projects each gradient onto the cone of directions that conflict with no gradient, and sums.

    Like PCGrad, but the projected gradients conflict with none of the others, and their order does not matter. The
    paper has the mean (equation 5); here it is the sum.
    """

    def solve(self, gram: Array, env_ids: Sequence[str]) -> Array:
        """See :meth:`GramCombiner.solve`: the projection of gradient i is ``A (e_i + u)`` with the best ``u >= 0``."""
        rows = factor(gram / gram.diagonal().mean())
        return np.ones(len(gram)) + sum(nonnegative_least_squares(rows, -column) for column in rows.T)
