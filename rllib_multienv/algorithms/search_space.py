"""Settings that Tune is still to decide: they are checked once it has."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ray.tune.search.sample import Domain


def is_search_space(value: Any) -> bool:
    """Whether ``value`` is, or has in it, something that Tune is still to decide."""
    if isinstance(value, Domain):
        return True
    if isinstance(value, Mapping):
        return "grid_search" in value or any(is_search_space(item) for item in value.values())
    return isinstance(value, list | tuple) and any(is_search_space(item) for item in value)
