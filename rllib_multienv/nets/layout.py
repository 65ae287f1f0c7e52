"""Layouts: the order of samples and outputs in the packed tensors of the agnostic network."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

from .context import decoder_readouts, sinusoidal_encoding
from .interface import Interface
from .packed import Segments

__all__ = ["DecoderLayout", "Layout", "LayoutCache", "build_layout"]

_KEPT_LAYOUTS = 32
L = TypeVar("L")


@dataclass(frozen=True)
class DecoderLayout:
    """The outputs of one decoder: one sequence per sample, as long as the environment's action.

    Attributes:
        segments: the sequences.
        sources: rows, number of rows and sequence length of each environment, see `repeat_rows`.
        positions: ``[max_length, H]`` position encodings.
        outputs: ``(env_id, first token, one past the last token, action size)`` of each environment.
        readouts: ``[N, H]``, see `decoder_readouts`; None if every output is the mean of all features.
    """

    segments: Segments
    sources: tuple[tuple[int, int, int], ...]
    positions: Tensor
    outputs: tuple[tuple[str, int, int, int], ...]
    readouts: Tensor | None

    def split(self, flat: Tensor) -> dict[str, Tensor]:
        """Cut ``[N]`` (or ``[N, K]``) into ``{env_id: [B, A]}`` (or ``[B, A, K]``)."""
        return {env_id: flat[start:stop].view(-1, size, *flat.shape[1:]) for env_id, start, stop, size in self.outputs}

    @cached_property
    def of_tasks(self) -> DecoderLayout:
        """The same environments with a single row each, in the order of ``outputs``."""
        rows = {env_id: (row, 1) for row, (env_id, *_) in enumerate(self.outputs)}
        sizes = {env_id: size for env_id, _, _, size in self.outputs}
        readouts = None
        if self.readouts is not None:
            readouts = {env_id: self.readouts[start : start + size] for env_id, start, _, size in self.outputs}
        with _constants():
            return _decoder_layout(sizes, rows, self.positions, readouts)


@dataclass(frozen=True)
class Layout:
    """The packed order of one batch.

    Attributes:
        order: the environments.
        segments: the encoder's sequences, one token per observation component.
        positions: ``[U, P]`` position features of every component of every environment.
        blocks: number of samples and of components of every environment.
        membership: ``[R, E]`` one-hot: the environment of each row.
        logits, gaussian, value: layouts of the decoders; None without an environment of that kind.
    """

    order: tuple[str, ...]
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


class LayoutCache(Generic[L]):
    """The layouts of the most recent batch sizes: runners and learners use the same few again and again.

    Args:
        build: makes a layout from ``counts``, ``interfaces`` and ``like``.
    """

    def __init__(self, build: Callable[..., L]) -> None:
        self._build = build
        self._kept: OrderedDict[Any, L] = OrderedDict()

    def get(self, counts: Mapping[str, int], interfaces: Mapping[str, Interface], like: Tensor) -> L:
        """The layout of ``counts`` with dtype and device of ``like``, built if it is not there."""
        key = (like.dtype, like.device, tuple(counts.items()))
        layout = self._kept.get(key)
        if layout is None:
            layout = self._kept[key] = self._build(counts, interfaces, like=like.detach())
            if len(self._kept) > _KEPT_LAYOUTS:
                self._kept.popitem(last=False)
        else:
            self._kept.move_to_end(key)
        return layout

    def clear(self) -> None:
        """Drop all layouts, when environments have changed."""
        self._kept.clear()

    def __getstate__(self) -> dict[str, Any]:
        """Copies and pickles are empty."""
        return {"_build": self._build, "_kept": OrderedDict()}


@contextmanager
def _constants() -> Iterator[None]:
    """Not in inference mode: a layout's constants outlive the call, and training saves them for its backward."""
    with torch.inference_mode(False), torch.no_grad():
        yield


def _decoder_layout(
    sizes: Mapping[str, int],
    rows: Mapping[str, tuple[int, int]],
    positions: Tensor,
    readouts: Mapping[str, Tensor] | None,
) -> DecoderLayout:
    outputs, start = [], 0
    for env_id, size in sizes.items():
        stop = start + size * rows[env_id][1]
        outputs.append((env_id, start, stop, size))
        start = stop
    sources = tuple((*rows[env_id], size) for env_id, size in sizes.items())
    repeated = None
    if readouts is not None:
        repeated = torch.cat([readouts[env_id].repeat(rows[env_id][1], 1) for env_id in sizes]).to(positions)
    segments = Segments.of((size, count) for _, count, size in sources)
    return DecoderLayout(segments, sources, positions, tuple(outputs), repeated)


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
        counts: number of samples of each, at least one, in the order in which they are packed; environments of equal
            observation sizes should be neighbours.
        interfaces: their sizes and kinds of actions.
        d_model: features H.
        positions_of: position features ``[I, P]`` of the components of an environment's observation.
        with_readouts: whether decoders read each output from different features, see `decoder_readouts`.
        like: tensor with the dtype and device of the constants.
    """
    rows: dict[str, tuple[int, int]] = {}
    start = 0
    for env_id, count in counts.items():
        rows[env_id] = (start, count)
        start += count
    blocks = tuple((count, interfaces[env_id].obs_size) for env_id, count in counts.items())

    def decoder(sizes: Mapping[str, int]) -> DecoderLayout | None:
        if not sizes:
            return None
        ordered = dict(sorted(sizes.items(), key=lambda pair: pair[1]))
        encoding = sinusoidal_encoding(max(ordered.values()), d_model).to(like)
        readouts = None
        if with_readouts:
            readouts = {e: decoder_readouts(interfaces[e].description, n, d_model) for e, n in ordered.items()}
        return _decoder_layout(ordered, rows, encoding, readouts)

    def action_sizes(*, discrete: bool) -> dict[str, int]:
        return {e: interfaces[e].action_size for e in counts if interfaces[e].discrete == discrete}

    with _constants():
        membership = torch.zeros(start, len(counts), dtype=like.dtype, device=like.device)  # [R, E]
        for index, (first, count) in enumerate(rows.values()):
            membership[first : first + count, index] = 1.0
        return Layout(
            order=tuple(counts),
            segments=Segments.of((length, count) for count, length in blocks),
            positions=torch.cat([positions_of(env_id) for env_id in counts]).to(like),
            blocks=blocks,
            membership=membership,
            logits=decoder(action_sizes(discrete=True)),
            gaussian=decoder(action_sizes(discrete=False)),
            value=decoder(dict.fromkeys(counts, 1)),
        )
