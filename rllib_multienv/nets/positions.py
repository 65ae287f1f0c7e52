"""Sinusoidal position encodings (Vaswani et al., 2017)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = ["position_features", "sinusoidal_encoding"]

# Wavelengths of the encoder's position features, in positions: from near the shortest that neighbours can
# show to a few times the longest observation (376) that is common.
_SHORTEST, _LONGEST = 3.0, 1500.0


def sinusoidal_encoding(length: int, d_model: int) -> Tensor:
    """``[length, d_model]`` sines and cosines, the mean over the features taken out.

    The decoder averages over the features; an encoding with a mean would give every position its own constant
    offset of the output before anything is learned (docs/deviations.md, 3).
    """
    rates = torch.exp(torch.arange(0, d_model, 2, dtype=torch.float64) * (-math.log(10_000.0) / d_model))
    angles = torch.arange(length, dtype=torch.float64)[:, None] * rates
    table = torch.stack([torch.sin(angles), torch.cos(angles)], -1).flatten(1)[:, :d_model]
    return table - table.mean(1, keepdim=True)


def position_features(length: int, size: int) -> Tensor:
    """``[length, size]``: a one, then sines and cosines of geometric wavelengths; ``size`` is odd."""
    count = (size - 1) // 2
    waves = _SHORTEST * (_LONGEST / _SHORTEST) ** torch.linspace(0, 1, count, dtype=torch.float64)
    angles = torch.arange(length, dtype=torch.float64)[:, None] * (2 * math.pi / waves)
    ones = torch.ones(length, 1, dtype=torch.float64)
    return torch.cat([ones, math.sqrt(2) * torch.sin(angles), math.sqrt(2) * torch.cos(angles)], 1)
