"""Where a run of an experiment lies on disk, and what its files tell of it."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from rllib_multienv.checkpoints import find_checkpoint
from rllib_multienv.config_files.file import ConfigFile, load_config_file
from rllib_multienv.evaluation.progress import read_progress
from rllib_multienv.experiments.plan import Run
from rllib_multienv.runs.folder import RunFolder

EXPERIMENT_FILE = "experiment.yaml"


class State(StrEnum):
    """How far a run is."""

    WAITING = "waiting"
    RUNNING = "running"
    UNFINISHED = "unfinished"
    FAILED = "failed"
    DONE = "done"


@dataclass(frozen=True)
class Place:
    """The files of one run: its folder ``runs/<phase>/<variant>[/<env>]/seed<k>``, and files of that name beside it.

    Args:
        root: The experiment's folder.
        run: The run.
    """

    root: Path
    run: Run

    @property
    def folder(self) -> RunFolder:
        """The run's folder as `multienv train` makes it."""
        return RunFolder(self.root / "runs" / self.run.name)

    @property
    def file(self) -> Path:
        """The configuration; `multienv train` takes it."""
        return self._beside(".yaml")

    @property
    def log(self) -> Path:
        """What the command has printed."""
        return self._beside(".log")

    @property
    def failure(self) -> Path:
        """Why the run has failed; only there if it has."""
        return self._beside(".failure")

    def _beside(self, ending: str) -> Path:
        return self.folder.path.parent / (self.folder.path.name + ending)

    @property
    def state(self) -> State:
        """What the files say, of a run that is not under way."""
        if self.folder.evaluation.is_file():
            return State.DONE
        if self.failure.is_file():
            return State.FAILED
        return State.UNFINISHED if self.has_checkpoint else State.WAITING

    @property
    def has_checkpoint(self) -> bool:
        """Whether the run can go on where it was."""
        return self.folder.config.is_file() and any(self.folder.path.glob("trial_*/checkpoint_*"))

    @property
    def progress(self) -> float:
        """Which part of the training is done, from 0 to 1."""
        if self.folder.evaluation.is_file():
            return 1.0
        rows = self.rows()
        return self.run.progress(rows[-1]) if rows else 0.0

    def rows(self) -> list[dict[str, float]]:
        """The progress, a row for each iteration; none before the first one is done."""
        return read_progress(self.folder.progress) if self.folder.progress.is_file() else []

    def write_file(self) -> None:
        """Write the configuration, with the checkpoint that the run starts from."""
        file = self.run.file
        if self.run.start is not None:
            start = find_checkpoint(Place(self.root, self.run.start).folder.path)
            given = dict(file.methods.get("initialize_from", {}))
            file = file.override("initialize_from", {**given, "path": str(start)})
        self.file.parent.mkdir(parents=True, exist_ok=True)
        self.file.write_text(file.dump(), encoding="utf-8")

    def check_unchanged(self) -> None:
        """Check that what is there of the run was made with the settings that it has now.

        Raises:
            ValueError: A setting differs, and there is something that was trained with the old one.
        """
        if not self.file.is_file() or self.state is State.WAITING:
            return
        before, now = (_comparable(file) for file in (load_config_file(self.file), self.run.file))
        for key in before.keys() | now.keys():
            if before.get(key) != now.get(key):
                raise ValueError(
                    f"{self.folder.path} was made with {key}={before.get(key)!r}, now it is {now.get(key)!r}. Give the "
                    "experiment another --name, or delete that folder to train it anew."
                )

    def clear(self) -> None:
        """Remove what a run has left that did not come to its first checkpoint."""
        shutil.rmtree(self.folder.path, ignore_errors=True)


def _comparable(file: ConfigFile) -> dict[str, Any]:
    """The settings, flat, but for the path that the run starts from: that belongs to the folder, not to the run."""
    flat: dict[str, Any] = {}
    _flatten({"algorithm": file.algorithm, **file.tree}, "", flat)
    flat.pop("initialize_from.path", None)
    return flat


def _flatten(tree: Mapping[str, Any], prefix: str, flat: dict[str, Any]) -> None:
    for key, value in tree.items():
        if isinstance(value, Mapping):
            _flatten(value, f"{prefix}{key}.", flat)
        else:
            flat[f"{prefix}{key}"] = value
