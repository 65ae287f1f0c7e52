"""Memory over time, between the encoders and the decoders of a network.

A network without memory, the default, has the empty state ``{}`` and skips all of this. A network with memory keeps
one `Memory` per part (actor, critic) in ``ActorCritic.memory``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping

import torch
from torch import Tensor, nn

__all__ = ["Memory", "State", "remember"]

#: Memory state by environment and part of the network: ``{env_id: {part: [B, ...]}}``.
State = Mapping[str, Mapping[str, Tensor]]


class Memory(nn.Module, ABC):
    """Joins encoded rows with those of earlier time steps. All environments share its parameters."""

    @abstractmethod
    def initial_state(self, batch_size: int) -> Tensor:
        """State ``[B, ...]`` of ``batch_size`` copies before their first time step."""

    @abstractmethod
    def forward(self, rows: Tensor, state: Tensor, first: Tensor) -> tuple[Tensor, Tensor]:
        """Process T consecutive time steps of B copies.

        Args:
            rows: encoded rows ``[T, B, H]``.
            state: state before the first of them, ``[B, ...]``.
            first: bool ``[T, B]``, whether the copy's state is reset before this time step.

        Returns:
            Rows ``[T, B, H]`` for the decoders, and the state ``[B, ...]`` after the last time step.
        """


def remember(
    memory: Memory,
    part: str,
    rows: Tensor,
    counts: Mapping[str, int],
    state: State | None,
    first: Mapping[str, Tensor] | None,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Run a memory over the packed rows of several environments; those of equal T run together.

    Args:
        memory: the memory of ``part``.
        part: name of its state.
        rows: ``[R, H]``, the rows of each environment one after the other, time first.
        counts: rows of each environment, T * B, in their order.
        state: state of each environment before these rows; an environment that is missing starts afresh.
        first: bool ``[T, B]`` per environment; None for one time step without resets.

    Returns:
        Rows ``[R, H]``, and ``{env_id: [B, ...]}`` after the last time step.
    """
    resets = first or {e: torch.zeros(1, n, dtype=torch.bool, device=rows.device) for e, n in counts.items()}
    own = dict(zip(counts, rows.split(list(counts.values())), strict=True))
    lengths: dict[int, list[str]] = {}
    for env_id in counts:
        lengths.setdefault(len(resets[env_id]), []).append(env_id)
    states: dict[str, Tensor] = {}
    for length, env_ids in lengths.items():
        sizes = [resets[env_id].shape[1] for env_id in env_ids]
        before = [
            state[env_id][part] if state and env_id in state else memory.initial_state(size)
            for env_id, size in zip(env_ids, sizes, strict=True)
        ]
        joined = torch.cat([own[env_id].view(length, size, -1) for env_id, size in zip(env_ids, sizes, strict=True)], 1)
        after, final = memory(joined, torch.cat(before), torch.cat([resets[env_id] for env_id in env_ids], 1))
        own |= {e: o.flatten(0, 1) for e, o in zip(env_ids, after.split(sizes, 1), strict=True)}  # each [T * B, H]
        states |= dict(zip(env_ids, final.split(sizes), strict=True))
    return torch.cat([own[env_id] for env_id in counts]), states
