"""Tune's record of a run, and a copy of it that is whole at every moment.

Tune writes what it knows of a run (``experiment_state-<start>.json``, the state of the searcher) over the older files
while the run goes on; a kill in the middle leaves neither the old ones nor the new ones. Without them Tune begins the
run anew, over the checkpoints that are there.
"""

from __future__ import annotations

import json
import logging
import os
import pickletools
import shutil
import time
from pathlib import Path

from rllib_multienv.atomic_folder import written_whole

logger = logging.getLogger(__name__)

_TUNER = "tuner.pkl"
_STATE = "experiment_state-"
_LOOK_S = 1.0  # how often a copy is thought of
_QUIET_S = 0.2  # files that were written so long ago are not being written


class _Changing(Exception):
    """The files are being written at this moment."""


class TuneRecord:
    """The files in a run's folder by which Tune resumes the run.

    Args:
        folder: The run's folder.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._copy = folder / ".tune_record"
        self._copied: dict[str, tuple[int, int]] = {}
        self._looked = 0.0

    def keep_copy(self) -> None:
        """Copies the record if it has changed and nobody is writing it; called often, it does so now and then."""
        if time.monotonic() - self._looked < _LOOK_S:
            return
        self._looked = time.monotonic()
        files = _latest(self._folder)
        stamps = _stamps(files)
        newest = max((changed for changed, _ in stamps.values()), default=0)
        if not files or stamps == self._copied or time.time_ns() - newest < _QUIET_S * 1e9:
            return
        try:
            old = [file.name for file in self._copy.iterdir()] if self._copy.is_dir() else []
            with written_whole(self._copy, seal=_TUNER, known=old) as copy:
                for file in [*(file for file in files if file.name != _TUNER), self._folder / _TUNER]:
                    shutil.copyfile(file, copy / file.name)
                if _stamps(files) != stamps or not _whole(_latest(copy)):
                    raise _Changing
        except _Changing:
            return
        except OSError as error:
            logger.warning("No copy of Tune's record: %s", error)
            return
        self._copied = stamps

    def mend(self) -> dict[str, str]:
        """Puts the copy in the place of a damaged record.

        Returns:
            The trials that Tune will resume: names of their folders by id; none if there is nothing to resume from.
        """
        files = _latest(self._folder)
        if not _whole(files):
            files = _latest(self._copy)
            if not _whole(files):
                return {}
            logger.warning("Tune's record of the run was cut off while it was written; its copy is used.")
            copied = {file.name for file in files}
            for file in _record(self._folder):
                if file.name not in copied:
                    file.rename(file.with_name(file.name + ".damaged"))
            for file in files:
                temporary = self._folder / f".{file.name}.tmp"
                shutil.copyfile(file, temporary)
                os.replace(temporary, self._folder / file.name)
        return {trial["trial_id"]: trial["relative_logdir"] for trial in _trials(files)}

    def whole(self) -> bool:
        """Whether the record can be read, and knows of a trial at least."""
        return _whole(_latest(self._folder))

    def finished(self) -> bool:
        """Whether Tune has noted that all trials have come to their end."""
        return self.whole() and all(trial["status"] == "TERMINATED" for trial in _trials(_latest(self._folder)))


def _record(folder: Path) -> list[Path]:
    """All files of Tune's in a folder."""
    if not folder.is_dir():
        return []
    return sorted(file for file in folder.iterdir() if file.suffix in (".json", ".pkl") and file.is_file())


def _latest(folder: Path) -> list[Path]:
    """Those of the latest start of the run; none if there is no state of it."""
    files = _record(folder)
    states = [file for file in files if file.name.startswith(_STATE)]
    if not states:
        return []
    start = states[-1].stem.removeprefix(_STATE)
    return [file for file in files if start in file.name or file.name == _TUNER]


def _stamps(files: list[Path]) -> dict[str, tuple[int, int]]:
    """When the files were written last, and their sizes."""
    return {file.name: (file.stat().st_mtime_ns, file.stat().st_size) for file in files}


def _whole(files: list[Path]) -> bool:
    return any(file.name == _TUNER for file in files) and all(map(_readable, files)) and bool(_trials(files))


def _readable(file: Path) -> bool:
    """Whether a file is whole: JSON, or a pickle (whatever its name), which is looked through and not loaded."""
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
    """What a whole record says of each trial."""
    (state,) = (file for file in files if file.name.startswith(_STATE))
    return [json.loads(trial) for trial, _ in json.loads(state.read_bytes())["trial_data"]]
