"""Resuming a run with Tune after a kill at any moment.

Tune copies a checkpoint into the run's folder file by file, and saves its state (``experiment_state-<start>.json``, the
state of the searcher) over the older files, every ten seconds at most. After a kill the newest checkpoint may be
incomplete, Tune's state may not know the latest checkpoints or name some that were deleted, and its files may be cut
off; without them Tune would start the run anew, over the checkpoints that are there. This module finds the complete
checkpoints, brings Tune's view of a trial in line with them, and keeps a complete copy of Tune's state.
"""

from __future__ import annotations

import json
import logging
import math
import os
import pickletools
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rllib_multienv.atomic_files import atomic_folder
from rllib_multienv.checkpoints import (
    checkpoint_folders,
    checkpoint_number,
    incomplete_reason,
    newest_complete,
    training_progress,
)

logger = logging.getLogger(__name__)

_TUNER = "tuner.pkl"
_STATE = "experiment_state-"
_COPY_INTERVAL_S = 1.0
_QUIET_S = 0.2  # files that did not change for so long are not being written


def newest_saved_iteration(run: Path) -> float:
    """The iteration of the newest complete checkpoint of a run with one trial; 0 if there is none."""
    found = [newest for folder in run.glob("trial_*") if (newest := newest_complete(folder)) is not None]
    return max((training_progress(path).get("training_iteration", math.inf) for path in found), default=0)


@dataclass
class Recovered:
    """The result of :func:`recover`.

    Args:
        newest: The checkpoint that the trial resumes from; None if it starts anew.
        unknown: Whether Tune did not know of it.
        incomplete: The folders that are left out, and why.
    """

    newest: Path | None = None
    unknown: bool = False
    incomplete: dict[Path, str] = field(default_factory=dict)


def recover(trial: Any) -> Recovered:
    """Tell a trial that Tune has restored, and not started yet, the complete checkpoints in its folder.

    Its next checkpoint gets a number that no folder has: nothing is overwritten, and files that a process of the killed
    run may still be writing stay apart.

    Args:
        trial: Tune's trial, of an algorithm of this package.
    """
    from ray.train._internal.session import _TrainingResult
    from ray.tune import Checkpoint

    folder = Path(trial.path)
    found = checkpoint_folders(folder)
    reasons = {path: incomplete_reason(path) for path in found}
    complete = [path for path in found if reasons[path] is None]
    recovered = Recovered(incomplete={path: reason for path, reason in reasons.items() if reason is not None})
    trial.storage.current_checkpoint_index = max(map(checkpoint_number, found), default=-1)
    trial.invalidate_json_state()

    known = trial.run_metadata.checkpoint_manager
    latest = known.latest_checkpoint_result
    before = Path(latest.checkpoint.path) if latest else None
    if before is not None and before.parent != folder and incomplete_reason(before) is None:
        recovered.newest = before  # population-based training gave this trial another trial's agent
        return recovered
    metrics = {
        Path(r.checkpoint.path): r.metrics for r in [*known.best_checkpoint_results, *([latest] if latest else [])]
    }
    # A new manager deletes checkpoints beyond `num_to_keep`, and never the newest.
    trial.run_metadata.checkpoint_manager = type(known)(known.checkpoint_config)
    for path in complete:
        trial.run_metadata.checkpoint_manager.register_checkpoint(
            _TrainingResult(
                checkpoint=Checkpoint(path=str(path), filesystem=trial.storage.storage_filesystem),
                metrics=metrics.get(path) or training_progress(path),
            )
        )
    recovered.newest = complete[-1] if complete else None
    recovered.unknown = recovered.newest != before
    return recovered


def resumable_trials(run: Path) -> dict[str, str]:
    """The trials of a run that Tune can resume: names of their folders by id.

    Folders of other trials, which Tune would give to new ones, are renamed.

    Raises:
        ValueError: Tune can resume nothing, but there are checkpoints.
    """
    trials = TuneState(run).repair()
    unknown = [path for path in sorted(run.glob("trial_*")) if path.name not in trials.values() and path.is_dir()]
    for folder in unknown:
        newest = newest_complete(folder)
        if newest is not None and not trials:
            raise ValueError(
                f"Tune's state of the run in {str(run)!r} is damaged: it cannot be resumed. Its checkpoint "
                f"{str(newest)!r} is complete; 'multienv transfer' continues training with its agent."
            )
    for folder in unknown:
        if re.fullmatch(r"trial_\d+", folder.name):
            number = 1
            while (aside := folder.with_name(f"{folder.name}.lost-{number}")).exists():
                number += 1
            logger.warning("Tune does not know the trial in %s; it is kept as %s.", folder, aside.name)
            folder.rename(aside)
    return trials


