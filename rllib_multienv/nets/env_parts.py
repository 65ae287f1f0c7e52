"""Parameters that belong to one environment, told from shared ones by their names in the state dict.

A network keeps what belongs to an environment under the key `env_key` of a ``ModuleDict`` or ``ParameterDict``, so its
name in the state dict has a part ``env:ID``. All other parameters are shared.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import nn

__all__ = ["env_key", "environment_of", "insert_part", "owning_environments"]

# Neither an attribute of torch's containers nor an id can begin like this: ids have no colon.
_PREFIX = "env:"


def env_key(env_id: str) -> str:
    """The key of an environment's parameters: ``env:`` and its id, in which dots are written ``%2E``."""
    return _PREFIX + env_id.replace("%", "%25").replace(".", "%2E")


def environment_of(name: str) -> str | None:
    """Id of the environment that a parameter (by its name in the state dict) belongs to; None if it is shared."""
    for part in name.split("."):
        if part.startswith(_PREFIX):
            return part.removeprefix(_PREFIX).replace("%2E", ".").replace("%25", "%")
    return None


def owning_environments(names: Iterable[str]) -> set[str]:
    """Ids of the environments that some of these parameters belong to."""
    return {env_id for name in names if (env_id := environment_of(name)) is not None}


def insert_part(parts: Any, env_id: str, part: nn.Module | nn.Parameter) -> None:
    """Put one environment's part into a ``ModuleDict`` or ``ParameterDict``, and sort that by key.

    The order of a network's parameters, by which an optimiser's state is saved, must not depend on the order in which
    environments came.
    """
    found = sorted([*parts.items(), (env_key(env_id), part)])
    parts.clear()
    parts.update(dict(found))
