"""From a `ConfigFile` to RLlib's `AlgorithmConfig` and to a `tune.Tuner`.

What Tune would ignore, or find out only hours later when it mutates a value, is an error here.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rllib_multienv.config_files.file import MUTATIONS, OWN_KEYS, ConfigFile, load_config_file
from rllib_multienv.config_files.stopping import check_result_key
from rllib_multienv.config_files.yaml_text import (
    SearchSpace,
    find_search_spaces,
    replace_search_spaces,
    unknown_key_message,
)
from rllib_multienv.gym_ids import did_you_mean, one_of

if TYPE_CHECKING:
    from ray import tune
    from ray.rllib.algorithms.algorithm import Algorithm
    from ray.rllib.algorithms.algorithm_config import AlgorithmConfig
    from ray.tune.schedulers import TrialScheduler

# Arguments of Tune's classes that take objects which no file can hold, or that belong to the caller.
_NOT_IN_FILES = frozenset(
    inspect.cleandoc("""
    callbacks chdir_to_trial_dir local_dir log_to_file name progress_reporter stop storage_filesystem sync_config
    trial_dirname_creator trial_name_creator base_scheduler custom_explore_fn resources_allocation_function
    """).split()
)
# A run that is interrupted loses at most this many iterations; three checkpoints are kept.
_CHECKPOINT_DEFAULTS = {"checkpoint_frequency": 20, "num_to_keep": 3, "checkpoint_at_end": True}


def algorithm_class(file: ConfigFile) -> type[Algorithm]:
    """The class of the file's algorithm.

    Raises:
        ConfigFileError: No algorithm of that name is registered with Tune, or ``module:Class`` is none.
    """
    import rllib_multienv

    if ":" in file.algorithm:
        from ray.rllib.algorithms.algorithm import Algorithm

        try:
            found = _imported(file.algorithm)
        except ImportError as error:
            raise file.error(f"algorithm: {error}", "algorithm") from error
        if not (inspect.isclass(found) and issubclass(found, Algorithm)):
            raise file.error(f"algorithm: {file.algorithm!r} is not a subclass of RLlib's Algorithm", "algorithm")
        return found

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
        known = [*(name for name in own if not name.endswith(("Agent", "Config"))), *ALGORITHMS]
        message = unknown_key_message(file.algorithm, known, where="'algorithm'").replace("key", "name", 1)
        raise file.error(message, "algorithm") from None


# The algorithm's configuration


def build_config(file: ConfigFile | str | Path, *, examples: bool = False) -> AlgorithmConfig:
    """The algorithm's configuration: every method of the file called with its keyword arguments.

    Args:
        file: A configuration file or its path.
        examples: Put one value of it in the place of every search space, instead of Tune's sampler. Such a
            configuration can be validated and built; one with samplers is for `tune.Tuner` only.

    Raises:
        ConfigFileError: An unknown key, or a method that refuses its arguments; with the line.
    """
    file = file if isinstance(file, ConfigFile) else load_config_file(file)
    config = algorithm_class(file).get_default_config()
    methods = config_methods(type(config))
    for method, arguments in file.methods.items():
        if method not in methods:
            where = f"the file (methods of {type(config).__name__}, and {', '.join(OWN_KEYS)})"
            raise file.error(unknown_key_message(method, [*methods, *OWN_KEYS], where=where), method)
        known, refused = methods[method]
        for argument in arguments:
            if argument not in known | refused:
                message = unknown_key_message(argument, known, where=f"{method!r}")
                if hasattr(config, "settings_for") and (meant := config.settings_for(method, argument)):
                    message = f"unknown key {argument!r} in {method!r}.{one_of(meant)}"
                raise file.error(message, method, argument)
    for method, arguments in file.methods.items():
        try:
            kwargs = replace_search_spaces(arguments, SearchSpace.example if examples else SearchSpace.to_tune)
            kwargs = {key: _imported(value) if _is_code(method, key) else value for key, value in kwargs.items()}
            getattr(config, method)(**kwargs)
        except (TypeError, ValueError, KeyError, AttributeError, ImportError, OSError) as error:
            reason = str(error.args[0] if isinstance(error, KeyError) and error.args else error)
            wrong = [key for key in arguments if reason.startswith((f"{key}=", f"{key}[", f"{method}({key}="))]
            raise file.error(reason if reason.startswith(method) else f"{method}: {reason}", method, *wrong) from error
    return config


def _is_code(method: str, key: str) -> bool:
    """Whether an argument is a class or a function, which a file names as ``module:name``."""
    return method == "callbacks" or key.endswith("_connector") or key == "gradient_combiner"


def _imported(value: Any) -> Any:
    """The classes and functions that texts ``module:name`` stand for, also in a list; other values as they are.

    Raises:
        ImportError: There is no such module, or nothing of that name in it.
    """
    if isinstance(value, list):
        return [_imported(item) for item in value]
    if not isinstance(value, str) or ":" not in value:
        return value
    module_name, _, name = value.partition(":")
    module = importlib.import_module(module_name)
    if not hasattr(module, name):
        raise ImportError(f"{value!r}: there is no {name!r} in {module_name!r}.{did_you_mean(name, vars(module))}")
    return getattr(module, name)


def config_methods(config_class: type) -> dict[str, tuple[set[str], set[str]]]:
    """The methods of a config class that set something, each with the keyword arguments that it takes, and those that
    it knows and refuses with an explanation.

    Args:
        config_class: A subclass of RLlib's `AlgorithmConfig`.
    """
    from ray._common.deprecation import DEPRECATED_VALUE
    from ray.rllib.utils.from_config import NotProvided

    found: dict[str, tuple[set[str], set[str]]] = {}
    for name in dir(config_class):
        functions = [f for base in config_class.__mro__ if inspect.isfunction(f := vars(base).get(name))]
        defaults = {p.name: p.default for f in functions for p in inspect.signature(f).parameters.values()}
        known: set[str] = set()
        for function in functions:
            declared = hasattr(function, "declared")  # made by this package, with a complete signature
            for p in inspect.signature(function).parameters.values():
                if p.default is NotProvided or (declared and p.default is not p.empty):
                    known.add(p.name)
            if declared:
                break
        if known and not name.startswith("_"):
            refused = {key for key, default in defaults.items() if default in (NotProvided, DEPRECATED_VALUE)}
            found[name] = (known, refused - known)
    return found


def check_config_file(file: ConfigFile) -> AlgorithmConfig:
    """Checks everything in a file that can be checked before Ray is started; makes each environment once.

    Returns:
        The configuration of one trial, validated.

    Raises:
        ConfigFileError: As in `build_config`, also for the sections ``tune`` and ``stop``.
        ValueError: Settings that do not fit together.
    """
    config = build_config(file, examples=True)
    config.validate()
    _check_result_keys(file, config)
    for path, space in find_search_spaces(file.methods):
        for option in space.options():
            build_config(file.override(path, option), examples=True)
    _tune_sections(file, build_config(file))
    return config


def _check_result_keys(file: ConfigFile, config: Any) -> None:
    """Checks the keys of results in ``stop`` and ``tune`` against the run's environments and metrics."""
    from ray.rllib.callbacks.callbacks import RLlibCallback

    hooks = ("callbacks_on_", "_env_to_", "_module_to_", "_learner_c")
    users = [value for name, value in vars(config).items() if name.startswith(hooks)]
    is_ours = type(config).__module__.startswith("rllib_multienv.")
    custom = not is_ours or config.callbacks_class is not RLlibCallback or any(user is not None for user in users)
    searched = any(place.startswith("environment.envs") for place in file.search_spaces)
    env_ids = list(config.space_specs) if is_ours and config.space_specs and not searched else None
    try:
        file.stop.check(env_ids, custom=custom)
    except ValueError as error:
        raise file.error(str(error), "stop") from None
    for path in (("tune",), ("tune", "checkpoint_config"), _SCHEDULER):
        section = file.tune if len(path) == 1 else file.tune.get(path[-1])
        for key in ("metric", "time_attr", "checkpoint_score_attribute"):
            if isinstance(section, Mapping) and section.get(key) is not None:
                try:
                    where = ".".join([*path, key])
                    check_result_key(str(section[key]), where=where, env_ids=env_ids, custom=custom)
                except ValueError as error:
                    raise file.error(str(error), *path, key) from None