@contextmanager
def own_staging_folder() -> Iterator[None]:
    """Give all Tune runs that begin inside a staging folder that no other process uses.

    Tune names the folder in which a run's driver gathers its state after the second and the run's name. Runs of one
    name that begin within one second on one Ray cluster, as the parts ``a/seed0`` and ``b/seed0`` of an experiment do,
    would share it, and each would save the other's trials with its own. The process id in the name prevents that.
    """
    from ray.tune import utils

    second = utils.date_str
    utils.date_str = lambda: f"{second()}_{os.getpid()}"
    try:
        yield
    finally:
        utils.date_str = second


class _Changing(Exception):
    """The files are being written at this moment."""


class TuneState:
    """The files in a run's folder from which Tune resumes the run, and a copy of them that is always complete.

    Args:
        folder: The run's folder.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._copy = folder / ".tune_record"
        self._copied: dict[str, tuple[int, int]] = {}
        self._looked = 0.0

    def keep_copy(self) -> None:
        """Copy the files if they have changed and are not being written; cheap enough to call often."""
        if time.monotonic() - self._looked < _COPY_INTERVAL_S:
            return
        self._looked = time.monotonic()
        files = _latest(self._folder)
        stamps = _stamps(files)
        newest = max((changed for changed, _ in stamps.values()), default=0)
        if not files or stamps == self._copied or time.time_ns() - newest < _QUIET_S * 1e9:
            return
        try:
            old = [file.name for file in self._copy.iterdir()] if self._copy.is_dir() else []
            with atomic_folder(self._copy, seal=_TUNER, known=old) as copy:
                for file in [*(file for file in files if file.name != _TUNER), self._folder / _TUNER]:
                    shutil.copyfile(file, copy / file.name)
                if _stamps(files) != stamps or not _complete(_latest(copy)):
                    raise _Changing
        except _Changing:
            return
        except OSError as error:
            logger.warning("Tune's state was not copied: %s", error)
            return
        self._copied = stamps

    def repair(self) -> dict[str, str]:
        """Replace damaged files by their copy.

        Returns:
            The trials that Tune will resume: names of their folders by id; none if there is nothing to resume from.
        """
        files = _latest(self._folder)
        if not _complete(files):
            files = _latest(self._copy)
            if not _complete(files):
                return {}
            logger.warning("Tune's state of the run is damaged: its writer was killed. The copy is used.")
            copied = {file.name for file in files}
            for file in _state_files(self._folder):
                if file.name not in copied:
                    file.rename(file.with_name(file.name + ".damaged"))
            for file in files:
                temporary = self._folder / f".{file.name}.tmp"
                shutil.copyfile(file, temporary)
                os.replace(temporary, self._folder / file.name)
        return {trial["trial_id"]: trial["relative_logdir"] for trial in _trials(files)}

    def complete(self) -> bool:
        """Whether the files can be read and have at least one trial."""
        return _complete(_latest(self._folder))

    def finished(self) -> bool:
        """Whether Tune has noted that all trials have ended."""
        return self.complete() and all(trial["status"] == "TERMINATED" for trial in _trials(_latest(self._folder)))


def _state_files(folder: Path) -> list[Path]:
    """All of Tune's files in a folder."""
    if not folder.is_dir():
        return []
    return sorted(file for file in folder.iterdir() if file.suffix in (".json", ".pkl") and file.is_file())


def _latest(folder: Path) -> list[Path]:
    """Those of the latest start of the run; none if that has no state."""
    files = _state_files(folder)
    states = [file for file in files if file.name.startswith(_STATE)]
    if not states:
        return []
    start = states[-1].stem.removeprefix(_STATE)
    return [file for file in files if start in file.name or file.name == _TUNER]


def _stamps(files: list[Path]) -> dict[str, tuple[int, int]]:
    """Times of the last change, and sizes."""
    return {file.name: (file.stat().st_mtime_ns, file.stat().st_size) for file in files}


def _complete(files: list[Path]) -> bool:
    return any(file.name == _TUNER for file in files) and all(map(_readable, files)) and bool(_trials(files))


def _readable(file: Path) -> bool:
    """Whether a file is complete JSON or a complete pickle (whatever its name); the pickle is not loaded."""
    content = file.read_bytes()
    try:
        if content.startswith(b"\x80"):
            for _ in pickletools.genops(content):
                pass
        else:
            json.loads(content)
    except ValueError:
        return False
    return True


def _trials(files: list[Path]) -> list[dict]:
    """The trials in complete files."""
    (state,) = (file for file in files if file.name.startswith(_STATE))
    return [json.loads(trial) for trial, _ in json.loads(state.read_bytes())["trial_data"]]
