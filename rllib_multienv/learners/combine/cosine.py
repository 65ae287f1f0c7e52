"""Auxiliary environments as far as they agree with the main one (Du et al. 2018, arXiv 1812.02224)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rllib_multienv.gym_ids import did_you_mean
from rllib_multienv.learners.combine.gram import Array, GramCombiner


@dataclass
class GradientCosine(GramCombiner):
    """Weighs each gradient by its cosine with the main environment's, or by zero where that is negative.

    In steps without a gradient of the main environment, all weigh one.

    Args:
        main: Id of the main environment, the one that the agent is for.
        weighted: Whether weights are cosines; False: one where the cosine is positive (the paper's "unweighted").
    """

    main: str
    weighted: bool = True

    def check(self, env_ids: Sequence[str]) -> None:
        """See :meth:`Combiner.check`."""
        if self.main not in env_ids:
            raise ValueError(
                f"gradient_combiner: main={self.main!r} must be one of the environments, {', '.join(env_ids)}."
                f"{did_you_mean(str(self.main), env_ids)}"
            )

    def solve(self, gram: Array, env_ids: Sequence[str]) -> Array:
        """See :meth:`GramCombiner.solve`."""
        if self.main not in env_ids:
            return np.ones(len(gram))
        norms = np.sqrt(gram.diagonal())
        cosines: Array = (gram / norms / norms[:, None])[env_ids.index(self.main)].clip(0, 1)
        return cosines if self.weighted else np.where(cosines > 0, 1.0, 0.0)
