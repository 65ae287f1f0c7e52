"""Table of the states of an experiment's runs."""

from __future__ import annotations

import time
from collections.abc import Sequence
from types import TracebackType

from rich import box
from rich.console import Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from rllib_multienv.cli.terminal import make_console
from rllib_multienv.experiments.plan import Run, State

_STYLES = {State.DONE: "green", State.FAILED: "bold red", State.RUNNING: "cyan"}


class ExperimentDisplay:
    """One table, a row for each variant of a phase and a column for each seed; a context manager.

    On a terminal it is live; elsewhere a line is printed for every run that starts or ends, and the table at the end.

    Args:
        runs: What to show.
        live: Whether the runs are being executed; otherwise the table is printed once.
    """

    def __init__(self, runs: Sequence[Run], *, live: bool = True) -> None:
        self.console = make_console()
        self._runs = list(runs)
        self._running: dict[str, float] = {}
        self._message = ""
        self._live = (
            Live(get_renderable=self.render, console=self.console, refresh_per_second=1)
            if live and self.console.is_terminal
            else None
        )

    def __enter__(self) -> ExperimentDisplay:
        """Starts the live table, where there is a terminal."""
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Leaves the last table on the screen."""
        self._message = ""
        if self._live is not None:
            self._live.stop()
        elif kind is None:
            self.console.print(self.render())

    def message(self, text: str) -> None:
        """Shows what is happening now."""
        self._message = text
        if self._live is None:
            self.console.print(Text(text), soft_wrap=True)

    def changed(self, run: Run, state: State) -> None:
        """Shows that a run has started or ended."""
        self._message = ""
        if state is State.RUNNING:
            self._running[run.name] = time.monotonic()
            line = f"started   {run.name}"
        else:
            seconds = time.monotonic() - self._running.pop(run.name, time.monotonic())
            line = f"{state:<9} {run.name} after {seconds:.0f} s"
            if state is State.FAILED:
                line += f": {run.beside('.failure').read_text(encoding='utf-8').strip()}"
        if self._live is None:
            self.console.print(Text(line), soft_wrap=True)

    def render(self) -> RenderableType:
        """The table."""
        seeds = list(dict.fromkeys(run.seed for run in self._runs))
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        table.add_column("phase")
        table.add_column("variant")
        for seed in seeds:
            table.add_column(f"seed {seed}", justify="right", no_wrap=True)
        rows: dict[tuple[str, str], dict[int, Text]] = {}
        for run in self._runs:
            label = f"{run.variant.name} / {run.env_id}" if run.env_id else run.variant.name
            rows.setdefault((run.phase.name, label), {})[run.seed] = self._cell(run)
        before = None
        for (phase, label), cells in rows.items():
            table.add_row(phase if phase != before else "", label, *(cells.get(seed, Text("-")) for seed in seeds))
            before = phase
        done = sum(run.state is State.DONE for run in self._runs)
        summary = f"{done} of {len(self._runs)} runs done, {len(self._running)} running"
        return Group(table, Text(f"{self._message or summary}"))

    def _cell(self, run: Run) -> Text:
        state = State.RUNNING if run.name in self._running else run.state
        text = str(state)
        if state in (State.RUNNING, State.UNFINISHED):
            text = f"{text} {run.progress:.0%}"
        return Text(text, style=_STYLES.get(state, ""))
