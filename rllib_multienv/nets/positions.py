"""What tells the network where in a sequence a token stands, and whose it is."""

from __future__ import annotations

import math
from hashlib import shake_128

import numpy as np
import torch
from torch import Tensor

__all__ = ["decoder_readouts", "encoder_positions", "position_codes", "position_features", "sinusoidal_encoding"]

# Wavelengths of the encoder's position features, in positions: from near the shortest that neighbours can
# show to a few times the longest observation (376) that is common.
_SHORTEST, _LONGEST = 3.0, 1500.0


def sinusoidal_encoding(length: int, d_model: int) -> Tensor:
    """``[length, d_model]`` sines and cosines (Vaswani et al., 2017), the mean over the features taken out.

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


def position_codes(description: str, length: int, size: int) -> Tensor:
    """``[length, size]`` signs that belong to an environment and a position: feature hashing (Weinberger et al., 2009).

    Those of different environments or positions are nearly orthogonal, so an environment has directions of its own in
    weights that all share, and a new one has such without a new parameter (docs/deviations.md, 1).
    """
    # A hash and not a random generator, whose numbers may change with its library's version.
    digests = (shake_128(f"{position} {description}".encode()).digest(-(-size // 8)) for position in range(length))
    bits = np.unpackbits(np.frombuffer(b"".join(digests), np.uint8)).reshape(length, -1)[:, :size]
    return torch.from_numpy(2.0 * bits - 1.0)


def encoder_positions(description: str, length: int, *, features: int, codes: int) -> Tensor:
    """``[length, features + codes]``: what the encoder is given beside each component of an observation."""
    return torch.cat([position_features(length, features), position_codes(description, length, codes)], 1)


def decoder_readouts(description: str, length: int, d_model: int) -> Tensor:
    """``[length, d_model]``, 0 or 2: which half of the features a decoder's output is the mean of.

    By `position_codes`: each output has a direction of its own, as in an MLP's last layer, and two have a quarter of
    the features in common (docs/deviations.md, 23).
    """
    return 1.0 + position_codes(f"{description} output", length, d_model)
