"""How sure a mean over few seeds is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, kw_only=True)
class Interval:
    """An estimate with bounds.

    Args:
        value: The estimate.
        low, high: Its bounds; None where there are too few values to tell.
    """

    value: float
    low: float | None = None
    high: float | None = None


#: From so many seeds on a mean has a 95% interval; below, the smallest and the largest value are its bounds.
SEEDS_FOR_INTERVAL = 3


def mean_interval(values: Sequence[float]) -> Interval:
    """Mean of independent values, at least one, with Student's 95% interval.

    Two values have themselves as bounds, since their interval would be 25 times as wide as they are apart; one
    has none.
    """
    mean = float(np.mean(values))
    if len(values) < 2:
        return Interval(value=mean)
    if len(values) < SEEDS_FOR_INTERVAL:
        return Interval(value=mean, low=min(values), high=max(values))
    half = student_half_width(np.asarray(values, dtype=float))
    return Interval(value=mean, low=mean - float(half), high=mean + float(half))


def student_half_width(values: np.ndarray) -> np.ndarray:
    """Half the width of the 95% interval of the mean over the first axis, of length >= 2: ``t * s / sqrt(n)``."""
    from scipy.stats import t

    count = values.shape[0]
    return np.asarray(t.ppf(0.975, count - 1) * values.std(axis=0, ddof=1) / np.sqrt(count))


def difference_interval(values: Sequence[float], base: Sequence[float]) -> Interval:
    """Difference of two means with Welch's 95% interval; without bounds where one has fewer than 3 values."""
    from scipy.stats import t

    difference = float(np.mean(values) - np.mean(base))
    if min(len(values), len(base)) < SEEDS_FOR_INTERVAL:
        return Interval(value=difference)
    errors = [float(np.var(part, ddof=1)) / len(part) for part in (values, base)]
    total = sum(errors)
    if total == 0:
        return Interval(value=difference, low=difference, high=difference)
    sizes = [len(values) - 1, len(base) - 1]
    freedom = total**2 / sum(error**2 / size for error, size in zip(errors, sizes, strict=True))
    half = float(t.ppf(0.975, freedom)) * total**0.5
    return Interval(value=difference, low=difference - half, high=difference + half)
