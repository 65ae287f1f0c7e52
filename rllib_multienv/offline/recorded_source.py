"""A data set that is recorded when it is first needed, and read ever after.

::

    record:
      env: CartPole-v1              # an id, or the fields of an EnvSpec
      num_steps: 20000
      seed: 0
      behaviours:
        - {policy: "rllib_multienv.offline.controllers:cartpole", share: 0.5, noise: 0.2}
        - {policy: random, share: 0.3}
        - {checkpoint: results/quickstart/checkpoint, explore: true, share: 0.2}
    path: results/data/cartpole.hdf5
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import h5py

from rllib_multienv.agent import MultiEnvAgent
from rllib_multienv.checkpoints import check_complete
from rllib_multienv.envs.make import probe_spaces
from rllib_multienv.gym_ids import did_you_mean
from rllib_multienv.offline.behaviours import (
    RANDOM,
    Behaviour,
    agent_behaviour,
    check_noise,
    find_policy,
    policy_behaviour,
    random_behaviour,
)
from rllib_multienv.offline.errors import DatasetError
from rllib_multienv.offline.raw import RawDataset
from rllib_multienv.offline.recording import record_steps
from rllib_multienv.offline.write_d4rl import SUFFIXES, write_d4rl
from rllib_multienv.space_spec import SpaceSpec
from rllib_multienv.spec import EnvSpec, resolve_env_specs

#: The attribute of a recorded file that holds the settings it was recorded with.
SETTINGS = "recording"

_SOURCE_KEYS = ("record", "path")
_RECORD_KEYS = ("env", "num_steps", "seed", "behaviours", "ref_min_score", "ref_max_score")
_BEHAVIOUR_KEYS = ("policy", "checkpoint", "share", "noise", "explore")


def check_recorded_source(source: Mapping[str, Any]) -> None:
    """Check everything that can be checked without recording.

    Raises:
        ValueError: A key is unknown (the nearest are named) or missing, a value is not allowed, there is no such
            environment or policy, or what is to be a checkpoint is none. A checkpoint is looked at only where the file
            is not there yet.
        ModuleNotFoundError: The environment's module cannot be imported.
    """
    settings = _settings(source)
    resolve_env_specs([EnvSpec.from_dict(settings["env"])])
    missing = not Path(source["path"]).exists()
    for behaviour in settings["behaviours"]:
        if "checkpoint" in behaviour and missing:
            try:
                check_complete(behaviour["checkpoint"])
            except FileNotFoundError as error:
                raise ValueError(str(error)) from error
        elif behaviour.get("policy", RANDOM) != RANDOM:
            find_policy(behaviour["policy"])


def recorded_file(source: Mapping[str, Any]) -> Path:
    """The file of a recorded data set, in D4RL's layout; it is recorded if it is not there.

    A file that is there is never written to: it must have been recorded with the same settings. (What a checkpoint or
    a function does now is not compared, only its name.)

    Raises:
        ValueError: See :func:`check_recorded_source`.
        DatasetError: The file that is there was recorded with other settings, or not by this package.
        EnvFailure: The environment raised while it was recorded.
    """
    check_recorded_source(source)
    path, settings = Path(source["path"]), json.dumps(_settings(source), sort_keys=True)
    if not path.exists():
        raw = _record(_settings(source))
        raw = dataclasses.replace(raw, source=str(path), metadata={**raw.metadata, SETTINGS: settings})
        try:
            write_d4rl(path, raw)
        except FileExistsError:  # another process was faster
            if not path.is_file():
                raise
    _check_settings(path, settings)
    return path


def recorded_spaces(env_id: str, source: Mapping[str, Any]) -> SpaceSpec:
    """The spaces of the environment that a data set is recorded in.

    Args:
        env_id: The id that the spaces are to have.
        source: The data set's settings.

    Raises:
        ValueError: See :func:`check_recorded_source`.
        EnvFailure: The environment cannot be made.
    """
    env = EnvSpec.from_dict(_settings(source)["env"])
    return probe_spaces(dataclasses.replace(env, id=env_id))


def _record(settings: Mapping[str, Any]) -> RawDataset:
    env = EnvSpec.from_dict(settings["env"])
    spaces = probe_spaces(env)
    behaviours = [_behaviour(entry, env, spaces) for entry in settings["behaviours"]]
    rest = {key: value for key, value in settings.items() if key not in ("env", "behaviours")}
    return record_steps(env, behaviours, **rest)


def _behaviour(entry: Mapping[str, Any], env: EnvSpec, spaces: SpaceSpec) -> Behaviour:
    share = entry["share"]
    if "checkpoint" in entry:
        return agent_behaviour(
            MultiEnvAgent.from_checkpoint(entry["checkpoint"]),
            env,
            spaces,
            name=entry["checkpoint"],
            share=share,
            explore=entry["explore"],
            noise=entry["noise"],
        )
    if entry["policy"] == RANDOM:
        return random_behaviour(spaces, share=share)
    return policy_behaviour(entry["policy"], spaces, share=share, noise=entry["noise"])


def _check_settings(path: Path, settings: str) -> None:
    try:
        with h5py.File(path, "r") as file:
            found = file["metadata"].attrs.get(SETTINGS) if "metadata" in file else None
    except OSError as error:
        raise DatasetError(str(path), f"cannot be opened as HDF5 ({error})") from error
    if found is None:
        raise DatasetError(
            str(path),
            "the file is there, but was not recorded from settings; give the recording another 'path', or read the "
            "file without 'record'",
        )
    if found != settings:
        raise DatasetError(
            str(path),
            f"was recorded with other settings: {_difference(json.loads(found), json.loads(settings))}. Give the "
            "recording another 'path', or remove the file to record it anew",
        )


def _difference(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """The first setting that differs."""
    for key in (*_RECORD_KEYS, *before, *now):
        if before.get(key) != now.get(key):
            return f"{key}={json.dumps(before.get(key))} in the file, {json.dumps(now.get(key))} asked for"
    return "they are written differently"


def _settings(source: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a recording with all defaults filled in, JSON-able.

    Raises:
        ValueError: A key is unknown or missing, or a value is not allowed.
    """
    _check_keys("Recorded data set", source, _SOURCE_KEYS, required=_SOURCE_KEYS)
    if not isinstance(source["path"], str | Path) or Path(source["path"]).suffix not in SUFFIXES:
        raise ValueError(f"Recorded data set: path={source['path']!r}: must end in {' or '.join(SUFFIXES)}.")
    record, where = source["record"], f"Recorded data set {str(source['path'])!r}"
    _check_keys(f"{where}, 'record'", record, _RECORD_KEYS, required=("env", "num_steps"))
    settings: dict[str, Any] = {
        "env": _env(where, record["env"]),
        "num_steps": _whole_number(where, "num_steps", record["num_steps"], 1),
        "seed": _whole_number(where, "seed", record.get("seed", 0), 0),
        "behaviours": _behaviours(where, record.get("behaviours", [{"policy": RANDOM}])),
    }
    for key in ("ref_min_score", "ref_max_score"):
        if record.get(key) is not None:
            settings[key] = _number(where, key, record[key])
    return settings


