"""Environments as networks see them, without any environment."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any


def interface(obs_size: int, action_size: int, discrete: bool, bound: float = 1.0, description: str = "env") -> Any:
    """Sizes and kind of an environment, with actions between ``-bound`` and ``bound`` where they are continuous."""
    bounds = () if discrete else (bound,) * action_size
    return SimpleNamespace(
        description=description,
        obs_names=(),
        action_names=(),
        obs_size=obs_size,
        action_size=action_size,
        discrete=discrete,
        action_low=tuple(-b for b in bounds),
        action_high=bounds,
    )


def described(interfaces: Mapping[str, Any]) -> dict[str, Any]:
    """The same with each id as the description."""
    return {env_id: SimpleNamespace(**{**vars(one), "description": env_id}) for env_id, one in interfaces.items()}
