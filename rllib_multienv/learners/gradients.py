"""Gradients over environments and learners: all-reduce, Gram matrix, clipping, broadcast."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


class Reduction:
    """Sums over all learners; with one learner nothing happens.

    Args:
        distributed: Whether there are several learners.
        group: Their process group.
    """

    def __init__(self, distributed: bool = False, group: Any = None) -> None:
        self.distributed = distributed
        self._group = group

    def sum(self, tensors: Sequence[Tensor]) -> None:
        """Replace each tensor by its sum over all learners, in one flat all-reduce.

        The order is that of ``tensors``, the same on every rank, with zeros where a rank's environments do not reach a
        parameter; so ranks with different environments (different loss graphs) always meet. Losses are summed over
        environments, hence the sum, not the mean: W learners have the gradient of one learner with all environments.
        """
        if self.distributed:
            _flat(tensors, lambda flat: dist.all_reduce(flat, op=dist.ReduceOp.SUM, group=self._group))

    def maximum(self, tensor: Tensor) -> None:
        """Replace a tensor by its element-wise maximum over all learners."""
        if self.distributed:
            dist.all_reduce(tensor, op=dist.ReduceOp.MAX, group=self._group)

    @torch.no_grad()
    def broadcast_first(self, tensors: Sequence[Tensor]) -> None:
        """Replace the tensors of all learners by those of learner 0."""
        if not self.distributed:
            return
        by_type: dict[torch.dtype, list[Tensor]] = {}
        for tensor in tensors:
            by_type.setdefault(tensor.dtype, []).append(tensor)
        for same_type in by_type.values():
            _flat(same_type, lambda flat: dist.broadcast(flat, src=0, group=self._group))

    def gram(self, gradients: Tensor, has_rows: Tensor) -> Tensor:
        """Inner products of the environments' gradients, each summed over all learners first.

        Learners exchange column slices: each gets a slice of P / W numbers of every environment's gradient, sums what
        learners of one environment have, and the inner products of the slices are summed over learners. So a learner
        sends about E P / W numbers and never holds more than its own environments' gradients and one slice of all.

        Args:
            gradients: [E_own, P], this learner's part of the gradient of each environment of which it has rows.
            has_rows: bool [E], which these are.

        Returns:
            float64 [E, E].
        """
        num_envs = len(has_rows)
        if not self.distributed:
            gram = gradients.new_zeros(num_envs, num_envs, dtype=torch.float64)
            gram[has_rows.nonzero(), has_rows.nonzero().T] = _gram(gradients)
            return gram
        world, rank = dist.get_world_size(self._group), dist.get_rank(self._group)
        owners = torch.zeros(world, num_envs, device=gradients.device)  # [W, E]
        owners[rank] = has_rows.to(owners)
        self.sum([owners])
        counts = owners.sum(1).long().tolist()
        size = -(-gradients.shape[1] // world)
        padded = torch.nn.functional.pad(gradients, (0, size * world - gradients.shape[1]))  # [E_own, W S]
        outgoing = padded.view(-1, world, size).transpose(0, 1).reshape(-1, size)  # [W E_own, S]
        incoming = outgoing.new_empty(sum(counts), size)
        dist.all_to_all_single(incoming, outgoing, counts, [counts[rank]] * world, group=self._group)
        which = owners.nonzero()[:, 1]  # [sum of E_own], the environment of each incoming row
        mine = gradients.new_zeros(num_envs, size).index_add_(0, which, incoming)  # [E, S]
        gram = _gram(mine)
        self.sum([gram])
        return gram


def _gram(rows: Tensor) -> Tensor:
    # In float64, so that the sign of a product near zero does not depend on the number of learners.
    rows = rows.double()
    return rows @ rows.T


def _flat(tensors: Sequence[Tensor], communicate: Callable[[Tensor], Any]) -> None:
    """Let ``communicate`` change all ``tensors`` in place as one."""
    flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
    communicate(flat)
    for tensor, part in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
        tensor.copy_(part.view_as(tensor))


def flat_gradient(loss: Tensor | None, parameters: Sequence[Tensor], *, retain_graph: bool = False) -> Tensor:
    """[P], the gradient of a loss by all parameters one after another; zeros where it does not reach."""
    found: Sequence[Tensor | None] = [None] * len(parameters)
    if loss is not None and loss.requires_grad:
        found = torch.autograd.grad(loss, parameters, retain_graph=retain_graph, allow_unused=True)
    return torch.cat(
        [(torch.zeros_like(p) if g is None else g).reshape(-1) for p, g in zip(parameters, found, strict=True)]
    )


def clip_factors(norms: Tensor, max_norm: float) -> Tensor:
    """Factors [...] that bring gradients of these norms [...] to at most ``max_norm``."""
    return torch.clamp(max_norm / (norms + 1e-6), max=1.0)


def clip_by_global_norm(gradients: Sequence[Tensor], max_norm: float | None) -> Tensor:
    """Scale ``gradients`` in place so that their global norm is at most ``max_norm``; returns the norm before that."""
    norm = torch.nn.utils.get_total_norm(gradients)
    if max_norm is not None:
        # Multiplying always costs less than asking whether it is needed.
        torch._foreach_mul_(list(gradients), clip_factors(norm, max_norm))
    return norm
