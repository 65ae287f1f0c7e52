"""Data sets that are recorded on first use and cached in a file.

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

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import h5py

from rllib_multienv.envs.probe import probe_spaces
from rllib_multienv.gym_ids import did_you_mean
from rllib_multienv.offline.behaviours import RANDOM, Behaviour
from rllib_multienv.offline.formats import d4rl
from rllib_multienv.offline.raw import IN_MEMORY, ArrayStore, DatasetError, RawDataset
from rllib_multienv.offline.recording import check_whole_number, record_steps
from rllib_multienv.spaces.space_spec import SpaceSpec
from rllib_multienv.spec import EnvSpec, resolve_env_specs

#: The attribute of a recorded file that holds the settings it was recorded with.
SETTINGS = "recording"


def check(source: Mapping[str, Any]) -> None:
    """Check everything that can be checked without recording.

    Raises:
        ValueError: A key is unknown (the nearest are named) or missing, a value is not allowed, or there is no such
            environment, policy or checkpoint. Checkpoints are looked for only where the file is not there yet.
    """
    arguments = _arguments(source)
    resolve_env_specs([arguments["env"]])
    for behaviour in arguments["behaviours"]:
        if behaviour.checkpoint is None or not Path(source["path"]).exists():
            behaviour.check()


def peek(env_id: str, source: Mapping[str, Any]) -> SpaceSpec:
    """The spaces of the environment that the data set is recorded in."""
    return probe_spaces(replace(_arguments(source)["env"], id=env_id))


def read(source: Mapping[str, Any], *, store: ArrayStore = IN_MEMORY) -> RawDataset:
    """Read the data set; see :func:`recorded_file`."""
    return d4rl.read(recorded_file(source), store=store)


def recorded_file(source: Mapping[str, Any]) -> Path:
    """The file of a recorded data set, in D4RL's layout; it is recorded if it is not there.

    An existing file is never changed, and must have been recorded with the same settings. Checkpoints and functions are
    compared by name only.
    """
    check(source)
    path, arguments = Path(source["path"]), _arguments(source)
    behaviours = [behaviour.settings() for behaviour in arguments["behaviours"]]
    settings = {**arguments, "env": arguments["env"].to_dict(), "behaviours": behaviours}
    if not path.exists():
        raw = record_steps(**arguments)
        metadata = {**raw.metadata, SETTINGS: json.dumps(settings, sort_keys=True)}
        try:
            d4rl.write(path, replace(raw, source=str(path), metadata=metadata))
        except FileExistsError:  # another process was faster
            if not path.is_file():
                raise
    _check_file(path, json.loads(json.dumps(settings)))
    return path


def _check_file(path: Path, settings: Mapping[str, Any]) -> None:
    """Raise a DatasetError unless the file was recorded with these settings."""
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
    before = json.loads(found)
    for key in [*settings, *before]:
        if before.get(key) != settings.get(key):
            raise DatasetError(
                str(path),
                f"was recorded with other settings: {key}={json.dumps(before.get(key))} in the file, "
                f"{json.dumps(settings.get(key))} asked for. Give the recording another 'path', or remove the file to "
                "record it again",
            )


def _arguments(source: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of `record_steps`, with defaults filled in; raises a ValueError that names what is wrong."""
    _check_keys("Recorded data set", source, ("record", "path"), required=("record", "path"))
    path, record = source["path"], source["record"]
    if not isinstance(path, str | Path) or Path(path).suffix not in d4rl.SUFFIXES:
        raise ValueError(f"Recorded data set: path={path!r}: must end in {' or '.join(d4rl.SUFFIXES)}.")
    where = f"Recorded data set {str(path)!r}"
    known = ("env", "num_steps", "seed", "behaviours", "ref_min_score", "ref_max_score")
    _check_keys(f"{where}, 'record'", record, known, required=("env", "num_steps"))
    arguments: dict[str, Any] = {"num_steps": record["num_steps"], "seed": record.get("seed", 0)}
    try:
        check_whole_number("num_steps", arguments["num_steps"], 1)
        check_whole_number("seed", arguments["seed"], 0)
        for key in ("ref_min_score", "ref_max_score"):
            if (value := record.get(key)) is not None:
                if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
                    raise ValueError(f"{key}={value!r}: must be a number.")
                arguments[key] = float(value)
        arguments["env"] = EnvSpec.of(record["env"])
        json.dumps(arguments["env"].to_dict())
    except TypeError as error:
        raise ValueError(f"{where}: env={record['env']!r}: {error}") from error
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error
    return arguments | {"behaviours": _behaviours(where, record.get("behaviours", [{"policy": RANDOM}]))}


def _behaviours(where: str, entries: Any) -> list[Behaviour]:
    if isinstance(entries, str | Mapping) or not isinstance(entries, Iterable) or not (entries := list(entries)):
        raise ValueError(f"{where}: behaviours={entries!r}: must be a list of one or more.")
    found = []
    for number, entry in enumerate(entries, 1):
        place = f"{where}, behaviour {number}"
        _check_keys(place, entry, tuple(field.name for field in fields(Behaviour)))
        try:
            found.append(Behaviour(**entry))
        except ValueError as error:
            raise ValueError(f"{place}: {error}") from error
    return found


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
