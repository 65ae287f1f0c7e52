"""The progress of a run: flat results, `progress.csv` with one row per iteration, and learning curves."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rllib_multienv.metrics import OFFLINE, ONLINE, ResultKeys, keys_of

# The columns that readers look for first.
_FIRST = ("training_iteration", "time_total_s", ONLINE.total, OFFLINE.total)


def flatten_result(result: Mapping[str, Any], prefix: str = "") -> dict[str, float]:
    """The numbers of a nested result, with ``/`` between the keys; without texts, lists and the config."""
    flat: dict[str, float] = {}
    for key, value in result.items():
        if isinstance(value, Mapping):
            flat |= flatten_result(value, f"{prefix}{key}/") if prefix or key != "config" else {}
        elif not isinstance(value, str | bytes | bool) and value is not None:
            try:
                flat[f"{prefix}{key}"] = float(value)
            except (TypeError, ValueError):
                continue
    return flat


def in_order(row: Mapping[str, float], env_ids: Iterable[str]) -> dict[str, float]:
    """The flat result with the columns of its environments in the order of ``env_ids``."""
    keys = keys_of(row)
    first = {keys.steps(env_id): row[keys.steps(env_id)] for env_id in env_ids if keys.steps(env_id) in row}
    return {**first, **row}


def read_progress(path: str | Path) -> list[dict[str, float]]:
    """The rows of a `progress.csv`, without empty cells and cells that are not finite numbers.

    A last row without an end of line was cut off while it was written, and is left out.
    """
    rows = []
    with open(path, newline="", encoding="utf-8") as file:
        for cells in csv.DictReader(line for line in file if line.endswith("\n")):
            row = {}
            for key, text in cells.items():
                try:
                    value = float(text or "nan")
                except (TypeError, ValueError):
                    continue
                if math.isfinite(value):
                    row[key] = value
            rows.append(row)
    return rows


class ProgressWriter:
    """Writes `progress.csv` row by row, with a column for every key that any row has had.

    RLlib reports a return for an environment only once an episode has ended, so columns appear late; the file is then
    rewritten. Iterations that are repeated, because a run is resumed or a trial goes back to a checkpoint (its own or
    another trial's), replace the old rows.

    Args:
        path: The file; its folder must exist.
    """

    def __init__(self, path: str | Path) -> None:
        self._path = Path(path)
        self._columns: list[str] = []
        self._last_iteration: float | None = None

    def write(self, row: Mapping[str, float]) -> None:
        """Adds one row, a flat result as `flatten_result` gives it."""
        new = [key for key in row if key not in self._columns]
        iteration, last = row.get("training_iteration", math.inf), self._last_iteration
        self._last_iteration = iteration
        if last is not None and not new and (iteration > last or math.isinf(iteration)):
            with open(self._path, "a", newline="", encoding="utf-8") as file:
                csv.DictWriter(file, self._columns).writerow(row)
            return
        before = read_progress(self._path) if self._path.exists() else []
        before = [earlier for earlier in before if earlier.get("training_iteration", -math.inf) < iteration]
        keys = dict.fromkeys(key for earlier in [*before, row] for key in earlier)
        self._columns = [*(key for key in _FIRST if key in keys), *(key for key in keys if key not in _FIRST)]
        temporary = self._path.with_suffix(".csv.tmp")
        with open(temporary, "w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, self._columns)
            writer.writeheader()
            writer.writerows([*before, row])
        temporary.replace(self._path)


@dataclass(frozen=True, kw_only=True)
class LearningCurve:
    """The learning curve of one environment.

    Args:
        steps: Its own environment steps (offline: transitions that were trained on), per point; in the unit `unit`.
        mean, low, high: Mean, smallest and largest return of the last episodes, per point; or three times the share
            of them with success.
        evaluated: (steps, mean) of evaluations during training; offline these are the curve itself.
    """

    env_id: str
    unit: str
    steps: list[float]
    mean: list[float]
    low: list[float]
    high: list[float]
    evaluated: list[tuple[float, float]]


def learning_curves(rows: Iterable[Mapping[str, float]], *, success: bool = False) -> list[LearningCurve]:
    """One curve per environment, from the rows in which it has a return, or a success rate with ``success``."""
    rows = list(rows)
    columns = dict.fromkeys(key for row in rows for key in row)
    keys = keys_of(columns)
    curves = []

    def names(keys: ResultKeys, env_id: str) -> list[str]:
        if success:
            return [keys.success_rate(env_id)] * 3
        return [keys.episode_return(which, env_id) for which in ("mean", "min", "max")]

    for env_id in keys.env_ids(columns):
        mean, low, high = names(keys, env_id)
        evaluation = names(OFFLINE, env_id)[0] if keys is ONLINE else ""
        done = [(row.get(keys.steps(env_id), row.get("training_iteration", 0.0)), row) for row in rows]
        points = [row for row in rows if mean in row]
        curves.append(
            LearningCurve(
                env_id=env_id,
                unit=keys.env_unit,
                steps=[steps for steps, row in done if mean in row],
                mean=[row[mean] for row in points],
                low=[row.get(low, row[mean]) for row in points],
                high=[row.get(high, row[mean]) for row in points],
                evaluated=[(steps, row[evaluation]) for steps, row in done if evaluation in row],
            )
        )
    return curves
