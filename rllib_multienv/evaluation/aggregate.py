"""Normalised scores of many environments and seeds in one number, with intervals.

A score matrix is a mapping from environment to seed to normalised score. Seeds may be missing, in some environments or
in all. The interquartile mean and its interval are those of Agarwal et al. 2021, "Deep reinforcement learning at the
edge of the statistical precipice"; their library takes complete matrices alone and does not let its draws be fixed.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from rllib_multienv.evaluation.intervals import Interval

ScoreMatrix = Mapping[str, Mapping[int, float]]

#: Draws of the bootstrap, and the seed that makes tables the same every time.
BOOTSTRAP_DRAWS = 10_000
BOOTSTRAP_SEED = 0


@dataclass(frozen=True, kw_only=True)
class Aggregate:
    """A variant's normalised scores in one phase.

    Args:
        average, median, worst: Over environments, of the means over seeds.
        iqm: Interquartile mean over environments and seeds, with a 95% interval.
        environments: Number of environments.
        scores: Number of scores, environments times seeds where none is missing.
    """

    average: float
    median: float
    worst: float
    iqm: Interval
    environments: int
    scores: int


def environment_means(scores: ScoreMatrix) -> dict[str, float]:
    """Mean over seeds, by environment; environments without a score are left out."""
    return {env_id: statistics.fmean(by_seed.values()) for env_id, by_seed in scores.items() if by_seed}


def aggregate(scores: ScoreMatrix) -> Aggregate | None:
    """Average, median, worst and interquartile mean; None where there is no score at all."""
    means = list(environment_means(scores).values())
    if not means:
        return None
    return Aggregate(
        average=statistics.fmean(means),
        median=statistics.median(means),
        worst=min(means),
        iqm=interquartile_mean(scores),
        environments=len(means),
        scores=sum(map(len, scores.values())),
    )


def interquartile_mean(scores: ScoreMatrix) -> Interval:
    """Mean of the middle half of all scores, with a 95% interval by stratified bootstrap.

    Of all n scores the floor(n/4) smallest and as many of the largest are left out. The bootstrap draws, for each
    environment separately, as many of its scores as there are, with replacement.

    Args:
        scores: At least one score. Where an environment has a single seed there is no interval.
    """
    strata = _strata(scores)
    value = float(_trimmed(np.concatenate(strata)))
    if min(map(len, strata)) < 2:
        return Interval(value=value)
    low, high = np.percentile(_trimmed(_resampled(strata, BOOTSTRAP_SEED)), [2.5, 97.5])
    return Interval(value=value, low=float(low), high=float(high))


def iqm_difference(scores: ScoreMatrix, base: ScoreMatrix) -> Interval | None:
    """Difference of two interquartile means, over the environments that both have; None where there are none.

    The two sides are resampled independently.

    Args:
        scores: The scores of a variant.
        base: Those of what it is compared with, which are subtracted.
    """
    common = [env_id for env_id in scores if scores[env_id] and base.get(env_id)]
    if not common:
        return None
    sides = [_strata({env_id: side[env_id] for env_id in common}) for side in (scores, base)]
    value = float(_trimmed(np.concatenate(sides[0])) - _trimmed(np.concatenate(sides[1])))
    if min(len(stratum) for side in sides for stratum in side) < 2:
        return Interval(value=value)
    draws = [_trimmed(_resampled(side, BOOTSTRAP_SEED + index)) for index, side in enumerate(sides)]
    low, high = np.percentile(draws[0] - draws[1], [2.5, 97.5])
    return Interval(value=value, low=float(low), high=float(high))


def _strata(scores: ScoreMatrix) -> list[np.ndarray]:
    # By seed: the draws must not depend on the order of the rows.
    return [np.array([by_seed[seed] for seed in sorted(by_seed)]) for by_seed in scores.values() if by_seed]


def _resampled(strata: list[np.ndarray], seed: int) -> np.ndarray:
    """Draws of all scores: (draws, scores)."""
    generator = np.random.default_rng(seed)
    parts = [stratum[generator.integers(len(stratum), size=(BOOTSTRAP_DRAWS, len(stratum)))] for stratum in strata]
    return np.concatenate(parts, axis=1)


def _trimmed(values: np.ndarray) -> np.ndarray:
    """Mean over the last axis without a quarter at either end."""
    from scipy.stats import trim_mean

    return np.asarray(trim_mean(values, 0.25, axis=-1))
