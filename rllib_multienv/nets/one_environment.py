"""What networks have in common that are built for one environment and have no others."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from .actor_critic import ActorCritic, Interface
from .config import NetConfig

__all__ = ["OneEnvironmentActorCritic", "the_only"]


def the_only(config: NetConfig, interfaces: Mapping[str, Interface]) -> tuple[str, Interface]:
    """The one environment that a network of ``config`` is for.

    Raises:
        ValueError: there is none, or there are several.
    """
    if len(interfaces) != 1:
        raise ValueError(
            f"{type(config).__name__} is for exactly one environment, got {len(interfaces)}: {sorted(interfaces)}; "
            "use AgnosticNetConfig or SpecificNetConfig for several"
        )
    ((env_id, interface),) = interfaces.items()
    return env_id, interface


class OneEnvironmentActorCritic(ActorCritic):
    """Base of networks whose sizes are those of their only environment."""

    #: What errors call it.
    name: ClassVar[str]

    def __init__(self, env_id: str, interface: Interface) -> None:
        super().__init__()
        self.interfaces[env_id] = interface

    def add_env(self, env_id: str, interface: Interface) -> None:
        """Fails for any environment but the one that the network was built for.

        Raises:
            ValueError: another environment, or another interface.
        """
        if env_id not in self.interfaces:
            raise ValueError(f"{self.name} has one environment, {next(iter(self.interfaces))!r}; cannot add {env_id!r}")
        super().add_env(env_id, interface)

    def remove_env(self, env_id: str) -> None:
        """Fails: the network has no parameters but that environment's.

        Raises:
            ValueError: always.
        """
        raise ValueError(f"{self.name} cannot lose its only environment ({env_id!r})")
