"""Timing several pieces of work in turn, so that whatever else the machine does meets all of them alike.

Not to be run itself; the benchmarks beside it import it:

    found = time_in_turn({"ours": ours, "theirs": theirs}, repeats=5, min_seconds=0.2)
    print(found["ours"].median, found["ours"].low, found["ours"].high, found["ours"].cpu)
    print(ratio(found["theirs"], found["ours"]).median)

Every task is first run alone to warm it up and to find how many calls fill ``min_seconds``. Then each repetition makes
that many calls of every task, one task after the other. Wall time is of ``perf_counter``; CPU time is of all threads of
this process, and leaves out what other programs took of the cores.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

__all__ = ["Spread", "Timing", "ratio", "time_in_turn"]

T = TypeVar("T")


@dataclass(frozen=True)
class Spread:
    """Median and range of numbers, one for each repetition."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, numbers: Sequence[float]) -> Spread:
        """Of at least one number."""
        return cls(statistics.median(numbers), min(numbers), max(numbers))

    def text(self, scale: float = 1.0, digits: int = 3) -> str:
        """``median (low to high)``, all times ``scale``, with so many significant digits."""
        median, low, high = (f"{number * scale:.{digits}g}" for number in (self.median, self.low, self.high))
        return f"{median} ({low} to {high})"


@dataclass(frozen=True)
class Timing:
    """How long one call of a task took.

    Attributes:
        seconds: wall time of a call, the mean over the calls of each repetition.
        cpu_seconds: the same of CPU time.
        calls: calls of each repetition.
    """

    seconds: tuple[float, ...]
    cpu_seconds: tuple[float, ...]
    calls: int

    def of(self, *, cpu: bool) -> tuple[float, ...]:
        """The seconds of each repetition, CPU or wall."""
        return self.cpu_seconds if cpu else self.seconds

    @property
    def wall(self) -> Spread:
        """Wall seconds of a call over the repetitions."""
        return Spread.of(self.seconds)

    @property
    def median(self) -> float:
        """Wall seconds of a call, median over the repetitions."""
        return self.wall.median

    @property
    def low(self) -> float:
        """Wall seconds of a call in the fastest repetition."""
        return self.wall.low

    @property
    def high(self) -> float:
        """Wall seconds of a call in the slowest repetition."""
        return self.wall.high

    @property
    def cpu(self) -> float:
        """CPU seconds of a call, median over the repetitions."""
        return statistics.median(self.cpu_seconds)

    def by_repetition(self, recorded: Sequence[T]) -> list[Sequence[T]]:
        """What the task recorded, an item for each of its calls, cut by repetition; the warm-up is left out."""
        timed = recorded[-len(self.seconds) * self.calls :]
        return [timed[start : start + self.calls] for start in range(0, len(timed), self.calls)]


def ratio(above: Timing, below: Timing, *, cpu: bool = False) -> Spread:
    """Wall (or CPU) time of ``above`` over that of ``below``, within each repetition of the same `time_in_turn`."""
    pairs = zip(above.of(cpu=cpu), below.of(cpu=cpu), strict=True)
    return Spread.of([one / other for one, other in pairs])


def time_in_turn(
    tasks: Mapping[str, Callable[[], object]],
    *,
    repeats: int,
    min_seconds: float = 0.1,
    warm_up: int = 2,
    pause: float = 0.0,
) -> dict[str, Timing]:
    """Run all tasks in each of ``repeats`` rounds and say how long a call of each took.

    Args:
        tasks: what to call, by name, in this order within a round.
        repeats: rounds.
        min_seconds: a task is called again within a round until this has about passed; 0 for one call per round.
        warm_up: calls of each task before the first round, at least one.
        pause: seconds of sleep between two tasks.
    """
    calls = {name: _calls_that_fill(min_seconds, task, max(1, warm_up)) for name, task in tasks.items()}
    wall: dict[str, list[float]] = {name: [] for name in tasks}
    cpu: dict[str, list[float]] = {name: [] for name in tasks}
    for _ in range(repeats):
        for name, task in tasks.items():
            cpu_start, start = time.process_time(), time.perf_counter()
            for _ in range(calls[name]):
                task()
            wall[name].append((time.perf_counter() - start) / calls[name])
            cpu[name].append((time.process_time() - cpu_start) / calls[name])
            time.sleep(pause)
    return {name: Timing(tuple(wall[name]), tuple(cpu[name]), calls[name]) for name in tasks}


def _calls_that_fill(min_seconds: float, task: Callable[[], object], warm_up: int) -> int:
    """Warm up; the fastest call counts, as first ones compile and allocate."""
    fastest = math.inf
    for _ in range(warm_up):
        start = time.perf_counter()
        task()
        fastest = min(fastest, time.perf_counter() - start)
    return max(1, math.ceil(min_seconds / max(fastest, 1e-9)))
