"""Scores of trials and checkpoints, and the result of a search over settings."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from rllib_multienv.config_files.file import ConfigFile
from rllib_multienv.config_files.stopping import lookup
from rllib_multienv.config_files.yaml_text import find_search_spaces

Ranges = dict[str, tuple[float, float]]

# Settings of Tune that only a search has.
_OF_A_SEARCH = {"num_samples", "search_alg", "scheduler", "metric", "mode", "max_concurrent_trials", "time_budget_s"}


@dataclass(frozen=True)
class Metric:
    """The number by which trials and checkpoints are compared.

    With ``tune: {metric: ..., mode: ...}`` in the file it is that value of a result. Without it, it is the mean over
    environments of the return, scaled to 0 at the lowest and 1 at the highest return of the run, so that an environment
    with large returns counts no more than others.

    Args:
        key: Key in a flat result; None for the scaled returns.
        mode: ``"max"`` or ``"min"``.
    """

    key: str | None = None
    mode: str = "max"

    @classmethod
    def of(cls, file: ConfigFile) -> Metric:
        """The metric of a configuration file."""
        return cls(file.tune.get("metric"), file.tune.get("mode") or "max")

    @property
    def name(self) -> str:
        """The heading of its column."""
        return self.key.split("/")[-1] if self.key else "score"

    def __str__(self) -> str:
        return f"{self.key} ({self.mode})" if self.key else "mean of the returns, each scaled to its range in this run"

    def value(self, row: Mapping[str, float], returns: Mapping[str, float], ranges: Ranges) -> float | None:
        """The metric of one trial or checkpoint; None if it has none yet.

        Args:
            row: A flat result.
            returns: The return per environment.
            ranges: The lowest and the highest return per environment, see `return_ranges`.
        """
        if self.key is not None:
            return lookup(row, self.key)
        if not returns:
            return None
        scaled = [
            (returns.get(env_id, low) - low) / (high - low) if high > low else 1.0
            for env_id, (low, high) in ranges.items()
        ]
        return sum(scaled) / len(scaled)

    def better(self, value: float, other: float | None) -> bool:
        """Whether `value` is better than `other`; anything is better than None."""
        return other is None or (value < other if self.mode == "min" else value > other)


def return_ranges(returns: Iterable[Mapping[str, float]]) -> Ranges:
    """The lowest and the highest return per environment."""
    return merged({env_id: (value, value) for env_id, value in some.items()} for some in returns)


def merged(ranges: Iterable[Ranges]) -> Ranges:
    """The smallest ranges that contain all others."""
    found: Ranges = {}
    for some in ranges:
        for env_id, (low, high) in some.items():
            lowest, highest = found.get(env_id, (low, high))
            found[env_id] = (min(low, lowest), max(high, highest))
    return found


def drawn_values(file: ConfigFile, config: Mapping[str, Any]) -> dict[str, Any]:
    """The values that Tune has drawn for a trial, by their place in the file: ``{"training.actor_lr": 3e-4}``.

    Args:
        file: The configuration with the search spaces.
        config: The trial's configuration, RLlib's as a dict.
    """
    values = {}
    for path, _ in find_search_spaces(file.methods):
        node: Any = config
        for key in path[1:]:
            if node is config and key not in config:
                key = f"_{key}"  # RLlib keeps model_config as _model_config
            try:
                node = node[key]
            except (KeyError, IndexError, TypeError):
                node = None
        values[".".join(map(str, path))] = node.item() if hasattr(node, "item") else node
    return values


def with_values(file: ConfigFile, values: Mapping[str, Any]) -> ConfigFile:
    """The file with drawn values in the place of its search spaces: a file for one trial."""
    tree = copy.deepcopy({**file.tree, "name": f"{file.name}-best"})
    for path, _ in find_search_spaces(file.methods):
        node: Any = tree
        for key in path[:-1]:
            node = node[key]
        node[path[-1]] = values[".".join(map(str, path))]
    tree["tune"] = {key: value for key, value in file.tune.items() if key not in _OF_A_SEARCH}
    if not tree["tune"]:
        del tree["tune"]
    return replace(file, tree=tree)
