"""Memory over time, between the encoders and the decoders of a network.

A network has one recurrent core, shared by all environments and computed from the rows of the actor:

    rows = encode(actor);  remembered, state = core(rows, state);  policy = decode(actor, remembered)
    values = decode(critic, encode(critic) + linear(remembered))

so that runners, which drop the critic, have the whole state. A network without memory, the default, skips all of this.

Sequences are cut where a memory is reset: a core sees only pieces of single episodes, of any lengths, each with the
state that it begins with. A step of B copies is B pieces of length one.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import groupby
from typing import ClassVar, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from .interface import Inputs, Interface
from .kernels import S4DKernels
from .packed import Segments
from .sequence import MixingLayer

__all__ = ["MEMORIES", "GRUMemory", "GRUReadout", "Memory", "NetworkMemory", "Pieces", "S4Memory", "State"]

#: Memory state by environment, ``[B, ...]``.
State = Mapping[str, Tensor]


class Memory(nn.Module, ABC):
    """A recurrent core: joins encoded rows with those of earlier time steps of the same episode."""

    @abstractmethod
    def initial_state(self, batch_size: int) -> Tensor:
        """State ``[B, D]`` of ``batch_size`` copies before the first time step of an episode."""

    @abstractmethod
    def forward(self, rows: Tensor, state: Tensor, pieces: Segments) -> tuple[Tensor, Tensor]:
        """Process pieces of episodes, grouped by length, the longest first.

        Args:
            rows: encoded rows ``[N, H]``, the time steps of each piece one after the other. ``group.tokens(rows)`` is
                ``[count, length, H]`` for each of ``pieces.groups``.
            state: state before each piece ``[P, D]``; ``group.rows(state)`` is ``[count, D]``.
            pieces: their layout.

        Returns:
            Rows ``[N, H]`` for the decoders, and the state ``[P, D]`` after each piece.
        """


class GRUMemory(Memory):
    """GRU layers beside the rows: ``row + linear(GRU(LayerNorm(row)))``.

    Args:
        width: features H of a row.
        size: units of a layer.
        num_layers: layers.
    """

    def __init__(self, width: int, size: int | None, num_layers: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.gru = nn.GRU(width, size or width, num_layers)
        self.linear = nn.Linear(size or width, width)

    def initial_state(self, batch_size: int) -> Tensor:
        """Zeros ``[B, num_layers * size]``."""
        return self.linear.weight.new_zeros(batch_size, self.gru.num_layers * self.gru.hidden_size)

    def forward(self, rows: Tensor, state: Tensor, pieces: Segments) -> tuple[Tensor, Tensor]:
        """See `Memory.forward`."""
        found, after = self.units(rows, state, pieces)
        return rows + self.linear(found), after

    def units(self, rows: Tensor, state: Tensor, pieces: Segments) -> tuple[Tensor, Tensor]:
        """The units of the last layer ``[N, size]`` instead of rows, and the states after each piece."""
        hidden = state.unflatten(1, (self.gru.num_layers, -1)).transpose(0, 1).contiguous()  # [layers, P, size]
        normed = self.norm(rows)
        if pieces.max_length == 1:
            found, hidden = self.gru(normed[None], hidden)  # [1, P, size]
            return found[0], hidden.transpose(0, 1).flatten(1)
        to_steps, sizes = _time_first(pieces)
        to_steps = to_steps.to(rows.device)
        packed, hidden = self.gru(PackedSequence(normed[to_steps], sizes), hidden)
        found = torch.empty_like(packed.data).index_copy(0, to_steps, packed.data)  # [N, size]
        return found, hidden.transpose(0, 1).flatten(1)


class GRUReadout(GRUMemory):
    """GRU layers that give a linear map ``[N, outputs]`` of their units instead of rows."""

    def __init__(self, width: int, size: int | None, num_layers: int, outputs: int) -> None:
        super().__init__(width, size, num_layers)
        self.linear = nn.Linear(self.gru.hidden_size, outputs)

    def forward(self, rows: Tensor, state: Tensor, pieces: Segments) -> tuple[Tensor, Tensor]:
        """See `Memory.forward`."""
        units, after = self.units(rows, state, pieces)
        return self.linear(units), after


def _time_first(pieces: Segments) -> tuple[Tensor, Tensor]:
    """Rows ``[N]`` of all first time steps, then of all second ones, ...; and how many there are of each ``[L]``."""
    lengths = np.repeat([group.length for group in pieces.groups], [group.count for group in pieces.groups])  # [P]
    starts = np.cumsum(lengths) - lengths
    times = np.arange(lengths[0])[:, None]  # [L, 1]
    exists = times < lengths  # [L, P]
    return torch.from_numpy((starts + times)[exists]), torch.from_numpy(exists.sum(1))


class S4Memory(Memory):
    """S4D layers over time (Gu et al. 2022): a convolution over each piece, beside what is left of its first state.

    With the states ``x_k = Abar x_{k-1} + u_k`` and outputs ``y_k = 2 Re(C Bbar x_k) + D u_k`` of `S4DKernels` for each
    feature, a piece that begins with the state x has ``y_k = sum_j K_j u_{k-j} + 2 Re(C Bbar Abar^(k+1) x)``.

    Args:
        width: features H of a row.
        size: complex states of a feature and their conjugates, even; None: 16.
        num_layers: layers, each with a gated linear unit.
    """

    #: Features look back over 10 to 1,000 time steps at first.
    DT_RANGE: ClassVar[tuple[float, float]] = (0.001, 0.1)

    def __init__(self, width: int, size: int | None, num_layers: int) -> None:
        super().__init__()
        self.kernels = S4DKernels(num_layers, width, size or 16, dt_range=self.DT_RANGE)
        self.layers = nn.ModuleList(MixingLayer(width, 0.0) for _ in range(num_layers))

    def initial_state(self, batch_size: int) -> Tensor:
        """Zeros ``[B, num_layers * H * N]``, real and imaginary parts."""
        return self.kernels.c.new_zeros(batch_size, self.kernels.c.numel())

    def forward(self, rows: Tensor, state: Tensor, pieces: Segments) -> tuple[Tensor, Tensor]:
        """See `Memory.forward`."""
        before = torch.view_as_complex(state.unflatten(1, self.kernels.c.shape))  # [P, layers, H, N/2]
        kernels, readout, powers = self.kernels.recurrence(pieces.max_length)
        after = []
        for number, layer in enumerate(cast(list[MixingLayer], self.layers)):
            own = kernels[number], readout[number], powers[number]
            rows, last = self._layer(layer, rows, before[:, number], pieces, *own)
            after.append(last)
        return rows, torch.view_as_real(torch.stack(after, 1)).flatten(1)

    @staticmethod
    def _layer(
        layer: MixingLayer,
        rows: Tensor,
        before: Tensor,
        pieces: Segments,
        kernel: Tensor,
        readout: Tensor,
        powers: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """One layer.

        Args:
            layer: normalises, convolves, and mixes the features.
            rows: ``[N, H]``.
            before: states before each piece, complex ``[P, H, N/2]``.
            pieces: their layout.
            kernel: ``[L, H]``.
            readout: ``2 C Bbar``, complex ``[H, N/2]``.
            powers: ``Abar^0`` to ``Abar^L``, complex ``[L + 1, H, N/2]``.

        Returns:
            Rows ``[N, H]``, and states after each piece ``[P, H, N/2]``.
        """
        inputs = layer.norm(rows)
        carried, after = [], []
        for group in pieces.groups:
            start, own = group.rows(before), group.tokens(inputs)  # [count, H, N/2], [count, length, H]
            decayed = readout * powers[1 : group.length + 1]  # [length, H, N/2]
            left = torch.einsum("lhn,chn->clh", decayed, start).real  # [count, length, H]
            carried.append(left.flatten(0, 1))
            backwards = powers[: group.length].flip(0)  # [length, H, N/2]
            seen = torch.einsum("lhn,clh->chn", backwards, own.to(backwards.dtype))  # [count, H, N/2]
            after.append(powers[group.length] * start + seen)
        return layer.mixed(rows, inputs, kernel, pieces, torch.cat(carried)), torch.cat(after)


MEMORIES: dict[str, type[GRUMemory] | type[S4Memory]] = {"gru": GRUMemory, "s4": S4Memory}


@dataclass(frozen=True)
class Pieces:
    """Rows of several environments, time first, as pieces of episodes.

    Attributes:
        segments: layout of the pieces, the longest first.
        order: ``[N]``, the row of each time step of the pieces.
        origin: ``[P]``, the copy (of all environments, one after the other) whose state each piece begins with; -1 for
            pieces that begin afresh.
        last: ``[B]``, the last piece of each copy; -1 for copies without a time step.
    """

    segments: Segments
    order: Tensor
    origin: Tensor
    last: Tensor

    @classmethod
    def of(cls, first: Mapping[str, Tensor], valid: Mapping[str, Tensor] | None = None) -> Pieces:
        """Cut the time steps of each environment's copies where memory is reset.

        Args:
            first: bool ``[T, B]`` by environment, whether memory is reset before this time step.
            valid: bool ``[T, B]`` by environment, the steps that have a row; missing: all of them.
        """
        lengths, starts, origins, last = [], [], [], []
        steps = []  # rows of each copy in time order, one copy after the other
        num_rows = num_copies = num_pieces = 0
        for env_id, resets in first.items():
            begins = resets.cpu().numpy().T  # [B, T]
            exists = np.ones_like(begins) if valid is None or env_id not in valid else valid[env_id].cpu().numpy().T
            row = np.cumsum(exists.T.reshape(-1)).reshape(exists.T.shape).T - 1 + num_rows  # [B, T]
            steps.append(row[exists])
            counts = exists.sum(1)  # [B]
            # A piece begins at a reset, and at a copy's first step.
            resets_of_steps = begins[exists]  # [n]
            is_begin = resets_of_steps.copy()
            own = np.cumsum(counts) - counts
            is_begin[own[counts > 0]] = True
            copies = np.repeat(np.arange(len(counts)), counts)  # [n]
            at = np.flatnonzero(is_begin)
            starts.append(at + num_rows)
            lengths.append(np.diff(at, append=len(copies)))
            origins.append(np.where(resets_of_steps[at], -1, copies[at] + num_copies))
            number = np.cumsum(is_begin) - 1 + num_pieces  # [n], the piece of each step
            last.append(np.full(len(counts), -1))
            last[-1][counts > 0] = number[(own + counts - 1)[counts > 0]]
            num_rows, num_copies = num_rows + len(copies), num_copies + len(counts)
            num_pieces += len(at)
        length, start, flat = np.concatenate(lengths), np.concatenate(starts), np.concatenate(steps)
        longest_first = np.argsort(-length, kind="stable")
        place = np.empty_like(longest_first)
        place[longest_first] = np.arange(len(place))
        length, start = length[longest_first], start[longest_first]
        within = np.arange(length.sum()) - np.repeat(np.cumsum(length) - length, length)
        device = next(iter(first.values())).device
        ends = np.concatenate(last)
        return cls(
            segments=Segments.of((size, len(list(group))) for size, group in groupby(length.tolist())),
            order=torch.from_numpy(flat[np.repeat(start, length) + within]).to(device),
            origin=torch.from_numpy(np.concatenate(origins)[longest_first]).to(device),
            last=torch.from_numpy(np.where(ends < 0, -1, place[ends])).to(device),
        )


class NetworkMemory(nn.Module):
    """A network's core, and the critic's linear map of what it remembers.

    Args:
        core: the core.
        width: features H of a row.
    """

    def __init__(self, core: Memory, width: int) -> None:
        super().__init__()
        self.core, self.width = core, width
        self.critic: nn.Module = nn.Linear(width, width, bias=False)

    def initial_state(self, batch_size: int) -> Tensor:
        """State ``[B, D]`` of ``batch_size`` copies before the first time step of an episode."""
        return self.core.initial_state(batch_size)

    def for_actor(self, rows: Tensor, remembered: Tensor) -> Tensor:
        """Rows ``[R, H]`` for the actor's decoders, from its encoded rows and what is remembered of each."""
        return remembered

    def for_critic(self, rows: Tensor, remembered: Tensor) -> Tensor:
        """Rows ``[R, H]`` for the critic's decoders, from its encoded rows and what is remembered of each."""
        added: Tensor = self.critic(remembered)
        return rows + added

    def add_env(self, env_id: str, interface: Interface) -> None:
        """An environment becomes known."""

    def remove_env(self, env_id: str) -> None:
        """An environment is removed."""

    def remember(
        self,
        rows: Tensor,
        inputs: Mapping[str, Inputs],
        counts: Mapping[str, int],
        state: State | None,
        first: Mapping[str, Tensor] | None,
        valid: Mapping[str, Tensor] | None,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """What is remembered of each row ``[R, ...]``, and the next states; see `forward`.

        Args:
            rows: the actor's encoded rows ``[R, H]``.
            inputs: observations of which they are.
            counts, state, first, valid: as in `forward`.
        """
        return self(rows, counts, state, first, valid)

    def forward(
        self,
        rows: Tensor,
        counts: Mapping[str, int],
        state: State | None = None,
        first: Mapping[str, Tensor] | None = None,
        valid: Mapping[str, Tensor] | None = None,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Run the core over the packed rows of several environments.

        Args:
            rows: ``[R, H]``, the rows of each environment one after the other, time first.
            counts: rows of each environment, in their order.
            state: state of each environment's copies before these rows; an environment that is missing starts afresh.
            first: bool ``[T, B]`` by environment, see `Pieces.of`; None for one time step without resets.
            valid: bool ``[T, B]`` by environment, the steps that have a row; None for all.

        Returns:
            Rows ``[R, H]``, and ``{env_id: [B, D]}`` after the last time step.
        """
        # In bfloat16 what is remembered would be forgotten soon, and not all recurrent layers have it.
        with torch.autocast(rows.device.type, enabled=False):
            return self._forward(rows.to(next(self.core.parameters()).dtype), counts, state, first, valid)

    def _forward(
        self,
        rows: Tensor,
        counts: Mapping[str, int],
        state: State | None,
        first: Mapping[str, Tensor] | None,
        valid: Mapping[str, Tensor] | None,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        sizes = [counts[env_id] if first is None else first[env_id].shape[1] for env_id in counts]
        parts = [
            self.core.initial_state(size) if state is None or env_id not in state else state[env_id]
            for env_id, size in zip(counts, sizes, strict=True)
        ]
        before = torch.cat(parts) if len(parts) > 1 else parts[0]  # [B, D]
        if first is None:
            remembered, after = self.core(rows, before, Segments.of([(1, len(rows))]))
            return remembered, dict(zip(counts, after.split(sizes), strict=True))
        pieces = Pieces.of({env_id: first[env_id] for env_id in counts}, valid)
        fresh = self.core.initial_state(1)
        # Row -1 is that of a fresh memory.
        found, ends = self.core(rows[pieces.order], torch.cat([before, fresh])[pieces.origin], pieces.segments)
        remembered = torch.empty_like(found).index_copy(0, pieces.order, found)
        after = torch.where((pieces.last < 0)[:, None], before, ends[pieces.last])
        return remembered, dict(zip(counts, after.split(sizes), strict=True))
