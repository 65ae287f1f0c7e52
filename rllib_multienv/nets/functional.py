"""Policies with other parameters than the network's own, such as those that were adapted to a task."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.func import functional_call, vmap

if TYPE_CHECKING:
    from .actor_critic import ActorCritic

__all__ = ["functional_policies", "functional_policy", "is_functional"]

_is_functional = False


def is_functional() -> bool:
    """Whether a network is called with other parameters: it keeps nothing, and has second derivatives."""
    return _is_functional


@contextmanager
def _functional() -> Iterator[None]:
    global _is_functional
    before, _is_functional = _is_functional, True
    try:
        yield
    finally:
        _is_functional = before


def functional_policy(network: ActorCritic, parameters: Mapping[str, Tensor], env_id: str, obs: Tensor) -> Tensor:
    """Distribution inputs ``[n, num_inputs]`` of observations ``[n, width]``, with these parameters."""
    with _functional():
        outputs = functional_call(network, dict(parameters), ({env_id: obs},), {"parts": ("actor",)})
    policy: Tensor = outputs.policy[env_id]
    return policy


def functional_policies(network: ActorCritic, parameters: Mapping[str, Tensor], env_id: str, obs: Tensor) -> Tensor:
    """Distribution inputs ``[B, num_inputs]`` of B observations ``[B, width]``, each with parameters of its own.

    Args:
        network: The network. Of one that has no second derivatives (`ActorCritic.twice_differentiable`), policies are
            computed one after the other.
        parameters: ``[B, ...]`` each, by name.
        env_id: The environment.
        obs: ``[B, width]``.
    """

    def one(own: dict[str, Tensor], row: Tensor) -> Tensor:
        return functional_policy(network, own, env_id, row[None])[0]  # [num_inputs]

    if network.twice_differentiable and not network.interfaces[env_id].observation.packed:
        policies: Tensor = vmap(one)(dict(parameters), obs)  # [B, num_inputs]
        return policies
    owners = [{name: value[b] for name, value in parameters.items()} for b in range(len(obs))]
    return torch.stack([one(own, row) for own, row in zip(owners, obs, strict=True)])
