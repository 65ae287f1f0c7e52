"""Action distributions over batches of distribution inputs: lean replacements of ``torch.distributions``."""

from __future__ import annotations

import math
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor

from .actor_critic import Interface

__all__ = ["ActionDistribution", "Categorical", "Deterministic", "DiagGaussian", "distribution_for", "gaussian_inputs"]

_HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)


def gaussian_inputs(mean: Tensor, log_std: Tensor, *, squash_mean: bool) -> Tensor:
    """Distribution inputs ``[B, 2 A]`` of a continuous policy from means and log standard deviations ``[B, A]``.

    With ``squash_mean`` tanh keeps the means in (-1, 1).
    """
    return torch.cat([torch.tanh(mean) if squash_mean else mean, log_std], 1)


class Deterministic:
    """All mass on one action per row."""

    def __init__(self, action: Tensor) -> None:
        self.action = action

    def sample(self, generator: torch.Generator | None = None) -> Tensor:
        """The action; the generator is ignored."""
        return self.action


class Categorical:
    """Categorical over ``n`` actions from logits ``[B, n]``."""

    def __init__(self, logits: Tensor) -> None:
        self.log_probs = F.log_softmax(logits, -1)

    @classmethod
    def from_logits(cls, dist_inputs: Tensor) -> Self:
        """From the distribution inputs of `ActorCritic.policy`."""
        return cls(dist_inputs)

    def sample(self, generator: torch.Generator | None = None) -> Tensor:
        """Actions ``[B]``, int64, without gradient."""
        # The Gumbel-max trick: an exponential race is won by action i with probability p_i.
        log_probs = self.log_probs.detach()
        race = torch.empty_like(log_probs).exponential_(generator=generator).log_()
        return (log_probs - race).argmax(-1)

    def logp(self, actions: Tensor) -> Tensor:
        """Log probability ``[B]`` of actions ``[B]`` (any integer dtype)."""
        return self.log_probs.gather(-1, actions.long().unsqueeze(-1)).squeeze(-1)

    def entropy(self) -> Tensor:
        """Entropy ``[B]`` in nats."""
        return -(self.log_probs.exp() * self.log_probs).sum(-1)

    def kl(self, other: Self) -> Tensor:
        """``KL(self || other)`` ``[B]`` in nats."""
        return (self.log_probs.exp() * (self.log_probs - other.log_probs)).sum(-1)

    def to_deterministic(self) -> Deterministic:
        """The most probable action."""
        return Deterministic(self.log_probs.argmax(-1))


class DiagGaussian:
    """Independent normal components from means and log standard deviations, ``[B, 2 A]``."""

    def __init__(self, mean: Tensor, log_std: Tensor) -> None:
        self.mean = mean
        self.log_std = log_std

    @classmethod
    def from_logits(cls, dist_inputs: Tensor) -> Self:
        """From the distribution inputs of `ActorCritic.policy`."""
        mean, log_std = dist_inputs.chunk(2, -1)
        return cls(mean, log_std)

    def sample(self, generator: torch.Generator | None = None) -> Tensor:
        """Actions ``[B, A]`` without gradient; not clipped."""
        mean = self.mean.detach()
        return mean + self.log_std.detach().exp() * torch.empty_like(mean).normal_(generator=generator)

    def logp(self, actions: Tensor) -> Tensor:
        """Log density ``[B]`` of actions ``[B, A]``."""
        scaled = (actions - self.mean) * torch.exp(-self.log_std)
        return -(0.5 * scaled.square() + self.log_std).sum(-1) - _HALF_LOG_2PI * self.mean.shape[-1]

    def entropy(self) -> Tensor:
        """Differential entropy ``[B]`` in nats."""
        return self.log_std.sum(-1) + (0.5 + _HALF_LOG_2PI) * self.mean.shape[-1]

    def kl(self, other: Self) -> Tensor:
        """``KL(self || other)`` ``[B]`` in nats."""
        ratio = self.log_std - other.log_std
        distance = (self.mean - other.mean) * torch.exp(-other.log_std)
        return (0.5 * (torch.exp(2 * ratio) + distance.square() - 1) - ratio).sum(-1)

    def to_deterministic(self) -> Deterministic:
        """The mean."""
        return Deterministic(self.mean)


ActionDistribution = Categorical | DiagGaussian


def distribution_for(interface: Interface) -> type[Categorical] | type[DiagGaussian]:
    """The distribution class that reads the policy's output for this environment."""
    return Categorical if interface.discrete else DiagGaussian
