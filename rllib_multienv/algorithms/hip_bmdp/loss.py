"""The loss of the distances between embeddings (Zhang et al. 2020, arXiv 2007.07206)."""

from __future__ import annotations

import torch
from torch import Tensor


def bisimulation_loss(own: Tensor, other: Tensor, change: Tensor, other_change: Tensor) -> Tensor:
    """How far the distance of two tasks' embeddings is from that of what happens in them.

    The latter is the distance of the means of the two predicted Gaussians, without gradient.

    Args:
        own, other: ``[C]``, the embeddings.
        change, other_change: ``[B, I]``, what is predicted in both tasks after the same states and actions.
    """
    of_transitions = torch.linalg.vector_norm(change.detach() - other_change.detach(), dim=1)  # [B]
    return (torch.linalg.vector_norm(own - other) - of_transitions).square().mean()
