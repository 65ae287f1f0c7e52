"""When a trial ends: the ``stop`` section of a configuration file, and the keys of results."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from rllib_multienv.config_files.yaml_text import unknown_key_message
from rllib_multienv.gym_ids import did_you_mean
from rllib_multienv.metrics import GLOSSARY, NUM_ENV_STEPS_SAMPLED_LIFETIME, NUM_STEPS_LIFETIME

# Counters and times that only grow: from their rate follows how long the training still takes.
_MONOTONE = (
    "training_iteration",
    "time_total_s",
    "time_since_restore",
    "iterations_since_restore",
    "timesteps_total",
    NUM_ENV_STEPS_SAMPLED_LIFETIME,
    "num_agent_steps_sampled_lifetime",
    NUM_STEPS_LIFETIME,
)
_KEYS = [key.split("/") for section in GLOSSARY.values() for key in section]
_TOP = {first for first, *_ in _KEYS}
# Under env_runners/ and evaluation/env_runners/: by env id, and of all environments together.
_BY_ENVIRONMENT = {parts[1] for parts in _KEYS if parts[0] == "env_runners" and parts[-1] == "ENV"}
_OF_ALL = {parts[1] for parts in _KEYS if parts[0] == "env_runners"} - _BY_ENVIRONMENT


@dataclass(frozen=True)
class StopCriteria:
    """Ends a trial at the first result in which *one* of `any_of`, or *every one* of `all_of`, is reached.

    A criterion is a key of the result, nested ones with ``/`` between them
    (``env_runners/module_episode_return_mean/CartPole-v1``), and a number. It is reached when the value is at least
    that number. A missing value, as the return of an environment before its first episode has ended, has not reached
    anything. `tune.RunConfig(stop=...)` takes an object of this class.

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
            ValueError: A key that no result has, or a value that is not a number.
        """
        rest = {key: value for key, value in section.items() if key != "all_of"}
        all_of = section.get("all_of") or {}
        if not isinstance(all_of, Mapping):
            raise ValueError(f"'all_of' takes criteria below it (key: number), not {all_of!r}")
        criteria = cls(any_of=_flat(rest), all_of=_flat(all_of))
        criteria.check()
        return criteria

    def check(self, env_ids: Collection[str] | None = None, *, custom: bool = True) -> None:
        """Checks that results have all keys; see `check_result_key`."""
        for key in (*self.any_of, *self.all_of):
            check_result_key(key, where="stop", also=("all_of",), env_ids=env_ids, custom=custom)

    def __call__(self, trial_id: str, result: Mapping[str, Any]) -> bool:
        """Whether the trial ends with this result (the call that Tune makes)."""
        return self.reached(result) is not None

    def reached(self, result: Mapping[str, Any]) -> str | None:
        """The criterion by which the trial ends with this result, in words; None if it does not end."""
        for key, bound in self.any_of.items():
            if _at_least(result, key, bound):
                return f"{key} >= {bound:g}"
        if self.all_of and all(_at_least(result, key, bound) for key, bound in self.all_of.items()):
            return ", ".join(f"{key} >= {bound:g}" for key, bound in self.all_of.items())
        return None

    def seconds_left(self, result: Mapping[str, Any], rates: Mapping[str, float] | None = None) -> float | None:
        """Estimated seconds of training that remain, from the criteria that grow steadily; None without any.

        Args:
            result: The latest result.
            rates: Growth per second of these keys, as measured lately; the mean since the beginning where not given.
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


def check_result_key(
    key: str,
    *,
    where: str,
    also: Iterable[str] = (),
    env_ids: Collection[str] | None = None,
    custom: bool = True,
) -> None:
    """Checks that results have a key.

    Args:
        key: A path with ``/`` between its parts.
        where: The section it stands in, for the error.
        also: Other keys that can stand there, for the error.
        env_ids: The environments of the run; None if they are not known yet.
        custom: Whether the user's own code may add metrics.

    Raises:
        ValueError: They do not have it; with the nearest known ones.
    """
    first, *rest = key.split("/")
    if first not in _TOP:
        raise ValueError(unknown_key_message(first, [*also, *_TOP], where=repr(where)))
    if first == "evaluation" and rest[:1] == ["env_runners"]:
        first, *rest = rest
    if first == "learners" and rest and env_ids is not None:
        _check_environment(rest[0], [*env_ids, "__all_modules__", "shared"], where=where)
    if first != "env_runners" or not rest:
        return
    metric, known = rest[0], [*_OF_ALL, *_BY_ENVIRONMENT]
    if metric not in known and (not custom or did_you_mean(metric, known)):
        raise ValueError(unknown_key_message(metric, known, where=f"'env_runners' of {where!r}"))
    if metric in _BY_ENVIRONMENT and env_ids is not None:
        if len(rest) == 1:
            raise ValueError(f"{key!r} in {where!r} needs an environment: {key}/{next(iter(env_ids), 'ID')}")
        _check_environment("/".join(rest[1:]), env_ids, where=where)


def _check_environment(env_id: str, known: Collection[str], *, where: str) -> None:
    if env_id not in known:
        raise ValueError(
            f"there is no environment {env_id!r} for {where!r}; there are {', '.join(known)}."
            f"{did_you_mean(env_id, known)}"
        )


def lookup(result: Mapping[str, Any], key: str) -> float | None:
    """A number in a nested result by its path with ``/`` between the keys; None if there is none."""
    value: Any = result
    for part in [key] if key in result else key.split("/"):
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
        path = f"{prefix}{key}"
        if isinstance(value, Mapping):
            flat.update(_flat(value, f"{path}/"))
        elif isinstance(value, int | float) and not isinstance(value, bool):
            flat[path] = float(value)
        else:
            raise ValueError(f"the criterion {path!r} takes a number, not {value!r}")
    return flat
