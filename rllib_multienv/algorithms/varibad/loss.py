"""The evidence lower bound of VariBAD (equations 8 to 10)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Posteriors:
    """Gaussian posteriors over the tasks of N trials after each of T time steps.

    Attributes:
        mean, log_var: ``[T, N, D]``.
        valid: bool ``[T, N]``, the time steps that a trial has.
    """

    mean: Tensor
    log_var: Tensor
    valid: Tensor

    @classmethod
    def of(cls, belief: Tensor, valid: Tensor) -> Posteriors:
        """From ``[T, N, 2 D]``, means, then log variances."""
        mean, log_var = belief.chunk(2, -1)
        return cls(mean, log_var, valid)

    def at(self, times: Tensor) -> Posteriors:
        """Those of some time steps."""
        return Posteriors(self.mean[times], self.log_var[times], self.valid[times])

    def sample(self, noise: Tensor) -> Tensor:
        """``[T, N, D]``, drawn with standard normal ``noise`` of that shape; with gradient."""
        return self.mean + (0.5 * self.log_var).exp() * noise

    def kl_to_previous(self) -> Tensor:
        """``KL(q_t || q_{t-1})`` ``[T, N]`` in nats, 0 where there is no step; the first prior is standard normal."""
        mean, log_var = (torch.cat([torch.zeros_like(x[:1]), x[:-1]]) for x in (self.mean, self.log_var))
        squares = (self.log_var.exp() + (self.mean - mean).square()) * (-log_var).exp()
        kl = 0.5 * (log_var - self.log_var + squares - 1.0).sum(-1)  # [T, N]
        return kl.masked_fill(~self.valid, 0.0)

    def deviations(self) -> tuple[Tensor, Tensor]:
        """Mean standard deviation of the first and of the last posterior of each trial, ``[N]`` each."""
        std = (0.5 * self.log_var).exp().mean(-1)  # [T, N]
        last = (self.valid.sum(0) - 1).clamp(min=0)  # [N]
        return std[0], std.gather(0, last[None])[0]


def summed_errors(errors: Tensor, decoded: Tensor) -> Tensor:
    """Errors of all posteriors' predictions of whole trials, summed over the steps that are predicted.

    Args:
        errors: ``[Z, K, N]``, of K steps of N trials from Z posteriors of each.
        decoded: bool ``[K, N]``, the steps that count.

    Returns:
        ``[Z, N]``.
    """
    return errors.masked_fill(~decoded, 0.0).sum(1)


def negative_elbo(errors: Tensor, inferred: Tensor, kl: Tensor, valid: Tensor, kl_weight: float) -> Tensor:
    """The loss of each trial ``[N]``, a mean over its time steps: what each posterior makes of the whole trial, and KL.

    Args:
        errors: ``[Z, N]``, reconstruction errors from the posteriors of Z time steps.
        inferred: bool ``[Z, N]``, the posteriors that a trial has.
        kl: ``[T, N]``, see `Posteriors.kl_to_previous`.
        valid: bool ``[T, N]``, the time steps that a trial has.
        kl_weight: factor of the KL.
    """
    reconstruction = errors.masked_fill(~inferred, 0.0).sum(0) / inferred.sum(0).clamp(min=1)  # [N]
    return reconstruction + kl_weight * kl.sum(0) / valid.sum(0).clamp(min=1)