# The tuner


def build_tuner(
    file: ConfigFile | str | Path,
    *,
    name: str | None = None,
    storage_path: str | Path | None = None,
    callbacks: Sequence[tune.Callback] = (),
    stop: Any = None,
) -> tune.Tuner:
    """A `tune.Tuner` that runs the file: one trial, or as many as its search spaces and `num_samples` ask.

    Args:
        file: A configuration file or its path.
        name: The experiment's name, and of the folder under `storage_path`; default: the file's.
        storage_path: Folder or URI of the results; default: the file's, else Ray's.
        callbacks: Tune callbacks.
        stop: Replaces the file's stop criteria.

    Raises:
        ConfigFileError: As in `build_config`, also for the ``tune`` section.
    """
    from ray import tune

    file = file if isinstance(file, ConfigFile) else load_config_file(file)
    config = build_config(file)
    tune_fields, run_fields = _tune_sections(file, config)
    loggers = run_fields.pop("loggers")
    if storage_path is not None:
        is_uri = "://" in str(storage_path)
        run_fields["storage_path"] = str(storage_path) if is_uri else str(Path(storage_path).resolve())
    return tune.Tuner(
        algorithm_class(file),
        param_space=config,
        tune_config=tune.TuneConfig(trial_name_creator=_trial_name, trial_dirname_creator=_trial_name, **tune_fields),
        run_config=tune.RunConfig(
            name=name or file.name, stop=stop or file.stop, callbacks=[*callbacks, *loggers], **run_fields
        ),
    )


