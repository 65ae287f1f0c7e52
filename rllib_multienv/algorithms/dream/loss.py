"""The losses of what DREAM knows of tasks, and the rewards of exploring (Liu et al. 2020, section 4)."""

from __future__ import annotations

import numpy as np
from torch import Tensor


def inference_errors(inferred: Tensor, known: Tensor) -> Tensor:
    """``||f(mu) - g(tau_:t)||^2`` ``[N]`` of embeddings ``[N, Z]``; without gradient into those of labels."""
    return (inferred - known.detach()).square().sum(-1)


def bottleneck_loss(known: Tensor, bound: float) -> Tensor:
    """``max(||f(mu)||^2, bound)``, a mean over embeddings of labels ``[N, Z]``."""
    return known.square().sum(-1).clamp(min=bound).mean()


def exploration_rewards(
    errors: np.ndarray, final_errors: np.ndarray, final_rows: np.ndarray, cost: float
) -> np.ndarray:
    """What each step tells of the task: ``||f(mu) - g(tau_:t-1)||^2 - ||f(mu) - g(tau_:t)||^2 - c``.

    They telescope: without the cost their sum is the error at the beginning less that at the end.

    Args:
        errors: ``[T, B]``, `inference_errors` before each step.
        final_errors: ``[F]``, those of `Rollout.final_obs`.
        final_rows: `Rollout.final_rows`.
        cost: c, of a step.

    Returns:
        ``[T, B]``.
    """
    after = np.empty(errors.shape)
    after[:-1] = errors[1:]
    after.reshape(-1)[final_rows] = final_errors
    return errors - after - cost
