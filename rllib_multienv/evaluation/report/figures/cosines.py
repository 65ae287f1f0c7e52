"""Gradient cosines as heat maps, one per phase and variant."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from textwrap import wrap
from typing import TYPE_CHECKING

import numpy as np

from rllib_multienv.evaluation.experiment_scores import ExperimentScores
from rllib_multienv.evaluation.gradient_cosines import PairAgreement, pair_agreements
from rllib_multienv.evaluation.report.ablations import unablated
from rllib_multienv.evaluation.report.figures.figure import Panel, ReportFigure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Numbers are written into the cells of a matrix up to this size.
_MOST_WITH_NUMBERS = 10
# Characters of a title's line: it stands in the middle of the matrix, which is narrower than its panel.
_TITLE = 26


def cosine_figure(scores: ExperimentScores) -> ReportFigure | None:
    """Mean cosine over steps and seeds of every pair of environments; None where no gradients were recorded.

    Ablations are left out, unless there is nothing else: their cosines are in the table.
    """
    measured = {row.variant for row in scores.metrics.gradient_cosines}
    variants = unablated([variant for variant in scores.experiment.variants if variant.name in measured])
    found = []
    for phase in scores.experiment.phases:
        for variant in variants:
            pairs = pair_agreements(scores.metrics, phase.name, variant.name)
            if pairs:
                env_ids = [env_id for env_id in phase.envs if any(env_id in (p.env_a, p.env_b) for p in pairs)]
                found.append((phase, variant, env_ids, pairs))
    if not found:
        return None
    several = len({phase.name for phase, *_ in found}) > 1
    # One scale for all: the largest cosine between two environments, since most are far from 1.
    limit = max(0.05, *(abs(pair.mean) for *_, pairs in found for pair in pairs))
    largest = max(len(env_ids) for _, _, env_ids, _ in found)
    side = 1.9 + 0.34 * largest
    return ReportFigure(
        name="gradient_cosines",
        caption=(
            "Cosine between two environments' gradients of the shared parameters, mean over steps and seeds. Orange: "
            "they pull in opposite directions; violet: in the same. "
            f"The colours reach from -{limit:.2g} to {limit:.2g}."
            + (" Those of ablations are in the table." if len(variants) < len(measured) else "")
        ),
        panels=tuple(
            Panel(
                title="\n".join(wrap(variant.label, _TITLE) + (wrap(phase.name, _TITLE) if several else [])),
                draw=functools.partial(_draw, env_ids, pairs, limit),
            )
            for phase, variant, env_ids, pairs in found
        ),
        panel_size=(side + 0.2, side + 0.15),
        columns=2 if largest > 8 else 3,
    )


def _draw(env_ids: Sequence[str], pairs: Sequence[PairAgreement], limit: float, ax: Axes, ink: str) -> None:
    from matplotlib import colormaps
    from matplotlib.colors import Normalize
    from matplotlib.patches import Rectangle

    place = {env_id: index for index, env_id in enumerate(env_ids)}
    matrix = np.full((len(env_ids), len(env_ids)), np.nan)
    for pair in pairs:
        if pair.env_a in place and pair.env_b in place:
            matrix[place[pair.env_a], place[pair.env_b]] = matrix[place[pair.env_b], place[pair.env_a]] = pair.mean
    # Cells are drawn one by one and not as an image, which an SVG would hold as a blurred bitmap.
    colors, scale = colormaps["PuOr"], Normalize(-limit, limit)
    for (row, column), value in np.ndenumerate(matrix):
        if np.isnan(value):
            continue
        ax.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, facecolor=colors(scale(value)), linewidth=0))
        if len(env_ids) <= _MOST_WITH_NUMBERS:
            dark = abs(value) > 0.65 * limit
            text = f"{value:z.2f}".replace("0.", ".", 1)
            ax.text(column, row, text, ha="center", va="center", fontsize=6.5, color="#ffffff" if dark else "#111111")
    ax.set_xlim(-0.5, len(env_ids) - 0.5)
    ax.set_ylim(len(env_ids) - 0.5, -0.5)
    ax.set_aspect("equal")
    ax.set_xticks(range(len(env_ids)), env_ids, rotation=45, ha="right", rotation_mode="anchor", fontsize=7)
    ax.set_yticks(range(len(env_ids)), env_ids, fontsize=7)
    ax.tick_params(length=0)
    for spine in ax.spines.values():
        spine.set_visible(False)
