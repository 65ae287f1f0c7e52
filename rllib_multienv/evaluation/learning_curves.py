"""Figures of learning curves: one panel per environment, return against that environment's steps."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rllib_multienv.evaluation.progress import LearningCurve, learning_curves, read_progress
from rllib_multienv.metrics import OFFLINE

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def plot_learning_curves(
    progress: str | Path | Mapping[str, str | Path],
    output: str | Path,
    *,
    title: str | None = None,
    window: int | None = None,
    references: Mapping[str, Mapping[str, float]] | None = None,
    success: bool = False,
) -> Path:
    """Draws `learning_curves.png`: a panel per environment with lines, ranges and points of evaluations.

    Args:
        progress: A `progress.csv`, or several by label, drawn in the same panels.
        output: The picture's path, which is returned; the ending sets the format.
        title: A line above the panels.
        window: Number of the last episodes of which a point is the mean, for the legend.
        references: Returns that are drawn as horizontal lines, by label and env id.
        success: Draw the share of episodes with success, of the environments that report it, instead of returns.

    Raises:
        FileNotFoundError: A file of `progress` is missing.
        ValueError: There is no environment to draw.
    """
    files = progress if isinstance(progress, Mapping) else {"": progress}
    runs = {label: learning_curves(read_progress(path), success=success) for label, path in files.items()}
    if success:
        runs = {label: [curve for curve in curves if curve.mean] for label, curves in runs.items()}
    units = {curve.env_id: curve.unit for curves in runs.values() for curve in curves}
    if not units:
        kind = "with a success rate " if success else ""
        raise ValueError(f"there is no environment {kind}in the progress: nothing to draw")
    figure, axes = panels(len(units), (3.6, 2.8))
    for (env_id, unit), ax in zip(units.items(), axes, strict=True):
        drawn = [(label, curve) for label, curves in runs.items() for curve in curves if curve.env_id == env_id]
        for index, (label, curve) in enumerate(drawn):
            _draw_curve(ax, curve, f"C{index % 10}", label, window)
        for index, (label, returns) in enumerate((references or {}).items()):
            if env_id in returns:
                ax.axhline(returns[env_id], color="black", linewidth=0.8, linestyle=(":", "--")[index % 2], label=label)
        steps = f"{unit} in this environment"
        if success:
            label_curves(ax, env_id, steps, "episodes with success")
            ax.set_ylim(-0.03, 1.03)
        else:
            label_curves(ax, env_id, steps)
        if not any(curve.mean or curve.evaluated for _, curve in drawn):
            ax.set(xticks=[], yticks=[])
            ax.text(0.5, 0.5, "no episode has ended yet", transform=ax.transAxes, ha="center", color="#666666")
    add_legend(figure, axes)
    if title:
        figure.suptitle(title, fontsize=11)
    output = Path(output)
    output.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(output, dpi=130)
    return output


def _draw_curve(ax: Axes, curve: LearningCurve, color: str, label: str, window: int | None) -> None:
    if curve.unit == OFFLINE.env_unit:
        text = "mean of an evaluation"
    else:
        text = f"mean of the last {window} episodes" if window else "mean of the last episodes"
    marker = "o" if len(curve.mean) == 1 else ""  # one point alone has no line
    ax.plot(curve.steps, curve.mean, color=color, label=label or text, linewidth=1.5, marker=marker)
    if curve.low != curve.high:
        text = "" if label else "their range"
        ax.fill_between(curve.steps, curve.low, curve.high, color=color, alpha=0.2, linewidth=0, label=text)
    if curve.evaluated:
        name = f"{label}, evaluation" if label else "evaluation"
        ax.plot(
            *zip(*curve.evaluated, strict=True), "D", color=color, markersize=4, markeredgecolor="black", label=name
        )


def add_legend(figure: Figure, axes: Iterable[Axes]) -> None:
    """A legend below the panels, with each label once."""
    handles = {label: handle for ax in axes for handle, label in zip(*ax.get_legend_handles_labels(), strict=True)}
    columns = max(1, int(figure.get_size_inches()[0] / 2.4))
    figure.legend(handles.values(), handles, loc="outside lower center", ncols=columns, fontsize=8, frameon=False)


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


def label_curves(ax: Axes, title: str, steps: str, quantity: str = "return per episode") -> None:
    """Title, labels and ticks of a panel with learning curves."""
    from matplotlib.ticker import EngFormatter, MaxNLocator

    ax.set_title(title, fontsize=9.5, parse_math=False)
    ax.set_xlabel(steps, fontsize=8)
    ax.set_ylabel(quantity, fontsize=8)
    ax.set_xlim(left=0)
    ax.xaxis.set_major_locator(MaxNLocator(4))
    ax.xaxis.set_major_formatter(EngFormatter(sep=""))


def label_episodes(ax: Axes, title: str, *, oracle: float, random: float) -> None:
    """Title, labels and ticks of a panel with returns by episode; lines of known oracle and random returns."""
    from matplotlib.ticker import MaxNLocator

    for label, level, dots in (("oracle", oracle, "--"), ("random actions", random, ":")):
        if math.isfinite(level):
            ax.axhline(level, color="black", linewidth=0.8, linestyle=dots, label=label)
    ax.set_title(title, fontsize=9.5, parse_math=False)
    ax.set_xlabel("episode of the trial", fontsize=8)
    ax.set_ylabel("return per episode", fontsize=8)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
