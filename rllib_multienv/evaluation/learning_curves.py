"""The picture of a run: one panel per environment, return against that environment's own steps."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

from rllib_multienv.evaluation.progress import learning_curves, read_progress


def plot_learning_curves(
    progress: str | Path | Mapping[str, str | Path],
    output: str | Path,
    *,
    title: str | None = None,
    columns: int = 4,
) -> Path:
    """Draws `learning_curves.png`.

    The line is the mean return of the last episodes, the shade reaches from the smallest to the largest of
    them.

    Args:
        progress: A `progress.csv`, or several with a label for each, drawn in the same panels.
        output: The picture's path; the ending says the format.
        title: A line above the panels.
        columns: At most so many panels side by side.

    Returns:
        The picture's path.

    Raises:
        FileNotFoundError: If a file of `progress` is not there.
        ValueError: If no environment has finished an episode yet, so that there is nothing to draw.
    """
    # The object interface and not pyplot: it needs no display and leaves the caller's backend alone.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import EngFormatter

    files = progress if isinstance(progress, Mapping) else {"": progress}
    runs = {label: learning_curves(read_progress(path)) for label, path in files.items()}
    env_ids = list(dict.fromkeys(curve.env_id for curves in runs.values() for curve in curves if curve.mean))
    if not env_ids:
        raise ValueError("no environment has finished an episode yet: there is nothing to draw")
    units = {curve.env_id: curve.unit for curves in runs.values() for curve in curves}
    width = min(columns, len(env_ids))
    height = math.ceil(len(env_ids) / width)
    figure = Figure(figsize=(3.6 * width + 0.4, 2.8 * height + 0.4), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(height, width, squeeze=False).flat
    for env_id, panel in zip(env_ids, panels, strict=False):
        for label, curves in runs.items():
            for curve in curves:
                if curve.env_id == env_id and curve.mean:
                    # One point alone has no line: it gets a dot.
                    marker = "o" if len(curve.mean) == 1 else None
                    (line,) = panel.plot(curve.steps, curve.mean, label=label or None, linewidth=1.5, marker=marker)
                    panel.fill_between(
                        curve.steps, curve.low, curve.high, color=line.get_color(), alpha=0.2, linewidth=0
                    )
        panel.set_title(env_id, fontsize=10)
        panel.set_xlabel(f"{units[env_id]} of this environment", fontsize=8)
        panel.set_ylabel("return per episode", fontsize=8)
        panel.xaxis.set_major_formatter(EngFormatter(sep=""))
        panel.tick_params(labelsize=8)
        panel.grid(alpha=0.3)
    for panel in list(figure.axes)[len(env_ids) :]:
        panel.set_visible(False)
    if any(runs) and len(runs) > 1:
        figure.axes[0].legend(fontsize=7)
    if title:
        figure.suptitle(title, fontsize=11)
    output = Path(output)
    output.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(output, dpi=130)
    return output
