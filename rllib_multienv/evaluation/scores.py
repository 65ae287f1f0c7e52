"""Normalised scores: where a return lies between that of a random and that of an expert policy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

NORMALIZED_SCORE = "normalized_score"


def normalized_score(value: float, reference: tuple[float, float]) -> float:
    """100 times the return's place between the random (0) and the expert return (100), as in D4RL.

    Args:
        value: An undiscounted return.
        reference: Return of a random and of an expert policy.
    """
    low, high = reference
    return 100.0 * (value - low) / (high - low)


def add_normalized_scores(
    results: dict[str, Any], means: Mapping[str, float], references: Mapping[str, tuple[float, float]]
) -> None:
    """Add, in place, the score of each environment with a reference, and their average, median and worst.

    Args:
        results: Where to.
        means: Mean return by env id.
        references: Returns of a random and of an expert policy, by env id.
    """
    scores = {
        env_id: normalized_score(mean, references[env_id])
        for env_id, mean in means.items()
        if env_id in references and np.isfinite(mean)
    }
    if scores:
        results[NORMALIZED_SCORE] = scores
        values = list(scores.values())
        results[f"{NORMALIZED_SCORE}_average"] = float(np.mean(values))
        results[f"{NORMALIZED_SCORE}_median"] = float(np.median(values))
        results[f"{NORMALIZED_SCORE}_worst"] = float(np.min(values))
