"""Additions to RLlib's results of an iteration, and removals from them."""

from __future__ import annotations

from collections.abc import Container
from typing import Any

import numpy as np

from rllib_multienv.metrics import (
    EPISODE_RETURN_AVERAGE,
    EPISODE_RETURN_MEDIAN,
    EPISODE_RETURN_WORST,
    EPISODE_RETURNS,
    GRADIENT_COSINE,
    MODULE_EPISODE_RETURN_MEAN,
    MODULE_EPISODE_RETURN_STD,
)


def drop_keys(results: Any, keys: Container[str]) -> None:
    """Remove keys, in place, at any depth: RLlib reports for ever what was reported once."""
    for key, value in list(results.items()):
        if key in keys:
            del results[key]
        elif isinstance(value, dict):
            drop_keys(value, keys)


def drop_unmeasured(results: Any, below: bool = False) -> None:
    """Remove, in place, gradient cosines that were not measured in this iteration, which RLlib reports as NaN."""
    for key, value in list(results.items()):
        if isinstance(value, dict):
            drop_unmeasured(value, below or key == GRADIENT_COSINE)
            if key == GRADIENT_COSINE and not value:
                del results[key]
        elif (below or key == GRADIENT_COSINE) and isinstance(value, float | np.floating) and np.isnan(value):
            del results[key]


def add_aggregates(results: Any) -> None:
    """Add, in place, aggregates of returns over environments, and standard deviations over episodes."""
    means = [float(v) for v in results.get(MODULE_EPISODE_RETURN_MEAN, {}).values() if np.isfinite(v)]
    if means:
        results[EPISODE_RETURN_AVERAGE] = float(np.mean(means))
        results[EPISODE_RETURN_MEDIAN] = float(np.median(means))
        results[EPISODE_RETURN_WORST] = float(np.min(means))
    returns = results.get(EPISODE_RETURNS, {})
    if returns:
        results[MODULE_EPISODE_RETURN_STD] = {
            env_id: float(np.std(values)) for env_id, values in returns.items() if np.size(values)
        }
