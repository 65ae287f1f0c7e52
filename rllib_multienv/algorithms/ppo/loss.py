"""The loss of PPO on one environment's minibatch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class PPOLoss:
    """Terms of the loss, all scalars."""

    policy: Tensor
    value: Tensor
    entropy: Tensor
    total: Tensor


def squared_value_loss(
    *, values: Tensor, old_values: Tensor, value_targets: Tensor, vf_clip_param: float | None
) -> Tensor:
    """Half the mean squared error of the values, clipped as in the original implementation of PPO; a scalar.

    Args:
        values: [N], current predictions.
        old_values: [N], predictions before the update.
        value_targets: [N].
        vf_clip_param: Bound on the predictions' distance from ``old_values``; None for none.
    """
    squared_error = (values - value_targets).square()
    if vf_clip_param is not None:
        clipped_values = old_values + (values - old_values).clamp(-vf_clip_param, vf_clip_param)
        squared_error = torch.maximum(squared_error, (clipped_values - value_targets).square())
    return 0.5 * squared_error.mean()


def ppo_loss(
    *,
    distribution: Any,
    actions: Tensor,
    old_logp: Tensor,
    advantages: Tensor,
    value_loss: Tensor,
    clip_param: float,
    vf_loss_coeff: float,
    entropy_coeff: float,
    importance_weights: Tensor | None = None,
) -> PPOLoss:
    """Clipped policy loss (equation 2 of the paper), value loss and entropy bonus.

    Args:
        distribution: Of the current policy, over N rows.
        actions: [N] or [N, A].
        old_logp: [N], log probability of the actions in the policy that this one is to stay near to: the one that
            sampled, or with ``importance_weights`` the one before the update.
        advantages: [N].
        value_loss: A scalar.
        clip_param: Bound epsilon on the probability ratio's distance from one.
        vf_loss_coeff: Weight of the value loss.
        entropy_coeff: Weight of the entropy bonus; with 0 the entropy has no gradient.
        importance_weights: [N], the policy's probabilities before the update over those when sampled; None where both
            are the same.
    """
    ratio = torch.exp(distribution.logp(actions) - old_logp)
    clipped_ratio = ratio.clamp(1.0 - clip_param, 1.0 + clip_param)
    surrogate = torch.minimum(ratio * advantages, clipped_ratio * advantages)
    if importance_weights is not None:
        surrogate = surrogate * importance_weights
    policy = -surrogate.mean()
    with torch.set_grad_enabled(bool(entropy_coeff) and torch.is_grad_enabled()):
        entropy = distribution.entropy().mean()
    total = policy + vf_loss_coeff * value_loss
    if entropy_coeff:
        total = total - entropy_coeff * entropy
    return PPOLoss(policy=policy, value=value_loss, entropy=entropy, total=total)
