"""Combiners: how the gradients of environments become one.

A combiner is a class with one method; to add one, write its file and a line in :data:`COMBINERS`.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Mapping, Set
from typing import Any

from rllib_multienv.gym_ids import did_you_mean
from rllib_multienv.learners.combine.cagrad import CAGrad
from rllib_multienv.learners.combine.combiner import Combiner, TaskGradients
from rllib_multienv.learners.combine.cosine import GradientCosine
from rllib_multienv.learners.combine.critic import CriticCombiner
from rllib_multienv.learners.combine.famo import FAMO
from rllib_multienv.learners.combine.grad_norm import GradNorm
from rllib_multienv.learners.combine.gram import GramCombiner
from rllib_multienv.learners.combine.loss_scale import LossScale
from rllib_multienv.learners.combine.mgda import MGDA
from rllib_multienv.learners.combine.nash_mtl import NashMTL
from rllib_multienv.learners.combine.pcgrad import PCGrad
from rllib_multienv.learners.combine.uncertainty import UncertaintyWeighting
from rllib_multienv.learners.combine.upgrad import UPGrad
from rllib_multienv.learners.combine.weighted_sum import WeightedSum

__all__ = [
    "COMBINERS",
    "FAMO",
    "MGDA",
    "CAGrad",
    "Combiner",
    "CriticCombiner",
    "GradNorm",
    "GradientCosine",
    "GramCombiner",
    "LossScale",
    "NashMTL",
    "PCGrad",
    "TaskGradients",
    "UPGrad",
    "UncertaintyWeighting",
    "WeightedSum",
    "make_combiner",
]

#: Names that ``training(gradient_combiner=...)`` takes.
COMBINERS: dict[str, type[Combiner]] = {
    "weighted_sum": WeightedSum,
    "pcgrad": PCGrad,
    "mgda": MGDA,
    "cagrad": CAGrad,
    "nash_mtl": NashMTL,
    "upgrad": UPGrad,
    "cosine": GradientCosine,
    "grad_norm": GradNorm,
    "famo": FAMO,
    "uncertainty": UncertaintyWeighting,
    "loss_scale": LossScale,
}


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


def _class_of(value: Any) -> Any:
    """The class that a name or ``"module:Class"`` stands for; anything else as it is."""
    if not isinstance(value, str):
        return value
    if ":" in value:
        module, _, name = value.partition(":")
        try:
            return getattr(importlib.import_module(module), name)
        except (ImportError, AttributeError) as error:
            raise ValueError(f"gradient_combiner={value!r}: cannot be imported ({error}).") from error
    if value not in COMBINERS:
        names = ", ".join(map(repr, COMBINERS))
        raise ValueError(f"gradient_combiner={value!r}: must be one of {names}.{did_you_mean(value, COMBINERS)}")
    return COMBINERS[value]


def _made(kind: type[Combiner], arguments: Mapping[str, Any]) -> Combiner:
    """A combiner of a class.

    Raises:
        TypeError: Arguments are missing or not known.
    """
    try:
        inspect.signature(kind).bind(**arguments)
    except TypeError as error:
        known = [name for name in inspect.signature(kind).parameters]
        settings = f"its settings are {', '.join(known)}" if known else "it has no settings"
        nearest = "".join(did_you_mean(name, known) for name in arguments if name not in known)
        raise TypeError(
            f"gradient_combiner={kind.__name__}: {error}; {settings}.{nearest} Give an object, "
            f"gradient_combiner={kind.__name__}(...), or in files a mapping of `type` and settings."
        ) from error
    return kind(**arguments)


def make_combiner(value: str | Mapping[str, Any] | Combiner | type[Combiner]) -> Combiner:
    """The combiner that a setting stands for.

    Args:
        value: A name, a combiner, a class of combiners, the ``"module:Class"`` of one, or a mapping of any but an
            object, under ``type``, and its settings.

    Raises:
        ValueError: There is none of that name (the nearest is named).
        TypeError: It is something else, or a setting is missing or not known.
    """
    arguments: dict[str, Any] = {}
    found: Any = value
    if isinstance(value, Mapping):
        arguments = dict(value)
        found = arguments.pop("type", None)
    found = _class_of(found)
    if isinstance(found, type) and issubclass(found, Combiner):
        found = _made(found, arguments)
    elif not isinstance(found, Combiner) or arguments:
        raise TypeError(
            f"gradient_combiner={value!r}: must be a name ({', '.join(map(repr, COMBINERS))}), a mapping such as "
            "{'type': 'cagrad', 'c': 0.5}, or a Combiner such as PCGrad(); a combiner of your own is a class derived "
            "from rllib_multienv.learners.combine.Combiner."
        )
    _check_needs(found)
    return found
