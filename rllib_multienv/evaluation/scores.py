"""Normalised scores, and statistics over few seeds: means and interquartile means with 95% intervals."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from rllib_multienv.metrics import NORMALIZED_SCORE

#: From this many seeds on, a mean has Student's 95% interval; with two, the smaller and the larger are its bounds.
SEEDS_FOR_INTERVAL = 3
_BOOTSTRAP_DRAWS, _BOOTSTRAP_SEED = 10_000, 0

Strata = Sequence[Sequence[float]]  # one sequence per environment, with one score per seed


class Interval(NamedTuple):
    """An estimate with its bounds, which are NaN where there are too few values."""

    value: float
    low: float = math.nan
    high: float = math.nan


def normalized_score(value: Any, reference: tuple[Any, Any]) -> Any:
    """``100 * (value - random) / (best - random)``: 0 is a random, 100 the reference policy's return, as in D4RL.

    Args:
        value: An undiscounted return, or a series of them.
        reference: Return of a random and of the reference policy; numbers, or series too.
    """
    low, high = reference
    return 100.0 * (value - low) / (high - low)


def add_normalized_scores(
    results: dict[str, Any], means: Mapping[str, float], references: Mapping[str, tuple[float, float]]
) -> None:
    """Adds the scores of mean returns by env id to `results`, and their average, median and worst.

    Only environments with references have scores: the returns of a random and of an expert policy.
    """
    known = {env_id: mean for env_id, mean in means.items() if env_id in references and np.isfinite(mean)}
    scores = {env_id: normalized_score(mean, references[env_id]) for env_id, mean in known.items()}
    if scores:
        results[NORMALIZED_SCORE] = scores
        for name, function in (("average", np.mean), ("median", np.median), ("worst", np.min)):
            results[f"{NORMALIZED_SCORE}_{name}"] = float(function(list(scores.values())))


def student_half_width(values: np.ndarray) -> np.ndarray:
    """Half the width of the 95% interval of the mean over the first axis (length >= 2): ``t * s / sqrt(n)``."""
    from scipy.stats import t

    count = values.shape[0]
    return np.asarray(t.ppf(0.975, count - 1) * values.std(axis=0, ddof=1) / np.sqrt(count))


def mean_interval(values: Sequence[float]) -> Interval:
    """Mean of independent values, at least one, with Student's 95% interval; two values are themselves the bounds."""
    mean = float(np.mean(values))
    if len(values) < 2:
        return Interval(mean)
    if len(values) < SEEDS_FOR_INTERVAL:
        return Interval(mean, min(values), max(values))
    half = float(student_half_width(np.asarray(values, dtype=float)))
    return Interval(mean, mean - half, mean + half)


def bootstrap_mean(values: Any) -> Interval:
    """Mean of independent values, at least one, with a 95% bootstrap interval."""
    value = float(np.mean(values))
    if len(values) < 2:
        return Interval(value)
    low, high = np.percentile(_resampled([values], _BOOTSTRAP_SEED).mean(axis=1), [2.5, 97.5])
    return Interval(value, float(low), float(high))


def interquartile_mean(scores: Strata) -> Interval:
    """Interquartile mean over environments and seeds, with a 95% interval by stratified bootstrap.

    Of n scores the floor(n/4) smallest and largest are left out. The bootstrap resamples seeds within each environment;
    where one has a single score there is no interval. After Agarwal et al. 2021, "Deep reinforcement learning at the
    edge of the statistical precipice"; their library needs complete matrices and does not let draws be fixed.
    """
    value = float(_trimmed(np.concatenate(scores)))
    if min(map(len, scores)) < 2:
        return Interval(value)
    low, high = np.percentile(_trimmed(_resampled(scores, _BOOTSTRAP_SEED)), [2.5, 97.5])
    return Interval(value, float(low), float(high))


def iqm_difference(scores: Strata, base: Strata) -> Interval:
    """Interquartile mean of `scores` minus that of `base`; both are resampled independently."""
    value = float(_trimmed(np.concatenate(scores)) - _trimmed(np.concatenate(base)))
    if min(map(len, [*scores, *base])) < 2:
        return Interval(value)
    draws = [_trimmed(_resampled(side, _BOOTSTRAP_SEED + index)) for index, side in enumerate((scores, base))]
    low, high = np.percentile(draws[0] - draws[1], [2.5, 97.5])
    return Interval(value, float(low), float(high))


def _resampled(scores: Strata, seed: int) -> np.ndarray:
    """Bootstrap draws of all scores: [draws, scores]."""
    generator = np.random.default_rng(seed)
    strata = [np.asarray(stratum, dtype=float) for stratum in scores]
    parts = [stratum[generator.integers(len(stratum), size=(_BOOTSTRAP_DRAWS, len(stratum)))] for stratum in strata]
    return np.concatenate(parts, axis=1)


def _trimmed(values: np.ndarray) -> np.ndarray:
    """Mean over the last axis without the lowest and the highest quarter."""
    from scipy.stats import trim_mean

    return np.asarray(trim_mean(values, 0.25, axis=-1))
