"""Figures of a report: one function per figure, drawn by Matplotlib."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from textwrap import fill
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from rllib_multienv.evaluation.experiment_scores import ExperimentScores, curve_band
from rllib_multienv.evaluation.learning_curves import label_curves, panels
from rllib_multienv.evaluation.raw_metrics import PhaseInfo, VariantInfo
from rllib_multienv.evaluation.report.tables import BOUNDS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's palette for colour-blind readers, without black and yellow; then four more colours.
_COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#AA4466", "#999933", "#8C564B", "#7F7F7F")
# More bands than this would hide the lines.
_MOST_BANDS = 6
# Scores beyond are cut off: one that is far off would press all others together.
_LOWEST, _HIGHEST = -60, 220


@dataclass(frozen=True, kw_only=True)
class ReportFigure:
    """A figure of the report: its file name without ending, what it shows, and the drawing."""

    name: str
    caption: str
    figure: Figure


def main_variants(variants: Sequence[VariantInfo]) -> list[VariantInfo]:
    """The variants that are no ablations, or all where there are no others."""
    return [variant for variant in variants if variant.ablation_of is None] or list(variants)


def variant_styles(scores: ExperimentScores) -> dict[str, dict[str, str]]:
    """Colour and line style of each variant, the same in all figures; ablations come late, references last."""
    shown = {variant.name for phase in scores.phases() for variant in scores.variants(phase)}
    ordered = sorted(scores.experiment.variants, key=lambda v: (v.name not in shown, v.ablation_of is not None))
    return {
        variant.name: {"color": _COLORS[index % len(_COLORS)], "linestyle": ("-", "-.")[index // len(_COLORS) % 2]}
        for index, variant in enumerate(ordered)
    }


def _rows(ax: Axes, labels: Sequence[str]) -> None:
    """One row of points for each label, the first on top."""
    ax.set_yticks(range(len(labels)), [fill(label, 60) for label in labels], parse_math=False)
    ax.set_ylim(len(labels) - 0.5, -0.5)


def _point(ax: Axes, row: pd.Series, column: str, y: float, color: str, face: str = "") -> None:
    """A point with a horizontal interval."""
    ax.plot([row[f"{column}_low"], row[f"{column}_high"]], [y, y], color=color, linewidth=1.4)
    ax.plot([row[column]], [y], "o", color=color, markersize=5, markerfacecolor=face or color)


def score_figure(scores: ExperimentScores, table: pd.DataFrame, environments: pd.DataFrame) -> ReportFigure | None:
    """The headline: scores of the main variants in every phase, as a whole and by environment; None without scores."""
    names = [variant.name for variant in main_variants(scores.experiment.variants)]
    shown = table[table["variant"].isin(names)].dropna(subset="iqm") if len(table) else table
    if shown.empty:
        return None
    phases, variants = list(shown["phase"].unique()), list(shown["variant"].unique())
    styles = variant_styles(scores)
    size = (max(3.0, 10.0 / len(phases)), 0.9 + 0.3 * len(variants))
    figure, axes = panels(len(phases), size, columns=3, sharey=True, sharex=True)
    for phase, ax in zip(phases, axes, strict=True):
        for _, row in shown[shown["phase"] == phase].iterrows():
            color, y = styles[row["variant"]]["color"], variants.index(row["variant"])
            points = environments[(environments["phase"] == phase) & (environments["variant"] == row["variant"])]
            ax.plot(
                points["score"].clip(_LOWEST, _HIGHEST), [y] * len(points), "|", color=color, markersize=9, alpha=0.6
            )
            _point(ax, row, "iqm", y, color)
        ax.axvline(100, color="black", linestyle="--", linewidth=0.8)
        ax.set_xlabel("normalised score", fontsize=8)
        ax.set_title(phase, fontsize=9.5)
        _rows(ax, [scores.labels[variant] for variant in variants])
    return ReportFigure(
        name="scores",
        caption=(
            "Normalised score of the final evaluation: 100 (dashed) is the best agent trained in each environment "
            "alone, 0 a random policy. Points: interquartile mean over environments and seeds with 95% interval; "
            f"strokes: single environments, cut off at {_LOWEST} and {_HIGHEST}."
        ),
        figure=figure,
    )


def curve_figures(scores: ExperimentScores) -> Iterator[ReportFigure]:
    """Learning curves of each phase: of its main variants, and of each base with its ablations.

    Transfer phases have their training from scratch beside them, dashed.
    """
    scratches = {transfer.name: scratch for transfer, scratch in scores.pairs()}
    for phase in scores.phases():
        variants, scratch = scores.variants(phase), scratches.get(phase.name)
        if phase not in scratches.values():
            yield from _curve_figure(scores, f"curves_{phase.name}", main_variants(variants), phase, scratch)
        for base in variants if phase.start_from is None else ():
            group = [base, *(variant for variant in variants if variant.ablation_of == base.name)]
            if len(group) > 1:
                yield from _curve_figure(scores, f"curves_{phase.name}_{base.name}", group, phase, None)


def _curve_figure(
    scores: ExperimentScores, name: str, variants: Sequence[VariantInfo], phase: PhaseInfo, scratch: PhaseInfo | None
) -> Iterator[ReportFigure]:
    """One figure with a panel per environment, or none where there is no curve."""
    series = [(where, variant) for where in (phase, scratch) if where is not None for variant in variants]
    styles, seeds, unfinished = variant_styles(scores), set(), False
    drawn: dict[str, list[tuple[pd.DataFrame, dict[str, Any]]]] = {}
    for env_id in phase.envs:
        for where, variant in series:
            curves = scores.curve(where.name, variant.name, env_id)
            band = curve_band(curves)
            if len(band):
                label = scores.labels[variant.name] + ("" if scratch is None else f", {where.name}")
                style: dict[str, Any] = {**styles[variant.name], "label": label, "linewidth": 1.4}
                style |= {"linestyle": "--"} if where == scratch else {}
                style["marker"] = "o" if len(band) == 1 else ""  # one point alone has no line
                drawn.setdefault(env_id, []).append((band, style))
                seeds.add(curves["seed"].nunique())
                unfinished = unfinished or not curves["done"].all()
    if not drawn:
        return
    figure, axes = panels(len(drawn), (2.7, 2.1))
    for (env_id, lines), ax in zip(drawn.items(), axes, strict=True):
        for band, style in lines:
            ax.plot(band.index, band["mean"], **style)
            if len(series) <= _MOST_BANDS:
                ax.fill_between(band.index, band["low"], band["high"], color=style["color"], alpha=0.14, linewidth=0)
        levels = scores.references.loc[env_id, ["random", "best"]].dropna()
        for name_, level in levels.items():
            label, dots = {"random": ("random actions", ":"), "best": ("best trained alone", "-.")}[str(name_)]
            ax.axhline(level, color="black", linestyle=dots, linewidth=0.8, label=label)
        # Intervals of few seeds can be far wider than the range of the seeds: they do not set the limits.
        values = [*levels, *(value for band, _ in lines for value in (band["min"].min(), band["max"].max()))]
        margin = 0.05 * (max(values) - min(values)) or 1.0
        ax.set_ylim(min(values) - margin, max(values) + margin)
        label_curves(ax, env_id, "steps in this environment")
    handles = {handle.get_label(): handle for ax in axes for handle in ax.get_legend_handles_labels()[0]}
    columns = max(1, int(figure.get_size_inches()[0] / 2.4))
    figure.legend(handles=list(handles.values()), loc="outside lower center", ncols=columns, fontsize=8, frameon=False)
    texts = [f"Learning curves of the phase {phase.name}: return per episode in training, with exploration."]
    if scratch is not None:
        texts.append(f"Dashed: training from scratch ({scratch.name}).")
    texts.append(f"Lines: mean over {' to '.join(map(str, sorted(seeds)))} seeds.")
    if len(series) <= _MOST_BANDS and max(seeds) > 1:
        texts.append(f"Bands: {BOUNDS}")
    if unfinished:
        texts.append("Unfinished runs are shown where none is done.")
    yield ReportFigure(name=name, caption=" ".join(texts), figure=figure)


def ablation_figure(scores: ExperimentScores, table: pd.DataFrame) -> ReportFigure | None:
    """What each ablation changes, one per row; None without ablations that have scores."""
    shown = table.dropna(subset=["final", "while_learning"], how="all") if len(table) else table
    if shown.empty:
        return None
    figure, (ax,) = panels(1, (9.0, 0.6 + 0.3 * len(shown)))
    labels = []
    for y, (_, row) in enumerate(shown.iterrows()):
        color = variant_styles(scores)[row["variant"]]["color"]
        _point(ax, row, "final", y - 0.14, color)
        _point(ax, row, "while_learning", y + 0.14, color, face="white")
        labels.append(f"{row['phase']}: {scores.labels[row['variant']]} (base: {scores.labels[row['base']]})")
    ax.axvline(0, color="black", linewidth=0.8)
    _rows(ax, labels)
    return ReportFigure(
        name="ablations",
        caption=(
            "Ablations minus their base: difference of the interquartile means of the normalised score, with 95% "
            "intervals; filled: final evaluation, open: while learning. Where an interval contains 0, these seeds do "
            "not tell the two apart."
        ),
        figure=figure,
    )


def cosine_figure(scores: ExperimentScores, table: pd.DataFrame) -> ReportFigure | None:
    """Mean gradient cosine of every pair of environments, as heat maps of the main variants; None without any."""
    measured = [variant for variant in scores.experiment.variants if variant.name in set(table["variant"])]
    if not measured:
        return None
    main = table[table["variant"].isin([variant.name for variant in main_variants(measured)])]
    groups = list(main.groupby(["phase", "variant"], sort=False))
    limit = max(0.05, main["cosine"].abs().max())
    largest = max(len({*group["env_a"], *group["env_b"]}) for _, group in groups)
    figure, axes = panels(len(groups), (2.0 + 0.3 * largest,) * 2, columns=2 if largest > 8 else 3)
    for ((phase, variant), group), ax in zip(groups, axes, strict=True):
        envs = [env_id for env_id in scores.references.index if env_id in {*group["env_a"], *group["env_b"]}]
        matrix = group.pivot(index="env_a", columns="env_b", values="cosine").reindex(index=envs, columns=envs)
        matrix = np.where(matrix.isna(), matrix.T, matrix)  # each pair is there once
        ax.pcolormesh(matrix, cmap="PuOr", vmin=-limit, vmax=limit)
        ax.set_xticks(np.arange(len(envs)) + 0.5, envs, rotation=45, ha="right", rotation_mode="anchor", fontsize=7)
        ax.set_yticks(np.arange(len(envs)) + 0.5, envs, fontsize=7)
        ax.set(aspect="equal", ylim=(len(envs), 0))
        ax.grid(False)
        ax.set_title(fill(f"{scores.labels[variant]}, {phase}", 26), fontsize=9, parse_math=False)
    return ReportFigure(
        name="gradient_cosines",
        caption=(
            "Cosine between two environments' gradients of the shared parameters, mean over steps and seeds. Orange: "
            f"opposite directions; violet: the same. Colours reach from -{limit:.2g} to {limit:.2g}."
        ),
        figure=figure,
    )
