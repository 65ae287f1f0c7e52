"""Runs an experiment: where each run is on disk, how far it is, and several at a time, each as a `multienv train`."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import pandas as pd

from rllib_multienv.checkpoints import find_checkpoint
from rllib_multienv.config_files.file import ConfigFile, load_config_file
from rllib_multienv.evaluation.progress import read_progress
from rllib_multienv.experiments.plan import Run
from rllib_multienv.runs.folder import RunFolder

EXPERIMENT_FILE = "experiment.yaml"
_POLL_S = 0.3


class State(StrEnum):
    """How far a run is."""

    WAITING = "waiting"
    RUNNING = "running"
    UNFINISHED = "unfinished"
    FAILED = "failed"
    DONE = "done"


@dataclass(frozen=True)
class Place:
    """Files of a run in its experiment: the folder ``runs/<phase>/<variant>[/<env>]/seed<k>``, and those beside it."""

    root: Path
    run: Run

    @property
    def folder(self) -> RunFolder:
        """The run's folder as `multienv train` makes it."""
        return RunFolder(self.root / "runs" / self.run.name)

    def beside(self, ending: str) -> Path:
        """A file beside the folder: ``.yaml``, the configuration; ``.log``; ``.failure``, why the run failed, if so."""
        return self.folder.path.with_name(self.folder.path.name + ending)

    @property
    def state(self) -> State:
        """The state of a run that is not under way."""
        if self.folder.evaluation.is_file():
            return State.DONE
        if self.beside(".failure").is_file():
            return State.FAILED
        return State.UNFINISHED if self.has_checkpoint else State.WAITING

    @property
    def has_checkpoint(self) -> bool:
        """Whether the run can be resumed."""
        return self.folder.config.is_file() and any(self.folder.path.glob("trial_*/checkpoint_*"))

    @property
    def progress(self) -> float:
        """The part of the training that is done, from 0 to 1."""
        rows = self.rows()
        return 1.0 if self.folder.evaluation.is_file() else self.run.progress(rows[-1]) if rows else 0.0

    def rows(self) -> list[dict[str, float]]:
        """The progress, one row per iteration; none before the first."""
        return read_progress(self.folder.progress) if self.folder.progress.is_file() else []

    def write_file(self) -> None:
        """Writes the configuration, with the checkpoint that the run starts from."""
        file = self.run.file
        if self.run.start is not None:
            start = find_checkpoint(Place(self.root, self.run.start).folder.path)
            file = file.override("initialize_from", {**file.methods.get("initialize_from", {}), "path": str(start)})
        self.beside(".yaml").parent.mkdir(parents=True, exist_ok=True)
        self.beside(".yaml").write_text(file.dump(), encoding="utf-8")

    def check_unchanged(self) -> None:
        """Checks that what there is of the run was made with the settings that it has now.

        Raises:
            ValueError: A setting differs.
        """
        if not self.beside(".yaml").is_file() or self.state is State.WAITING:
            return
        before, now = (_settings(file) for file in (load_config_file(self.beside(".yaml")), self.run.file))
        for key in before.keys() | now.keys():
            if before.get(key) != now.get(key):
                raise ValueError(
                    f"{self.folder.path} was made with {key}={before.get(key)!r}, now it is {now.get(key)!r}. Give the "
                    "experiment another --name, or delete that folder to train it again."
                )


def _settings(file: ConfigFile) -> dict[str, Any]:
    """The settings by dotted name, without the path that the run starts from, which depends on the folder."""
    flat = pd.json_normalize({"algorithm": file.algorithm, **file.tree}).to_dict("records")[0]
    return {str(key): value for key, value in flat.items() if key != "initialize_from.path"}


class Execution:
    """Runs the runs in their order, `parallel` at a time.

    Every run is a process with its own Ray (or the cluster of ``RAY_ADDRESS``), so one that fails stops no other. Runs
    that are done are not repeated, interrupted ones are resumed, failed ones are tried once more in every execution.

    Args:
        root: The experiment's folder.
        runs: The runs, each after the one that it starts from.
        parallel, episodes: Runs at a time, and episodes per environment in the evaluation at the end of each.
        on_change: Called with a run whenever its state has changed.
    """

    def __init__(
        self,
        root: Path,
        runs: Sequence[Run],
        *,
        parallel: int,
        episodes: int,
        on_change: Callable[[Run, State], None] = lambda run, state: None,
    ) -> None:
        self._places = {run.name: Place(root, run) for run in runs}
        self._runs = list(runs)
        self._parallel, self._episodes, self._on_change = parallel, episodes, on_change
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._tried: set[str] = set()
        #: Whether it was asked to end.
        self.interrupted = False

    def state(self, run: Run) -> State:
        """How far a run is now."""
        return State.RUNNING if run.name in self._processes else self._places[run.name].state

    def interrupt(self) -> None:
        """Asks the running ones to save a checkpoint and end, and starts no other; a second call ends them at once."""
        for process in self._processes.values():
            process.send_signal(signal.SIGINT)
        self.interrupted = True

    def check(self) -> None:
        """Checks that what there is of the runs was made with their settings; ValueError otherwise."""
        for place in self._places.values():
            place.check_unchanged()

    def run(self) -> bool:
        """Runs everything that is not done; returns whether all runs are done."""
        while True:
            for name, process in list(self._processes.items()):
                if (status := process.poll()) is not None:
                    self._end(self._places[name], status)
            while not self.interrupted and len(self._processes) < self._parallel and (run := self._next()) is not None:
                self._start(self._places[run.name])
            if not self._processes:
                return all(self.state(run) is State.DONE for run in self._runs)
            time.sleep(_POLL_S)

    def _next(self) -> Run | None:
        for run in self._runs:
            ready = run.start is None or self.state(run.start) is State.DONE
            if ready and run.name not in self._tried and self.state(run) is not State.DONE:
                return run
        return None

    def _start(self, place: Place) -> None:
        self._tried.add(place.run.name)
        place.beside(".failure").unlink(missing_ok=True)
        folder = place.folder.path
        if place.has_checkpoint:
            arguments = ["--resume", str(folder)]
        else:
            shutil.rmtree(folder, ignore_errors=True)
            place.write_file()
            arguments = [str(place.beside(".yaml")), "--results", str(folder.parent), "--name", folder.name]
        command = [sys.executable, "-m", "rllib_multienv", "train", *arguments, "--episodes", str(self._episodes)]
        with open(place.beside(".log"), "ab") as log:
            # In its own session: Ctrl-C on the terminal reaches this process alone, which passes it on in order.
            self._processes[place.run.name] = subprocess.Popen(
                command, stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, start_new_session=True,
                env={**os.environ, "COLUMNS": "140"},
            )  # fmt: skip
        self._on_change(place.run, State.RUNNING)

    def _end(self, place: Place, status: int) -> None:
        del self._processes[place.run.name]
        if place.state is not State.DONE and not self.interrupted:
            # Its own error message, or the end of what it printed.
            text = place.beside(".log").read_text(encoding="utf-8", errors="replace")
            lines = [line for line in text.splitlines() if line.strip()]
            errors = [number for number, line in enumerate(lines) if line.startswith("Error")]
            reason = "\n".join(lines[errors[-1] :] if errors else lines[-3:])
            place.beside(".failure").write_text(f"exit status {status}: {reason}\n", encoding="utf-8")
        self._on_change(place.run, place.state)
