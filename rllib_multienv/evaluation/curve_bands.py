"""Learning curves of several seeds as one line with a band."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rllib_multienv.evaluation.intervals import SEEDS_FOR_INTERVAL, student_half_width


@dataclass(frozen=True, kw_only=True)
class Curve:
    """The learning curve of one run in one environment.

    Args:
        steps: Environment steps in this environment, rising, at least one.
        returns: Mean return of the last episodes, per point.
    """

    steps: tuple[float, ...]
    returns: tuple[float, ...]

    def at(self, steps: float) -> float | None:
        """The return after so many steps, between the points by straight lines; None outside the curve."""
        if not self.steps[0] <= steps <= self.steps[-1]:
            return None
        return float(np.interp(steps, self.steps, self.returns))

    @property
    def mean(self) -> float:
        """The mean return over all steps from the first point to the last, between the points by straight lines."""
        if len(self.steps) == 1:
            return self.returns[0]
        return float(np.trapezoid(self.returns, self.steps) / (self.steps[-1] - self.steps[0]))


@dataclass(frozen=True, kw_only=True)
class Band:
    """Several curves as one.

    Args:
        steps: A grid of steps.
        mean: Mean over seeds.
        low, high: 95% interval of the mean with 3 seeds or more (Student's t); with fewer the smallest and the
            largest.
        smallest, largest: Over seeds.
        seeds: Number of curves.
    """

    steps: np.ndarray
    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray
    smallest: np.ndarray
    largest: np.ndarray
    seeds: int


def curve_band(curves: Sequence[Curve], *, points: int = 81) -> Band | None:
    """Puts curves on a common grid, which reaches over the steps that all of them have.

    Args:
        curves: One per seed.
        points: Points of the grid.

    Returns:
        The band, or None where there is no curve or no step that all have.
    """
    if not curves:
        return None
    first, last = max(curve.steps[0] for curve in curves), min(curve.steps[-1] for curve in curves)
    if first > last:
        return None
    grid = np.linspace(first, last, points if first < last else 1)
    values = np.stack([np.interp(grid, curve.steps, curve.returns) for curve in curves])
    mean, smallest, largest = values.mean(axis=0), values.min(axis=0), values.max(axis=0)
    low, high = smallest, largest
    if len(curves) >= SEEDS_FOR_INTERVAL:
        half = student_half_width(values)
        low, high = mean - half, mean + half
    return Band(steps=grid, mean=mean, low=low, high=high, smallest=smallest, largest=largest, seeds=len(curves))
