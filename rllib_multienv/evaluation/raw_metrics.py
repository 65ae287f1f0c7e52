"""The raw metrics of an experiment: a folder of small files that every table and figure is made from.

`experiment.json`, `runs.csv`, `evaluations.csv`, `curves.csv`, `random_scores.csv` and, where gradients were
recorded, `gradient_cosines.csv`; a CSV file's columns are the fields of its rows' class.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from rllib_multienv.evaluation.csv_rows import read_rows, write_rows
from rllib_multienv.evaluation.experiment_info import (
    ExperimentInfo,
    PhaseInfo,
    VariantInfo,
    read_experiment_info,
    write_experiment_info,
)

__all__ = [
    "RUN_STATUSES",
    "CurvePoint",
    "EvaluationPoint",
    "ExperimentInfo",
    "GradientCosine",
    "PhaseInfo",
    "RandomScore",
    "RawMetrics",
    "RunRow",
    "VariantInfo",
    "read_raw_metrics",
    "write_raw_metrics",
]

RUN_STATUSES = ("done", "failed", "unfinished")

_Row = TypeVar("_Row")


@dataclass(frozen=True, kw_only=True)
class RunRow:
    """One run (`runs.csv`).

    Args:
        phase, variant, seed: Which.
        env: The environment of a run of a "reference" phase; otherwise empty.
        parameters: Trained parameters of the network; None where not known.
        env_steps: Environment steps of all its environments together.
        seconds: Time of training.
        steps_per_second: Environment steps of all environments together per second of training.
        status: ``"done"``, ``"failed"`` or ``"unfinished"``.

    Raises:
        ValueError: If the status is none of these.
    """

    phase: str
    variant: str
    seed: int
    env: str = ""
    parameters: int | None = None
    env_steps: int | None = None
    seconds: float | None = None
    steps_per_second: float | None = None
    status: str = "done"

    def __post_init__(self) -> None:
        """Checks the status."""
        if self.status not in RUN_STATUSES:
            raise ValueError(f"status {self.status!r} is none of {', '.join(RUN_STATUSES)}")


@dataclass(frozen=True, kw_only=True)
class EvaluationPoint:
    """The final evaluation of one run in one environment, without exploration (`evaluations.csv`).

    Args:
        phase, variant, seed: The run.
        env_id: The environment.
        episodes: Number of episodes.
        mean, std, min, max: Of their returns (undiscounted, the environment's own rewards).
    """

    phase: str
    variant: str
    seed: int
    env_id: str
    episodes: int
    mean: float
    std: float
    min: float
    max: float


@dataclass(frozen=True, kw_only=True)
class CurvePoint:
    """One point of a learning curve (`curves.csv`).

    Args:
        phase, variant, seed: The run.
        env_id: The environment.
        steps: Environment steps so far in this environment.
        return_mean: Mean return of the last episodes of the training, exploration included.
    """

    phase: str
    variant: str
    seed: int
    env_id: str
    steps: int
    return_mean: float


@dataclass(frozen=True, kw_only=True)
class RandomScore:
    """What uniformly random actions get (`random_scores.csv`).

    Args:
        env_id: The environment's id in the experiment.
        env_name: What it is made from, as in ``"CartPole-v1"``.
        episodes: Number of episodes.
        mean, std: Of their returns.
        versions: What it was measured with, as in ``"gymnasium 1.2.2, mujoco 3.3.0"``.
    """

    env_id: str
    env_name: str
    episodes: int
    mean: float
    std: float
    versions: str


@dataclass(frozen=True, kw_only=True)
class GradientCosine:
    """Cosine between two environments' gradients of the shared parameters (`gradient_cosines.csv`).

    Args:
        phase, variant, seed: The run.
        steps: Environment steps so far, of all environments together.
        env_a, env_b: The two, each pair once.
        cosine: -1 to 1.
    """

    phase: str
    variant: str
    seed: int
    steps: int
    env_a: str
    env_b: str
    cosine: float


@dataclass(frozen=True, kw_only=True)
class RawMetrics:
    """Everything that was measured in one experiment.

    Args:
        experiment: What it consists of.
        runs, evaluations, curves, random_scores, gradient_cosines: The rows of each table, in any order.

    Raises:
        ValueError: If a row's phase or variant is not one of the experiment's, or two rows are about the same.
    """

    experiment: ExperimentInfo
    runs: tuple[RunRow, ...] = ()
    evaluations: tuple[EvaluationPoint, ...] = ()
    curves: tuple[CurvePoint, ...] = ()
    random_scores: tuple[RandomScore, ...] = ()
    gradient_cosines: tuple[GradientCosine, ...] = ()

    def __post_init__(self) -> None:
        """Checks the rows against the experiment and against each other."""
        check: dict[str, tuple[Iterable[Any], tuple[str, ...]]] = {
            "runs.csv": (self.runs, ("phase", "variant", "seed", "env")),
            "evaluations.csv": (self.evaluations, ("phase", "variant", "seed", "env_id")),
            "curves.csv": (self.curves, ("phase", "variant", "seed", "env_id", "steps")),
            "random_scores.csv": (self.random_scores, ("env_id",)),
            "gradient_cosines.csv": (self.gradient_cosines, ("phase", "variant", "seed", "steps", "env_a", "env_b")),
        }
        for name, (rows, key) in check.items():
            seen = set()
            for row in rows:
                if "phase" in key:
                    try:
                        self.experiment.phase(row.phase)
                        self.experiment.variant(row.variant)
                    except ValueError as error:
                        raise ValueError(f"{name}: {error}") from error
                values = tuple(getattr(row, column) for column in key)
                if values in seen:
                    raise ValueError(f"{name}: two rows for {', '.join(map(str, values))}")
                seen.add(values)

    def random_score(self, env_id: str) -> float | None:
        """Mean return of random actions in an environment, None where it was not measured."""
        return next((score.mean for score in self.random_scores if score.env_id == env_id), None)


def read_raw_metrics(folder: str | Path) -> RawMetrics:
    """Reads the raw metrics of an experiment.

    Args:
        folder: The folder with `experiment.json` and the tables; `gradient_cosines.csv` may be missing.

    Raises:
        FileNotFoundError: If the folder or one of its files is missing.
        ValueError: If a file is damaged; the message names the file and, in a table, row and column.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"there is no folder {folder}")
    missing = [name for name in ("experiment.json", *_REQUIRED) if not (folder / name).is_file()]
    if missing:
        raise FileNotFoundError(f"{folder} lacks {', '.join(missing)}")
    experiment = read_experiment_info(folder / "experiment.json")
    try:
        return RawMetrics(
            experiment=experiment,
            runs=read_rows(folder / "runs.csv", RunRow),
            evaluations=read_rows(folder / "evaluations.csv", EvaluationPoint),
            curves=read_rows(folder / "curves.csv", CurvePoint),
            random_scores=read_rows(folder / "random_scores.csv", RandomScore),
            gradient_cosines=read_rows(folder / _COSINES, GradientCosine) if (folder / _COSINES).is_file() else (),
        )
    except ValueError as error:
        message = str(error)
        raise ValueError(message if message.startswith(str(folder)) else f"{folder}/{message}") from error


