"""When a trial ends: the ``stop`` section of a configuration file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from rllib_multienv.config_files.errors import unknown_key_message

# What the results of Tune and RLlib hold at their top level, as far as one would stop by it.
_RESULT_KEYS = (
    "training_iteration",
    "time_total_s",
    "time_this_iter_s",
    "time_since_restore",
    "iterations_since_restore",
    "timesteps_total",
    "num_env_steps_sampled_lifetime",
    "num_env_steps_sampled",
    "num_steps_lifetime",
    "num_agent_steps_sampled_lifetime",
    "num_training_step_calls_per_iteration",
    "env_runners",
    "learners",
    "evaluation",
    "timers",
    "perf",
    "fault_tolerance",
)
# Those that only grow: from their rate follows how long the training still takes.
_MONOTONE = (
    "training_iteration",
    "time_total_s",
    "time_since_restore",
    "iterations_since_restore",
    "timesteps_total",
    "num_env_steps_sampled_lifetime",
    "num_agent_steps_sampled_lifetime",
    "num_steps_lifetime",
)


@dataclass(frozen=True)
class StopCriteria:
    """Ends a trial at the first result in which *one* of `any_of`, or *every one* of `all_of`, is reached.

    A criterion is a key of the result, nested ones with ``/`` between them
    (``env_runners/module_episode_return_mean/CartPole-v1``), and a number; it is reached when the value is at
    least that number. A value that is missing, as the return of an environment before its first episode has
    ended, has not reached anything. An object of this class goes into `tune.RunConfig(stop=...)` as it is.

    Args:
        any_of: Criteria of which one is enough; Tune's own meaning.
        all_of: Criteria which together end the trial; for "solved everywhere".
    """

    any_of: Mapping[str, float] = field(default_factory=dict)
    all_of: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def of(cls, section: Mapping[str, Any]) -> StopCriteria:
        """Reads the ``stop`` section: criteria, and under ``all_of`` those that must be reached together.

        Raises:
            ValueError: For a key that no result has, or a value that is no number.
        """
        rest = {key: value for key, value in section.items() if key != "all_of"}
        all_of = section.get("all_of") or {}
        if not isinstance(all_of, Mapping):
            raise ValueError(f"'all_of' takes criteria below it (key: number), not {all_of!r}")
        return cls(any_of=_flat(rest), all_of=_flat(all_of))

    def __call__(self, trial_id: str, result: Mapping[str, Any]) -> bool:
        """Whether the trial ends with this result (the call that Tune makes)."""
        return self.reached(result) is not None

    def reached(self, result: Mapping[str, Any]) -> str | None:
        """The criterion by which the trial ends with this result, in words; None if it goes on."""
        for key, bound in self.any_of.items():
            if _at_least(result, key, bound):
                return f"{key} >= {bound:g}"
        if self.all_of and all(_at_least(result, key, bound) for key, bound in self.all_of.items()):
            return ", ".join(f"{key} >= {bound:g}" for key, bound in self.all_of.items())
        return None

    def seconds_left(self, result: Mapping[str, Any], rates: Mapping[str, float] | None = None) -> float | None:
        """About how many seconds of training remain, from the criteria that grow steadily; None if there are
        none.

        Args:
            result: The latest result.
            rates: Growth per second of the keys that grow, as measured lately; where it has no rate, the mean
                since the beginning is taken.
        """
        elapsed = lookup(result, "time_total_s")
        left: list[float] = []
        for key, bound in self.any_of.items():
            value = lookup(result, key)
            if key not in _MONOTONE or value is None:
                continue
            seconds = key.startswith("time_")
            rate = 1.0 if seconds else (rates or {}).get(key) or (value / elapsed if elapsed else 0.0)
            if rate > 0:
                left.append(max(0.0, (bound - value) / rate))
        return min(left) if left else None


def check_result_key(key: str, *, where: str, also: Iterable[str] = ()) -> None:
    """Checks that the first part of `key`, a path with ``/`` between its parts, is one that results have.

    Args:
        key: The path.
        where: The section it stands in, for the error.
        also: Other keys that can stand there, for the error.

    Raises:
        ValueError: If it is none; with the nearest known ones.
    """
    first = key.split("/")[0]
    if first not in _RESULT_KEYS:
        raise ValueError(unknown_key_message(first, [*also, *_RESULT_KEYS], where=repr(where)))


def lookup(result: Mapping[str, Any], key: str) -> float | None:
    """A number in a nested result by its path with ``/`` between the keys; None if there is none."""
    if key in result:
        value: Any = result[key]
    else:
        value = result
        for part in key.split("/"):
            if not isinstance(value, Mapping) or part not in value:
                return None
            value = value[part]
    try:
        return float(value)
    except (TypeError, ValueError):
        return None


def _at_least(result: Mapping[str, Any], key: str, bound: float) -> bool:
    value = lookup(result, key)
    return value is not None and value >= bound


def _flat(section: Mapping[str, Any], prefix: str = "") -> dict[str, float]:
    flat: dict[str, float] = {}
    for key, value in section.items():
        path = f"{prefix}/{key}" if prefix else key
        if isinstance(value, Mapping):
            flat.update(_flat(value, path))
        elif isinstance(value, int | float) and not isinstance(value, bool):
            flat[path] = float(value)
        else:
            raise ValueError(f"the criterion {path!r} takes a number, not {value!r}")
    if not prefix:
        for path in flat:
            check_result_key(path, where="stop", also=("all_of",))
    return flat
