"""What learners tell each other: initial weights, the gradient of all of them together; and its clipping."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


def all_reduce_sum(gradients: Sequence[Tensor], group: Any = None) -> None:
    """Replace each gradient by its sum over all learners, in one flat all-reduce.

    The order is that of ``gradients``, the same on every rank, with zeros where a rank's environments do not reach a
    parameter; so ranks with different environments (different loss graphs) always meet. Losses are summed over
    environments, hence the sum, not the mean: W learners have the gradient of one learner with all environments.

    Args:
        gradients: Of all trained parameters.
        group: Process group; None for the default one.
    """
    _flat(gradients, lambda flat: dist.all_reduce(flat, op=dist.ReduceOp.SUM, group=group))


@torch.no_grad()
def broadcast_from_first(tensors: Sequence[Tensor], group: Any = None) -> None:
    """Replace the tensors of all learners by those of learner 0."""
    by_type: dict[torch.dtype, list[Tensor]] = {}
    for tensor in tensors:
        by_type.setdefault(tensor.dtype, []).append(tensor)
    for same_type in by_type.values():
        _flat(same_type, lambda flat: dist.broadcast(flat, src=0, group=group))


def _flat(tensors: Sequence[Tensor], communicate: Callable[[Tensor], Any]) -> None:
    """Let ``communicate`` change all ``tensors`` in place as one."""
    flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
    communicate(flat)
    for tensor, part in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
        tensor.copy_(part.view_as(tensor))


def clip_by_global_norm(gradients: Sequence[Tensor], max_norm: float | None) -> Tensor:
    """Scale ``gradients`` in place so that their global norm is at most ``max_norm``; returns the norm before that."""
    norm = torch.nn.utils.get_total_norm(gradients)
    if max_norm is not None:
        # Multiplying always costs less than asking whether it is needed.
        torch._foreach_mul_(list(gradients), torch.clamp(max_norm / (norm + 1e-6), max=1.0))
    return norm
