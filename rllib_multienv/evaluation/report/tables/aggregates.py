"""The main table: every variant's normalised scores in a phase, in a few numbers."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence

from rllib_multienv.evaluation.aggregate import aggregate, environment_means
from rllib_multienv.evaluation.experiment_scores import ExperimentScores
from rllib_multienv.evaluation.raw_metrics import PhaseInfo, RunRow, VariantInfo
from rllib_multienv.evaluation.report.tables.table import Cell, Column, Table
from rllib_multienv.evaluation.report.text import listing


def aggregate_table(scores: ExperimentScores, phases: Sequence[PhaseInfo], *, name: str | None = None) -> Table:
    """Average, median, worst and interquartile mean of the normalised score, size and speed, by variant.

    Args:
        scores: The experiment's scores.
        phases: The phases; of several, a column says which one a row is of, and the rows of a variant stand together.
        name: The table's; default: that of the phase.
    """
    several = len(phases) > 1
    there = [(phase, scores.variants(phase)) for phase in phases]
    rows: list[tuple[Cell, ...]] = [
        (variant, *((phase.name,) if several else ()), *_cells(scores, phase, variant))
        for variant in scores.experiment.variants
        for phase, variants in there
        if variant in variants
    ]
    after = "phases " if several else "phase "
    return Table(
        name=name or f"aggregate_{phases[0].name}",
        caption=(
            f"Normalised scores after the {after}{listing([phase.name for phase in phases])}, over environments and "
            "seeds."
        ),
        columns=(
            Column(key="variant", title="variant", kind="variant"),
            *((Column(key="phase", title="phase"),) if several else ()),
            Column(key="average", title="average", kind="score", best=True),
            Column(key="median", title="median", kind="score", best=True),
            Column(key="worst", title="worst", kind="score", best=True),
            Column(key="iqm", title="IQM [95% interval]", kind="interval", best=True),
            Column(key="learning", title="while learning", kind="score", best=True),
            Column(key="environments", title="envs", kind="count"),
            Column(key="complete_seeds", title="complete seeds"),
            Column(key="parameters", title="parameters", kind="count"),
            Column(key="steps_per_second", title="steps/s", kind="number"),
        ),
        rows=tuple(rows),
        notes=tuple(_notes(scores, phases)),
    )


def _cells(scores: ExperimentScores, phase: PhaseInfo, variant: VariantInfo) -> tuple[Cell, ...]:
    """What a variant has reached in a phase."""
    total = aggregate(scores.scores(phase, variant.name))
    learning = environment_means(scores.learning_scores(phase, variant.name))
    runs = [run for run in scores.runs(phase.name, variant.name) if run.status == "done"]
    missing = {seed for seed, _ in scores.missing(phase, variant.name)}
    seeds = len(scores.experiment.seeds)
    return (
        total.average if total else None,
        total.median if total else None,
        total.worst if total else None,
        total.iqm if total else None,
        statistics.fmean(learning.values()) if learning else None,
        total.environments if total else 0,
        f"{seeds - len(missing)} of {seeds}",
        _parameters(runs),
        _speed(runs),
    )


def _notes(scores: ExperimentScores, phases: Sequence[PhaseInfo]) -> Iterator[str]:
    yield (
        "Normalised score: 0 is what random actions get, 100 what the best agent gets that was trained in the "
        "environment alone. Average, median and worst: over environments, of the means over seeds. IQM: interquartile "
        "mean over environments and seeds, with a 95% interval by stratified bootstrap (seeds are drawn within each "
        "environment). While learning: the average for the returns during training, exploration included, in the mean "
        "over all its steps; of two variants that end alike, the one that got there sooner has more. Steps/s: "
        "environment steps per second of training, mean over runs."
    )
    envs = dict.fromkeys(env_id for phase in phases for env_id in phase.envs)
    if without := [env_id for env_id in envs if not scores.has_score(env_id)]:
        reasons = "; ".join(f"{env_id} ({scores.references[env_id].problem})" for env_id in without)
        yield f"Without a normalised score and left out: {reasons}."


def _parameters(runs: list[RunRow]) -> int | str | None:
    sizes = sorted({run.parameters for run in runs if run.parameters is not None})
    return f"{sizes[0]:,} to {sizes[-1]:,}" if len(sizes) > 1 else sizes[0] if sizes else None


def _speed(runs: list[RunRow]) -> float | None:
    speeds = [run.steps_per_second for run in runs if run.steps_per_second is not None]
    return sum(speeds) / len(speeds) if speeds else None
