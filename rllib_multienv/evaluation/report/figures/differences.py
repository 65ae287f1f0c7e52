"""What each ablation changes, as points with intervals on one axis."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rllib_multienv.evaluation.intervals import Interval
from rllib_multienv.evaluation.report.ablations import Ablation
from rllib_multienv.evaluation.report.figures.figure import LegendItem, Panel, ReportFigure

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def difference_figure(ablations: Sequence[Ablation], *, name: str, colors: dict[str, str]) -> ReportFigure | None:
    """Differences of the interquartile means, final and while learning, one line per variant.

    Args:
        ablations: Those of one base in one phase.
        name: File name, without ending.
        colors: By variant.

    Returns:
        The figure, or None where there is no difference to show.
    """
    shown = [ablation for ablation in ablations if ablation.final or ablation.learning]
    if not shown:
        return None
    base, phase = shown[0].base.label, shown[0].phase.name
    return ReportFigure(
        name=name,
        caption=(
            f"Variants minus “{base}” in the phase {phase}: difference of the interquartile means of the normalised "
            "score, with 95% intervals by stratified bootstrap; where one holds 0, these seeds do not tell the two "
            "apart."
        ),
        panels=(Panel(title="", draw=functools.partial(_draw, shown, colors)),),
        legend=(
            LegendItem(label="final evaluation (filled)", color=None),
            LegendItem(label="while learning (open)", color=None, style="dashed"),
        ),
        panel_size=(7.2, 0.7 + 0.34 * len(shown)),
    )


def _draw(ablations: Sequence[Ablation], colors: dict[str, str], ax: Axes, ink: str) -> None:
    for place, ablation in enumerate(ablations):
        color = colors[ablation.variant.name]
        _point(ablation.final, place - 0.15, color, "-", ax, filled=True)
        _point(ablation.learning, place + 0.15, color, (0, (4, 2)), ax, filled=False)
    ax.axvline(0, color=ink, linewidth=0.8)
    ax.set_ylim(len(ablations) - 0.5, -0.5)
    ax.set_yticks(range(len(ablations)), [ablation.variant.label for ablation in ablations], parse_math=False)
    ax.set_xlabel("difference of the normalised score", fontsize=8)
    ax.grid(axis="x", color=ink, alpha=0.12, linewidth=0.6)
    ax.set_axisbelow(True)


def _point(
    interval: Interval | None, y: float, color: str, style: str | tuple[int, tuple[int, int]], ax: Axes, *, filled: bool
) -> None:
    if interval is None:
        return
    if interval.low is not None and interval.high is not None:
        ax.plot([interval.low, interval.high], [y, y], color=color, linestyle=style, linewidth=1.3)
    face = color if filled else "none"
    ax.plot([interval.value], [y], marker="o", markersize=5, color=color, markerfacecolor=face, linestyle="none")
