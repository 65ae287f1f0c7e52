"""Attention between environments that are seen at the same time, between the encoders and the memory of a network.

A *world* is a set of environments that one policy sees at once: copy b of each of them (`Interface.world`). In each
time step the encoded row of a member attends to the rows of the other members, whose previous action, reward and end
flag are in it where `NetConfig.inputs` says so:

    row = row + linear(attention(queries=row, keys=others, values=others))

It comes before the memory, so that what one member shows only for a moment is remembered in the rows of those that need
it later, and so that rows of a member that are not wanted themselves need no memory state.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .interface import Interface

__all__ = ["WorldAttention", "world_rows"]

_HEADS = 4


def world_rows(
    interfaces: Mapping[str, Interface],
    counts: Mapping[str, int],
    valid: Mapping[str, Tensor] | None = None,
    present: Mapping[str, Tensor] | None = None,
    device: torch.device | None = None,
) -> list[Tensor]:
    """Which rows are members of one world in one time step.

    Args:
        interfaces: the environments. An environment with k copies in a world (`Interface.world_copies`) has the rows
            ``w * k`` to ``w * k + k - 1`` of a time step in world w.
        counts: rows of each environment in the packed rows, in their order; time first.
        valid: bool ``[T, B]`` by environment, the time steps that have a row; missing: all.
        present: bool ``[T * B]`` by environment, the time steps that are seen, of those with a row; missing: all.
        device: of the result.

    Returns:
        For each world with more than one member int64 ``[N, M]``, N worlds and time steps with M members: the row of
        each member, -1 where it is absent.

    Raises:
        ValueError: members have different numbers of worlds and time steps.
    """
    parts: dict[str, dict[str, Tensor]] = {}
    start = 0
    for env_id, count in counts.items():
        interface = interfaces[env_id]
        if interface.world:
            if valid is None or env_id not in valid:
                rows = torch.arange(start, start + count, device=device)  # [T * B]
            else:
                exists = valid[env_id].flatten()  # [T * B]
                rows = torch.where(exists, exists.cumsum(0) - 1 + start, -1)
            if present is not None and env_id in present:
                rows = torch.where(present[env_id], rows, -1)
            if len(rows) % interface.world_copies:
                raise ValueError(
                    f"{env_id!r}: {len(rows)} rows are no multiple of world_copies={interface.world_copies}"
                )
            parts.setdefault(interface.world, {})[env_id] = rows.view(-1, interface.world_copies)  # [N, k]
        start += count
    found = []
    for world, members in parts.items():
        sizes = {env_id: len(rows) for env_id, rows in members.items()}
        if len(set(sizes.values())) > 1:
            raise ValueError(f"world {world!r}: its environments have different numbers of worlds: {sizes}")
        rows = torch.cat(list(members.values()), 1)  # [N, M]
        if rows.shape[1] > 1:
            found.append(rows)
    return found


class WorldAttention(nn.Module):
    """Attention of each row to the other members of its world.

    The output map begins at zero, so that a network begins as one without attention. There is no position: permuting
    members permutes outputs.

    Args:
        width: features H of a row.
        parts: ``"actor"`` and, where the critic has encoders of its own, ``"critic"``.
    """

    def __init__(self, width: int, parts: Sequence[str]) -> None:
        super().__init__()
        for part in parts:
            self.add_module(part, _Attention(width))

    def forward(self, part: str, rows: Tensor, worlds: Sequence[Tensor]) -> Tensor:
        """Rows ``[R, H]`` that know of their worlds.

        Args:
            part: whose rows they are.
            rows: the encoded rows ``[R, H]``.
            worlds: from `world_rows`.
        """
        attention = self.get_submodule(part)
        added = [attention(rows, members) for members in worlds]
        for members, found in zip(worlds, added, strict=True):
            present = members >= 0  # [N, M]
            rows = rows.index_add(0, members[present], found[present].to(rows.dtype))
        return rows


class _Attention(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.heads = _HEADS if width % _HEADS == 0 else 1
        self.norm = nn.LayerNorm(width)
        self.queries_keys_values = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width, bias=False)
        nn.init.zeros_(self.out.weight)

    def forward(self, rows: Tensor, members: Tensor) -> Tensor:
        """What is added to each member's row, ``[N, M, H]``, from ``rows [R, H]`` and ``members [N, M]``."""
        count, size = members.shape
        tokens = self.norm(rows[members.clamp(min=0)])  # [N, M, H]
        by_head = self.queries_keys_values(tokens).view(count, size, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        queries, keys, values = by_head  # [N, heads, M, H / heads] each
        # A last key and value of zeros stands for nobody: where all others are absent, nothing is added.
        keys, values = (F.pad(of_members, (0, 0, 0, 1)) for of_members in (keys, values))  # [N, heads, M + 1, ...]
        others = ~torch.eye(size, size + 1, dtype=torch.bool, device=rows.device)  # [M, M + 1]
        present = F.pad(members >= 0, (0, 1), value=True)  # [N, M + 1]
        visible = others & present[:, None]  # [N, M, M + 1]
        mixed = F.scaled_dot_product_attention(queries, keys, values, visible[:, None])  # [N, heads, M, H / heads]
        found: Tensor = self.out(mixed.transpose(1, 2).flatten(2))
        return found
