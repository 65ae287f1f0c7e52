"""Runs the runs of an experiment, several at a time, each as a `multienv train` of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from rllib_multienv.experiments.places import Place, State
from rllib_multienv.experiments.plan import Run

_POLL_S = 0.3


class Execution:
    """Goes through the runs in their order and keeps `parallel` of them going.

    Every run is a process with a Ray of its own (or the cluster of ``RAY_ADDRESS``), so one that fails or is killed
    takes no other with it, and what it leaves is what `multienv train` leaves. A run that is done is not run again; one
    that was interrupted goes on from its newest checkpoint; one that has failed is tried once more in every execution.

    Args:
        root: The experiment's folder.
        runs: In an order in which none comes before the one that it starts from.
        parallel: How many at a time.
        episodes: Per environment in the evaluation at the end of each run.
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
        self._stopping = False

    def state(self, run: Run) -> State:
        """How far a run is now."""
        if run.name in self._processes:
            return State.RUNNING
        return self._places[run.name].state

    def interrupt(self) -> None:
        """Ask the running ones to save a checkpoint and end, and start no other; a second call ends them at once."""
        for process in self._processes.values():
            process.send_signal(signal.SIGINT)
        self._stopping = True

    @property
    def interrupted(self) -> bool:
        """Whether it was asked to end."""
        return self._stopping

    def check(self) -> None:
        """Check that what is there of the runs was made with the settings that they have now.

        Raises:
            ValueError: A setting of a run differs.
        """
        for place in self._places.values():
            place.check_unchanged()

    def run(self) -> bool:
        """Run everything that is not done.

        Returns:
            Whether all runs are done.
        """
        while True:
            self._reap()
            if not self._stopping:
                self._start_next()
            if not self._processes and (self._stopping or self._next() is None):
                return all(self.state(run) is State.DONE for run in self._runs)
            time.sleep(_POLL_S)

    def _next(self) -> Run | None:
        for run in self._runs:
            ready = run.start is None or self.state(run.start) is State.DONE
            if ready and run.name not in self._tried and self.state(run) is not State.DONE:
                return run
        return None

    def _start_next(self) -> None:
        while len(self._processes) < self._parallel and (run := self._next()) is not None:
            self._start(run)

    def _start(self, run: Run) -> None:
        place = self._places[run.name]
        self._tried.add(run.name)
        place.failure.unlink(missing_ok=True)
        command = [sys.executable, "-m", "rllib_multienv", "train"]
        if place.has_checkpoint:
            command += ["--resume", str(place.folder.path)]
        else:
            place.clear()
            place.write_file()
            command += [str(place.file), "--results", str(place.folder.path.parent), "--name", place.folder.path.name]
        command += ["--episodes", str(self._episodes)]
        with open(place.log, "ab") as log:
            # A session of its own: Ctrl-C on the terminal comes to this process alone, which passes it on in order.
            self._processes[run.name] = subprocess.Popen(
                command, stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, start_new_session=True,
                env={**os.environ, "COLUMNS": "140"},
            )  # fmt: skip
        self._on_change(run, State.RUNNING)

    def _reap(self) -> None:
        for name, process in list(self._processes.items()):
            status = process.poll()
            if status is None:
                continue
            del self._processes[name]
            place = self._places[name]
            if place.state is not State.DONE and not self._stopping:
                place.failure.write_text(_reason(place.log, status), encoding="utf-8")
            self._on_change(place.run, place.state)


def _reason(log: Path, status: int) -> str:
    """Why a command has failed: its own error message, or the end of what it printed."""
    lines = [line for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    errors = [number for number, line in enumerate(lines) if line.startswith("Error")]
    told = "\n".join(lines[errors[-1] :] if errors else lines[-3:])
    return f"exit status {status}: {told}\n"
