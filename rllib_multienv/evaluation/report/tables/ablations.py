"""Ablations: how far a variant differs from what it was made from."""

from __future__ import annotations

import statistics
from collections.abc import Iterator

from rllib_multienv.evaluation.aggregate import environment_means, iqm_difference
from rllib_multienv.evaluation.experiment_scores import ExperimentScores
from rllib_multienv.evaluation.intervals import difference_interval, mean_interval
from rllib_multienv.evaluation.raw_metrics import PhaseInfo, VariantInfo
from rllib_multienv.evaluation.report.tables.table import Cell, Column, Table


def ablations(scores: ExperimentScores) -> Iterator[tuple[PhaseInfo, VariantInfo, VariantInfo]]:
    """Every (phase, ablated variant, base) that both were trained in; not the references' phases."""
    for phase in scores.experiment.phases:
        there = scores.variants(phase)
        for variant in there:
            if phase.kind != "reference" and variant.ablation_of is not None:
                base = scores.experiment.variant(variant.ablation_of)
                if base in there:
                    yield phase, variant, base


def ablation_table(scores: ExperimentScores) -> Table:
    """Differences of the normalised scores over all environments, by phase and variant."""
    rows: list[tuple[Cell, ...]] = []
    for phase, variant, base in ablations(scores):
        mine, theirs = scores.scores(phase, variant.name), scores.scores(phase, base.name)
        means, base_means = environment_means(mine), environment_means(theirs)
        differences = [mean - base_means[env_id] for env_id, mean in means.items() if env_id in base_means]
        rows.append(
            (
                variant,
                base.label,
                phase.name,
                len(differences),
                statistics.fmean(differences) if differences else None,
                iqm_difference(mine, theirs),
                iqm_difference(scores.learning_scores(phase, variant.name), scores.learning_scores(phase, base.name)),
            )
        )
    return Table(
        name="ablations",
        caption="Ablations: normalised score of the variant minus that of its base.",
        columns=(
            Column(key="variant", title="variant", kind="variant"),
            Column(key="base", title="base"),
            Column(key="phase", title="phase"),
            Column(key="environments", title="environments", kind="count"),
            Column(key="average_difference", title="average", kind="score"),
            Column(key="iqm_difference", title="IQM [95% interval]", kind="interval"),
            Column(key="learning_difference", title="while learning, IQM [95% interval]", kind="interval"),
        ),
        rows=tuple(rows),
        notes=(
            "Over the environments in which both have a score. The interval is by stratified bootstrap of both sides; "
            "where it holds 0, these seeds do not tell the two apart. While learning: of the returns during training, "
            "exploration included, in the mean over all its steps.",
        ),
    )


def ablation_environment_table(scores: ExperimentScores) -> Table:
    """The same, environment by environment."""
    rows: list[tuple[Cell, ...]] = []
    for phase, variant, base in ablations(scores):
        for env_id in phase.envs:
            mine = scores.shown_returns(phase.name, variant.name, env_id)
            theirs = scores.shown_returns(phase.name, base.name, env_id)
            if mine and theirs:
                rows.append(
                    (
                        variant,
                        phase.name,
                        env_id,
                        mean_interval(theirs).value,
                        mean_interval(mine).value,
                        difference_interval(mine, theirs),
                        "score" if scores.has_score(env_id) else "return",
                    )
                )
    return Table(
        name="ablations_environments",
        caption="Ablations, environment by environment.",
        columns=(
            Column(key="variant", title="variant", kind="variant"),
            Column(key="phase", title="phase"),
            Column(key="env_id", title="environment"),
            Column(key="base_score", title="base", kind="score"),
            Column(key="score", title="variant's", kind="score"),
            Column(key="difference", title="difference [95% interval]", kind="interval"),
            Column(key="unit", title="unit"),
        ),
        rows=tuple(rows),
        notes=(
            "Means over seeds; the difference with Welch's interval, which needs 3 seeds on both sides. Where the "
            "unit is the return, the environment has no normalised score.",
        ),
    )
