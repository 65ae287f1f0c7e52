"""Which parameters of a network the user wants left as they are."""

from __future__ import annotations

from collections.abc import Iterable

from rllib_multienv.nets import ActorCritic


def frozen_parameters(network: ActorCritic, parts: Iterable[str]) -> set[str]:
    """Names of the parameters that belong to one of ``parts``.

    Args:
        network: The network.
        parts: Parts of dotted paths: ``"encoder"`` means all encoders, ``"actor"`` the whole policy,
            ``"actor.encoder"`` that encoder alone.

    Raises:
        ValueError: The network has no such part (those that it has are named), or nothing would be left to train.
    """
    names = [name for name, _ in network.named_parameters()]
    frozen: set[str] = set()
    for part in parts:
        found = {name for name in names if f".{part}." in f".{name}."}
        if not found:
            known = sorted({name for name, _ in network.named_modules() if name and name.count(".") < 2})
            raise ValueError(f"freeze: the network has no part {part!r}; its parts are {', '.join(known)}.")
        frozen |= found
    if frozen and len(frozen) == len(names):
        raise ValueError("freeze: nothing of the network would be left to train.")
    return frozen
