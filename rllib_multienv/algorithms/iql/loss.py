"""The losses of implicit Q-learning on one environment's minibatch (Kostrikov et al. 2021, arXiv 2110.06169)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

#: Bound on the weights exp(beta * advantage) of the policy loss.
MAX_WEIGHT = 100.0


@dataclass(frozen=True, kw_only=True)
class IQLLoss:
    """Terms of the loss, and diagnostics; all scalars.

    Attributes:
        value: Expectile regression of V towards Q.
        q: Regression of Q towards reward and V, summed over the estimates.
        policy: Advantage-weighted behaviour cloning.
        advantage: Mean of Q - V.
        value_explained: Share of the variance of Q over the minibatch that V explains. The losses of V and Q say
            little: both begin near zero because V and Q do, and grow with them.
        q_explained: Share of the variance of reward and V that Q explains, over all estimates.
    """

    value: Tensor
    q: Tensor
    policy: Tensor
    advantage: Tensor
    value_explained: Tensor
    q_explained: Tensor

    @property
    def total(self) -> Tensor:
        """Their sum (Algorithm 2 of the paper); no two of them share parameters."""
        return self.value + self.q + self.policy


def policy_weights(*, values: Tensor, target_q_values: Tensor, beta: float) -> Tensor:
    """Weights of the policy loss, exp(beta * advantage), at most :data:`MAX_WEIGHT` (equation 5 of the paper).

    Args:
        values: [B], V(s).
        target_q_values: [E, B], the target network's estimates of Q(s, a).
        beta: Inverse temperature, in the unit of the values.

    Returns:
        [B], without gradient.
    """
    advantages = target_q_values.min(0).values - values.detach()
    return torch.exp(beta * advantages).clamp(max=MAX_WEIGHT)


def iql_loss(
    *,
    values: Tensor,
    next_values: Tensor,
    q_values: Tensor,
    target_q_values: Tensor,
    distribution: Any,
    actions: Tensor,
    rewards: Tensor,
    terminals: Tensor,
    gamma: float,
    expectile: float,
    weights: Tensor,
) -> IQLLoss:
    """Expectile regression of V towards Q, of Q towards rewards and V, and advantage-weighted behaviour cloning.

    Args:
        values: [B], V(s), with gradient.
        next_values: [B], V(s'), without gradient.
        q_values: [E, B], all estimates of Q(s, a), with gradient.
        target_q_values: [E, B], the target network's, without gradient.
        distribution: The policy's at s.
        actions: [B] or [B, A], the data's.
        rewards: [B], in the unit of the values.
        terminals: [B], true where s' is a terminal state.
        gamma: Discount factor.
        expectile: Expectile of Q over actions that V estimates, in (0, 1), usually above 0.5 (equation 3 of the paper).
        weights: [B], weights of the policy loss: :func:`policy_weights`, perhaps normalised.
    """
    advantages = target_q_values.min(0).values - values  # [B]
    weight = torch.where(advantages > 0, expectile, 1.0 - expectile)  # [B]
    value = (weight * advantages.square()).mean()
    bellman = rewards + gamma * torch.where(terminals, 0.0, next_values)  # [B]
    q_errors = (q_values - bellman).square().mean(1)  # [E]
    policy = -(weights * distribution.logp(actions)).mean()
    advantages = advantages.detach()
    return IQLLoss(
        value=value,
        q=q_errors.sum(),
        policy=policy,
        advantage=advantages.mean(),
        value_explained=_explained(advantages.square().mean(), advantages + values.detach()),
        q_explained=_explained(q_errors.detach().mean(), bellman),
    )


def _explained(squared_error: Tensor, targets: Tensor) -> Tensor:
    """Share of the variance of ``targets`` [B] that is explained, at least -1 as in RLlib."""
    return (1.0 - squared_error / targets.var(correction=0).clamp(min=1e-12)).clamp(min=-1.0)
