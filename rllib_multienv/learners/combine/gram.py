"""Base of methods that know gradients by their inner products alone, and what these share."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from rllib_multienv.learners.combine.combiner import Combiner, TaskGradients

Array = np.ndarray


class GramCombiner(Combiner):
    """Computes weights from the Gram matrix of the gradients that are not zero.

    Methods that make a mean of gradients are multiplied by the number of environments here, so that all are on the
    scale of the sum of losses, and learning rates and ``grad_clip`` keep their meaning.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"gram"})

    @abstractmethod
    def solve(self, gram: Array, env_ids: Sequence[str]) -> Array:
        """Weights [K] from inner products [K, K] of the gradients of these environments."""

    def combine(self, tasks: TaskGradients) -> Tensor:
        """Weights [E]; environments without a gradient have the mean of the others."""
        assert tasks.gram is not None
        gram = tasks.gram.double().cpu().numpy()
        places = np.flatnonzero(gram.diagonal() > 0)
        weights = np.ones(len(gram))
        if len(places):
            found = self.solve(gram[np.ix_(places, places)], [tasks.env_ids[i] for i in places])
            weights[:] = found.mean()
            weights[places] = found
        return torch.from_numpy(weights)


def factor(gram: Array) -> Array:
    """[K, K], a matrix A with ``A.T @ A == gram``: the gradients as columns, in K dimensions."""
    values, vectors = np.linalg.eigh(gram)
    return np.sqrt(values.clip(min=0))[:, None] * vectors.T


def nonnegative_least_squares(matrix: Array, target: Array) -> Array:
    """The x >= 0 with the least ``|matrix @ x - target|``."""
    from scipy.optimize import nnls

    found: Array = nnls(matrix, target, maxiter=100 * matrix.shape[1])[0]
    return found
