"""Which methods of an `AlgorithmConfig` class a file may name, and which keyword arguments they take."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any

# Public methods that return a config but set nothing a user would write into a file.
_NOT_SETTERS = frozenset({"copy", "freeze", "update_from_dict", "validate", "to_dict", "api_stack"})


@dataclass(frozen=True)
class Arguments:
    """The keyword arguments of a method.

    Args:
        known: Those to use.
        dropped: Those that RLlib keeps only to say that they are gone, and what has taken their place.
    """

    known: frozenset[str]
    dropped: frozenset[str]


def config_methods(config_class: type) -> dict[str, Arguments]:
    """The fluent setters of a config class.

    Args:
        config_class: A subclass of RLlib's `AlgorithmConfig`.

    Returns:
        Method name -> the keyword arguments that it takes. A method with ``**kwargs`` hands them to the
        method of the same name of its base class, so the arguments of all these are taken together.
    """
    found: dict[str, Arguments] = {}
    for name in dir(config_class):
        if name.startswith(("_", "get_", "is_", "build", "validate")) or name in _NOT_SETTERS:
            continue
        definitions = [vars(c)[name] for c in config_class.__mro__ if inspect.isfunction(vars(c).get(name))]
        if definitions and _is_setter(definitions, config_class):
            found[name] = _arguments(definitions)
    return found


def _is_setter(definitions: list[Any], config_class: type) -> bool:
    """Whether the outermost definition returns the config itself, or has RLlib's mark for "not provided"."""
    if hasattr(definitions[0], "declared"):
        return bool(_arguments(definitions).known)
    returned = str(inspect.signature(definitions[0]).return_annotation)
    class_names = {c.__name__ for c in config_class.__mro__ if c is not object}
    if "Self" in returned or any(name in returned.replace("'", "").split(".")[-1] for name in class_names):
        return bool(_arguments(definitions).known)
    from ray.rllib.utils.from_config import NotProvided

    return any(p.default is NotProvided for d in definitions for p in inspect.signature(d).parameters.values())


def _arguments(definitions: list[Any]) -> Arguments:
    from ray._common.deprecation import DEPRECATED_VALUE

    known: set[str] = set()
    dropped: set[str] = set()
    by_name = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    for definition in definitions:
        parameters = list(inspect.signature(definition).parameters.values())[1:]
        for parameter in parameters:
            if parameter.kind in by_name:
                (dropped if parameter.default is DEPRECATED_VALUE else known).add(parameter.name)
        if not any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters):
            break
    return Arguments(frozenset(known), frozenset(dropped - known))
