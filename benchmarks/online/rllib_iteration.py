"""An iteration of an algorithm of RLlib, ours included: ``train()`` as users call it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ray.rllib.utils.metrics import ENV_RUNNER_RESULTS, NUM_ENV_STEPS_SAMPLED_LIFETIME


def iterations_of(algorithm: Any) -> Callable[[], int]:
    """A function that makes an iteration and returns how many environment steps it sampled."""
    sampled = 0

    def iterate() -> int:
        nonlocal sampled
        before = sampled
        sampled = int(algorithm.train()[ENV_RUNNER_RESULTS][NUM_ENV_STEPS_SAMPLED_LIFETIME])
        return sampled - before

    return iterate
