"""Figures of a report: one function per figure, drawn by Matplotlib."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from textwrap import fill
from typing import TYPE_CHECKING, Any, NamedTuple

import pandas as pd

from rllib_multienv.evaluation.experiment_scores import ExperimentScores, curve_band
from rllib_multienv.evaluation.learning_curves import add_legend, label_curves, label_episodes, panels
from rllib_multienv.evaluation.raw_metrics import PhaseInfo, VariantInfo
from rllib_multienv.evaluation.report.tables import ADAPTATION_NOTE, adaptation_intervals, interval_of
from rllib_multienv.evaluation.scores import SEEDS_FOR_INTERVAL, Interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's palette for colour-blind readers, without black and yellow; then four more colours.
_COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#AA4466", "#999933", "#8C564B", "#7F7F7F")
_MOST_BANDS = 6  # more would hide the lines
_LIMITS = (-60, 220)  # of scores: one that is far off would press all others together


class ReportFigure(NamedTuple):
    """A figure of the report: its file name without ending, the drawing, and its caption where the page has none."""

    name: str
    figure: Figure
    caption: str = ""


def report_figures(scores: ExperimentScores, tables: Mapping[str, pd.DataFrame]) -> list[ReportFigure]:
    """All figures for which there is data, the headline first."""
    drawn = [
        score_figure(scores, tables["scores"], tables["environments"]),
        *curve_figures(scores),
        *adaptation_figures(scores),
        *(difference_figure(scores, name, tables[name]) for name in ("transfer", "ablations")),
    ]
    return [figure for figure in drawn if figure is not None]


def main_variants(variants: Sequence[VariantInfo]) -> list[VariantInfo]:
    """The variants that are not ablations, or all if there are no others."""
    return [variant for variant in variants if variant.ablation_of is None] or list(variants)


def variant_styles(scores: ExperimentScores) -> dict[str, dict[str, str]]:
    """Colour and line style of each variant, the same in all figures; ablations come late, references last."""
    shown = {variant.name for phase in scores.phases() for variant in scores.variants(phase)}
    ordered = sorted(scores.experiment.variants, key=lambda v: (v.name not in shown, v.ablation_of is not None))
    return {
        variant.name: {"color": _COLORS[index % len(_COLORS)], "linestyle": ("-", "-.")[index // len(_COLORS) % 2]}
        for index, variant in enumerate(ordered)
    }


def _points_figure(
    title: str, labels: Sequence[str], points: Sequence[tuple[float, Interval, str, str]], line: float
) -> tuple[Figure, Axes]:
    """A figure with one row per label, the first on top, and points (row, interval, colour, face) in them.

    Labels are above their points: so the figure is narrow enough for a phone.
    """
    texts = [fill(label, 56) for label in labels]
    figure, (ax,) = panels(1, (4.7, 0.3 + 0.5 * len(labels)))
    for y, interval, color, face in points:
        ax.plot(interval[1:], [y, y], color=color, linewidth=1.4)
        ax.plot([interval.value], [y], "o", color=color, markersize=5, markerfacecolor=face)
    ax.axvline(line, color="black", linestyle="--", linewidth=0.8)
    style: dict[str, Any] = {"va": "bottom", "linespacing": 1.0, "parse_math": False, "clip_on": True}
    for y, text in enumerate(texts):
        ax.text(0.01, y - 0.22, text, fontsize=9.5, transform=ax.get_yaxis_transform(), **style)
    ax.set_yticks([])
    ax.set_ylim(len(labels) - 0.5, -0.75)
    ax.set_xlabel(title, fontsize=9)
    return figure, ax


def score_figure(scores: ExperimentScores, table: pd.DataFrame, environments: pd.DataFrame) -> ReportFigure | None:
    """The headline: scores of the main variants in every phase, as a whole and by environment; None without scores."""
    names = [variant.name for variant in main_variants(scores.experiment.variants)]
    shown = table[table["variant"].isin(names)].dropna(subset="iqm") if len(table) else table
    if shown.empty:
        return None
    colors = [variant_styles(scores)[variant]["color"] for variant in shown["variant"]]
    intervals = [interval_of(row, "iqm") for _, row in shown.iterrows()]
    points = [
        (float(y), interval, color, color) for y, (interval, color) in enumerate(zip(intervals, colors, strict=True))
    ]
    runs = list(zip(shown["phase"], shown["variant"], strict=True))
    labels = [f"{phase}: {scores.labels[variant]}" for phase, variant in runs]
    figure, ax = _points_figure("normalised score", labels, points, line=100)
    for y, (run, color) in enumerate(zip(runs, colors, strict=True)):
        values = environments["score"][(environments["phase"] == run[0]) & (environments["variant"] == run[1])]
        ax.plot(values.clip(*_LIMITS), [y] * len(values), "|", color=color, markersize=9, alpha=0.6)
    return ReportFigure("scores", figure)


def difference_figure(scores: ExperimentScores, name: str, table: pd.DataFrame) -> ReportFigure | None:
    """Differences in the table of this name, one per row; None without scores."""
    shown = table.dropna(subset=["final", "while_learning"], how="all") if len(table) else table
    if shown.empty:
        return None
    points, labels = [], []
    for y, (_, row) in enumerate(shown.iterrows()):
        color = variant_styles(scores)[row["variant"]]["color"]
        for column, offset, face in (("final", -0.14, color), ("while_learning", 0.14, "white")):
            points.append((y + offset, interval_of(row, column), color, face))
        base = row["base_phase"] if row["base_phase"] != row["phase"] else scores.labels[row["base"]]
        labels.append(f"{row['phase']}: {scores.labels[row['variant']]} (minus {base})")
    figure, _ = _points_figure("difference of the normalised score", labels, points, line=0)
    return ReportFigure(name, figure)


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
    """One figure with a panel per environment, or none without curves."""
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
    figure, axes = panels(len(drawn), (2.7, 2.1) if len(drawn) > 1 else (6.0, 3.6))  # one alone has room for the legend
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
    add_legend(figure, axes)
    texts = [f"Learning curves of the phase {phase.name}: return per episode in training, with exploration."]
    if scratch is not None:
        texts.append(f"Dashed: training from scratch ({scratch.name}).")
    texts.append(f"Lines: mean over {' to '.join(map(str, sorted(seeds)))} seeds.")
    if len(series) <= _MOST_BANDS and max(seeds) > 1:
        texts.append(f"Bands: 95% interval of the mean (Student's t); below {SEEDS_FOR_INTERVAL} seeds, their range.")
    if unfinished:
        texts.append("Unfinished runs are shown where none is done.")
    yield ReportFigure(name, figure, " ".join(texts))


def adaptation_figures(scores: ExperimentScores) -> Iterator[ReportFigure]:
    """Return by episode while agents adapt to tasks of the test split, a panel per family of each phase."""
    styles = variant_styles(scores)
    for phase, found in scores.metrics.adaptation.groupby("phase", sort=False):
        count = found["env_id"].nunique()
        figure, axes = panels(count, (4.4, 3.2) if count > 1 else (7.4, 4.2))  # one alone has room for the legend
        for (env_id, rows), ax in zip(found.groupby("env_id", sort=False), axes, strict=True):
            for variant, own in rows.groupby("variant", sort=False):
                band = pd.DataFrame(adaptation_intervals(own), columns=Interval._fields)
                style: dict[str, Any] = {**styles[str(variant)], "label": scores.labels[str(variant)], "marker": "."}
                episodes = band.index + 1
                ax.plot(episodes, band["value"], **style)
                ax.fill_between(episodes, band["low"], band["high"], color=style["color"], alpha=0.14, linewidth=0)
            label_episodes(ax, env_id, oracle=rows["oracle"].mean(), random=rows["random"].mean())
        add_legend(figure, axes)
        yield ReportFigure(f"adaptation_{phase}", figure, f"Return of each episode in {phase}. {ADAPTATION_NOTE}")
