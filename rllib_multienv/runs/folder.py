"""The folder of one run and the files in it."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rllib_multienv.atomic_files import atomic_folder, write_json, write_text

_BEST = "best.json"


@dataclass(frozen=True)
class RunFolder:
    """``results/<name>/``.

    Tune keeps its own files here too: its state, and a folder per trial with the trial's checkpoints.

    Args:
        path: The folder, absolute.
    """

    path: Path

    @classmethod
    def create(cls, results: Path, name: str) -> RunFolder:
        """Make a new folder ``results/<name>``, or ``<name>-2``, ``<name>-3``, ... where that is taken.

        Raises:
            ValueError: ``results`` is a URI.
        """
        if uri := re.search(r"(?:^|/)(\w+:/.*)", str(results)):  # a path has lost one of the slashes
            raise ValueError(
                f"--results {uri[1]!r} is a URI; the command line writes to folders. Mount the storage, or use "
                "config_files.build_tuner(file, storage_path=URI) in Python."
            )
        results = results.resolve()
        results.mkdir(parents=True, exist_ok=True)
        number = 1
        while True:
            path = results / (name if number == 1 else f"{name}-{number}")
            try:
                path.mkdir()
            except FileExistsError:
                number += 1
                continue
            return cls(path)

    @classmethod
    def existing(cls, path: Path) -> RunFolder:
        """The folder of an earlier run, from its path or that of one of its trials or checkpoints.

        Raises:
            FileNotFoundError: It is not one.
        """
        inside = path.resolve()
        for folder in map(cls, (inside, *inside.parents[:2])):
            if folder.config.is_file():
                return folder
        raise FileNotFoundError(f"{path} is not the folder of a run: it has no config.yaml")

    @property
    def config(self) -> Path:
        """The configuration that the run uses, with the changes of the command line."""
        return self.path / "config.yaml"

    def write_config(self, text: str) -> None:
        """Write `config` atomically: a run cannot be resumed without it."""
        write_text(self.config, text)

    @property
    def log(self) -> Path:
        """The output of Ray, RLlib and the worker processes."""
        return self.path / "run.log"

    @property
    def progress(self) -> Path:
        """The metrics of a run with one trial, one row per training iteration. TensorBoard's files are beside it."""
        return self.path / "progress.csv"

    def metrics(self, trial: str, *, single: bool) -> Path:
        """The `progress.csv` of a trial: in the run's folder if there is a single one, else in the trial's folder."""
        return self.progress if single else self.path / trial / self.progress.name

    def params(self, trial: str) -> Path:
        """The values that were drawn for a trial of a search."""
        return self.path / trial / "params.json"

    @property
    def best_config(self) -> Path:
        """The configuration with the best values of a search."""
        return self.path / "best.yaml"

    @property
    def plot(self) -> Path:
        """The learning curves."""
        return self.path / "learning_curves.png"

    @property
    def evaluation(self) -> Path:
        """The final evaluation."""
        return self.path / "evaluation.csv"

    @property
    def checkpoint(self) -> Path:
        """A link to the latest checkpoint, which is in the trial's folder; of a search, that of the best trial."""
        return self.path / "checkpoint"

    def link_checkpoint(self, target: Path) -> None:
        """Let `checkpoint` point to `target`, a folder in this one; do nothing where links are not possible."""
        with contextlib.suppress(OSError):
            temporary = self.path / ".checkpoint-link"
            temporary.unlink(missing_ok=True)
            temporary.symlink_to(os.path.relpath(target, self.path), target_is_directory=True)
            temporary.replace(self.checkpoint)

    @property
    def best_checkpoint(self) -> Path:
        """A copy of the best checkpoint so far."""
        return self.path / "best_checkpoint"

    def best(self) -> dict[str, Any]:
        """The trial, iteration and returns of the best checkpoint; empty if there is none."""
        try:
            return json.loads((self.best_checkpoint / _BEST).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}

    def keep_best(self, checkpoint: Path, note: dict[str, Any]) -> None:
        """Make `checkpoint` the best one. Its files are hard links, which take no space, where these are possible."""
        old = [str(file.relative_to(self.best_checkpoint)) for file in self.best_checkpoint.rglob("*")]
        with atomic_folder(self.best_checkpoint, seal=_BEST, known=old) as folder:
            shutil.copytree(checkpoint, folder, copy_function=_link, dirs_exist_ok=True)
            write_json(folder / _BEST, note)


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
