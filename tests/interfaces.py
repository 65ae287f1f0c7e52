"""Environments as networks see them, without any environment."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any


def interface(obs_size: int, action_size: int, discrete: bool, bound: float = 1.0) -> Any:
    """Sizes and kind of an environment, with actions between ``-bound`` and ``bound`` where they are continuous."""
    bounds = () if discrete else (bound,) * action_size
    return SimpleNamespace(
        obs_size=obs_size,
        action_size=action_size,
        discrete=discrete,
        action_low=tuple(-b for b in bounds),
        action_high=bounds,
    )
