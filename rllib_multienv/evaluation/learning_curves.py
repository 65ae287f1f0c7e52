"""Figures of learning curves: one panel per environment, return against that environment's steps."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rllib_multienv.evaluation.progress import learning_curves, read_progress

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def plot_learning_curves(
    progress: str | Path | Mapping[str, str | Path],
    output: str | Path,
    *,
    title: str | None = None,
    columns: int = 4,
) -> Path:
    """Draws `learning_curves.png`.

    The line is the mean return of the last episodes, the band reaches from the smallest to the largest of them.

    Args:
        progress: A `progress.csv`, or several by label, drawn in the same panels.
        output: The picture's path; the ending sets the format.
        title: A line above the panels.
        columns: At most so many panels side by side.

    Returns:
        The picture's path.

    Raises:
        FileNotFoundError: A file of `progress` is missing.
        ValueError: No environment has finished an episode yet.
    """
    files = progress if isinstance(progress, Mapping) else {"": progress}
    runs = {label: learning_curves(read_progress(path)) for label, path in files.items()}
    drawn = {curve.env_id: curve.unit for curves in runs.values() for curve in curves if curve.mean}
    if not drawn:
        raise ValueError("no environment has finished an episode yet: there is nothing to draw")
    figure, axes = panels(len(drawn), (3.6, 2.8), columns)
    for (env_id, unit), ax in zip(drawn.items(), axes, strict=True):
        for label, curves in runs.items():
            for curve in (curve for curve in curves if curve.env_id == env_id and curve.mean):
                # One point alone has no line.
                marker = "o" if len(curve.mean) == 1 else None
                (line,) = ax.plot(curve.steps, curve.mean, label=label or None, linewidth=1.5, marker=marker)
                ax.fill_between(curve.steps, curve.low, curve.high, color=line.get_color(), alpha=0.2, linewidth=0)
        label_curves(ax, env_id, f"{unit} in this environment")
    if len(runs) > 1:
        axes[0].legend(fontsize=7)
    if title:
        figure.suptitle(title, fontsize=11)
    output = Path(output)
    output.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(output, dpi=130)
    return output


def panels(count: int, size: tuple[float, float], columns: int = 4, **options: Any) -> tuple[Figure, list[Axes]]:
    """A figure with so many panels of this size in inches, in rows of at most `columns`."""
    from matplotlib.figure import Figure  # not pyplot: it needs no display and leaves the caller's backend alone

    across = min(columns, count)
    down = math.ceil(count / across)
    figure = Figure(figsize=(size[0] * across, size[1] * down + 0.4), layout="constrained")
    axes = list(figure.subplots(down, across, squeeze=False, **options).flat)
    for ax in axes:
        ax.tick_params(labelsize=8)
        ax.spines[["top", "right"]].set_visible(False)
        ax.set_axisbelow(True)
        ax.grid(alpha=0.25, linewidth=0.6)
    for ax in axes[count:]:
        ax.set_visible(False)
    return figure, axes[:count]


def label_curves(ax: Axes, title: str, steps: str) -> None:
    """Title, labels and ticks of a panel with learning curves."""
    from matplotlib.ticker import EngFormatter, MaxNLocator

    ax.set_title(title, fontsize=9.5, parse_math=False)
    ax.set_xlabel(steps, fontsize=8)
    ax.set_ylabel("return per episode", fontsize=8)
    ax.set_xlim(left=0)
    ax.xaxis.set_major_locator(MaxNLocator(4))
    ax.xaxis.set_major_formatter(EngFormatter(sep=""))
