"""Shows a training run: a live table on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import time
from collections.abc import Mapping
from types import TracebackType
from typing import TextIO

from rich import box
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from rllib_multienv.cli.monitor import EnvStatus, TrialStatus


class Display:
    """Shows the trials of a run while it goes on; a context manager.

    Args:
        console: Where to show them. On a terminal a table is kept up to date in its place; otherwise a line
            per trial is printed, at most every `line_interval` seconds.
        title: Name of the run.
        several: Whether the run has several trials; they report one after the other.
        line_interval: Seconds between the lines of one trial.
    """

    def __init__(self, console: Console, *, title: str, several: bool = False, line_interval: float = 10.0) -> None:
        self.console = console
        self._title, self._several, self._line_interval = title, several, line_interval
        self._message = "starting"
        self._trials: Mapping[str, TrialStatus] = {}
        self._printed: dict[str, float] = {}
        self._pending: dict[str, bool] = {}
        self._started = time.monotonic()
        self._spinner = Spinner("dots")
        self._live: Live | None = None
        self._finished = False

    def __enter__(self) -> Display:
        """Starts the live table, where there is a terminal."""
        if self.console.is_terminal:
            self._live = Live(
                get_renderable=self.render,
                console=self.console,
                refresh_per_second=4,
                redirect_stdout=False,
                redirect_stderr=False,
            )
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Leaves the last state of the table on the screen."""
        self._finished = True
        if self._live is not None:
            self._live.stop()
            self._live = None
        self._print_pending()

    def message(self, text: str, *, lasting: bool = False) -> None:
        """Says what happens now; `lasting` lines stay on the screen above the table."""
        self._message = text.split(":")[0]
        self._print_pending()
        if lasting or self._live is None:
            self.console.print(Text(text), soft_wrap=True)

    def update(self, trials: Mapping[str, TrialStatus], changed: str) -> None:
        """Shows new numbers of the trial `changed`."""
        self._trials = trials
        self._message = "training"
        if self._live is not None:
            self._live.refresh()
            return
        now = time.monotonic()
        self._pending[changed] = True
        if now - self._printed.get(changed, -1e9) >= self._line_interval:
            self._print_line(trials[changed])
            self._printed[changed] = now

    def render(self) -> RenderableType:
        """What the terminal shows at this moment."""
        parts: list[RenderableType] = []
        trials = list(self._trials.values())
        if len(trials) == 1 and not self._several:
            parts.append(environment_table(trials[0], wide=self.console.width >= 100))
        elif trials:
            parts.append(trial_table(trials))
        self._spinner.update(text=self._status_line())
        parts.append(self._status_line() if self._finished else self._spinner)
        return Group(*parts)

    def _print_pending(self) -> None:
        for name, pending in self._pending.items():
            if pending:
                self._print_line(self._trials[name])

    def _status_line(self) -> Text:
        parts = [self._title, self._message]
        trials = list(self._trials.values())
        if len(trials) == 1 and not self._several:
            trial = trials[0]
            parts.append(f"iteration {trial.iteration}")
            parts.append(f"{trial.steps:,} {trial.keys.unit}")
            if trial.steps_per_second is not None:
                parts.append(f"{trial.steps_per_second:,.0f} {trial.keys.unit}/s")
            parts.append(f"trained {duration(trial.seconds)}")
            if not self._finished and (left := trial.seconds_left()) is not None:
                parts.append(f"about {duration(left)} left")
        else:
            parts.append(duration(time.monotonic() - self._started))
        return Text(" · ".join(parts))

    def _print_line(self, trial: TrialStatus) -> None:
        self._pending[trial.name] = False
        left = trial.seconds_left()
        head = [duration(trial.seconds), f"iteration {trial.iteration}", f"{trial.steps:,} {trial.keys.unit}"]
        if self._several:
            head.insert(0, trial.name)
        if trial.steps_per_second is not None:
            head.append(f"{trial.steps_per_second:,.0f} {trial.keys.unit}/s")
        if left is not None:
            head.append(f"{duration(left)} left")
        returns = [f"{env.env_id} {number(env.last)}" for env in trial.envs.values()]
        self.console.print(Text("  ".join(head) + "  |  " + "  ".join(returns)), soft_wrap=True)


def environment_table(trial: TrialStatus, *, wide: bool = True) -> Table:
    """One row per environment of a trial; `wide` adds what an 80-column terminal has no room for."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1))
    table.add_column("environment", no_wrap=True)
    for env in trial.envs.values():
        cells = _cells(env, trial.keys.env_unit, wide)
        if not table.rows:
            for heading in list(cells)[1:]:
                table.add_column(heading, justify="right", no_wrap=True)
        table.add_row(*cells.values())
    return table


def _cells(env: EnvStatus, unit: str, wide: bool) -> dict[str, str]:
    cells = {
        "environment": env.env_id,
        unit: f"{env.steps:,}",
        "return": number(env.last),
        "best": number(env.best),
        "policy loss" if wide else "pi loss": number(env.policy_loss),
        "value loss" if wide else "vf loss": number(env.vf_loss),
        "entropy": number(env.entropy),
        f"{unit}/s": "-" if env.steps_per_second is None else f"{env.steps_per_second:,.0f}",
    }
    if not wide:
        del cells["entropy"]
    return cells


def make_console(stream: TextIO | None = None) -> Console:
    """A console on a stream, wide enough for every table where it is no terminal with a width of its own."""
    console = Console(file=stream)
    return console if console.is_terminal else Console(file=stream, width=max(console.width, 120))


def trial_table(trials: list[TrialStatus]) -> Table:
    """One row per trial, one column per environment."""
    env_ids = list(dict.fromkeys(env_id for trial in trials for env_id in trial.envs))
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("trial", no_wrap=True)
    for heading in ("iteration", "steps", *env_ids):
        table.add_column(heading, justify="right")
    for trial in trials:
        returns = [number(trial.envs[env_id].last) if env_id in trial.envs else "" for env_id in env_ids]
        table.add_row(trial.name, str(trial.iteration), f"{trial.steps:,}", *returns)
    return table


def number(value: float | None) -> str:
    """A number in few characters; a dash where there is none."""
    if value is None:
        return "-"
    if value == 0 or 0.01 <= abs(value) < 100_000:
        return f"{value:.1f}" if abs(value) >= 100 else f"{value:.2f}" if abs(value) >= 1 else f"{value:.3f}"
    return f"{value:.1e}"


def duration(seconds: float) -> str:
    """Hours, minutes and seconds: ``7:05``, ``1:00:09``."""
    hours, rest = divmod(max(0, round(seconds)), 3600)
    minutes, left = divmod(rest, 60)
    return f"{hours}:{minutes:02}:{left:02}" if hours else f"{minutes}:{left:02}"
