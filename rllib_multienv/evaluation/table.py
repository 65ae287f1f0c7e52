"""Evaluation in numbers: the episodes of one environment, and a CSV file of several."""

from __future__ import annotations

import csv
import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO


class EvaluationResult(list[tuple[float, int]]):
    """Return (undiscounted sum of raw rewards) and length of each episode in one environment.

    Attributes:
        env_id: The environment.
        agents: The agent of each entry, in a multi-agent environment; else empty.
        successes: Whether the environment reported success in any step of each episode; empty where it never does.
    """

    def __init__(self, env_id: str, episodes: Iterable[tuple[float, int]] = ()) -> None:
        super().__init__(episodes)
        self.env_id = env_id
        self.agents: list[str] = []
        self.successes: list[bool] = []

    @property
    def returns(self) -> list[float]:
        """The return of each episode."""
        return [total for total, _ in self]

    @property
    def lengths(self) -> list[int]:
        """The number of steps of each episode."""
        return [length for _, length in self]

    @property
    def mean(self) -> float:
        """Mean return."""
        return statistics.fmean(self.returns)

    @property
    def std(self) -> float:
        """Standard deviation of the returns (divided by their number, not by one less)."""
        return statistics.pstdev(self.returns)

    @property
    def min(self) -> float:
        """Smallest return."""
        return min(self.returns)

    @property
    def max(self) -> float:
        """Largest return."""
        return max(self.returns)

    @property
    def mean_length(self) -> float:
        """Mean number of steps per episode."""
        return statistics.fmean(self.lengths)

    @property
    def success_rate(self) -> float | None:
        """Share of the episodes with success; None where the environment does not report it."""
        return statistics.fmean(self.successes) if self.successes else None

    def to_dict(self) -> dict[str, Any]:
        """The columns of `write_evaluation`; `success_rate` where the environment reports success."""
        numbers = {name: getattr(self, name) for name in ("mean", "std", "min", "max", "mean_length")}
        if self.successes:
            numbers["success_rate"] = self.success_rate
        return {"env_id": self.env_id, "episodes": len(self), **numbers}

    def __repr__(self) -> str:
        """Mean, standard deviation and number of episodes."""
        if not self:
            return f"EvaluationResult({self.env_id!r}, no episodes)"
        return f"EvaluationResult({self.env_id!r}, mean={self.mean:.4g}, std={self.std:.3g}, episodes={len(self)})"


def write_evaluation(results: Iterable[EvaluationResult], path: str | Path) -> Path:
    """Write one line per environment as CSV: id, episodes, mean, std, min, max, mean length."""
    with open(path, "w", newline="", encoding="utf-8") as file:
        write_csv([result.to_dict() for result in results], file)
    return Path(path)


def write_csv(rows: Sequence[Mapping[str, Any]], file: TextIO) -> None:
    """Write rows as CSV, with the columns of all of them."""
    writer = csv.DictWriter(file, list(dict.fromkeys(key for row in rows for key in row)) or ["env_id"])
    writer.writeheader()
    writer.writerows(rows)
