"""Network configs: frozen, validated, JSON-able."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Mapping
from typing import Any, ClassVar, Self

from .actor_critic import ActorCritic, Interface

__all__ = ["NetConfig", "net_config_from_dict", "require", "require_sizes"]

_TYPES: dict[str, type[NetConfig]] = {}


def require(condition: bool, field: str, value: object, expected: str) -> None:
    """Raise a ValueError that names the config field unless ``condition`` holds."""
    if not condition:
        raise ValueError(f"{field}={value!r}: must be {expected}")


def require_sizes(config: NetConfig, *fields: str) -> None:
    """Raise a ValueError that names the first of these fields that is no whole number >= 1."""
    for field in fields:
        value = getattr(config, field)
        require(isinstance(value, int) and value >= 1, field, value, "a whole number >= 1")


def _nearest(name: object, known: list[str]) -> str:
    close = difflib.get_close_matches(str(name), known, n=1)
    return f"did you mean {close[0]!r}?" if close else f"known: {', '.join(known)}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class NetConfig:
    """Base of the network configs. ``type`` is the name that YAML files and checkpoints use."""

    type: ClassVar[str]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        _TYPES[cls.type] = cls

    def build(self, interfaces: Mapping[str, Interface]) -> ActorCritic:
        """Build the network for these environments."""
        raise NotImplementedError

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form, read by `net_config_from_dict`."""
        fields = {name: list(v) if isinstance(v, tuple) else v for name, v in dataclasses.asdict(self).items()}
        return {"type": self.type, **fields}

    @classmethod
    def from_fields(cls, fields: Mapping[str, Any]) -> Self:
        """Build from field values; an unknown one is an error that offers the nearest."""
        known = [field.name for field in dataclasses.fields(cls)]
        for name in fields:
            if name not in known:
                raise ValueError(f"unknown field {name!r} of the {cls.type!r} network config; {_nearest(name, known)}")
        return cls(**{name: tuple(v) if isinstance(v, list) else v for name, v in fields.items()})


def net_config_from_dict(values: Mapping[str, Any]) -> NetConfig:
    """The config that ``to_dict`` wrote, or that a file gives.

    Raises:
        ValueError: ``type`` is missing or unknown, or a field is.
    """
    fields = dict(values)
    name = fields.pop("type", None)
    if name not in _TYPES:
        raise ValueError(f"network config with type {name!r}; {_nearest(name, sorted(_TYPES))}")
    return _TYPES[name].from_fields(fields)
