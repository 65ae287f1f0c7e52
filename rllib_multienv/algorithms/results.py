"""Additions to RLlib's results, and windows without values that are left out of them."""

from __future__ import annotations

from collections.abc import Container
from typing import Any

import numpy as np

from rllib_multienv.metrics import (
    EPISODE_RETURN_AVERAGE,
    EPISODE_RETURN_MEDIAN,
    EPISODE_RETURN_WORST,
    EPISODE_RETURNS,
    MODULE_EPISODE_RETURN_MEAN,
    MODULE_EPISODE_RETURN_STD,
)


def drop_empty_windows(results: Any, keys: Container[str], below: bool = False) -> None:
    """Drop, in place, windows without values, which RLlib reports as NaN, under any of ``keys``.

    RLlib goes on to report what was reported once: of environments that were removed since, and of what is not measured
    in every iteration.
    """
    for key, value in list(results.items()):
        if isinstance(value, dict):
            drop_empty_windows(value, keys, below or key in keys)
            if key in keys and not value:
                del results[key]
        elif (below or key in keys) and isinstance(value, float | np.floating) and np.isnan(value):
            del results[key]


def add_aggregates(results: Any) -> None:
    """Add, in place, what is taken over environments (returns) and over episodes (standard deviation)."""
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
