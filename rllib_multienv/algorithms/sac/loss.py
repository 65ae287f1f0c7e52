"""The losses of soft actor-critic on one environment's minibatch (Haarnoja et al. 2018, arXiv 1812.05905).

n is the number of actions of a single choice, over which expectations are taken exactly (Christodoulou 2019, arXiv
1910.07207). Of all other actions n is 1: one is drawn, and its probability counts as 1.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class SACLoss:
    """Terms of the loss, and diagnostics; all scalars.

    Attributes:
        q: Half the mean squared error of Q, summed over the estimates (equation 5).
        policy: Mean of ``alpha log pi - Q`` (equation 7, or 12 of Christodoulou 2019).
        q_explained: Share of the variance of Q's targets that Q explains, over all estimates.
    """

    q: Tensor
    policy: Tensor
    q_explained: Tensor

    @property
    def total(self) -> Tensor:
        """The sum; the terms share no parameters."""
        return self.q + self.policy


def sac_loss(
    *,
    q_values: Tensor,
    rewards: Tensor,
    discounts: Tensor | float,
    terminals: Tensor,
    next_q_values: Tensor,
    next_logp: Tensor,
    next_probs: Tensor | float,
    policy_q_values: Tensor,
    logp: Tensor,
    probs: Tensor | float,
    alpha: float,
) -> SACLoss:
    """Regression of Q towards the soft value of the next state, and the policy's loss.

    Args:
        q_values: [E, B], all estimates of Q(s, a) of the data's actions, with gradient.
        rewards: [B].
        discounts: [B] or a number, factor of the value of the next state.
        terminals: [B], true where that is a terminal state.
        next_q_values: [E, B, n], the target networks' estimates of the policy's actions in the next state.
        next_logp: [B, n], their log probabilities.
        next_probs: [B, n], their probabilities, or 1.
        policy_q_values: [E, B, n], estimates of the policy's actions in s; gradients reach the policy alone.
        logp: [B, n], log probabilities of these.
        probs: [B, n], probabilities, or 1.
        alpha: Temperature.
    """
    with torch.no_grad():
        soft = next_q_values.min(0).values - alpha * next_logp  # [B, n]
        next_values = (next_probs * soft).sum(1)  # [B]
        targets = rewards + discounts * torch.where(terminals, 0.0, next_values)  # [B]
    squared = (q_values - targets).square().mean()
    losses = probs * (alpha * logp - policy_q_values.min(0).values)  # [B, n]
    with torch.no_grad():
        explained = (1.0 - squared / targets.var(correction=0).clamp(min=1e-12)).clamp(min=-1.0)
    return SACLoss(q=0.5 * len(q_values) * squared, policy=losses.sum(1).mean(), q_explained=explained)
