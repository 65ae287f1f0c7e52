"""Layouts: the order of rows and outputs in the packed tensors of a network, and the constants of that order."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import torch
from torch import Tensor

from .interface import Interface
from .packed import Segments

__all__ = ["Constants", "Layout", "LayoutCache", "OutputLayout"]

_KEPT_LAYOUTS = 32


class Constants(Protocol):
    """The constants that a network is given beside observations; network configs have these methods."""

    def of_components(self, interface: Interface) -> Tensor:
        """``[I, P]``, of every component of the observation."""

    def of_actions(self, interface: Interface) -> Tensor:
        """``[A, F]``, of every logit, then of every continuous component, of an action."""

    def of_value(self, interface: Interface) -> Tensor:
        """``[1, F]``, of the value."""

    def of_environment(self, interface: Interface) -> Tensor:
        """``[C]``."""


@dataclass(frozen=True)
class OutputLayout:
    """The outputs of one decoder: for each row as many as its environment has of that kind, or one value.

    Attributes:
        env_ids: the environments with this kind of output.
        sources: first row, number of rows and number of outputs of each, see `repeat_rows` and `read_rows`.
        constants: ``[U, F]``, of every output of every environment.
    """

    env_ids: tuple[str, ...]
    sources: tuple[tuple[int, int, int], ...]
    constants: Tensor

    @cached_property
    def segments(self) -> Segments:
        """One sequence per row, one token per output."""
        return Segments.of((size, count) for _, count, size in self.sources)

    @cached_property
    def of_tokens(self) -> Tensor:
        """``[N, F]``, the constants of every token of `segments`."""
        parts = self.constants.split([size for _, _, size in self.sources])
        with torch.inference_mode(False):
            return torch.cat([part.repeat(count, 1) for part, (_, count, _) in zip(parts, self.sources, strict=True)])

    @cached_property
    def of_tasks(self) -> OutputLayout:
        """The same environments with a single row each, in the order of ``env_ids``."""
        sources = tuple((row, 1, size) for row, (_, _, size) in enumerate(self.sources))
        return OutputLayout(self.env_ids, sources, self.constants)

    def split(self, flat: Tensor, width: int = 1) -> dict[str, Tensor]:
        """Cut ``[N * width]`` (or ``[N, K]``) into ``{env_id: [B, outputs * width]}`` (or ``[B, outputs, K]``)."""
        parts = flat.split([count * size * width for _, count, size in self.sources])
        return {
            env_id: part.view(count, size * width, *flat.shape[1:])
            for env_id, part, (_, count, size) in zip(self.env_ids, parts, self.sources, strict=True)
        }


@dataclass(frozen=True)
class Layout:
    """The packed order of one batch.

    Attributes:
        order: the environments.
        blocks: number of rows and of observation components of each.
        membership: ``[R, E]`` one-hot: the environment of each row.
        components: ``[U, P]``, constants of every component of every environment's observation.
        environments: ``[E, C]``, constants of every environment.
        logits, gaussian: outputs for categorical and Bernoulli, and for continuous parts of actions; None if no action
            has such a part.
        value: values of all environments.
    """

    order: tuple[str, ...]
    blocks: tuple[tuple[int, int], ...]
    membership: Tensor
    components: Tensor
    environments: Tensor
    logits: OutputLayout | None
    gaussian: OutputLayout | None
    value: OutputLayout

    @classmethod
    def of(
        cls, counts: Mapping[str, int], interfaces: Mapping[str, Interface], constants: Constants, like: Tensor
    ) -> Layout:
        """Lay out the rows of several environments.

        Args:
            counts: number of rows of each, at least one, in the order in which they are packed; environments of equal
                observation sizes should be neighbours.
            interfaces: their sizes and kinds of actions.
            constants: the network's.
            like: tensor with the dtype and device of the constants.
        """
        starts: dict[str, int] = {}
        start = 0
        for env_id, count in counts.items():
            starts[env_id] = start
            start += count

        def outputs(sizes: Mapping[str, int], constants_of: Callable[[Interface], Tensor]) -> OutputLayout | None:
            if not sizes:
                return None
            ordered = sorted(sizes, key=sizes.__getitem__)
            sources = tuple((starts[env_id], counts[env_id], sizes[env_id]) for env_id in ordered)
            of_outputs = torch.cat([constants_of(interfaces[env_id]) for env_id in ordered])
            return OutputLayout(tuple(ordered), sources, of_outputs.to(like))

        rows_of = {env_id: interfaces[env_id].action for env_id in counts}
        logits = {env_id: row.num_logits for env_id, row in rows_of.items() if row.num_logits}
        gaussian = {env_id: row.num_continuous for env_id, row in rows_of.items() if row.num_continuous}

        # Not in inference mode: a layout outlives the call, and training saves its constants for the backward.
        with torch.inference_mode(False), torch.no_grad():
            value = outputs(dict.fromkeys(counts, 1), constants.of_value)
            assert value is not None
            rows = torch.tensor(list(counts.values()))
            return cls(
                order=tuple(counts),
                blocks=tuple((count, interfaces[env_id].obs_size) for env_id, count in counts.items()),
                membership=torch.eye(len(counts)).repeat_interleave(rows, 0).to(like),
                components=torch.cat([constants.of_components(interfaces[env_id]) for env_id in counts]).to(like),
                environments=torch.stack([constants.of_environment(interfaces[env_id]) for env_id in counts]).to(like),
                logits=outputs(logits, lambda one: constants.of_actions(one)[: one.action.num_logits]),
                gaussian=outputs(gaussian, lambda one: constants.of_actions(one)[one.action.num_logits :]),
                value=value,
            )

    @cached_property
    def segments(self) -> Segments:
        """One sequence per row, one token per component of the observation."""
        return Segments.of((length, count) for count, length in self.blocks)

    def pack(self, obs: Mapping[str, Tensor]) -> Tensor:
        """All observations as one vector ``[N]``, in the dtype and on the device of the layout."""
        return torch.cat([obs[env_id].reshape(-1) for env_id in self.order]).to(self.components)


class LayoutCache:
    """The layouts of the most recent batch sizes: runners and learners use the same few again and again."""

    def __init__(self, constants: Constants) -> None:
        self._constants = constants
        self._kept: OrderedDict[Any, Layout] = OrderedDict()

    def get(self, counts: Mapping[str, int], interfaces: Mapping[str, Interface], like: Tensor) -> Layout:
        """The layout of ``counts`` with dtype and device of ``like``, made if it is not there (see `Layout.of`)."""
        key = (like.dtype, like.device, tuple(counts.items()))
        layout = self._kept.get(key)
        if layout is None:
            layout = self._kept[key] = Layout.of(counts, interfaces, self._constants, like.detach())
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
        return {"_constants": self._constants, "_kept": OrderedDict()}
