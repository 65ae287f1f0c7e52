"""The display of a training run: a live table on a terminal, a line from time to time elsewhere; no Ray here."""

from __future__ import annotations

import math
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from rllib_multienv.cli.terminal import duration, make_table, number
from rllib_multienv.config_files.stopping import StopCriteria
from rllib_multienv.evaluation.progress import read_progress
from rllib_multienv.metrics import OFFLINE, ONLINE, ResultKeys, keys_of
from rllib_multienv.runs.search import Metric, Ranges, merged, return_ranges


@dataclass
class EnvStatus:
    """The latest numbers of one environment; None where nothing is known yet."""

    env_id: str
    steps: int = 0
    last: float | None = None
    best: float | None = None
    evaluated: float | None = None
    policy_loss: float | None = None
    vf_loss: float | None = None
    entropy: float | None = None
    steps_per_second: float | None = None


@dataclass
class TrialStatus:
    """The latest numbers of one trial.

    Args:
        name: The trial's name.
        stop: Its stop criteria, for the time that is left.
        params: The values that a search has drawn for it, by their place in the file.
        ranges: The lowest and the highest of `returns` so far.
        keys: The keys of its results; `steps` counts `keys.unit`.
    """

    name: str
    stop: StopCriteria
    params: Mapping[str, Any] = field(default_factory=dict)
    ranges: Ranges = field(default_factory=dict)
    iteration: int = 0
    steps: int = 0
    seconds: float = 0.0
    steps_per_second: float | None = None
    keys: ResultKeys = ONLINE
    envs: dict[str, EnvStatus] = field(default_factory=dict)
    latest: Mapping[str, float] = field(default_factory=dict)
    checkpoint: str | None = None
    _recent: deque[Mapping[str, float]] = field(default_factory=lambda: deque(maxlen=10))
    _received: float | None = None

    def update(self, row: Mapping[str, float], *, replayed: bool = False) -> None:
        """Take in one flat result.

        Args:
            row: The result, as `flatten_result` gives it.
            replayed: It is an old one, read from the progress of the run that is resumed.
        """
        # The mean over no episodes is NaN; it counts as missing.
        row = {key: value for key, value in row.items() if math.isfinite(value)}
        self.latest = row
        self.iteration = int(row.get("training_iteration", self.iteration + 1))
        self.seconds = row.get("time_total_s", self.seconds)
        self.keys = keys = keys_of(row)
        self.steps = int(row.get(keys.total, row.get(f"{keys.returns}{keys.total}", self.steps)))
        self._recent.append(row)
        self._received = None if replayed else time.monotonic()
        self.steps_per_second = self._rate(keys.total)
        was_evaluated = self.evaluated
        for env_id in keys.env_ids(row):
            status = self.envs.setdefault(env_id, EnvStatus(env_id))
            status.steps = int(row.get(keys.steps(env_id), status.steps))
            status.last = row.get(keys.episode_return("mean", env_id), status.last)
            if status.last is not None:
                status.best = status.last if status.best is None else max(status.best, status.last)
            status.evaluated = row.get(OFFLINE.episode_return("mean", env_id), status.evaluated)
            status.policy_loss = row.get(f"learners/{env_id}/policy_loss", status.policy_loss)
            status.vf_loss = row.get(f"learners/{env_id}/vf_loss", status.vf_loss)
            status.entropy = row.get(f"learners/{env_id}/entropy", status.entropy)
            status.steps_per_second = self._rate(keys.steps(env_id))
        if self.evaluated and not was_evaluated:
            self.ranges = {}  # returns of training and of evaluation are not compared
        self.ranges = merged([self.ranges, return_ranges([self.returns])])

    def replay(self, progress: Path, before: float = math.inf) -> None:
        """Take in the rows of a `progress.csv` up to, and without, the iteration ``before``."""
        for row in read_progress(progress) if progress.is_file() else []:
            if row.get("training_iteration", 0) >= before:
                break
            self.update(row, replayed=True)

    @property
    def evaluated(self) -> bool:
        """Whether the agent was evaluated during training."""
        return any(env.evaluated is not None for env in self.envs.values())

    @property
    def returns(self) -> dict[str, float]:
        """The return per environment: of the latest evaluation if there was one, else during training."""
        known = {env.env_id: env.evaluated if self.evaluated else env.last for env in self.envs.values()}
        return {env_id: value for env_id, value in known.items() if value is not None}

    def seconds_left(self) -> float | None:
        """About how long the training still takes; None where the stop criteria do not say."""
        if not self.latest:
            return None
        rates = {key: rate for key in self.stop.any_of if (rate := self._rate(key)) is not None}
        left = self.stop.seconds_left(self.latest, rates)
        if left is None or self._received is None:
            return left
        return max(0.0, left - (time.monotonic() - self._received))

    def _rate(self, key: str) -> float | None:
        """Growth of `key` per second of training over the last results."""
        rows = [row for row in self._recent if key in row and "time_total_s" in row]
        if not rows:
            return None
        first, last = rows[0] if len(rows) > 1 else {}, rows[-1]
        seconds = last["time_total_s"] - first.get("time_total_s", 0.0)
        return (last[key] - first.get(key, 0.0)) / seconds if seconds > 0 else None


