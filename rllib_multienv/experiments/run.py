"""Runs the runs of an experiment, several at a time, each as a `multienv train`."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence

from rllib_multienv.experiments.plan import Run, State

_POLL_S = 0.3


class Execution:
    """Runs the runs in their order, `parallel` at a time.

    Every run is a process with its own Ray (or the cluster of ``RAY_ADDRESS``), so one that fails stops no other. Runs
    that are done are not repeated, interrupted ones are resumed, failed ones are tried once more in every execution.

    Args:
        runs: The runs, each after the one that it starts from.
        parallel, episodes: Runs at a time, and episodes per environment in the evaluation at the end of each.
        on_change: Called with a run whenever its state has changed.
    """

    def __init__(
        self,
        runs: Sequence[Run],
        *,
        parallel: int,
        episodes: int,
        on_change: Callable[[Run, State], None] = lambda run, state: None,
    ) -> None:
        self._runs = list(runs)
        self._parallel, self._episodes, self._on_change = parallel, episodes, on_change
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._tried: set[str] = set()
        #: Whether it was asked to end.
        self.interrupted = False

    def state(self, run: Run) -> State:
        """The current state of a run."""
        return State.RUNNING if run.name in self._processes else run.state

    def interrupt(self) -> None:
        """Asks the running ones to save a checkpoint and end, and starts no other; a second call ends them at once."""
        for process in self._processes.values():
            process.send_signal(signal.SIGINT)
        self.interrupted = True

    def check(self) -> None:
        """Checks that what there is of the runs was made with their settings; ValueError otherwise."""
        for run in self._runs:
            run.check_unchanged()

    def run(self) -> bool:
        """Runs everything that is not done; returns whether all runs are done."""
        while True:
            for run in [run for run in self._runs if run.name in self._processes]:
                if (status := self._processes[run.name].poll()) is not None:
                    self._end(run, status)
            while not self.interrupted and len(self._processes) < self._parallel and (new := self._next()) is not None:
                self._start(new)
            if not self._processes:
                return all(self.state(run) is State.DONE for run in self._runs)
            time.sleep(_POLL_S)

    def _next(self) -> Run | None:
        for run in self._runs:
            ready = run.start is None or self.state(run.start) is State.DONE
            if ready and run.name not in self._tried and self.state(run) is not State.DONE:
                return run
        return None

    def _start(self, run: Run) -> None:
        self._tried.add(run.name)
        run.beside(".failure").unlink(missing_ok=True)
        folder = run.folder.path
        if run.has_checkpoint:
            arguments = ["--resume", str(folder)]
        else:
            shutil.rmtree(folder, ignore_errors=True)
            run.write_file()
            if run.start is not None:
                evaluate_start(run, run.start, self._episodes)
            arguments = [str(run.beside(".yaml")), "--results", str(folder.parent), "--name", folder.name]
        command = [sys.executable, "-m", "rllib_multienv", "train", *arguments, "--episodes", str(self._episodes)]
        with open(run.beside(".log"), "ab") as log:
            # In its own session: Ctrl-C on the terminal reaches this process alone, which passes it on in order.
            self._processes[run.name] = subprocess.Popen(
                command, stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, start_new_session=True,
                env={**os.environ, "COLUMNS": "140"},
            )  # fmt: skip
        self._on_change(run, State.RUNNING)

    def _end(self, run: Run, status: int) -> None:
        del self._processes[run.name]
        if run.state is not State.DONE and not self.interrupted:
            # Its own error message, or the end of what it printed.
            text = run.beside(".log").read_text(encoding="utf-8", errors="replace")
            lines = [line for line in text.splitlines() if line.strip()]
            errors = [number for number, line in enumerate(lines) if line.startswith("Error")]
            reason = "\n".join(lines[errors[-1] :] if errors else lines[-3:])
            run.beside(".failure").write_text(f"exit status {status}: {reason}\n", encoding="utf-8")
        self._on_change(run, run.state)


def evaluate_start(run: Run, start: Run, episodes: int) -> None:
    """Evaluates the agent that a run starts with in its environments, before any step of training (zero-shot).

    Writes a table beside the run's folder; nothing where the agent cannot act in them, as its network has parameters
    for each environment.
    """
    from rllib_multienv.agent import MultiEnvAgent
    from rllib_multienv.evaluation.table import write_evaluation
    from rllib_multienv.spec import resolve_env_specs

    specs = resolve_env_specs(run.file.tree["environment"]["envs"])
    try:
        agent = MultiEnvAgent.from_checkpoint(start.folder.path)
        results = [agent.evaluate(spec, episodes=episodes, seed=run.seed) for spec in specs]
    except (OSError, ValueError):
        return  # whatever else is wrong, the run itself will say
    write_evaluation(results, run.beside(".start.csv"))
