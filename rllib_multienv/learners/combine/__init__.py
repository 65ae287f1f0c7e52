"""Combiners: how the gradients of environments become one.

A combiner is a class with one method; to add one, write its file and a line in :data:`COMBINERS`.
"""

from __future__ import annotations

from rllib_multienv.gym_ids import did_you_mean
from rllib_multienv.learners.combine.combiner import Combiner, TaskGradients
from rllib_multienv.learners.combine.pcgrad import PCGrad
from rllib_multienv.learners.combine.weighted_sum import WeightedSum

__all__ = ["COMBINERS", "Combiner", "PCGrad", "TaskGradients", "WeightedSum", "make_combiner"]

#: Names that ``training(gradient_combiner=...)`` takes.
COMBINERS: dict[str, type[Combiner]] = {"weighted_sum": WeightedSum, "pcgrad": PCGrad}


def make_combiner(value: str | Combiner | type[Combiner]) -> Combiner:
    """The combiner that a setting stands for.

    Args:
        value: A name, a combiner, or a class of combiners.

    Raises:
        ValueError: There is none of that name (the nearest is named).
        TypeError: It is something else.
    """
    if isinstance(value, Combiner):
        return value
    if isinstance(value, str):
        if value not in COMBINERS:
            names = ", ".join(map(repr, COMBINERS))
            raise ValueError(f"gradient_combiner={value!r}: must be one of {names}.{did_you_mean(value, COMBINERS)}")
        return COMBINERS[value]()
    if isinstance(value, type) and issubclass(value, Combiner):
        return value()
    raise TypeError(
        f"gradient_combiner={value!r}: must be a name ({', '.join(map(repr, COMBINERS))}), or a Combiner such as "
        "PCGrad(); a combiner of your own is a class derived from rllib_multienv.learners.combine.Combiner."
    )
