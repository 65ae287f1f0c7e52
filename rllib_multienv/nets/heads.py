"""Heads: action distributions over batches of distribution inputs, and values as distributions over bins.

Learning values as classification makes the gradient independent of the scale of the returns, so one network can hold
the values of many environments (Farebrother et al. 2024, "Stop regressing"; arXiv 2505.23150; arXiv 2411.11188).
"""

from __future__ import annotations

import math
from functools import cache
from itertools import groupby
from typing import ClassVar, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rllib_multienv.spaces.rows import ActionRow

from .interface import Interface

__all__ = [
    "MASKED_LOGIT",
    "VALUE_HEADS",
    "ActionDistribution",
    "Bernoulli",
    "Categorical",
    "Deterministic",
    "DiagGaussian",
    "Product",
    "SquashedGaussian",
    "ValueBins",
    "bounded_log_std",
    "distribution_for",
    "gaussian_inputs",
    "mask_logits",
]

_HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)
_LOW_LOG_STD, _HIGH_LOG_STD, _START_LOG_STD = -5.0, 2.0, -0.5
_OFFSET = math.log((_START_LOG_STD - _LOW_LOG_STD) / (_HIGH_LOG_STD - _START_LOG_STD))

#: Logit of what an action mask forbids: its probability is 0, and products of the two are finite.
MASKED_LOGIT = -1e9

VALUE_HEADS = ("scalar", "two_hot", "hl_gauss")
# Width of the smoothing in bins, as Farebrother et al. recommend.
_SIGMA = 0.75


def bounded_log_std(raw: Tensor) -> Tensor:
    """Map the real line smoothly onto (-5, 2) with 0 going to -0.5 (docs/deviations.md, 5)."""
    return _LOW_LOG_STD + (_HIGH_LOG_STD - _LOW_LOG_STD) * F.sigmoid(raw + _OFFSET)


def gaussian_inputs(mean: Tensor, log_std: Tensor, *, squash_mean: bool, logits: Tensor | None = None) -> Tensor:
    """Distribution inputs from means and log standard deviations ``[B, A]``, after the logits if there are any.

    With ``squash_mean`` tanh keeps the means in (-1, 1).
    """
    parts = [torch.tanh(mean) if squash_mean else mean, log_std]
    return torch.cat(parts if logits is None else [logits, *parts], 1)


def mask_logits(inputs: Tensor, mask: Tensor) -> Tensor:
    """Forbid actions in distribution inputs: a categorical choice is never taken, a bit is never set.

    Args:
        inputs: ``[B, num_inputs]``.
        mask: bytes ``[B, num_logits]``, 0 where an action is forbidden.
    """
    forbidden = F.pad(mask == 0, (0, inputs.shape[1] - mask.shape[1]))  # [B, num_inputs]
    return inputs.masked_fill(forbidden, MASKED_LOGIT)


class Deterministic:
    """One certain action per row."""

    def __init__(self, action: Tensor) -> None:
        self.action = action

    def sample(self, generator: torch.Generator | None = None) -> Tensor:
        """The action; the generator is ignored."""
        return self.action


