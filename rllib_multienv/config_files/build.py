"""From a `ConfigFile` to RLlib's `AlgorithmConfig` and to a `tune.Tuner`."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rllib_multienv.config_files.errors import ConfigFileError, unknown_key_message
from rllib_multienv.config_files.file import OWN_KEYS, ConfigFile, load_config_file
from rllib_multienv.config_files.methods import config_methods
from rllib_multienv.config_files.schedulers import build_scheduler
from rllib_multienv.config_files.search_spaces import SearchSpace, replace_search_spaces

if TYPE_CHECKING:
    from ray import tune
    from ray.rllib.algorithms.algorithm import Algorithm
    from ray.rllib.algorithms.algorithm_config import AlgorithmConfig

# Fields of Tune's config classes that take objects which no file can hold, or that belong to the caller.
_NOT_IN_FILES = {
    "callbacks",
    "chdir_to_trial_dir",
    "local_dir",
    "log_to_file",
    "name",
    "progress_reporter",
    "stop",
    "storage_filesystem",
    "sync_config",
    "trial_dirname_creator",
    "trial_name_creator",
}
# A run that is interrupted loses at most this many iterations; three checkpoints are kept.
_CHECKPOINT_DEFAULTS = {"checkpoint_frequency": 20, "num_to_keep": 3, "checkpoint_at_end": True}


def algorithm_class(file: ConfigFile) -> type[Algorithm]:
    """The class of the file's algorithm.

    Raises:
        ConfigFileError: If no algorithm of that name is registered with Tune.
    """
    import rllib_multienv

    # The package registers its algorithms where it imports them, which it does on first use.
    own = [name for name in getattr(rllib_multienv, "__all__", []) if name.startswith("MultiEnv")]
    if file.algorithm in own:
        return getattr(rllib_multienv, file.algorithm)
    from ray.rllib.algorithms.registry import ALGORITHMS
    from ray.tune.error import TuneError
    from ray.tune.registry import get_trainable_cls

    try:
        return get_trainable_cls(file.algorithm)
    except (TuneError, ValueError):
        known = [*(name for name in own if name.endswith(("PPO", "IQL"))), *ALGORITHMS]
        message = unknown_key_message(file.algorithm, known, where="'algorithm'").replace("key", "name", 1)
        raise file.error(message, "algorithm") from None


def build_config(file: ConfigFile | str | Path, *, examples: bool = False) -> AlgorithmConfig:
    """The algorithm's configuration: every method of the file called with its keyword arguments.

    Args:
        file: A configuration file or its path.
        examples: Put one value of it in the place of every search space, instead of Tune's sampler object.
            Such a configuration can be validated and built; one with samplers is for `tune.Tuner` only.

    Raises:
        ConfigFileError: For unknown keys, and where a method refuses its arguments; with the line.
    """
    file = file if isinstance(file, ConfigFile) else load_config_file(file)
    config = algorithm_class(file).get_default_config()
    check_keys(file, type(config))
    for method, arguments in file.methods.items():
        kwargs = replace_search_spaces(arguments, SearchSpace.example if examples else SearchSpace.to_tune)
        try:
            getattr(config, method)(**kwargs)
        except (TypeError, ValueError, KeyError, AttributeError, ImportError) as error:
            reason = error.args[0] if isinstance(error, KeyError) and error.args else error
            raise file.error(f"{method}: {reason}", method) from error
    return config


def check_keys(file: ConfigFile, config_class: type) -> None:
    """Checks that every key names a method of the config class, and every key below it one of its arguments.

    Raises:
        ConfigFileError: At the first unknown key, with its line and the nearest known names.
    """
    known = config_methods(config_class)
    for method, arguments in file.methods.items():
        if method not in known:
            where = f"the file (methods of {config_class.__name__}, and {', '.join(OWN_KEYS)})"
            raise file.error(unknown_key_message(method, [*known, *OWN_KEYS], where=where), method)
        takes = known[method]
        for argument in arguments:
            # What RLlib has dropped it refuses itself, and says what has taken its place.
            if argument not in takes.known | takes.dropped:
                raise file.error(unknown_key_message(argument, takes.known, where=f"'{method}'"), method, argument)


def check_config_file(file: ConfigFile) -> AlgorithmConfig:
    """Checks everything in a file that can be checked before Ray is started; makes each environment once.

    Returns:
        The configuration of one trial, validated.

    Raises:
        ConfigFileError: As in `build_config`, also for the ``tune`` section.
        ValueError: Settings that do not fit together.
    """
    config = build_config(file, examples=True)
    config.validate()
    _tune_sections(file, build_config(file))
    return config


def build_tuner(
    file: ConfigFile | str | Path,
    *,
    name: str | None = None,
    storage_path: str | Path | None = None,
    callbacks: Sequence[tune.Callback] = (),
    stop: Any = None,
) -> tune.Tuner:
    """A `tune.Tuner` that runs what the file says: one trial, or as many as its search spaces and
    `num_samples` ask.

    Args:
        file: A configuration file or its path.
        name: The experiment's name, and of the folder under `storage_path`; default: the file's.
        storage_path: Folder or URI of the results; default: the file's, else Ray's own.
        callbacks: Tune callbacks.
        stop: Something in the place of the file's stop criteria.

    Raises:
        ConfigFileError: As in `build_config`, also for the ``tune`` section.
    """
    from ray import tune

    file = file if isinstance(file, ConfigFile) else load_config_file(file)
    config = build_config(file)
    tune_fields, run_fields = _tune_sections(file, config)
    if storage_path is not None:
        is_uri = "://" in str(storage_path)
        run_fields["storage_path"] = str(storage_path) if is_uri else str(Path(storage_path).resolve())
    return tune.Tuner(
        algorithm_class(file),
        param_space=config,
        tune_config=tune.TuneConfig(trial_name_creator=_trial_name, trial_dirname_creator=_trial_name, **tune_fields),
        run_config=tune.RunConfig(
            name=name or file.name, stop=stop or file.stop, callbacks=list(callbacks), **run_fields
        ),
    )


def _trial_name(trial: Any) -> str:
    return f"trial_{str(trial.trial_id).rsplit('_', 1)[-1]}"


def _tune_sections(file: ConfigFile, config: AlgorithmConfig) -> tuple[dict[str, Any], dict[str, Any]]:
    """The ``tune`` section, cut into the fields of `TuneConfig` and those of `RunConfig`."""
    from ray import tune
    from ray.tune.search import create_searcher

    tune_names = _field_names(tune.TuneConfig)
    run_names = _field_names(tune.RunConfig)
    tune_fields: dict[str, Any] = {}
    run_fields: dict[str, Any] = {"checkpoint_config": {}, "verbose": 0}
    for key, value in file.tune.items():
        if key not in tune_names | run_names:
            raise file.error(unknown_key_message(key, tune_names | run_names, where="'tune'"), "tune", key)
        (tune_fields if key in tune_names else run_fields)[key] = value
    checkpoints = run_fields["checkpoint_config"] or {}
    if isinstance(checkpoints, Mapping):
        checkpoints = {**_CHECKPOINT_DEFAULTS, **checkpoints}
    run_fields["checkpoint_config"] = _dataclass(file, "checkpoint_config", tune.CheckpointConfig, checkpoints)
    if "failure_config" in run_fields:
        failures = run_fields["failure_config"] or {}
        run_fields["failure_config"] = _dataclass(file, "failure_config", tune.FailureConfig, failures)
    tune_fields["scheduler"] = build_scheduler(file, config)
    if tune_fields.get("search_alg") is not None:
        tune_fields["search_alg"] = _searcher(file, create_searcher, tune_fields["search_alg"])
    return tune_fields, run_fields


def _field_names(config_class: Any) -> set[str]:
    names = {field.name for field in dataclasses.fields(config_class)}
    return {name for name in names - _NOT_IN_FILES if not name.startswith("_")}


def _dataclass(file: ConfigFile, key: str, config_class: Any, values: Any) -> Any:
    if not isinstance(values, Mapping):
        raise file.error(f"{key!r} takes keys and values below it, not {values!r}", "tune", key)
    known = _field_names(config_class)
    for name in values:
        if name not in known:
            raise file.error(unknown_key_message(name, known, where=f"'tune.{key}'"), "tune", key, name)
    try:
        return config_class(**values)
    except (TypeError, ValueError) as error:
        raise file.error(f"{key}: {error}", "tune", key) from error


def _searcher(file: ConfigFile, create: Any, value: Any) -> Any:
    """A searcher from its name, or from a mapping: its name under ``type``, and arguments."""
    arguments = dict(value) if isinstance(value, Mapping) else {"type": value}
    kind = arguments.pop("type", None)
    try:
        return create(kind, **arguments)
    except (TypeError, ValueError, ImportError, AssertionError) as error:
        raise file.error(f"search_alg: {error}", "tune", "search_alg") from error


__all__ = ["ConfigFileError", "algorithm_class", "build_config", "build_tuner", "check_config_file", "check_keys"]
