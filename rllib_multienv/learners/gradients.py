"""The gradient of all learners together, and its clipping."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch import Tensor


def all_reduce_sum(gradients: Sequence[Tensor]) -> None:
    """Replace each gradient by its sum over all learners, in one flat all-reduce.

    The order is that of ``gradients``, the same on every rank, with zeros where a rank's environments do not reach a
    parameter; so ranks with different environments (different loss graphs) always meet. Losses are summed over
    environments, hence the sum, not the mean: W learners have the gradient of one learner with all environments.
    """
    flat = torch.cat([g.reshape(-1) for g in gradients])
    dist.all_reduce(flat, op=dist.ReduceOp.SUM)
    offset = 0
    for gradient in gradients:
        gradient.copy_(flat[offset : offset + gradient.numel()].view_as(gradient))
        offset += gradient.numel()


def clip_by_global_norm(gradients: Sequence[Tensor], max_norm: float | None) -> Tensor:
    """Scale ``gradients`` in place so that their global norm is at most ``max_norm``; returns the norm before that."""
    norm = torch.nn.utils.get_total_norm(gradients)
    if max_norm is not None:
        # Multiplying always costs less than asking whether it is needed.
        torch._foreach_mul_(list(gradients), torch.clamp(max_norm / (norm + 1e-6), max=1.0))
    return norm