def _trial_name(trial: Any) -> str:
    return f"trial_{str(trial.trial_id).rsplit('_', 1)[-1]}"


def _tune_sections(file: ConfigFile, config: AlgorithmConfig) -> tuple[dict[str, Any], dict[str, Any]]:
    """The ``tune`` section, cut into the fields of `TuneConfig` and those of `RunConfig`."""
    from ray import tune
    from ray.tune.search import SEARCH_ALG_IMPORT, create_searcher

    _check_result_keys(file, config)
    tune_names, run_names = _arguments(tune.TuneConfig), _arguments(tune.RunConfig)
    _check_section(file, file.tune, tune_names | run_names | {"loggers"}, "tune")
    tune_fields = {key: value for key, value in file.tune.items() if key in tune_names}
    run_fields = {"verbose": 0, **{key: value for key, value in file.tune.items() if key not in tune_names}}
    checkpoints = run_fields.get("checkpoint_config") or {}
    if isinstance(checkpoints, Mapping):
        checkpoints = {**_CHECKPOINT_DEFAULTS, **checkpoints}
    run_fields["checkpoint_config"] = _made(file, tune.CheckpointConfig, checkpoints, "tune", "checkpoint_config")
    if "failure_config" in run_fields:
        failures = run_fields["failure_config"] or {}
        run_fields["failure_config"] = _made(file, tune.FailureConfig, failures, "tune", "failure_config")
    run_fields["loggers"] = _loggers(file)
    tune_fields["scheduler"] = _scheduler(file, config)
    if tune_fields.get("search_alg") is not None:
        kind, arguments = _typed(tune_fields["search_alg"])
        if kind not in SEARCH_ALG_IMPORT:
            message = unknown_key_message(kind, SEARCH_ALG_IMPORT, where="'tune.search_alg'").replace("key", "type", 1)
            raise file.error(message, "tune", "search_alg")
        if isinstance(searcher := SEARCH_ALG_IMPORT[kind](), type):
            _check_section(file, arguments, _arguments(searcher), "tune", "search_alg")
        create = functools.partial(create_searcher, kind)
        tune_fields["search_alg"] = _made(file, create, arguments, "tune", "search_alg", checked=False)
    return tune_fields, run_fields


# Experiment trackers: module and class of Ray's callback for each, and arguments unless the file gives others
_LOGGERS: dict[str, tuple[str, str, Callable[[ConfigFile], dict[str, Any]]]] = {
    "tensorboard": ("ray.tune.logger", "TBXLoggerCallback", lambda file: {}),
    "wandb": (
        "ray.air.integrations.wandb",
        "WandbLoggerCallback",
        lambda file: {"project": file.name, "resume": "allow"},
    ),
    "mlflow": ("ray.air.integrations.mlflow", "MLflowLoggerCallback", lambda file: {"experiment_name": file.name}),
}


