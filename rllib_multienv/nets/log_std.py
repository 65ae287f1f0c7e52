"""The bounded log standard deviation of continuous policies."""

from __future__ import annotations

import math

from torch import Tensor
from torch.nn import functional as F

__all__ = ["bounded_log_std"]

_LOW, _HIGH, _START = -5.0, 2.0, -0.5
_OFFSET = math.log((_START - _LOW) / (_HIGH - _START))


def bounded_log_std(raw: Tensor) -> Tensor:
    """Map the real line smoothly onto (-5, 2) with 0 going to -0.5 (docs/deviations.md, 5)."""
    return _LOW + (_HIGH - _LOW) * F.sigmoid(raw + _OFFSET)
