"""Names of parameters: the environment that a parameter belongs to, and the part of the network.

A network keeps the parameters of one environment under the key `env_key` of a ``ModuleDict`` or ``ParameterDict``, so
their names in the state dict contain ``env:ID``. All other parameters are shared. A part is a piece of the dotted
name: ``"encoder"`` means all encoders, ``"actor"`` the whole policy, ``"actor.encoder"`` that encoder alone.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import nn

__all__ = [
    "env_key",
    "environment_of",
    "frozen_parameters",
    "insert_part",
    "is_in_parts",
    "owning_environments",
    "parameters_of_parts",
]

# Neither an attribute of torch's containers nor an id begins like this: ids have no colon.
_PREFIX = "env:"


def env_key(env_id: str) -> str:
    """The key of an environment's parameters: ``env:`` and its id, with dots written ``%2E``."""
    return _PREFIX + env_id.replace("%", "%25").replace(".", "%2E")


def environment_of(name: str) -> str | None:
    """Id of the environment that a parameter (by its name in the state dict) belongs to; None if it is shared."""
    for piece in name.split("."):
        if piece.startswith(_PREFIX):
            return piece.removeprefix(_PREFIX).replace("%2E", ".").replace("%25", "%")
    return None


def owning_environments(names: Iterable[str]) -> set[str]:
    """Ids of the environments that some of these parameters belong to."""
    return {env_id for name in names if (env_id := environment_of(name)) is not None}


def insert_part(parts: Any, env_id: str, part: nn.Module | nn.Parameter) -> None:
    """Put one environment's part into a ``ModuleDict`` or ``ParameterDict``, sorted by key.

    The order of a network's parameters, by which an optimiser's state is saved, must not depend on the order in which
    environments were added.
    """
    found = sorted([*parts.items(), (env_key(env_id), part)])
    parts.clear()
    parts.update(dict(found))


def is_in_parts(name: str, parts: Iterable[str]) -> bool:
    """Whether a parameter belongs to one of these parts."""
    return any(f".{part}." in f".{name}." for part in parts)


def parameters_of_parts(network: nn.Module, parts: Iterable[str], *, setting: str) -> set[str]:
    """Names of the parameters that belong to one of these parts; ``setting`` is named in the error.

    Raises:
        ValueError: the network does not have such a part; the message lists those that it has.
    """
    names = [name for name, _ in network.named_parameters()]
    chosen: set[str] = set()
    for part in parts:
        found = {name for name in names if is_in_parts(name, [part])}
        if not found:
            known = sorted({name for name, _ in network.named_modules() if name and name.count(".") < 2})
            raise ValueError(f"{setting}: the network has no part {part!r}; its parts are {', '.join(known)}.")
        chosen |= found
    return chosen


def frozen_parameters(network: nn.Module, parts: Iterable[str]) -> set[str]:
    """Names of the parameters that are not trained when these parts are frozen.

    Raises:
        ValueError: the network does not have such a part, or nothing would be left to train.
    """
    frozen = parameters_of_parts(network, parts, setting="freeze")
    if frozen and len(frozen) == len(list(network.parameters())):
        raise ValueError("freeze: nothing of the network would be left to train.")
    return frozen