def _loggers(file: ConfigFile) -> list[tune.Callback]:
    """The callbacks of ``tune.loggers``: names, or mappings of ``type`` and the arguments of Ray's callback."""
    path = ("tune", "loggers")
    wanted = file.tune.get("loggers") or []
    if not isinstance(wanted, list):
        raise file.error(f"'loggers' takes a list such as [wandb, mlflow], not {wanted!r}", *path)
    callbacks = []
    for item in wanted:
        kind, arguments = _typed(item)
        if kind not in _LOGGERS:
            message = unknown_key_message(kind, _LOGGERS, where="'tune.loggers'").replace("key", "logger", 1)
            raise file.error(message, *path)
        module, name, defaults = _LOGGERS[kind]
        if str(arguments.get("tracking_uri", "")).startswith("file:"):
            os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")  # MLflow 3 prefers a database
        make = getattr(importlib.import_module(module), name)
        callbacks.append(_made(file, make, {**defaults(file), **arguments}, *path, checked=False))
    return callbacks


def _arguments(function: Callable[..., Any]) -> set[str]:
    """The arguments of one of Tune's classes or functions that a file may set."""
    return {name for name in inspect.signature(function).parameters if not name.startswith("_")} - _NOT_IN_FILES


def _check_section(file: ConfigFile, section: Mapping[str, Any], known: set[str], *path: str) -> None:
    """Check the names, types and ranges of Tune's options."""
    from rllib_multienv.config_files.tune_options import OPTIONS

    for key, value in section.items():
        if key not in known:
            raise file.error(unknown_key_message(key, known, where=f"'{'.'.join(path)}'"), *path, key)
        kind = OPTIONS.get(key)
        if kind is not None and not kind.holds(value):
            raise file.error(f"{'.'.join(path)}: {key}={value!r}: must be {kind.words}.", *path, key)


def _typed(value: Any) -> tuple[Any, dict[str, Any]]:
    """Name and arguments, from a mapping with the name under ``type`` or from the name alone."""
    arguments = dict(value) if isinstance(value, Mapping) else {"type": value}
    return arguments.pop("type", None), arguments


def _made(file: ConfigFile, make: Callable[..., Any], values: Any, *path: str, checked: bool = True) -> Any:
    """What ``make`` gives for a section; errors get its line."""
    from ray.tune.error import TuneError

    if not isinstance(values, Mapping):
        raise file.error(f"{path[-1]!r} takes keys and values below it, not {values!r}", *path)
    if checked:
        _check_section(file, values, _arguments(make), *path)
    try:
        return make(**values)
    except (TypeError, ValueError, ImportError, AssertionError, RuntimeError, TuneError) as error:
        raise file.error(f"{path[-1]}: {error}", *path) from error


# Trial schedulers: successive halving (ASHA), population-based training, Tune's others

_SCHEDULER = ("tune", "scheduler")
_MISSING = object()
_WHOLE_NUMBERS = {"randint", "qrandint", "lograndint", "qlograndint"}


def _scheduler(file: ConfigFile, config: AlgorithmConfig) -> TrialScheduler | None:
    """The scheduler of ``tune.scheduler``: a name, or a mapping with the name under ``type`` and arguments.

    Names and arguments are those of `ray.tune.schedulers.create_scheduler`, which drops unknown ones silently.
    """
    from ray.tune.schedulers import SCHEDULER_IMPORT, create_scheduler

    if file.tune.get("scheduler") is None:
        return None
    kind, arguments = _typed(file.tune["scheduler"])
    name = str(kind).lower()
    if name not in SCHEDULER_IMPORT:
        message = unknown_key_message(name, SCHEDULER_IMPORT, where="'tune.scheduler'").replace("key", "type", 1)
        raise file.error(message, *_SCHEDULER)
    made_by = SCHEDULER_IMPORT[name]
    known = _arguments(made_by() if inspect.isfunction(made_by) else made_by)
    _check_section(file, arguments, known, *_SCHEDULER)
    if "metric" in known:
        _check_metric_is_given_once(file, name, arguments)
    if arguments.get(MUTATIONS[-1]) is not None:
        arguments[MUTATIONS[-1]] = _mutations(file, config, arguments[MUTATIONS[-1]])
    return _made(file, functools.partial(create_scheduler, name), arguments, *_SCHEDULER, checked=False)


