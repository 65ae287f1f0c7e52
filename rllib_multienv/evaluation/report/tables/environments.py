"""One phase, environment by environment: normalised scores, or returns, of every variant."""

from __future__ import annotations

from rllib_multienv.evaluation.experiment_scores import ExperimentScores
from rllib_multienv.evaluation.intervals import SEEDS_FOR_INTERVAL, mean_interval
from rllib_multienv.evaluation.raw_metrics import PhaseInfo
from rllib_multienv.evaluation.report.tables.table import Cell, Column, Table, variant_column

#: How the bounds of a mean over seeds are to be read.
BOUNDS = (
    f"Brackets: 95% interval of the mean over seeds (Student's t); with fewer than {SEEDS_FOR_INTERVAL} seeds the "
    "smallest and the largest."
)


def score_table(scores: ExperimentScores, phase: PhaseInfo) -> Table:
    """Normalised score of the final evaluation, mean over seeds; a text where the environment has none."""
    variants = scores.variants(phase)
    rows: list[tuple[Cell, ...]] = []
    for env_id in phase.envs:
        problem = scores.references[env_id].problem
        cells: list[Cell] = [env_id]
        for variant in variants:
            values = scores.shown_returns(phase.name, variant.name, env_id)
            cells.append(problem or (mean_interval(values) if values else None))
        rows.append(tuple(cells))
    return Table(
        name=f"scores_{phase.name}",
        caption=f"Normalised score of the final evaluation after the phase {phase.name}.",
        columns=(
            Column(key="env_id", title="environment"),
            *(variant_column(variant, "interval") for variant in variants),
        ),
        rows=tuple(rows),
        notes=(BOUNDS,),
        turns=True,
    )


def return_table(scores: ExperimentScores, phase: PhaseInfo) -> Table:
    """Mean return of the final evaluation, mean over seeds, with random actions and the reference beside it."""
    variants = scores.variants(phase)
    rows: list[tuple[Cell, ...]] = []
    for env_id in phase.envs:
        reference = scores.references[env_id]
        cells: list[Cell] = [env_id, reference.random, reference.best]
        for variant in variants:
            values = list(scores.returns(phase.name, variant.name, env_id).values())
            cells.append(mean_interval(values) if values else None)
        rows.append(tuple(cells))
    return Table(
        name=f"returns_{phase.name}",
        caption=f"Return per episode of the final evaluation after the phase {phase.name}, without exploration.",
        columns=(
            Column(key="env_id", title="environment"),
            Column(key="random", title="random", kind="number"),
            Column(key="reference", title="trained alone", kind="number"),
            *(variant_column(variant, "number_interval") for variant in variants),
        ),
        rows=tuple(rows),
        notes=(BOUNDS,),
        turns=True,
    )
