"""Task context: what tells the shared network which environment an observation comes from.

The paper feeds the environment's name and action space. Here a fixed-length vector is *computed* from the
environment's description, so a new environment has a context without a new parameter, and environments with
alike names or spaces have alike contexts (docs/deviations.md, 4).
"""

from __future__ import annotations

import math
import re
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from .actor_critic import Interface
from .env_parts import env_key, insert_part

__all__ = ["CONTEXT_SIZE", "TaskContext", "describe", "with_named_rows"]

_NAME_SIZE = 48
_BOUND_SIZE = 6
_LARGEST_BOUND = 1e6
CONTEXT_SIZE = _NAME_SIZE + 4 + _BOUND_SIZE


def _name_features(description: str) -> Tensor:
    """Signed hashed character n-grams (2 to 4) of the description (Weinberger et al., 2009), mean square one."""
    text = f"^{description.lower()}$"
    vector = torch.zeros(_NAME_SIZE, dtype=torch.float64)
    for size in (2, 3, 4):
        for start in range(len(text) - size + 1):
            code = zlib.crc32(text[start : start + size].encode())
            # The bucket and the sign come from different bits; crc32 is the same in every process and
            # version.
            vector[(code >> 1) % _NAME_SIZE] += 1.0 if code & 1 else -1.0
    norm = vector.norm()
    return vector * (math.sqrt(_NAME_SIZE) / norm) if norm > 0 else vector


def describe(interface: Interface) -> Tensor:
    """The context features ``[CONTEXT_SIZE]`` (float32) of an environment.

    N-grams of the description, kind of the actions (±1), log2 sizes of observation and action, and mean, spread and
    extremes of the action bounds on a signed log scale.
    """
    sizes = torch.tensor(
        [
            1.0 if interface.discrete else -1.0,
            math.log2(interface.obs_size) / 4 - 1,
            math.log2(interface.action_size) / 2 - 1,
            math.log2(interface.obs_size) - math.log2(interface.action_size) - 2,
        ],
        dtype=torch.float64,
    )
    bounds = torch.zeros(_BOUND_SIZE, dtype=torch.float64)
    if not interface.discrete:
        low, high = (
            torch.tensor(bound, dtype=torch.float64).clamp(-_LARGEST_BOUND, _LARGEST_BOUND)
            for bound in (interface.action_low, interface.action_high)
        )
        low, high = (torch.sign(x) * torch.log1p(x.abs()) for x in (low, high))
        bounds[:] = torch.stack(
            [low.mean(), high.mean(), low.min(), high.max(), (high - low).min(), (high + low).max()]
        )
    return torch.cat([_name_features(interface.description), sizes, bounds]).float()


def with_named_rows(state: Mapping[str, Tensor], env_ids: Sequence[str]) -> dict[str, Tensor]:
    """A state dict of an earlier version, in which the rows of the table are numbered in the order of ``env_ids``."""

    def named(name: str) -> str:
        return re.sub(r"\bcontext\.rows\.(\d+)$", lambda m: f"context.rows.{env_key(env_ids[int(m[1])])}", name)

    return {named(name): tensor for name, tensor in state.items()}


class TaskContext(nn.Module):
    """Adds the task context to the encoder's vectors (paper, section 3.1: "feed the task embedding vector and
    sum it").

    Args:
        mode: ``"computed"``: a shared linear map of `describe`; ``"embedding"``: a learned row per
            environment, under its `env_key`; ``"none"``: nothing.
        d_model: features H.
    """

    def __init__(self, mode: str, d_model: int) -> None:
        super().__init__()
        self.mode = mode
        self.d_model = d_model
        self._descriptions: dict[str, Tensor] = {}
        if mode == "computed":
            self.linear = nn.Linear(CONTEXT_SIZE, d_model)
        elif mode == "embedding":
            self.rows = nn.ParameterDict()

    def add_env(self, env_id: str, interface: Interface) -> None:
        """Make an environment's context known."""
        if self.mode == "computed":
            self._descriptions[env_id] = describe(interface)
        elif self.mode == "embedding" and env_key(env_id) not in self.rows:
            reference = next(iter(self.rows.values()), None)
            row = torch.randn(self.d_model)
            row = row if reference is None else row.to(reference)
            insert_part(self.rows, env_id, nn.Parameter(row))

    def remove_env(self, env_id: str) -> None:
        """Forget an environment's context."""
        self._descriptions.pop(env_id, None)
        if self.mode == "embedding":
            del self.rows[env_key(env_id)]

    def _load_from_state_dict(self, state_dict: Mapping[str, Tensor], prefix: str, *args: Any) -> None:
        """Refuse the rows of earlier versions, which had numbers: RLlib would ignore them and leave these at random.

        Raises:
            ValueError: they are in ``state_dict``.
        """
        if f"{prefix}rows.0" in state_dict:
            raise ValueError(
                'These weights are of an earlier version, in which the rows of context="embedding" had no names. Such '
                "a run cannot be resumed; start a new one from its checkpoint with config.initialize_from(path)."
            )
        super()._load_from_state_dict(state_dict, prefix, *args)

    def forward(self, rows: Tensor, order: tuple[str, ...], membership: Tensor) -> Tensor:
        """Add to ``rows [R, H]`` the context of each one's environment by ``membership [R, E]`` (one-hot)."""
        if self.mode == "none":
            return rows
        return torch.addmm(rows, membership, self.table(order, rows))

    def table(self, env_ids: Sequence[str], like: Tensor) -> Tensor:
        """The context of each environment, ``[E, H]`` in the dtype and on the device of ``like``; zeros without any."""
        if self.mode == "none":
            return like.new_zeros(len(env_ids), self.d_model)
        if self.mode == "embedding":
            return torch.stack([self.rows[env_key(env_id)] for env_id in env_ids])
        table: Tensor = self.linear(torch.stack([self._descriptions[env_id] for env_id in env_ids]).to(like))
        return table
