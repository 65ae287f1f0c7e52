"""The evaluation of a policy: returns of episodes per environment, and the CSV file of a run."""

from __future__ import annotations

import csv
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class EvaluationRow:
    """The evaluation in one environment.

    Args:
        env_id: The environment.
        returns: The return of every episode (undiscounted sum of raw rewards), at least one.
        lengths: The number of steps of every episode.

    Raises:
        ValueError: There is no episode, or not as many lengths as returns.
    """

    env_id: str
    returns: tuple[float, ...]
    lengths: tuple[int, ...]

    def __post_init__(self) -> None:
        """Checks that there is something to average."""
        if not self.returns or len(self.returns) != len(self.lengths):
            raise ValueError(f"{self.env_id}: {len(self.returns)} returns and {len(self.lengths)} lengths")

    @classmethod
    def of(cls, env_id: str, episodes: Sequence[tuple[float, int]]) -> EvaluationRow:
        """From (return, length) pairs, as `MultiEnvAgent.evaluate` gives them."""
        returns, lengths = [float(total) for total, _ in episodes], [int(length) for _, length in episodes]
        return cls(env_id=env_id, returns=tuple(returns), lengths=tuple(lengths))

    @property
    def mean(self) -> float:
        """Mean return."""
        return statistics.fmean(self.returns)

    @property
    def std(self) -> float:
        """Standard deviation of these episodes' returns (divided by their number, not by one less)."""
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


def write_evaluation(rows: Iterable[EvaluationRow], path: str | Path) -> Path:
    """Writes one line per environment as CSV: id, episodes, mean, std, min, max, mean length."""
    path = Path(path)
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["env_id", "episodes", "mean", "std", "min", "max", "mean_length"])
        for row in rows:
            writer.writerow([row.env_id, len(row.returns), row.mean, row.std, row.min, row.max, row.mean_length])
    return path
