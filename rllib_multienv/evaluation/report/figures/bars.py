"""Normalised scores as bars: one group per environment, one bar per variant."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rllib_multienv.evaluation.experiment_scores import ExperimentScores
from rllib_multienv.evaluation.intervals import Interval, mean_interval
from rllib_multienv.evaluation.raw_metrics import PhaseInfo, VariantInfo
from rllib_multienv.evaluation.report.figures.figure import LegendItem, Panel, ReportFigure
from rllib_multienv.evaluation.report.tables.environments import BOUNDS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: The axis reaches no farther than this, whatever the scores.
_LOWEST, _HIGHEST = -60.0, 220.0


def score_bars(
    scores: ExperimentScores, phase: PhaseInfo, variants: Sequence[VariantInfo], colors: dict[str, str]
) -> ReportFigure | None:
    """Mean normalised score of the final evaluation per environment and variant, with the bounds of the mean.

    Args:
        scores: The experiment's scores.
        phase: The phase.
        variants: The variants.
        colors: By variant.

    Returns:
        The figure, or None where no environment has a normalised score.
    """
    groups: dict[str, dict[str, Interval]] = {}
    for env_id in phase.envs:
        if scores.has_score(env_id):
            values = {v.name: scores.shown_returns(phase.name, v.name, env_id) for v in variants}
            groups[env_id] = {name: mean_interval(numbers) for name, numbers in values.items() if numbers}
    if not any(groups.values()):
        return None
    shown = [variant for variant in variants if any(variant.name in group for group in groups.values())]
    everything = [interval.value for group in groups.values() for interval in group.values()]
    outside = min(everything) < _LOWEST or max(everything) > _HIGHEST
    cut = " The axis is cut off; bars that go beyond it have their value written on them." if outside else ""
    return ReportFigure(
        name=f"scores_{phase.name}",
        caption=(
            f"Normalised score of the final evaluation after the phase {phase.name}; 0: random actions, 100: the "
            f"best agent trained in the environment alone. Error bars: {BOUNDS.removeprefix('Brackets: ')}{cut}"
        ),
        panels=(Panel(title="", draw=functools.partial(_draw, groups, [v.name for v in shown], colors)),),
        legend=tuple(LegendItem(label=v.label, color=colors[v.name], style="bar") for v in shown),
        panel_size=(max(6.6, 0.8 + len(groups) * (0.3 + 0.17 * len(shown))), 3.1),
    )


def _draw(
    groups: dict[str, dict[str, Interval]], names: Sequence[str], colors: dict[str, str], ax: Axes, ink: str
) -> None:
    width = 0.8 / len(names)
    values = [0.0, 100.0]
    for place, group in enumerate(groups.values()):
        for index, name in enumerate(names):
            if (interval := group.get(name)) is None:
                continue
            x = place + (index - (len(names) - 1) / 2) * width
            ax.bar(x, interval.value, width=0.92 * width, color=colors[name])
            values.append(interval.value)
            if _LOWEST <= interval.value <= _HIGHEST:
                if interval.low is not None and interval.high is not None:
                    ax.plot([x, x], [interval.low, interval.high], color=ink, linewidth=1.0)
            else:
                y = _HIGHEST if interval.value > 0 else _LOWEST
                side = "top" if interval.value > 0 else "bottom"
                ax.text(x, y, f" {interval.value:.0f} ", rotation=90, ha="center", va=side, fontsize=7, color=ink)
    ax.axhline(0, color=ink, linewidth=0.7)
    ax.axhline(100, color=ink, linewidth=0.8, linestyle="--")
    low, high = min(values), max(values)
    margin = 0.08 * (high - low)
    ax.set_ylim(max(_LOWEST, low - (margin if low < 0 else 0)), min(_HIGHEST, high + margin))
    ax.set_xlim(-0.6, len(groups) - 0.4)
    ax.set_xticks(range(len(groups)), list(groups), rotation=25, ha="right", rotation_mode="anchor", parse_math=False)
    ax.set_ylabel("normalised score", fontsize=8)
    ax.grid(axis="y", color=ink, alpha=0.12, linewidth=0.6)
    ax.set_axisbelow(True)
