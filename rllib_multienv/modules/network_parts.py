"""Which parameters of a network belong to parts that the user names."""

from __future__ import annotations

from collections.abc import Iterable

from rllib_multienv.nets import ActorCritic


def is_in_parts(name: str, parts: Iterable[str]) -> bool:
    """Whether a parameter belongs to one of ``parts``, parts of dotted paths.

    ``"encoder"`` means all encoders, ``"actor"`` the whole policy, ``"actor.encoder"`` that encoder alone.
    """
    return any(f".{part}." in f".{name}." for part in parts)


def parameters_of_parts(network: ActorCritic, parts: Iterable[str], *, setting: str) -> set[str]:
    """Names of the parameters that belong to one of ``parts``.

    Args:
        network: The network.
        parts: See :func:`is_in_parts`.
        setting: What the user set, for the error.

    Raises:
        ValueError: The network has no such part; those that it has are named.
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


def frozen_parameters(network: ActorCritic, parts: Iterable[str]) -> set[str]:
    """Names of the parameters that are not to be trained.

    Raises:
        ValueError: The network has no such part, or nothing would be left to train.
    """
    frozen = parameters_of_parts(network, parts, setting="freeze")
    if frozen and len(frozen) == len(list(network.parameters())):
        raise ValueError("freeze: nothing of the network would be left to train.")
    return frozen
