"""Where the samples of a mapping ``{env_id: [B, I]}`` go in the packed tensors of the agnostic network."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from .actor_critic import Interface
from .positions import decoder_readouts, sinusoidal_encoding
from .segments import Segments

__all__ = ["DecoderLayout", "Layout", "LayoutCache", "build_layout"]

_KEPT_LAYOUTS = 32


@dataclass(frozen=True)
class DecoderLayout:
    """The outputs of one decoder.

    Attributes:
        segments: one sequence per sample, as long as the environment's action.
        sources: which rows each environment's sequences repeat.
        positions: ``[max_length, H]`` position encodings.
        outputs: ``(env_id, first token, one past the last token, action size)``.
        readouts: ``[num_tokens, H]``, see `decoder_readouts`; None where every output is the mean of all features.
    """

    segments: Segments
    sources: tuple[tuple[int, int], ...]
    positions: Tensor
    outputs: tuple[tuple[str, int, int, int], ...]
    readouts: Tensor | None

    def split(self, flat: Tensor) -> dict[str, Tensor]:
        """Cut ``[num_tokens]`` (or ``[num_tokens, 2]``) into ``{env_id: [B, A]}`` (or ``[B, A, 2]``)."""
        return {env_id: flat[start:stop].view(-1, size, *flat.shape[1:]) for env_id, start, stop, size in self.outputs}

    @cached_property
    def of_tasks(self) -> DecoderLayout:
        """The same environments with a single row each, in the order of ``outputs``."""
        rows = {env_id: (row, 1) for row, (env_id, *_) in enumerate(self.outputs)}
        outputs = [(env_id, size) for env_id, _, _, size in self.outputs]
        readouts = None
        if self.readouts is not None:
            readouts = {env_id: self.readouts[start : start + size] for env_id, start, _, size in self.outputs}
        with _constants():
            return _decoder_layout(outputs, rows, self.positions, readouts)


@dataclass(frozen=True)
class Layout:
    """The packed order of one batch: environments by observation size, so that equal lengths are neighbours.

    Attributes:
        order: environments with at least one sample, in packed order.
        empty: environments without samples.
        segments: the encoder's sequences, one token per observation component.
        positions: ``[U, P]`` position features of every component of every environment, in that order.
        blocks: number of samples and of components of every environment, in that order.
        membership: ``[R, E]`` one-hot: which environment (by ``order``) a row belongs to.
        logits, gaussian, value: layouts of the decoders; None without an environment of that kind.
    """

    order: tuple[str, ...]
    empty: tuple[str, ...]
    segments: Segments
    positions: Tensor
    blocks: tuple[tuple[int, int], ...]
    membership: Tensor
    logits: DecoderLayout | None
    gaussian: DecoderLayout | None
    value: DecoderLayout | None

    def pack(self, obs: Mapping[str, Tensor]) -> Tensor:
        """All observations as one vector ``[N]``, in the dtype and on the device of the layout."""
        return torch.cat([obs[env_id].reshape(-1) for env_id in self.order]).to(self.positions)


class LayoutCache:
    """The layouts of the batch sizes seen last: a runner or a learner meets the same few again and again."""

    def __init__(self) -> None:
        self._kept: OrderedDict[Any, Layout] = OrderedDict()

    def get(self, counts: Mapping[str, int], like: Tensor, build: Callable[[], Layout]) -> Layout:
        """The layout of ``counts`` with dtype and device of ``like``; ``build`` makes one that is not there."""
        key = (like.dtype, like.device, tuple(counts.items()))
        layout = self._kept.get(key)
        if layout is None:
            layout = self._kept[key] = build()
            if len(self._kept) > _KEPT_LAYOUTS:
                self._kept.popitem(last=False)
        else:
            self._kept.move_to_end(key)
        return layout

    def clear(self) -> None:
        """Forget all: the environments are others."""
        self._kept.clear()

    def __getstate__(self) -> dict[str, Any]:
        """Layouts are cheap to build again: copies and pickles go without."""
        return {"_kept": OrderedDict()}


@contextmanager
def _constants() -> Iterator[None]:
    """Not in inference mode: the constants of a layout outlive the call and training saves them for its backward."""
    with torch.inference_mode(False), torch.no_grad():
        yield


def _decoder_layout(
    order: Sequence[tuple[str, int]],
    rows: Mapping[str, tuple[int, int]],
    positions: Tensor,
    readouts_of: Mapping[str, Tensor] | None,
) -> DecoderLayout:
    outputs, start = [], 0
    for env_id, size in order:
        stop = start + size * rows[env_id][1]
        outputs.append((env_id, start, stop, size))
        start = stop
    segments = Segments.of((size, rows[env_id][1]) for env_id, size in order)
    sources = tuple(rows[env_id] for env_id, _ in order)
    readouts = None
    if readouts_of is not None:
        readouts = torch.cat([readouts_of[env_id].repeat(rows[env_id][1], 1) for env_id, _ in order]).to(positions)
    return DecoderLayout(segments, sources, positions, tuple(outputs), readouts)


def build_layout(
    counts: Mapping[str, int],
    interfaces: Mapping[str, Interface],
    *,
    d_model: int,
    positions_of: Callable[[str], Tensor],
    with_readouts: bool,
    like: Tensor,
) -> Layout:
    """Lay out samples of several environments.

    Args:
        counts: number of samples of each.
        interfaces: their sizes and kinds of actions.
        d_model: features H.
        positions_of: what the encoder is given beside each component of an environment's observation, ``[I, P]``.
        with_readouts: whether decoders read each output from features of its own, see `decoder_readouts`.
        like: whose dtype and device the constants have.
    """
    present = [env_id for env_id, count in counts.items() if count]
    order = sorted(present, key=lambda env_id: interfaces[env_id].obs_size)
    rows: dict[str, tuple[int, int]] = {}
    start = 0
    for env_id in order:
        rows[env_id] = (start, counts[env_id])
        start += counts[env_id]
    blocks = tuple((counts[env_id], interfaces[env_id].obs_size) for env_id in order)
    segments = Segments.of((length, count) for count, length in blocks)
    with _constants():
        membership = torch.zeros(start, len(order), dtype=like.dtype, device=like.device)
        for index, env_id in enumerate(order):
            membership[rows[env_id][0] : sum(rows[env_id]), index] = 1.0

        def by_action(discrete: bool) -> list[tuple[str, int]]:
            chosen = [
                (env_id, interfaces[env_id].action_size) for env_id in order if interfaces[env_id].discrete == discrete
            ]
            return sorted(chosen, key=lambda pair: pair[1])

        def decoder(outputs: list[tuple[str, int]]) -> DecoderLayout | None:
            if not outputs:
                return None
            encoding = sinusoidal_encoding(max(size for _, size in outputs), d_model).to(like)
            readouts = None
            if with_readouts:
                readouts = {e: decoder_readouts(interfaces[e].description, size, d_model) for e, size in outputs}
            return _decoder_layout(outputs, rows, encoding, readouts)

        return Layout(
            order=tuple(order),
            empty=tuple(env_id for env_id, count in counts.items() if not count),
            segments=segments,
            positions=torch.cat([positions_of(env_id) for env_id in order]).to(like) if order else like.new_zeros(0, 0),
            blocks=blocks,
            membership=membership,
            logits=decoder(by_action(True)),
            gaussian=decoder(by_action(False)),
            value=decoder([(env_id, 1) for env_id in order]),
        )
