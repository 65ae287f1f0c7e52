"""An experiment's raw metrics, looked up by phase, variant and environment."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Mapping

from rllib_multienv.evaluation.curve_bands import Curve
from rllib_multienv.evaluation.raw_metrics import (
    CurvePoint,
    EvaluationPoint,
    PhaseInfo,
    RawMetrics,
    RunRow,
    VariantInfo,
)
from rllib_multienv.evaluation.reference_scores import Reference, best_reference


class ExperimentScores:
    """Returns, normalised scores and learning curves of an experiment, as far as it has run.

    Only runs that are done count: the evaluation of a run that stands in `runs.csv` as failed or unfinished is no
    final one. A run that does not stand there counts as done.

    Args:
        metrics: The raw metrics.
    """

    def __init__(self, metrics: RawMetrics) -> None:
        self.metrics = metrics
        rows: list[RunRow | EvaluationPoint | CurvePoint] = [*metrics.runs, *metrics.evaluations, *metrics.curves]
        self.experiment = metrics.experiment.restricted_to({row.phase for row in rows}, {row.variant for row in rows})
        self._runs = {(run.phase, run.variant, run.seed, run.env): run for run in metrics.runs}
        self._returns: dict[tuple[str, str, str], dict[int, float]] = defaultdict(dict)
        for row in metrics.evaluations:
            if self._status(row.phase, row.variant, row.seed, row.env_id) == "done":
                self._returns[row.phase, row.variant, row.env_id][row.seed] = row.mean
        self._curves: dict[tuple[str, str, str], dict[int, list[tuple[int, float]]]] = defaultdict(dict)
        self._unfinished: dict[tuple[str, str, str], dict[int, list[tuple[int, float]]]] = defaultdict(dict)
        for point in metrics.curves:
            status = self._status(point.phase, point.variant, point.seed, point.env_id)
            if status != "failed":
                curves = self._curves if status == "done" else self._unfinished
                by_seed = curves[point.phase, point.variant, point.env_id]
                by_seed.setdefault(point.seed, []).append((point.steps, point.return_mean))
        self.references = {env_id: self._reference(env_id) for env_id in self._env_ids()}

    def phases(self, *kinds: str) -> list[PhaseInfo]:
        """The phases of these kinds, in the experiment's order."""
        return [phase for phase in self.experiment.phases if phase.kind in kinds]

    def variants(self, phase: PhaseInfo) -> list[VariantInfo]:
        """The variants with a run or an evaluation in a phase, in the experiment's order."""
        there = {
            row.variant
            for rows in (self.metrics.runs, self.metrics.evaluations, self.metrics.curves)
            for row in rows
            if row.phase == phase.name
        }
        return [variant for variant in self.experiment.variants if variant.name in there]

    def runs(self, phase: str, variant: str) -> list[RunRow]:
        """All runs of a variant in a phase, also failed ones."""
        return [run for run in self.metrics.runs if (run.phase, run.variant) == (phase, variant)]

    def returns(self, phase: str, variant: str, env_id: str) -> dict[int, float]:
        """Final mean return by seed."""
        return dict(sorted(self._returns.get((phase, variant, env_id), {}).items()))

    def scores(self, phase: PhaseInfo, variant: str) -> dict[str, dict[int, float]]:
        """Normalised scores by environment and seed; an environment without a reference has none, nor is it there."""
        return self._normalized({env_id: self.returns(phase.name, variant, env_id) for env_id in phase.envs})

    def learning_scores(self, phase: PhaseInfo, variant: str) -> dict[str, dict[int, float]]:
        """The same of the return during training, in the mean over its steps; exploration is included."""
        return self._normalized(
            {
                env_id: {
                    seed: _curve(points).mean
                    for seed, points in sorted(self._curves.get((phase.name, variant, env_id), {}).items())
                }
                for env_id in phase.envs
            }
        )

    def _normalized(self, returns: Mapping[str, Mapping[int, float]]) -> dict[str, dict[int, float]]:
        matrix = {}
        for env_id, values in returns.items():
            reference = self.references[env_id]
            by_seed = {seed: score for seed, value in values.items() if (score := reference.score(value)) is not None}
            if by_seed:
                matrix[env_id] = by_seed
        return matrix

    def has_score(self, env_id: str) -> bool:
        """Whether an environment has a normalised score; otherwise its returns are shown as they are."""
        return not self.references[env_id].problem

    def shown(self, env_id: str, value: float) -> float:
        """A return as a normalised score, or as it is where the environment has none."""
        score = self.references[env_id].score(value)
        return value if score is None else score

    def shown_returns(self, phase: str, variant: str, env_id: str) -> list[float]:
        """Final mean returns, one per seed, as `shown` gives them."""
        return [self.shown(env_id, value) for value in self.returns(phase, variant, env_id).values()]

    def curves(self, phase: str, variant: str, env_id: str) -> list[Curve]:
        """Learning curves of runs that are done, one per seed that has one."""
        return _curves(self._curves.get((phase, variant, env_id), {}))

    def unfinished_curves(self, phase: str, variant: str, env_id: str) -> list[Curve]:
        """Learning curves of runs that are not finished, as far as they have come."""
        return _curves(self._unfinished.get((phase, variant, env_id), {}))

    def curve_at(self, phase: str, variant: str, env_id: str, steps: float) -> float | None:
        """Mean over seeds of the return during training after so many steps; None where no curve reaches there.

        A curve that ends up to 5% before is taken at its end: iterations do not end with the last step planned.
        """
        values = []
        for curve in self.curves(phase, variant, env_id):
            reached = min(steps, curve.steps[-1]) if curve.steps[-1] >= 0.95 * steps else steps
            value = curve.at(reached)
            if value is not None:
                values.append(value)
        return statistics.fmean(values) if values else None

    def missing(self, phase: PhaseInfo, variant: str) -> dict[tuple[int, str], str]:
        """Seeds without a final evaluation, and why: by (seed, environment), the latter empty where it is in all.

        Reasons are ``"failed"``, ``"unfinished"``, ``"not evaluated"`` (the run is done) and ``"not run"``.
        """
        found = {}
        for seed in self.experiment.seeds:
            lacking = [env_id for env_id in phase.envs if seed not in self.returns(phase.name, variant, env_id)]
            whole = len(lacking) == len(phase.envs) and phase.kind != "reference"
            for env_id in [""] if whole else lacking:
                run = self._run(phase.name, variant, seed, env_id)
                reason = "not run" if run is None else "not evaluated" if run.status == "done" else run.status
                found[seed, env_id] = reason
        return found

    def _run(self, phase: str, variant: str, seed: int, env_id: str) -> RunRow | None:
        return self._runs.get((phase, variant, seed, env_id), self._runs.get((phase, variant, seed, "")))

    def _status(self, phase: str, variant: str, seed: int, env_id: str) -> str:
        run = self._run(phase, variant, seed, env_id)
        return "done" if run is None else run.status

    def _env_ids(self) -> list[str]:
        return list(dict.fromkeys(env_id for phase in self.experiment.phases for env_id in phase.envs))

    def _reference(self, env_id: str) -> Reference:
        returns: dict[str, list[float]] = {}
        for phase in self.phases("reference"):
            for variant in self.experiment.variants:
                values = list(self.returns(phase.name, variant.name, env_id).values())
                if values and variant.name not in returns:
                    returns[variant.name] = values
        return best_reference(env_id, self.metrics.random_score(env_id), returns)


def _curves(by_seed: Mapping[int, list[tuple[int, float]]]) -> list[Curve]:
    return [_curve(by_seed[seed]) for seed in sorted(by_seed)]


def _curve(points: list[tuple[int, float]]) -> Curve:
    steps, returns = zip(*sorted(points), strict=True)
    return Curve(steps=steps, returns=returns)
