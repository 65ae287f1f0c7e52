"""The folder of one run: what lies where, and how its name is found."""

from __future__ import annotations

import contextlib
import os
import re
from dataclasses import dataclass
from pathlib import Path

from rllib_multienv.runs.recovery import newest_complete


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
        """Makes a new folder ``results/<name>``, or ``<name>-2``, ``<name>-3``, ... where that is taken.

        Raises:
            ValueError: ``results`` is a URI.
        """
        if re.match(r"\w+:/", str(results)):  # a path has lost one of the slashes
            raise ValueError(
                f"--results {str(results)!r} is a URI; the command line writes to folders. Mount the storage, or use "
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
        """The folder of an earlier run.

        Raises:
            FileNotFoundError: If it is none.
        """
        folder = cls(path.resolve())
        if not folder.config.is_file():
            raise FileNotFoundError(f"{path} is no folder of an earlier run: it has no {folder.config.name}")
        return folder

    @property
    def config(self) -> Path:
        """The configuration that the run uses, with what the command line changed."""
        return self.path / "config.yaml"

    def write_config(self, text: str) -> None:
        """Writes `config`; the old one or the new one is there at every moment, since nothing goes on without it."""
        temporary = self.path / ".config.yaml.tmp"
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(self.config)

    @property
    def log(self) -> Path:
        """What Ray, RLlib and the worker processes print."""
        return self.path / "run.log"

    @property
    def progress(self) -> Path:
        """The metrics, one row per training iteration. TensorBoard's files lie beside it."""
        return self.path / "progress.csv"

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
        """A link to the latest checkpoint, which itself lies in the trial's folder."""
        return self.path / "checkpoint"

    def link_checkpoint(self, target: Path) -> None:
        """Lets `checkpoint` point at `target`, a folder in this one; does nothing where links fail."""
        with contextlib.suppress(OSError):
            temporary = self.path / ".checkpoint-link"
            temporary.unlink(missing_ok=True)
            temporary.symlink_to(os.path.relpath(target, self.path), target_is_directory=True)
            temporary.replace(self.checkpoint)


def find_checkpoint(path: Path) -> Path:
    """The checkpoint folder that is meant by `path`: itself, or the latest complete one of a results folder.

    Raises:
        FileNotFoundError: If there is no such folder, or a results folder without a checkpoint.
    """
    if not path.is_dir():
        raise FileNotFoundError(f"there is no checkpoint folder {path}")
    if not (path / "config.yaml").is_file() or (path / "multienv.json").is_file():
        return path
    found = sorted(path.glob("trial_*/checkpoint_*"), key=lambda folder: (folder.stat().st_mtime, folder.name))
    link = path / "checkpoint"
    if link.is_dir():
        found.append(link.resolve())
    if not found:
        raise FileNotFoundError(f"the run in {path} has no checkpoint yet")
    trials = dict.fromkeys(folder.parent for folder in reversed(found))
    # Where none is complete, the reason is shown when the latest one is read.
    return next((newest for trial in trials if (newest := newest_complete(trial)) is not None), found[-1])
