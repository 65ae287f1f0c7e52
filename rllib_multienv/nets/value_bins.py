"""Value learning as classification: a distribution over bins in the place of one number.

The gradient of a cross-entropy does not grow with the scale of the returns, which is what lets one network carry the
values of many environments (Farebrother et al. 2024, "Stop regressing"; arXiv 2505.23150; arXiv 2411.11188).
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["VALUE_HEADS", "ValueBins"]

VALUE_HEADS = ("scalar", "two_hot", "hl_gauss")
# Width of the smoothing in bins, as Farebrother et al. recommend.
_SIGMA = 0.75


def _symlog(x: Tensor) -> Tensor:
    return torch.sign(x) * torch.log1p(x.abs())


class ValueBins(nn.Module):
    """Bins for values in [-limit, limit], narrow around zero and wide far from it.

    Their centres are equally spaced in ``sign(x) log(1 + |x|)`` (Hafner et al. 2023), so returns of 1 and of 100 are
    both told apart.

    Args:
        kind: ``"two_hot"``: a target is shared by the two bins around it in the proportion that gives it as their mean;
            ``"hl_gauss"``: it is spread over bins by a Gaussian around it (Imani and White 2018).
        count: K, number of bins.
        limit: Largest value.
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
        # Not saved: they follow from the config.
        self.register_buffer("centres", centres, persistent=False)
        self.register_buffer(
            "edges", torch.cat([centres - self.width / 2, centres[-1:] + self.width / 2]), persistent=False
        )
        self.register_buffer("values", torch.sign(centres) * torch.expm1(centres.abs()), persistent=False)

    def read(self, logits: Tensor) -> Tensor:
        """Expected values ``[...]`` of logits ``[..., K]``."""
        return torch.softmax(logits, -1) @ self.values

    def distribution(self, targets: Tensor) -> Tensor:
        """Probabilities ``[B, K]`` that stand for the targets ``[B]``; those beyond the limit count as the limit."""
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
        """Cross-entropy ``[B]`` of logits ``[B, K]`` against the targets ``[B]``, less its smallest possible value."""
        wanted = self.distribution(targets)
        entropy = -torch.xlogy(wanted, wanted).sum(1)
        return -(wanted * F.log_softmax(logits, -1)).sum(1) - entropy