def write_raw_metrics(metrics: RawMetrics, folder: str | Path) -> Path:
    """Writes the raw metrics of an experiment.

    The same metrics give the same bytes: rows are in the order of the experiment's phases, variants and
    environments, then by seed and steps. Without gradient cosines there is no file of theirs.

    Args:
        metrics: What was measured.
        folder: Where to; made if it is missing.

    Returns:
        The folder.

    Raises:
        ValueError: If a number is not finite; the message says which.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    order = _Order(metrics.experiment)
    write_experiment_info(metrics.experiment, folder / "experiment.json")
    _write(folder / "runs.csv", RunRow, metrics.runs, lambda r: (*order.run(r), order.env(r.env)))
    _write(
        folder / "evaluations.csv",
        EvaluationPoint,
        metrics.evaluations,
        lambda r: (*order.run(r), order.env(r.env_id)),
    )
    _write(folder / "curves.csv", CurvePoint, metrics.curves, lambda r: (*order.run(r), order.env(r.env_id), r.steps))
    _write(folder / "random_scores.csv", RandomScore, metrics.random_scores, lambda r: order.env(r.env_id))
    if metrics.gradient_cosines:
        _write(
            folder / _COSINES,
            GradientCosine,
            metrics.gradient_cosines,
            lambda r: (*order.run(r), r.steps, order.env(r.env_a), order.env(r.env_b)),
        )
    else:
        (folder / _COSINES).unlink(missing_ok=True)
    return folder


_REQUIRED = ("runs.csv", "evaluations.csv", "curves.csv", "random_scores.csv")
_COSINES = "gradient_cosines.csv"


class _Order:
    """Sort keys: places in the experiment, not letters."""

    def __init__(self, experiment: ExperimentInfo) -> None:
        self._phases = {phase.name: index for index, phase in enumerate(experiment.phases)}
        self._variants = {variant.name: index for index, variant in enumerate(experiment.variants)}
        envs = dict.fromkeys(env_id for phase in experiment.phases for env_id in phase.envs)
        self._envs = {env_id: index for index, env_id in enumerate(envs)}

    def run(self, row: Any) -> tuple[int, int, int]:
        return self._phases[row.phase], self._variants[row.variant], row.seed

    def env(self, env_id: str) -> tuple[int, str]:
        return self._envs.get(env_id, len(self._envs)), env_id


def _write(path: Path, kind: type[_Row], rows: Iterable[_Row], key: Callable[[Any], Any]) -> None:
    write_rows(path, kind, sorted(rows, key=key))
