"""One colour per variant, the same in every figure and table."""

from __future__ import annotations

from rllib_multienv.evaluation.experiment_scores import ExperimentScores

# Okabe and Ito's palette, which colour-blind readers can tell apart, without its black and its yellow (too faint on
# white); then colours of Paul Tol's and Matplotlib's for more variants.
_COLORS = (
    "#0072B2",
    "#D55E00",
    "#009E73",
    "#CC79A7",
    "#E69F00",
    "#56B4E9",
    "#AA4466",
    "#999933",
    "#44AA99",
    "#9966CC",
    "#8C564B",
    "#7F7F7F",
    "#BCBD22",
    "#E377C2",
    "#5B5BD6",
    "#2CA02C",
    "#D62728",
    "#17A2B8",
)


def variant_colors(scores: ExperimentScores) -> dict[str, str]:
    """Colour by variant's name; those that are references only come last."""
    phases = [phase for phase in scores.experiment.phases if phase.kind != "reference"]
    shown = {variant.name for phase in phases for variant in scores.variants(phase)}
    names = [variant.name for variant in scores.experiment.variants]
    ordered = [name for name in names if name in shown] + [name for name in names if name not in shown]
    return {name: _COLORS[index % len(_COLORS)] for index, name in enumerate(ordered)}
