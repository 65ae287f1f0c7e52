"""The least convex combination of gradients (MGDA; Désidéri 2012; Sener and Koltun 2018, arXiv 1810.04650)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rllib_multienv.learners.combine.gram import Array, GramCombiner, factor, nonnegative_least_squares


class MGDA(GramCombiner):
    """The point of least norm in the convex hull of the gradients, times their number.

    A step along it increases no environment's loss, to first order, and is zero where no such step exists. Environments
    with small gradients decide: those with large ones get small weights.
    """

    def solve(self, gram: Array, env_ids: Sequence[str]) -> Array:
        """See :meth:`GramCombiner.solve`.

        With weights ``x = s a``, where a sums to one, ``|A x|^2 + (sum(x) - 1)^2`` is least at ``|A a|^2`` over one
        plus that, for the best s; so its minimum over ``x >= 0`` is that of ``|A a|`` over the simplex.
        """
        rows = factor(gram / gram.diagonal().mean())
        x = nonnegative_least_squares(np.vstack([rows, np.ones(len(gram))]), np.eye(len(gram) + 1)[-1])
        return len(gram) * x / x.sum()
