"""Learning curves, one panel per environment."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from rllib_multienv.evaluation.curve_bands import Band, curve_band
from rllib_multienv.evaluation.experiment_scores import ExperimentScores
from rllib_multienv.evaluation.intervals import SEEDS_FOR_INTERVAL
from rllib_multienv.evaluation.raw_metrics import PhaseInfo, VariantInfo
from rllib_multienv.evaluation.reference_scores import Reference
from rllib_multienv.evaluation.report.figures.figure import LegendItem, LineStyle, Panel, ReportFigure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Bands of more lines would hide them.
_MOST_WITH_BANDS = 6


@dataclass(frozen=True, kw_only=True)
class _Line:
    band: Band
    color: str
    style: LineStyle


@dataclass(frozen=True, kw_only=True)
class CurveSeries:
    """What is drawn in every panel: one variant in one phase.

    Args:
        phase: The phase.
        variant: The variant.
        style: Kind of line; its colour is the variant's.
        label: What the legend says.
    """

    phase: PhaseInfo
    variant: VariantInfo
    style: LineStyle = "solid"
    label: str = ""


def curve_figure(
    scores: ExperimentScores,
    series: Sequence[CurveSeries],
    *,
    name: str,
    caption: str,
    env_ids: Sequence[str],
    colors: dict[str, str],
) -> ReportFigure | None:
    """Mean over seeds of the return against the environment's own steps, with a band.

    Thin lines are random actions and the reference (the best agent trained in the environment alone). Where no run of
    a variant is done in an environment, its unfinished ones are drawn.

    Args:
        scores: The experiment's scores.
        series: What is drawn.
        name: File name, without ending.
        caption: What it shows; what the band is is said behind it.
        env_ids: The environments.
        colors: By variant.

    Returns:
        The figure, or None where there is no curve.
    """
    panels, seeds, drawn = [], set(), set()
    unfinished, bands = False, len(series) <= _MOST_WITH_BANDS
    for env_id in env_ids:
        lines = []
        for item in series:
            where = (item.phase.name, item.variant.name, env_id)
            band = curve_band(scores.curves(*where))
            if band is None:
                band = curve_band(scores.unfinished_curves(*where))
                unfinished = unfinished or band is not None
            if band is not None:
                lines.append(_Line(band=band, color=colors[item.variant.name], style=item.style))
                seeds.add(band.seeds)
                drawn.add(item)
        if lines:
            draw = functools.partial(_draw, lines, scores.references[env_id], bands=bands)
            panels.append(Panel(title=env_id, draw=draw))
    if not panels:
        return None
    legend = [
        LegendItem(label=item.label or item.variant.label, color=colors[item.variant.name], style=item.style)
        for item in series
        if item in drawn
    ]
    references = [scores.references[env_id] for env_id in env_ids]
    if any(reference.random is not None for reference in references):
        legend.append(LegendItem(label="random actions", color=None, style="dotted"))
    if any(reference.best is not None for reference in references):
        legend.append(LegendItem(label="best trained alone", color=None, style="dashed"))
    texts = [caption, _band_text(seeds, bands=bands)]
    if unfinished:
        texts.append("Where no run is done, those under way are shown as far as the shortest has come.")
    return ReportFigure(name=name, caption=" ".join(texts), panels=tuple(panels), legend=tuple(legend))


def _band_text(seeds: set[int], *, bands: bool) -> str:
    interval = "95% interval of the mean (Student's t)"
    extremes = "from the smallest to the largest seed"
    count = f"{min(seeds)}" if min(seeds) == max(seeds) else f"{min(seeds)} to {max(seeds)}"
    of = f"Lines: mean over {count} seed{'' if max(seeds) == 1 else 's'}"
    if max(seeds) == 1 or not bands:
        return f"{of}."
    if min(seeds) >= SEEDS_FOR_INTERVAL:
        return f"{of}; bands: {interval}, cut off at the panel's edge."
    if max(seeds) < SEEDS_FOR_INTERVAL:
        return f"{of}; bands: {extremes}."
    return f"{of}; bands: {interval} with {SEEDS_FOR_INTERVAL} seeds or more, otherwise {extremes}."


def _draw(lines: Sequence[_Line], reference: Reference, ax: Axes, ink: str, *, bands: bool) -> None:
    from matplotlib.ticker import EngFormatter, MaxNLocator

    dashes = {"solid": "-", "dashed": (0, (4, 2)), "dotted": ":", "bar": "-"}
    for line in lines:
        band = line.band
        # One point alone has no line: it gets a dot.
        marker = "o" if len(band.steps) == 1 else None
        ax.plot(band.steps, band.mean, color=line.color, linestyle=dashes[line.style], linewidth=1.5, marker=marker)
        if bands and band.seeds > 1:
            # Many bands on top of each other must leave the lines to be seen.
            alpha = 0.15 if len(lines) <= 4 else 0.08
            ax.fill_between(band.steps, band.low, band.high, color=line.color, alpha=alpha, linewidth=0)
    for value, style in ((reference.random, ":"), (reference.best, "--")):
        if value is not None:
            ax.axhline(value, color=ink, linestyle=style, linewidth=0.8)
    # With few seeds intervals can be many times as wide as the seeds are apart: they do not rule the axis.
    values = [limit for line in lines for limit in (line.band.smallest.min(), line.band.largest.max())]
    values += [value for value in (reference.random, reference.best) if value is not None]
    low, high = float(np.min(values)), float(np.max(values))
    margin = 0.05 * (high - low) or 1.0
    ax.set_ylim(low - margin, high + margin)
    ax.set_xlim(left=0)
    ax.set_xlabel("steps in this environment", fontsize=8)
    ax.set_ylabel("return", fontsize=8)
    ax.xaxis.set_major_locator(MaxNLocator(5))
    ax.yaxis.set_major_locator(MaxNLocator(5))
    ax.xaxis.set_major_formatter(EngFormatter(sep=""))
    ax.grid(color=ink, alpha=0.12, linewidth=0.6)