class Display:
    """Shows the trials of a run while it is in progress; a context manager.

    Args:
        console: Where to show them. On a terminal a table is updated in place; otherwise a line per trial is printed,
            at most every `line_interval` seconds.
        title: Name of the run.
        search: The metric by which several trials are compared; None for a run with one trial.
        line_interval: Seconds between the lines of one trial.
    """

    def __init__(
        self, console: Console, *, title: str, search: Metric | None = None, line_interval: float = 10.0
    ) -> None:
        self.console = console
        self._title, self._search, self._line_interval = title, search, line_interval
        self._message = "starting"
        self._trials: Mapping[str, TrialStatus] = {}
        self._printed: dict[str, float] = {}
        self._pending: set[str] = set()
        self._started = time.monotonic()
        self._spinner = Spinner("dots")
        self._live: Live | None = None
        self._finished = False

    def __enter__(self) -> Display:
        """Start the live table, if there is a terminal."""
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
        """Leave the last state of the table on the screen."""
        self._finished = True
        if self._live is not None:
            self._live.stop()
            self._live = None
        self._print_pending()

    def message(self, text: str, *, lasting: bool = False) -> None:
        """Say what the run is doing; `lasting` lines stay on the screen above the table."""
        self._message = text.split(":")[0]
        self._print_pending()
        if lasting or self._live is None:
            self.console.print(Text(text), soft_wrap=True)

    def update(self, trials: Mapping[str, TrialStatus], changed: str) -> None:
        """Show new numbers of the trial `changed`."""
        self._trials = trials
        self._message = "training"
        if self._live is not None:
            self._live.refresh()
            return
        now = time.monotonic()
        self._pending.add(changed)
        if now - self._printed.get(changed, -math.inf) >= self._line_interval:
            self._print_line(trials[changed])
            self._printed[changed] = now

    def render(self) -> RenderableType:
        """The content of the terminal at this moment."""
        parts: list[RenderableType] = []
        trials = list(self._trials.values())
        if trials and self._search is None:
            parts.append(environment_table(trials[0], wide=self.console.width >= 100))
        elif trials and self._search is not None:
            parts.append(trial_table(trials, self._search))
        self._spinner.update(text=self._status_line())
        parts.append(self._status_line() if self._finished else self._spinner)
        return Group(*parts)

    def _print_pending(self) -> None:
        for name in [name for name in self._trials if name in self._pending]:
            self._print_line(self._trials[name])

    def _status_line(self) -> Text:
        parts = [self._title, self._message]
        trials = list(self._trials.values())
        if trials and self._search is None:
            parts += _counts(trials[0])
            parts.append(f"trained {duration(trials[0].seconds)}")
            if not self._finished and (left := trials[0].seconds_left()) is not None:
                parts.append(f"about {duration(left)} left")
        else:
            parts.append(duration(time.monotonic() - self._started))
        return Text(" · ".join(parts))

    def _print_line(self, trial: TrialStatus) -> None:
        self._pending.discard(trial.name)
        head = [*([trial.name] if self._search else []), duration(trial.seconds), *_counts(trial)]
        if (left := trial.seconds_left()) is not None:
            head.append(f"{duration(left)} left")
        returns = [f"{env.env_id} {number(env.last)}" for env in trial.envs.values()]
        self.console.print(Text("  ".join(head) + "  |  " + "  ".join(returns)), soft_wrap=True)


