"""The bounded log standard deviation of continuous policies."""

from __future__ import annotations

import math

from torch import Tensor
from torch.nn import functional as F

__all__ = ["START_LOG_STD", "bounded_log_std"]

START_LOG_STD = -0.5
_LOW = -5.0


def bounded_log_std(raw: Tensor, high: float = 2.0) -> Tensor:
    """Map the real line smoothly onto (-5, high) with 0 going to -0.5 (docs/deviations.md, 5)."""
    offset = math.log((START_LOG_STD - _LOW) / (high - START_LOG_STD))
    return _LOW + (high - _LOW) * F.sigmoid(raw + offset)
