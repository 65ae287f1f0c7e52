"""The sections of the report: which figures and tables there are, in which order; without data, none."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rllib_multienv.evaluation.experiment_scores import ExperimentScores
from rllib_multienv.evaluation.raw_metrics import PhaseInfo
from rllib_multienv.evaluation.report.ablations import Ablation, ablations, unablated
from rllib_multienv.evaluation.report.figures.bars import score_bars
from rllib_multienv.evaluation.report.figures.cosines import cosine_figure
from rllib_multienv.evaluation.report.figures.curves import CurveSeries, curve_figure
from rllib_multienv.evaluation.report.figures.differences import difference_figure
from rllib_multienv.evaluation.report.figures.figure import ReportFigure
from rllib_multienv.evaluation.report.tables.ablations import ablation_environment_table, ablation_table
from rllib_multienv.evaluation.report.tables.aggregates import aggregate_table
from rllib_multienv.evaluation.report.tables.cosines import cosine_table
from rllib_multienv.evaluation.report.tables.environments import return_table, score_table
from rllib_multienv.evaluation.report.tables.references import reference_table
from rllib_multienv.evaluation.report.tables.runs import run_table
from rllib_multienv.evaluation.report.tables.table import Table
from rllib_multienv.evaluation.report.tables.transfer import compare_transfer, transfer_summary_table, transfer_table
from rllib_multienv.evaluation.report.text import listing
from rllib_multienv.evaluation.report.transfer_pairs import TransferPair, transfer_pairs


@dataclass(frozen=True, kw_only=True)
class Section:
    """A section of the report.

    Args:
        key: Its anchor in the page.
        title: Its heading.
        text: Sentences at its head.
        figures: Its figures.
        tables: Its tables, below the figures.
        folded: Tables that are shown on demand.
    """

    key: str
    title: str
    text: tuple[str, ...] = ()
    figures: tuple[ReportFigure, ...] = ()
    tables: tuple[Table, ...] = ()
    folded: tuple[Table, ...] = ()


def main_phases(scores: ExperimentScores) -> list[PhaseInfo]:
    """The phases of the main tables: pretraining, or, in an experiment without it, whatever comes first."""
    kinds = ("pretrain", "scratch", "other", "transfer")
    found = next((phases for kind in kinds if (phases := scores.phases(kind))), [])
    return [phase for phase in found if scores.variants(phase)]


def report_sections(scores: ExperimentScores, colors: dict[str, str]) -> list[Section]:
    """All sections with data, in order.

    Args:
        scores: The experiment's scores.
        colors: By variant.
    """
    phases = main_phases(scores)
    sections = [
        Section(key="scores", title="Results", tables=tuple(aggregate_table(scores, [phase]) for phase in phases)),
        _curves(scores, phases, colors),
        _environments(scores, phases, colors),
        *_transfers(scores, colors),
        _ablations(scores, phases, colors),
        _other_phases(scores, phases),
        _cosines(scores),
        _references(scores),
        Section(key="runs", title="Runs", folded=(run_table(scores),) if scores.metrics.runs else ()),
    ]
    return [section for section in sections if section.figures or section.tables or section.folded]


def _curves(scores: ExperimentScores, phases: Sequence[PhaseInfo], colors: dict[str, str]) -> Section:
    figures = []
    for phase in phases:
        series = [CurveSeries(phase=phase, variant=variant) for variant in unablated(scores.variants(phase))]
        figures.append(
            curve_figure(
                scores,
                series,
                name=f"curves_{phase.name}",
                caption=(
                    f"Learning curves of the phase {phase.name}: return per episode during training, exploration "
                    "included, against the environment's own steps."
                ),
                env_ids=phase.envs,
                colors=colors,
            )
        )
    return Section(key="curves", title="Learning curves", figures=_there(figures))


def _environments(scores: ExperimentScores, phases: Sequence[PhaseInfo], colors: dict[str, str]) -> Section:
    figures = [score_bars(scores, phase, unablated(scores.variants(phase)), colors) for phase in phases]
    scored = [phase for phase in phases if any(scores.has_score(env_id) for env_id in phase.envs)]
    return Section(
        key="environments",
        title="Environment by environment",
        figures=_there(figures),
        tables=tuple(score_table(scores, phase) for phase in scored),
        folded=tuple(return_table(scores, phase) for phase in phases),
    )


def _transfers(scores: ExperimentScores, colors: dict[str, str]) -> Iterator[Section]:
    """A section for each phase from scratch, with all transfer phases that are compared with it."""
    groups: dict[str, list[TransferPair]] = {}
    for pair in transfer_pairs(scores):
        groups.setdefault(pair.scratch.name, []).append(pair)
    for scratch, pairs in groups.items():
        comparisons = {pair: compare_transfer(scores, pair) for pair in pairs}
        phases = [pairs[0].scratch, *(pair.transfer for pair in pairs)]
        yield Section(
            key=f"transfer-{scratch}",
            title="Transfer" if len(groups) == 1 else f"Transfer ({listing(list(pairs[0].envs))})",
            text=tuple(dict.fromkeys(_beginning(pair) for pair in pairs if pair.transfer.start_from)),
            figures=_there([_transfer_curves(scores, pair, colors) for pair in pairs]),
            tables=(
                transfer_summary_table(comparisons),
                aggregate_table(scores, phases, name=f"aggregate_with_{scratch}"),
            ),
            folded=(
                *(transfer_table(pair, found) for pair, found in comparisons.items()),
                *(return_table(scores, phase) for phase in phases),
            ),
        )


def _beginning(pair: TransferPair) -> str:
    return f"The agents of the phase {pair.transfer.start_from} go on in {listing(list(pair.envs))}."


def _transfer_curves(scores: ExperimentScores, pair: TransferPair, colors: dict[str, str]) -> ReportFigure | None:
    series = []
    for variant in unablated(pair.variants):
        series += [
            CurveSeries(phase=pair.transfer, variant=variant, label=f"{variant.label}, transfer"),
            CurveSeries(phase=pair.scratch, variant=variant, style="dashed", label=f"{variant.label}, scratch"),
        ]
    return curve_figure(
        scores,
        series,
        name=f"curves_{pair.transfer.name}",
        caption=(
            f"Transfer ({pair.transfer.name}, solid) against training from scratch ({pair.scratch.name}, dashed): "
            "return per episode during training, exploration included, against the environment's own steps."
        ),
        env_ids=pair.envs,
        colors=colors,
    )


def _ablations(scores: ExperimentScores, phases: Sequence[PhaseInfo], colors: dict[str, str]) -> Section:
    """All in tables; figures of those in the main phases and of those that begin anew, for each base its own."""
    found = ablations(scores)
    groups: dict[tuple[str, str], list[Ablation]] = {}
    for ablation in found:
        if ablation.phase in phases or ablation.phase.start_from is None:
            groups.setdefault((ablation.phase.name, ablation.base.name), []).append(ablation)
    figures = []
    for (phase, base), group in groups.items():
        figures += [
            difference_figure(group, name=f"differences_{phase}_{base}", colors=colors),
            _ablation_curves(scores, group, f"ablations_{phase}_{base}", colors),
        ]
    return Section(
        key="ablations",
        title="Ablations",
        figures=_there(figures),
        tables=(ablation_table(found),) if found else (),
        folded=(ablation_environment_table(scores, found),) if found else (),
    )


def _ablation_curves(
    scores: ExperimentScores, group: Sequence[Ablation], name: str, colors: dict[str, str]
) -> ReportFigure | None:
    phase, base = group[0].phase, group[0].base
    return curve_figure(
        scores,
        [CurveSeries(phase=phase, variant=variant) for variant in (base, *(one.variant for one in group))],
        name=name,
        caption=f"Learning curves of “{base.label}” and its variants in the phase {phase.name}.",
        env_ids=phase.envs,
        colors=colors,
    )


def _other_phases(scores: ExperimentScores, phases: Sequence[PhaseInfo]) -> Section:
    """What no other section shows: phases that are neither main ones nor part of a comparison with transfer."""
    shown = {phase.name for phase in phases}
    shown |= {phase.name for pair in transfer_pairs(scores) for phase in (pair.transfer, pair.scratch)}
    rest = [
        phase
        for phase in scores.experiment.phases
        if phase.name not in shown and phase.kind != "reference" and scores.variants(phase)
    ]
    return Section(
        key="other",
        title="Other phases",
        tables=tuple(aggregate_table(scores, [phase]) for phase in rest),
        folded=tuple(return_table(scores, phase) for phase in rest),
    )


def _cosines(scores: ExperimentScores) -> Section:
    figure = cosine_figure(scores)
    return Section(
        key="gradients",
        title="Gradients of the environments",
        figures=_there([figure]),
        folded=(cosine_table(scores),) if figure else (),
    )


def _references(scores: ExperimentScores) -> Section:
    problems: dict[str, list[str]] = {}
    for env_id, reference in scores.references.items():
        if reference.problem:
            problems.setdefault(reference.problem, []).append(env_id)
    return Section(
        key="references",
        title="What 0 and 100 are",
        text=tuple(f"No normalised score in {listing(envs)}: {problem}." for problem, envs in problems.items()),
        tables=(reference_table(scores),),
    )


def _there(figures: Sequence[ReportFigure | None]) -> tuple[ReportFigure, ...]:
    return tuple(figure for figure in figures if figure is not None)