def _counts(trial: TrialStatus) -> list[str]:
    counts = [f"iteration {trial.iteration}", f"{trial.steps:,} {trial.keys.unit}"]
    if trial.steps_per_second is not None:
        counts.append(f"{trial.steps_per_second:,.0f} {trial.keys.unit}/s")
    return counts


def environment_table(trial: TrialStatus, *, wide: bool = True) -> Table:
    """One row per environment of a trial; `wide` adds columns for which 80 characters are too few."""
    unit = trial.keys.env_unit
    # Offline the return is that of the evaluation.
    evaluated = trial.evaluated and trial.keys is not OFFLINE
    losses = ("policy loss", "value loss", "entropy") if wide else ("pi loss", "vf loss")
    table = make_table(
        "environment", unit, "return", "best", *(["evaluated"] if evaluated else []), *losses, f"{unit}/s"
    )
    for env in trial.envs.values():
        values = [env.last, env.best, *([env.evaluated] if evaluated else [])]
        values += [env.policy_loss, env.vf_loss, env.entropy][: len(losses)]
        speed = "-" if env.steps_per_second is None else f"{env.steps_per_second:,.0f}"
        table.add_row(env.env_id, f"{env.steps:,}", *map(number, values), speed)
    return table


def best_trial(trials: Iterable[TrialStatus], metric: Metric) -> tuple[TrialStatus | None, dict[str, float | None]]:
    """The best trial, or the first one where none has a value yet; and the metric of each trial by name."""
    trials = sorted(trials, key=lambda trial: trial.name)
    ranges = merged(trial.ranges for trial in trials)
    values = {trial.name: metric.value(trial.latest, trial.returns, ranges) for trial in trials}
    best = next(iter(trials), None)
    for trial in trials:
        if (value := values[trial.name]) is not None and best is not None and metric.better(value, values[best.name]):
            best = trial
    return best, values


def trial_table(trials: Iterable[TrialStatus], metric: Metric) -> Table:
    """One row per trial: its drawn values, the metric, and the return of every environment; the best one is marked."""
    trials = sorted(trials, key=lambda trial: trial.name)
    env_ids = list(dict.fromkeys(env_id for trial in trials for env_id in trial.envs))
    places = list(dict.fromkeys(place for trial in trials for place in trial.params))
    best, values = best_trial(trials, metric)
    table = make_table("trial", "iteration", *map(_heading(places), places), metric.name, *env_ids)
    for trial in trials:
        drawn = [_drawn(trial.params[place]) if place in trial.params else "" for place in places]
        returns = [number(trial.returns.get(env_id)) for env_id in env_ids]
        is_best = trial is best and values[trial.name] is not None
        table.add_row(
            f"{trial.name} *" if is_best else trial.name,
            str(trial.iteration),
            *drawn,
            number(values[trial.name]),
            *returns,
            style="bold" if is_best else None,
        )
    table.caption = f"* best by {metric}"
    table.caption_justify = "left"
    return table


def _heading(places: Sequence[str]) -> Callable[[str], str]:
    """The last part of a place such as ``training.actor_lr``, or all of it where two would look the same."""
    short = Counter(place.rpartition(".")[2] for place in places)
    return lambda place: last if short[last := place.rpartition(".")[2]] == 1 else place


def _drawn(value: Any) -> str:
    return number(value) if isinstance(value, float) else str(value)
