"""Combiners: how the gradients of environments become one.

A combiner is a class with one method; to add one, write its file and a line in :data:`COMBINERS`.
"""

from __future__ import annotations

import importlib
from collections.abc import Set

from rllib_multienv.gym_ids import did_you_mean
from rllib_multienv.learners.combine.combiner import Combiner, TaskGradients
from rllib_multienv.learners.combine.pcgrad import PCGrad
from rllib_multienv.learners.combine.weighted_sum import WeightedSum

__all__ = ["COMBINERS", "Combiner", "PCGrad", "TaskGradients", "WeightedSum", "make_combiner"]

#: Names that ``training(gradient_combiner=...)`` takes.
COMBINERS: dict[str, type[Combiner]] = {"weighted_sum": WeightedSum, "pcgrad": PCGrad}


def _check_needs(combiner: Combiner) -> None:
    known = ("losses", "gram", "gradients")
    needs = combiner.needs
    if isinstance(needs, str) or not isinstance(needs, Set):
        raise TypeError(f"{type(combiner).__name__}.needs={needs!r}: must be a set, such as frozenset({{'gram'}}).")
    for name in needs:
        if name not in known:
            raise ValueError(
                f"{type(combiner).__name__}.needs: there is no {name!r}; it may have {', '.join(map(repr, known))}."
                f"{did_you_mean(str(name), known)}"
            )


def make_combiner(value: str | Combiner | type[Combiner]) -> Combiner:
    """The combiner that a setting stands for.

    Args:
        value: A name, a combiner, a class of combiners, or the ``"module:Class"`` of one.

    Raises:
        ValueError: There is none of that name (the nearest is named).
        TypeError: It is something else.
    """
    if isinstance(value, str) and ":" in value:
        module, _, name = value.partition(":")
        try:
            value = getattr(importlib.import_module(module), name)
        except (ImportError, AttributeError) as error:
            raise ValueError(f"gradient_combiner={value!r}: cannot be imported ({error}).") from error
    if isinstance(value, Combiner):
        _check_needs(value)
        return value
    if isinstance(value, str):
        if value not in COMBINERS:
            names = ", ".join(map(repr, COMBINERS))
            raise ValueError(f"gradient_combiner={value!r}: must be one of {names}.{did_you_mean(value, COMBINERS)}")
        return COMBINERS[value]()
    if isinstance(value, type) and issubclass(value, Combiner):
        try:
            combiner = value()
        except TypeError as error:
            raise TypeError(
                f"gradient_combiner={value.__name__}: {error}. Give an object: gradient_combiner={value.__name__}(...)."
            ) from error
        return make_combiner(combiner)
    raise TypeError(
        f"gradient_combiner={value!r}: must be a name ({', '.join(map(repr, COMBINERS))}), or a Combiner such as "
        "PCGrad(); a combiner of your own is a class derived from rllib_multienv.learners.combine.Combiner."
    )