def _check_metric_is_given_once(file: ConfigFile, name: str, arguments: Mapping[str, Any]) -> None:
    for key in ("metric", "mode"):
        places = [place for place in (file.tune, arguments) if place.get(key) is not None]
        if not places:
            raise file.error(
                f"the scheduler {name!r} compares trials: it needs a metric and whether more of it is better, as in "
                "'metric: env_runners/episode_return_average' and 'mode: max' below 'tune'",
                *_SCHEDULER,
            )
        if len(places) > 1:
            raise file.error(f"{key!r} stands below 'tune' and below 'tune.scheduler'; give it once", *_SCHEDULER, key)


def _mutations(file: ConfigFile, config: AlgorithmConfig, mutations: Any) -> dict[str, Any]:
    """Population-based training's mutations, with Tune's samplers in the place of search spaces."""
    if not isinstance(mutations, Mapping):
        raise file.error(f"{MUTATIONS[-1]!r} takes settings below it, not {mutations!r}", *MUTATIONS)
    settings, methods = config.to_dict(), config_methods(type(config))
    for key in mutations:
        if key in methods:
            raise file.error(f"name the setting itself here, without its method {key!r}", *MUTATIONS, key)
        if key not in settings:
            message = unknown_key_message(key, methods["training"][0], where=f"{MUTATIONS[-1]!r}")
            raise file.error(message, *MUTATIONS, key)
    from rllib_multienv.algorithms.settings import declared_settings

    found = {key: _mutation(file, value, settings[key], *MUTATIONS, key) for key, value in mutations.items()}
    declared = declared_settings(type(config))
    for key in mutations.keys() & declared.keys():
        for option in _options(mutations[key]):
            try:
                declared[key].checked(option)
            except ValueError as error:
                raise file.error(str(error), *MUTATIONS, key) from None
    return found


def _options(mutation: Any) -> list[Any]:
    """Values of a mutation, so many that all are allowed if these are."""
    if isinstance(mutation, Mapping):
        return [{key: option} for key, value in mutation.items() for option in _options(value)]
    return mutation.options() if isinstance(mutation, SearchSpace) else mutation if isinstance(mutation, list) else []


def _mutation(file: ConfigFile, mutation: Any, first: Any, *path: str) -> Any:
    """One mutation, of a setting whose first value is `first` (or a sampler that will draw it)."""
    setting = ".".join(path[len(MUTATIONS) :])
    unset = file.error(f"{setting!r} has no first value to mutate; set it in the file", *path)
    if first is _MISSING:
        raise unset
    if isinstance(mutation, Mapping):
        if not isinstance(first, Mapping):
            raise file.error(f"{setting!r} does not consist of several settings", *path)
        return {key: _mutation(file, value, first.get(key, _MISSING), *path, key) for key, value in mutation.items()}
    if isinstance(mutation, list) and mutation:
        return list(mutation)
    if not isinstance(mutation, SearchSpace):
        raise file.error(f"{setting!r} takes a list of values or a search space, not {mutation!r}", *path)
    if mutation.tag in ("choice", "grid_search"):
        raise file.error(f"write a plain list for values to choose from, without !{mutation.tag}", *path)
    if first is None:
        raise unset
    firsts = _first_values(first)
    # Tune multiplies the value by 1.2 or 0.8, and rounds the product where the value was a whole number.
    if mutation.tag not in _WHOLE_NUMBERS and any(isinstance(value, int) for value in firsts):
        raise file.error(
            f"{setting!r} begins as a whole number, and every value after it would be rounded to one; write it with a "
            "decimal point",
            *path,
        )
    if not all(isinstance(value, int | float) for value in firsts):
        raise file.error(f"{setting!r} begins as {first!r}; only numbers can be mutated by a search space", *path)
    return mutation.to_tune()


def _first_values(first: Any) -> list[Any]:
    """Values that tell of what kind a setting is at first."""
    from ray.tune.search.sample import Categorical, Domain, Integer

    if isinstance(first, Mapping) and "grid_search" in first:
        return list(first["grid_search"])
    if isinstance(first, Categorical):
        return list(first.categories)
    return [0 if isinstance(first, Integer) else 0.0] if isinstance(first, Domain) else [first]