class Categorical:
    """Categorical over ``n`` actions from logits ``[B, n]`` (or ``[B, k, n]``, k choices side by side)."""

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

    def relaxed(self, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Actions ``[B, A]`` made of standard normal noise ``[B, A]``, and their log density ``[B]``."""
        logp = -(0.5 * noise.square() + self.log_std).sum(-1) - _HALF_LOG_2PI * noise.shape[-1]  # [B]
        return self.mean + self.log_std.exp() * noise, logp

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


# Actions nearer to the bounds than float32 can tell apart from them count as this far from zero.
_LARGEST_SQUASHED = 1.0 - 1e-6


class SquashedGaussian(DiagGaussian):
    """``tanh`` of independent normal components, in (-1, 1) (Haarnoja et al. 2018, arXiv 1812.05905, appendix C)."""

    def sample(self, generator: torch.Generator | None = None) -> Tensor:
        """Actions ``[B, A]`` in (-1, 1), without gradient."""
        return torch.tanh(super().sample(generator))

    def relaxed(self, noise: Tensor) -> tuple[Tensor, Tensor]:
        """See `DiagGaussian.relaxed`."""
        normal, logp = super().relaxed(noise)
        return torch.tanh(normal), logp - _log_slope(normal)

    def logp(self, actions: Tensor) -> Tensor:
        """Log density ``[B]`` of actions ``[B, A]``; those at the bounds count as just inside of them."""
        normal = torch.atanh(actions.clamp(-_LARGEST_SQUASHED, _LARGEST_SQUASHED))
        return super().logp(normal) - _log_slope(normal)

    def entropy(self) -> Tensor:
        """An unbiased estimate of the entropy ``[B]`` from one sample: there is no closed form."""
        return -self.relaxed(torch.randn_like(self.mean))[1]

    def to_deterministic(self) -> Deterministic:
        """``tanh`` of the mean, the median."""
        return Deterministic(torch.tanh(self.mean))


def _log_slope(normal: Tensor) -> Tensor:
    """``[B]``, the sum of ``log(1 - tanh(u)^2)`` over ``[B, A]``, also where that rounds to the logarithm of 0."""
    return 2.0 * (math.log(2.0) - normal - F.softplus(-2.0 * normal)).sum(-1)


class Bernoulli:
    """Independent bits from logits ``[B, n]``."""

    def __init__(self, logits: Tensor) -> None:
        self.logits = logits

    def sample(self, generator: torch.Generator | None = None) -> Tensor:
        """Bits ``[B, n]``, bool, without gradient."""
        chances = torch.sigmoid(self.logits.detach())
        return torch.empty_like(chances).uniform_(generator=generator) < chances

    def logp(self, actions: Tensor) -> Tensor:
        """Log probability ``[B]`` of bits ``[B, n]`` (0 or 1)."""
        return F.logsigmoid((2 * actions - 1) * self.logits).sum(-1)

    def entropy(self) -> Tensor:
        """Entropy ``[B]`` in nats."""
        return (F.softplus(self.logits) - torch.sigmoid(self.logits) * self.logits).sum(-1)

    def kl(self, other: Self) -> Tensor:
        """``KL(self || other)`` ``[B]`` in nats."""
        linear = torch.sigmoid(self.logits) * (self.logits - other.logits)
        return (linear - F.softplus(self.logits) + F.softplus(other.logits)).sum(-1)

    def to_deterministic(self) -> Deterministic:
        """The most probable bits."""
        return Deterministic(self.logits > 0)


class Product:
    """Independent parts, see `ActionRow`; `distribution_for` makes the subclass of a row.

    Actions are float32 ``[B, width]``.
    """

    row: ClassVar[ActionRow]
    gaussian: ClassVar[type[DiagGaussian]]

    def __init__(self, parts: list[Categorical | Bernoulli | DiagGaussian], widths: list[int]) -> None:
        self.parts = parts
        self.widths = widths

    @classmethod
    def from_logits(cls, dist_inputs: Tensor) -> Self:
        """From the distribution inputs of `ActorCritic.policy`; neighbours of equal kind and size are one part."""
        parts: list[Categorical | Bernoulli | DiagGaussian] = []
        widths, start = [], 0
        for (kind, size), group in groupby(cls.row.parts):
            count = len(list(group))
            if kind == "continuous":
                parts.append(cls.gaussian.from_logits(dist_inputs[:, start:]))
                widths.append(size)
                continue
            logits = dist_inputs[:, start : start + count * size]
            start += count * size
            if kind == "categorical":
                parts.append(Categorical(logits.unflatten(1, (count, size))))
                widths.append(count)
            else:
                parts.append(Bernoulli(logits))
                widths.append(count * size)
        return cls(parts, widths)

    def sample(self, generator: torch.Generator | None = None) -> Tensor:
        """Actions ``[B, width]`` without gradient."""
        return torch.cat([part.sample(generator).float() for part in self.parts], 1)

    def relaxed(self, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Drawn actions as numbers, as action values take them, with gradients.

        Choices and bits have the gradients of their relaxed distributions (the straight-through Gumbel-softmax
        estimator; Jang et al. 2017, arXiv 1611.01144).

        Args:
            noise: Standard normal, ``[B, num_logits + num_continuous]``.

        Returns:
            Numbers ``[B, num_logits + num_continuous]``, and their log probability ``[B]``, of choices and bits in
            expectation.
        """
        numbers, logp, start = [], [], 0
        for part in self.parts:
            if isinstance(part, DiagGaussian):
                drawn, density = part.relaxed(noise[:, start:])
                numbers.append(drawn)
                logp.append(density)
                continue
            logits = part.log_probs if isinstance(part, Categorical) else part.logits  # [B, k, n] or [B, n]
            size = logits[0].numel()
            uniform = torch.special.ndtr(noise[:, start : start + size]).clamp(1e-6, 1.0 - 1e-6).view_as(logits)
            start += size
            if isinstance(part, Categorical):
                race = logits - torch.log(-torch.log(uniform))
                soft = torch.softmax(race, -1)
                hard = F.one_hot(race.argmax(-1), race.shape[-1]).to(soft)
            else:
                soft = torch.sigmoid(logits + torch.logit(uniform))
                hard = (soft > 0.5).to(soft)
            numbers.append((hard + soft - soft.detach()).flatten(1))
            logp.append(-part.entropy())
        return torch.cat(numbers, 1), self._total(logp)

    def logp(self, actions: Tensor) -> Tensor:
        """Log probability ``[B]`` of actions ``[B, width]``, mixed with a density if some are continuous."""
        own = actions.split(self.widths, 1)
        return self._total([part.logp(action) for part, action in zip(self.parts, own, strict=True)])

    def entropy(self) -> Tensor:
        """Entropy ``[B]`` in nats, of discrete parts and of the continuous ones."""
        return self._total([part.entropy() for part in self.parts])

    def kl(self, other: Self) -> Tensor:
        """``KL(self || other)`` ``[B]`` in nats."""
        return self._total([part.kl(of_other) for part, of_other in zip(self.parts, other.parts, strict=True)])  # type: ignore[arg-type]

    def to_deterministic(self) -> Deterministic:
        """The mode of every part."""
        return Deterministic(torch.cat([part.to_deterministic().action.float() for part in self.parts], 1))

    @staticmethod
    def _total(terms: list[Tensor]) -> Tensor:
        """Sum of terms ``[B]`` or ``[B, k]``."""
        return torch.stack([term if term.ndim == 1 else term.sum(1) for term in terms]).sum(0)


ActionDistribution = Categorical | DiagGaussian | Product


@cache
def _product_of(row: ActionRow, gaussian: type[DiagGaussian]) -> type[Product]:
    return type("Product", (Product,), {"row": row, "gaussian": gaussian})


def distribution_for(interface: Interface) -> type[Categorical] | type[DiagGaussian] | type[Product]:
    """The distribution class for this environment's policy outputs."""
    row, gaussian = interface.action, SquashedGaussian if interface.squashed else DiagGaussian
    if row.discrete:
        return Categorical
    return _product_of(row, gaussian) if row.num_logits else gaussian


def _symlog(x: Tensor) -> Tensor:
    return torch.sign(x) * torch.log1p(x.abs())


class ValueBins(nn.Module):
    """Bins for values in [-limit, limit], narrow around zero and wide far from it.

    Their centres are equally spaced in ``sign(x) log(1 + |x|)`` (Hafner et al. 2023), so the bins are fine enough for
    returns of 1 and of 100.

    Args:
        kind: ``"two_hot"``: a target is divided between the two bins around it, so that their mean is the target;
            ``"hl_gauss"``: it is spread over bins by a Gaussian around it (Imani and White 2018).
        count: number of bins K.
        limit: largest value.
    """

    centres: Tensor
    edges: Tensor
    values: Tensor

    def __init__(self, kind: str, count: int, limit: float) -> None:
        super().__init__()
        self.kind = kind
        end = math.log1p(limit)
        centres = torch.linspace(-end, end, count)
        self.width = 2 * end / (count - 1)
        # Not saved, because they follow from the config.
        self.register_buffer("centres", centres, persistent=False)
        self.register_buffer(
            "edges", torch.cat([centres - self.width / 2, centres[-1:] + self.width / 2]), persistent=False
        )
        self.register_buffer("values", torch.sign(centres) * torch.expm1(centres.abs()), persistent=False)

    def read(self, logits: Tensor) -> Tensor:
        """Expected values ``[...]`` of logits ``[..., K]``."""
        return torch.softmax(logits, -1) @ self.values

    def distribution(self, targets: Tensor) -> Tensor:
        """Target probabilities ``[B, K]`` for targets ``[B]``, which are clamped to the limit."""
        targets = targets.clamp(float(self.values[0]), float(self.values[-1]))
        return self._two_hot(targets) if self.kind == "two_hot" else self._smoothed(targets)

    def _two_hot(self, targets: Tensor) -> Tensor:
        upper = torch.searchsorted(self.values, targets).clamp(1, len(self.values) - 1)
        low, high = self.values[upper - 1], self.values[upper]
        share = ((targets - low) / (high - low)).unsqueeze(1)
        probabilities = targets.new_zeros(len(targets), len(self.values))
        probabilities.scatter_(1, upper.unsqueeze(1), share)
        return probabilities.scatter_(1, upper.unsqueeze(1) - 1, 1.0 - share)

    def _smoothed(self, targets: Tensor) -> Tensor:
        scaled = (self.edges - _symlog(targets).unsqueeze(1)) / (math.sqrt(2.0) * _SIGMA * self.width)
        below = torch.erf(scaled)
        return (below[:, 1:] - below[:, :-1]) / (below[:, -1:] - below[:, :1])

    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Cross-entropy ``[B]`` of logits ``[B, K]`` against targets ``[B]``, minus the entropy of the targets."""
        wanted = self.distribution(targets)
        entropy = -torch.xlogy(wanted, wanted).sum(1)
        return -(wanted * F.log_softmax(logits, -1)).sum(1) - entropy
