"""A figure: panels that are drawn side by side into one picture, or each for itself into a page."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as MatplotlibFigure
    from matplotlib.lines import Line2D

LineStyle = Literal["solid", "dashed", "dotted", "bar"]

#: The colour of text and axes in a picture with a white ground.
INK = "#222222"


@dataclass(frozen=True, kw_only=True)
class LegendItem:
    """One entry of the legend.

    Args:
        label: What it says.
        color: A colour, or None for that of the text.
        style: Kind of line.
    """

    label: str
    color: str | None
    style: LineStyle = "solid"


@dataclass(frozen=True, kw_only=True)
class Panel:
    """One part of a figure.

    Args:
        title: Stands above it.
        draw: Draws it into axes, given the colour of lines that have none of their own.
    """

    title: str
    draw: Callable[[Axes, str], None]


@dataclass(frozen=True, kw_only=True)
class ReportFigure:
    """A figure of the report.

    Args:
        name: File name, without ending.
        caption: What it shows.
        panels: Its panels, at least one.
        legend: What its colours and lines mean.
        panel_size: Width and height of a panel in inches.
        columns: At most so many panels side by side.
    """

    name: str
    caption: str
    panels: tuple[Panel, ...]
    legend: tuple[LegendItem, ...] = ()
    panel_size: tuple[float, float] = (3.3, 2.4)
    columns: int = 4


def write_png(figure: ReportFigure, path: Path) -> None:
    """Writes all panels and the legend into one picture with a white ground."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    across = min(figure.columns, len(figure.panels))
    down = math.ceil(len(figure.panels) / across)
    width, height = figure.panel_size
    legend_rows = math.ceil(len(figure.legend) / max(1, int(width * across / 2.2)))
    canvas = Figure(figsize=(width * across, height * down + 0.3 * legend_rows), layout="constrained")
    FigureCanvasAgg(canvas)
    axes = list(canvas.subplots(down, across, squeeze=False).flat)
    for panel, ax in zip(figure.panels, axes, strict=False):
        draw_panel(panel, ax, INK)
    for ax in axes[len(figure.panels) :]:
        ax.set_visible(False)
    if figure.legend:
        canvas.legend(
            [_handle(item) for item in figure.legend],
            [item.label for item in figure.legend],
            loc="outside lower center",
            ncols=math.ceil(len(figure.legend) / legend_rows),
            fontsize=8,
            frameon=False,
        )
    canvas.savefig(path, dpi=130, metadata={"Software": None})


def draw_panel(panel: Panel, ax: Axes, ink: str) -> None:
    """Draws a panel with its title, with text and axes in the colour `ink`."""
    ax.set_title(panel.title, fontsize=9.5, color=ink, parse_math=False)
    ax.tick_params(labelsize=8, colors=ink)
    ax.patch.set_alpha(0)
    for name, spine in ax.spines.items():
        spine.set_color(ink)
        spine.set_linewidth(0.7)
        spine.set_visible(name in ("left", "bottom"))
    panel.draw(ax, ink)
    ax.xaxis.label.set_color(ink)
    ax.yaxis.label.set_color(ink)


def new_figure(size: tuple[float, float]) -> MatplotlibFigure:
    """An empty figure for one panel, without a ground."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, layout="constrained")
    figure.patch.set_alpha(0)
    return figure


def _handle(item: LegendItem) -> Line2D:
    from matplotlib.lines import Line2D

    color = item.color or INK
    if item.style == "bar":
        return Line2D([], [], color=color, linewidth=7)
    return Line2D([], [], color=color, linestyle=item.style, linewidth=1.8 if item.style == "solid" else 1.2)
