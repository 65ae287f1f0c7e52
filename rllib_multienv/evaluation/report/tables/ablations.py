"""Ablations as tables: over all environments, and environment by environment."""

from __future__ import annotations

from collections.abc import Sequence

from rllib_multienv.evaluation.experiment_scores import ExperimentScores
from rllib_multienv.evaluation.intervals import difference_interval, mean_interval
from rllib_multienv.evaluation.report.ablations import Ablation
from rllib_multienv.evaluation.report.tables.table import Cell, Column, Table


def ablation_table(found: Sequence[Ablation]) -> Table:
    """Differences of the normalised scores over all environments, by phase and variant."""
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
        rows=tuple(
            (
                ablation.variant,
                ablation.base.label,
                ablation.phase.name,
                ablation.environments,
                ablation.average,
                ablation.final,
                ablation.learning,
            )
            for ablation in found
        ),
        notes=(
            "Over the environments in which both have a score. The interval is by stratified bootstrap of both sides; "
            "where it holds 0, these seeds do not tell the two apart. While learning: of the returns during training, "
            "exploration included, in the mean over all its steps.",
        ),
    )


def ablation_environment_table(scores: ExperimentScores, found: Sequence[Ablation]) -> Table:
    """The same, environment by environment."""
    rows: list[tuple[Cell, ...]] = []
    for ablation in found:
        phase, variant, base = ablation.phase, ablation.variant, ablation.base
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
