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
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import h5py

from rllib_multienv.envs.make import probe_spaces
from rllib_multienv.gym_ids import did_you_mean
from rllib_multienv.offline.behaviours import RANDOM, Behaviour
from rllib_multienv.offline.formats import d4rl
from rllib_multienv.offline.raw import IN_MEMORY, ArrayStore, DatasetError, RawDataset
from rllib_multienv.offline.recording import check_whole_number, record_steps
from rllib_multienv.space_spec import SpaceSpec
from rllib_multienv.spec import EnvSpec, resolve_env_specs

#: The attribute of a recorded file that holds the settings it was recorded with.
SETTINGS = "recording"


def check(source: Mapping[str, Any]) -> None:
    """Check everything that can be checked without recording.

    Raises:
        ValueError: A key is unknown (the nearest are named) or missing, a value is not allowed, or there is no such
            environment, policy or checkpoint. Checkpoints are looked for only where the file is not there yet.
        ModuleNotFoundError: The environment's module cannot be imported.
    """
    recording = _Recording.of(source)
    resolve_env_specs([recording.env])
    for behaviour in recording.behaviours:
        if behaviour.checkpoint is None or not recording.path.exists():
            behaviour.check()


def peek(env_id: str, source: Mapping[str, Any]) -> SpaceSpec:
    """The spaces of the environment that the data set is recorded in."""
    return probe_spaces(replace(_Recording.of(source).env, id=env_id))


def read(source: Mapping[str, Any], *, store: ArrayStore = IN_MEMORY) -> RawDataset:
    """Read the data set; see :func:`recorded_file`."""
    return d4rl.read(recorded_file(source), store=store)


def recorded_file(source: Mapping[str, Any]) -> Path:
    """The file of a recorded data set, in D4RL's layout; it is recorded if it is not there.

    An existing file is never changed, and must have been recorded with the same settings. Checkpoints and functions are
    compared by name only.

    Raises:
        ValueError: See :func:`check`.
        DatasetError: The existing file was recorded with other settings, or not by this package.
        EnvFailure: The environment raised while it was recorded.
    """
    check(source)
    recording = _Recording.of(source)
    if not recording.path.exists():
        raw = recording.play()
        try:
            d4rl.write(recording.path, raw)
        except FileExistsError:  # another process was faster
            if not recording.path.is_file():
                raise
    recording.check_file()
    return recording.path


@dataclass(frozen=True, kw_only=True)
class _Recording:
    """The settings of a recorded data set, with defaults filled in."""

    path: Path
    env: EnvSpec
    num_steps: int
    seed: int
    behaviours: tuple[Behaviour, ...]
    scores: dict[str, Any]

    @classmethod
    def of(cls, source: Mapping[str, Any]) -> _Recording:
        """Check a source's keys and values; raises a ValueError that names the wrong one."""
        _check_keys("Recorded data set", source, ("record", "path"), required=("record", "path"))
        path, record = source["path"], source["record"]
        if not isinstance(path, str | Path) or Path(path).suffix not in d4rl.SUFFIXES:
            raise ValueError(f"Recorded data set: path={path!r}: must end in {' or '.join(d4rl.SUFFIXES)}.")
        where = f"Recorded data set {str(path)!r}"
        known = ("env", "num_steps", "seed", "behaviours", "ref_min_score", "ref_max_score")
        _check_keys(f"{where}, 'record'", record, known, required=("env", "num_steps"))
        scores = {key: record[key] for key in ("ref_min_score", "ref_max_score") if record.get(key) is not None}
        try:
            check_whole_number("num_steps", record["num_steps"], 1)
            check_whole_number("seed", record.get("seed", 0), 0)
            for key, value in scores.items():
                if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
                    raise ValueError(f"{key}={value!r}: must be a number.")
            env = EnvSpec.of(record["env"])
            json.dumps(env.to_dict())
        except (TypeError, ValueError) as error:
            about = f"env={record['env']!r}: " if isinstance(error, TypeError) else ""
            raise ValueError(f"{where}: {about}{error}") from error
        return cls(
            path=Path(path),
            env=env,
            num_steps=record["num_steps"],
            seed=record.get("seed", 0),
            behaviours=_behaviours(where, record.get("behaviours", [{"policy": RANDOM}])),
            scores={key: float(value) for key, value in scores.items()},
        )

    def settings(self) -> dict[str, Any]:
        """What is compared with the file, JSON-able."""
        behaviours: list[dict[str, Any]] = []
        for behaviour in self.behaviours:
            kind = "policy" if behaviour.checkpoint is None else "checkpoint"
            entry: dict[str, Any] = {kind: behaviour.name, "share": float(behaviour.share)}
            if behaviour.policy != RANDOM:
                entry["noise"] = float(behaviour.noise)
            if behaviour.checkpoint is not None:
                entry["explore"] = behaviour.explore is not False
            behaviours.append(entry)
        settings = {"num_steps": self.num_steps, "seed": self.seed, "behaviours": behaviours}
        return {"env": self.env.to_dict(), **settings, **self.scores}

    def play(self) -> RawDataset:
        """Record, with the settings in the metadata."""
        raw = record_steps(self.env, self.behaviours, num_steps=self.num_steps, seed=self.seed, **self.scores)
        settings = json.dumps(self.settings(), sort_keys=True)
        return replace(raw, source=str(self.path), metadata={**raw.metadata, SETTINGS: settings})

    def check_file(self) -> None:
        """Raise a DatasetError unless the file was recorded with these settings."""
        try:
            with h5py.File(self.path, "r") as file:
                found = file["metadata"].attrs.get(SETTINGS) if "metadata" in file else None
        except OSError as error:
            raise DatasetError(str(self.path), f"cannot be opened as HDF5 ({error})") from error
        if found is None:
            raise DatasetError(
                str(self.path),
                "the file is there, but was not recorded from settings; give the recording another 'path', or read the "
                "file without 'record'",
            )
        before, now = json.loads(found), json.loads(json.dumps(self.settings()))
        for key in [*now, *before]:
            if before.get(key) != now.get(key):
                raise DatasetError(
                    str(self.path),
                    f"was recorded with other settings: {key}={json.dumps(before.get(key))} in the file, "
                    f"{json.dumps(now.get(key))} asked for. Give the recording another 'path', or remove the file to "
                    "record it again",
                )


def _behaviours(where: str, entries: Any) -> tuple[Behaviour, ...]:
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
    return tuple(found)


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
