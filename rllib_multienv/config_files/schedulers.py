"""Tune's trial schedulers from ``tune.scheduler``: successive halving (ASHA), population-based training, the others.

The names and arguments are those of `ray.tune.schedulers.create_scheduler`. What Tune would ignore, or find out only
hours later when it mutates a value, is an error here.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from rllib_multienv.config_files.errors import ConfigFileError, unknown_key_message
from rllib_multienv.config_files.file import MUTATIONS, ConfigFile
from rllib_multienv.config_files.methods import config_methods
from rllib_multienv.config_files.search_spaces import SearchSpace
from rllib_multienv.config_files.stopping import check_result_key

if TYPE_CHECKING:
    from ray.rllib.algorithms.algorithm_config import AlgorithmConfig
    from ray.tune.schedulers import TrialScheduler

_SECTION = ("tune", "scheduler")
# Arguments that take objects which no file can hold.
_NOT_IN_FILES = {"base_scheduler", "custom_explore_fn", "resources_allocation_function"}
_WHOLE_NUMBERS = {"randint", "qrandint", "lograndint", "qlograndint"}


def build_scheduler(file: ConfigFile, config: AlgorithmConfig) -> TrialScheduler | None:
    """The scheduler of the file's ``tune.scheduler``: a name, or a mapping with the name under ``type`` and arguments.

    Args:
        file: The configuration file.
        config: The configuration that it stands for, with samplers in the place of search spaces.

    Returns:
        The scheduler, or None where the file names none.

    Raises:
        ConfigFileError: For an unknown name or argument, a metric that is missing, given twice or in no result, and
            mutations that the configuration does not allow.
    """
    from ray.tune.error import TuneError
    from ray.tune.schedulers import create_scheduler

    _check_metric(file, file.tune, "tune")
    section = file.tune.get("scheduler")
    if section is None:
        return None
    arguments = dict(section) if isinstance(section, Mapping) else {"type": section}
    name = str(arguments.pop("type", None)).lower()
    known = _arguments(file, name)
    for key in arguments:
        if key not in known:
            raise file.error(unknown_key_message(key, known, where=f"the scheduler {name!r}"), *_SECTION, key)
    _check_metric(file, arguments, *_SECTION)
    if "metric" in known:
        _check_metric_is_given_once(file, name, arguments)
    if arguments.get(MUTATIONS[-1]) is not None:
        arguments[MUTATIONS[-1]] = _mutations(file, config, arguments[MUTATIONS[-1]])
    try:
        return create_scheduler(name, **arguments)
    except (TypeError, ValueError, ImportError, AssertionError, TuneError) as error:
        raise file.error(f"scheduler: {error}", *_SECTION) from error


def _arguments(file: ConfigFile, name: str) -> set[str]:
    """The arguments of the scheduler; Tune itself drops unknown ones without a word."""
    from ray.tune.schedulers import SCHEDULER_IMPORT

    if name not in SCHEDULER_IMPORT:
        message = unknown_key_message(name, SCHEDULER_IMPORT, where="'tune.scheduler'").replace("key", "type", 1)
        raise file.error(message, *_SECTION)
    made_by = SCHEDULER_IMPORT[name]
    scheduler: Callable[..., Any] = made_by() if inspect.isfunction(made_by) else made_by
    return set(inspect.signature(scheduler).parameters) - _NOT_IN_FILES


def _check_metric(file: ConfigFile, section: Mapping[str, Any], *path: str) -> None:
    for key in ("metric", "time_attr"):
        if section.get(key) is not None:
            try:
                check_result_key(str(section[key]), where=f"{'.'.join(path)}.{key}")
            except ValueError as error:
                raise file.error(str(error), *path, key) from None


def _check_metric_is_given_once(file: ConfigFile, name: str, arguments: Mapping[str, Any]) -> None:
    for key in ("metric", "mode"):
        places = [place for place in (file.tune, arguments) if place.get(key) is not None]
        if not places:
            raise file.error(
                f"the scheduler {name!r} compares trials: it needs a metric and whether more of it is better, as in "
                "'metric: env_runners/episode_return_average' and 'mode: max' below 'tune'",
                *_SECTION,
            )
        if len(places) > 1:
            raise file.error(f"{key!r} stands below 'tune' and below 'tune.scheduler'; give it once", *_SECTION, key)


def _mutations(file: ConfigFile, config: AlgorithmConfig, mutations: Any) -> dict[str, Any]:
    """Population-based training's mutations, with Tune's samplers in the place of search spaces."""
    if not isinstance(mutations, Mapping):
        raise file.error(f"{MUTATIONS[-1]!r} takes settings below it, not {mutations!r}", *MUTATIONS)
    settings = config.to_dict()
    methods = config_methods(type(config))
    for key in mutations:
        if key in methods:
            raise file.error(f"name the setting itself here, without its method {key!r}", *MUTATIONS, key)
        if key not in settings:
            known = methods["training"].known
            raise file.error(unknown_key_message(key, known, where=f"{MUTATIONS[-1]!r}"), *MUTATIONS, key)
    return {key: _mutation(file, value, settings[key], *MUTATIONS, key) for key, value in mutations.items()}


def _mutation(file: ConfigFile, mutation: Any, first: Any, *path: str) -> Any:
    """One mutation, of a setting whose first value is `first` (or a sampler that will draw it)."""
    if isinstance(mutation, Mapping):
        if not isinstance(first, Mapping):
            raise file.error(f"{path[-1]!r} has no settings of its own", *path)
        for key in mutation:
            if key not in first:
                raise _no_first_value(file, *path, key)
        return {key: _mutation(file, value, first[key], *path, key) for key, value in mutation.items()}
    if isinstance(mutation, list) and mutation:
        return list(mutation)
    if not isinstance(mutation, SearchSpace):
        raise file.error(f"{path[-1]!r} takes a list of values or a search space, not {mutation!r}", *path)
    if mutation.tag in ("choice", "grid_search"):
        raise file.error(f"write a plain list for values to choose from, without !{mutation.tag}", *path)
    if first is None:
        raise _no_first_value(file, *path)
    # Tune multiplies the value by 1.2 or 0.8, and rounds the product where the value was a whole number.
    if mutation.tag not in _WHOLE_NUMBERS and any(isinstance(value, int) for value in _first_values(first)):
        raise file.error(
            f"{path[-1]!r} begins as a whole number, and every value after it would be rounded to one; write it with a "
            "decimal point",
            *path,
        )
    if not all(isinstance(value, int | float) for value in _first_values(first)):
        raise file.error(f"{path[-1]!r} begins as {first!r}; only numbers can be mutated by a search space", *path)
    return mutation.to_tune()


def _no_first_value(file: ConfigFile, *path: str) -> ConfigFileError:
    setting = ".".join(path[len(MUTATIONS) :])
    return file.error(f"{setting!r} has no first value to mutate; set it in the file", *path)


def _first_values(first: Any) -> list[Any]:
    """Values that tell of what kind a setting is at first."""
    from ray.tune.search.sample import Categorical, Domain, Integer

    if isinstance(first, Mapping) and "grid_search" in first:
        return list(first["grid_search"])
    if isinstance(first, Categorical):
        return list(first.categories)
    if isinstance(first, Domain):
        return [0] if isinstance(first, Integer) else [0.0]
    return [first]
