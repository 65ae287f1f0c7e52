"""Gradient cosines, pair by pair."""

from __future__ import annotations

from rllib_multienv.evaluation.experiment_scores import ExperimentScores
from rllib_multienv.evaluation.gradient_cosines import pair_agreements
from rllib_multienv.evaluation.report.tables.table import Cell, Column, Table


def cosine_table(scores: ExperimentScores) -> Table:
    """Mean cosine of every pair of environments and the share of negative ones, by phase and variant."""
    rows: list[tuple[Cell, ...]] = []
    for phase in scores.experiment.phases:
        for variant in scores.experiment.variants:
            for pair in pair_agreements(scores.metrics, phase.name, variant.name):
                rows.append(
                    (phase.name, variant, pair.env_a, pair.env_b, pair.mean, 100 * pair.negative, pair.measurements)
                )
    return Table(
        name="gradient_cosines",
        caption="Cosine between two environments' gradients of the shared parameters: mean over steps and seeds.",
        columns=(
            Column(key="phase", title="phase"),
            Column(key="variant", title="variant", kind="variant"),
            Column(key="env_a", title="environment"),
            Column(key="env_b", title="and"),
            Column(key="cosine", title="mean cosine", kind="number"),
            Column(key="negative_percent", title="negative, %", kind="score"),
            Column(key="measurements", title="measurements", kind="count"),
        ),
        rows=tuple(rows),
    )
