"""Ablations: how far a variant differs from what it was made from."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from rllib_multienv.evaluation.aggregate import environment_means, iqm_difference
from rllib_multienv.evaluation.experiment_scores import ExperimentScores
from rllib_multienv.evaluation.intervals import Interval
from rllib_multienv.evaluation.raw_metrics import PhaseInfo, VariantInfo


@dataclass(frozen=True, kw_only=True)
class Ablation:
    """A variant minus its base in one phase, over the environments in which both have a normalised score.

    Args:
        phase: The phase.
        variant, base: The variants.
        environments: Number of environments with a score of both.
        average: Of the final means over seeds, over environments; None without an environment.
        final: Difference of the interquartile means of the final scores, with a 95% interval.
        learning: The same of the scores while learning.
    """

    phase: PhaseInfo
    variant: VariantInfo
    base: VariantInfo
    environments: int
    average: float | None
    final: Interval | None
    learning: Interval | None


def unablated(variants: Sequence[VariantInfo]) -> list[VariantInfo]:
    """The variants that are no ablations, or all where there are no others: what the first look is to show."""
    return [variant for variant in variants if variant.ablation_of is None] or list(variants)


def ablations(scores: ExperimentScores) -> list[Ablation]:
    """Every ablated variant in every phase that its base was trained in, too; not in the references' phases."""
    found = []
    for phase in scores.experiment.phases:
        there = scores.variants(phase)
        for variant in there:
            if phase.kind != "reference" and variant.ablation_of is not None:
                base = scores.experiment.variant(variant.ablation_of)
                if base in there:
                    found.append(_ablation(scores, phase, variant, base))
    return found


def _ablation(scores: ExperimentScores, phase: PhaseInfo, variant: VariantInfo, base: VariantInfo) -> Ablation:
    mine, theirs = scores.scores(phase, variant.name), scores.scores(phase, base.name)
    means, base_means = environment_means(mine), environment_means(theirs)
    differences = [mean - base_means[env_id] for env_id, mean in means.items() if env_id in base_means]
    return Ablation(
        phase=phase,
        variant=variant,
        base=base,
        environments=len(differences),
        average=statistics.fmean(differences) if differences else None,
        final=iqm_difference(mine, theirs),
        learning=iqm_difference(scores.learning_scores(phase, variant.name), scores.learning_scores(phase, base.name)),
    )
