"""Projection of conflicting gradients (PCGrad; Yu et al. 2020, arXiv 2001.06782)."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from rllib_multienv.learners.combine.combiner import Combiner, TaskGradients


class PCGrad(Combiner):
    """Takes out of each environment's gradient what conflicts with the others', and sums (Algorithm 1 of the paper).

    For each environment i, over the others j in random order: where the projected gradient has a negative product with
    g_j, its projection on g_j is subtracted. All of it depends on the gradients through their inner products alone, so
    the coefficients of the projected gradients are computed, and learners need only the Gram matrix.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"gram"})

    def combine(self, tasks: TaskGradients) -> Tensor:
        """Weights [E]: how often each gradient is in the sum of all projected ones."""
        gram = tasks.gram
        assert gram is not None
        num_envs, generator = len(gram), tasks.generator()
        coefficients = torch.eye(num_envs, dtype=gram.dtype, device=gram.device)  # [E, E], row i makes g_i projected
        for i in range(num_envs):
            for j in torch.randperm(num_envs, generator=generator).tolist():
                product = coefficients[i] @ gram[j]
                if j != i and product < 0:
                    coefficients[i, j] -= product / gram[j, j]
        return coefficients.sum(0)