def _env(where: str, value: Any) -> dict[str, Any]:
    try:
        env = EnvSpec.of(value).to_dict()
        json.dumps(env)
    except TypeError as error:
        raise ValueError(f"{where}: env={value!r}: {error}") from error
    return env


def _behaviours(where: str, entries: Any) -> list[dict[str, Any]]:
    if isinstance(entries, str | Mapping) or not isinstance(entries, Iterable) or not (entries := list(entries)):
        raise ValueError(f"{where}: behaviours={entries!r}: must be a list of one or more.")
    return [_behaviour_settings(f"{where}, behaviour {number}", entry) for number, entry in enumerate(entries, 1)]


def _behaviour_settings(where: str, entry: Any) -> dict[str, Any]:
    _check_keys(where, entry, _BEHAVIOUR_KEYS)
    if ("policy" in entry) == ("checkpoint" in entry):
        raise ValueError(f"{where}: give either 'policy' ({RANDOM!r} or 'module:function') or 'checkpoint'.")
    kind = "policy" if "policy" in entry else "checkpoint"
    if not isinstance(entry[kind], str | Path) or not str(entry[kind]):
        raise ValueError(f"{where}: {kind}={entry[kind]!r}: must be a name.")
    share = _number(where, "share", entry.get("share", 1.0))
    if share <= 0:
        raise ValueError(f"{where}: share={share}: must be above 0.")
    settings: dict[str, Any] = {kind: str(entry[kind]), "share": share}
    if settings[kind] != RANDOM:
        settings["noise"] = _number(where, "noise", entry.get("noise", 0.0))
        check_noise(settings["noise"], settings[kind])
    elif "noise" in entry:
        raise ValueError(f"{where}: 'noise' disturbs a policy or an agent; random actions have none.")
    if kind == "checkpoint":
        settings["explore"] = entry.get("explore", True)
        if not isinstance(settings["explore"], bool):
            raise ValueError(f"{where}: explore={settings['explore']!r}: must be true or false.")
    elif "explore" in entry:
        raise ValueError(f"{where}: 'explore' is for an agent from a 'checkpoint'.")
    return settings


def _check_keys(where: str, value: Any, known: tuple[str, ...], required: tuple[str, ...] = ()) -> None:
    if not isinstance(value, Mapping):
        raise ValueError(f"{where}: must be a mapping with the keys {', '.join(known)}, not {value!r}.")
    for key in value:
        if key not in known:
            raise ValueError(
                f"{where}: unknown key {key!r}.{did_you_mean(str(key), known)} Known keys: {', '.join(known)}."
            )
    for key in required:
        if key not in value:
            raise ValueError(f"{where}: the key {key!r} is missing.")


def _whole_number(where: str, name: str, value: Any, least: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ValueError(f"{where}: {name}={value!r}: must be a whole number, at least {least}.")
    return value


def _number(where: str, name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{where}: {name}={value!r}: must be a number.")
    return float(value)
