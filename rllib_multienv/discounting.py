"""Discounted sums along time."""

from __future__ import annotations

import numpy as np


def discounted_sums(values: np.ndarray, factor: float) -> np.ndarray:
    """``y_t = values_t + factor * y_(t-1)``, ``[T]`` float64: a recursive filter of first order."""
    # A fifth of the time that importing this package takes, in every process of a run, and only learners need it.
    from scipy.signal import lfilter

    return lfilter([1.0], [1.0, -factor], values.astype(np.float64, copy=False))
