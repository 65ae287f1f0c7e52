"""All runs, with what became of them."""

from __future__ import annotations

from rllib_multienv.evaluation.experiment_scores import ExperimentScores
from rllib_multienv.evaluation.report.tables.table import Column, Table


def run_table(scores: ExperimentScores) -> Table:
    """One row per run, in the order of `runs.csv`."""
    return Table(
        name="runs",
        caption="All runs.",
        columns=(
            Column(key="phase", title="phase"),
            Column(key="variant", title="variant", kind="variant"),
            Column(key="seed", title="seed", kind="count"),
            Column(key="env", title="environment"),
            Column(key="parameters", title="parameters", kind="count"),
            Column(key="env_steps", title="steps", kind="count"),
            Column(key="seconds", title="time", kind="duration"),
            Column(key="steps_per_second", title="steps/s", kind="number"),
            Column(key="status", title="status"),
        ),
        rows=tuple(
            (
                run.phase,
                scores.experiment.variant(run.variant),
                run.seed,
                run.env or "all",
                run.parameters,
                run.env_steps,
                run.seconds,
                run.steps_per_second,
                run.status,
            )
            for run in scores.metrics.runs
        ),
        notes=("Runs that have failed or are unfinished do not count in any score.",),
    )
