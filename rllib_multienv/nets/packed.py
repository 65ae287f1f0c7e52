"""Packed sequences: sequences of many lengths in one flat tensor, and the operations that look along them.

Layers that act on single tokens (linear layers, normalisation, activations) work on the flat tensor ``[num_tokens, H]``
of all environments at once. Layers that look along a sequence go through the groups: all sequences of one length,
whichever environments they come from, form one group, whose tokens are contiguous and can be viewed as
``[count, length, H]`` without a copy. There is no padding and no mask.

The operations are autograd functions because slicing would add a zero-filled gradient of the whole tensor per group and
a dozen graph nodes per operation; for short sequences that costs more than the arithmetic.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from .functional import is_functional

__all__ = [
    "Group",
    "Segments",
    "block_linear",
    "causal_convolution",
    "lift_components",
    "read_rows",
    "repeat_rows",
    "segment_mean",
]

# Up to this length shifted multiply-adds are faster than a call of the depthwise convolution.
_SHORT = 4
# From this length on the gradient of the kernel is cheaper by matrix products than lag by lag.
_LONG = 16
# Positions in one of these products: half of each is not needed, so small ones waste less.
_BLOCK = 64


@dataclass(frozen=True, slots=True)
class Group:
    """``count`` sequences of ``length`` tokens each: tokens from ``start``, rows (sequences) from ``row``."""

    length: int
    count: int
    start: int
    row: int

    def tokens(self, flat: Tensor) -> Tensor:
        """View the group's tokens of ``flat [num_tokens, H]`` as ``[count, length, H]``."""
        return flat[self.start : self.start + self.length * self.count].view(self.count, self.length, -1)

    def rows(self, flat: Tensor) -> Tensor:
        """View the group's rows of ``flat [num_rows, H]`` as ``[count, H]``."""
        return flat[self.row : self.row + self.count]


@dataclass(frozen=True)
class Segments:
    """The groups of one packed tensor, in the order of their tokens."""

    groups: tuple[Group, ...]

    @classmethod
    def of(cls, lengths_and_counts: Iterable[tuple[int, int]]) -> Segments:
        """Lay out ``(length, count)`` pairs one after the other; neighbours of equal length become one group."""
        merged: list[list[int]] = []
        for length, count in lengths_and_counts:
            if length < 1:
                raise ValueError(f"a sequence needs at least one token, got length {length}")
            if merged and merged[-1][0] == length:
                merged[-1][1] += count
            else:
                merged.append([length, count])
        groups, start, row = [], 0, 0
        for length, count in merged:
            groups.append(Group(length, count, start, row))
            start += length * count
            row += count
        return cls(tuple(groups))

    @cached_property
    def num_tokens(self) -> int:
        """Tokens of all groups."""
        return sum(self.token_counts)

    @cached_property
    def num_rows(self) -> int:
        """Sequences of all groups."""
        return sum(group.count for group in self.groups)

    @cached_property
    def max_length(self) -> int:
        """Length of the longest sequence, 0 if there is none."""
        return max((group.length for group in self.groups), default=0)

    @cached_property
    def token_counts(self) -> list[int]:
        """Tokens per group, for ``Tensor.split``."""
        return [group.length * group.count for group in self.groups]


def causal_convolution(tokens: Tensor, kernel: Tensor, segments: Segments) -> Tensor:
    """Convolve every sequence with the head of the same kernel (paper, equation 7).

    Args:
        tokens: packed ``[N, H]``, contiguous.
        kernel: ``[L, H]`` with ``L >= segments.max_length``; feature ``h`` has the filter ``kernel[:, h]``. Computed in
            its dtype.
        segments: layout of ``tokens``.

    Returns:
        ``[N, H]``: ``y[b, l] = sum_{k <= l} kernel[k] * tokens[b, l - k]``.
    """
    out: Tensor = _CausalConvolution.apply(tokens.to(kernel.dtype), kernel, segments)
    return out.to(tokens.dtype)


class _CausalConvolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, tokens: Tensor, kernel: Tensor, segments: Segments) -> Tensor:
        ctx.save_for_backward(tokens, kernel)
        ctx.segments = segments
        out = tokens * kernel[0]
        for group in segments.groups:
            if group.length > 1:
                _convolve_group(group, tokens, kernel, out, reverse=False)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        tokens, kernel = ctx.saved_tensors
        grad = grad.contiguous()
        grad_tokens = grad_kernel = None
        if ctx.needs_input_grad[0]:
            grad_tokens = grad * kernel[0]
            for group in ctx.segments.groups:
                if group.length > 1:
                    _convolve_group(group, grad, kernel, grad_tokens, reverse=True)
        if ctx.needs_input_grad[1]:
            grad_kernel = torch.zeros_like(kernel)
            grad_kernel[0] = (grad * tokens).sum(0)
            for group in ctx.segments.groups:
                if group.length > 1:
                    _kernel_gradient(group, grad, tokens, grad_kernel)
        return grad_tokens, grad_kernel, None


def _convolve_group(group: Group, tokens: Tensor, kernel: Tensor, out: Tensor, *, reverse: bool) -> None:
    """Write the convolution of one group into ``out``, which already holds the lag-0 terms."""
    source, target, length = group.tokens(tokens), group.tokens(out), group.length
    if length > _SHORT:
        target.copy_(_depthwise(source, kernel[:length], reverse=reverse))
        return
    for lag in range(1, length):
        if reverse:
            target[:, : length - lag].addcmul_(source[:, lag:], kernel[lag])
        else:
            target[:, lag:].addcmul_(source[:, : length - lag], kernel[lag])


def _depthwise(sequences: Tensor, kernel: Tensor, *, reverse: bool) -> Tensor:
    """Causal (or, reversed, anti-causal) depthwise convolution of ``[B, L, H]`` with ``[L, H]``.

    The tensor already has the channels-last layout for which PyTorch's depthwise kernels are fastest, so nothing is
    transposed. Autocast is off: in bfloat16 these kernels of PyTorch 2.13 take seconds on a CPU from 17 taps on.
    """
    length, features = kernel.shape
    image = sequences.unsqueeze(1).permute(0, 3, 1, 2)  # [B, H, 1, L]
    taps = kernel if reverse else kernel.flip(0)
    weight = taps.t().reshape(features, 1, 1, length)
    with torch.autocast(image.device.type, enabled=False):
        full = F.conv2d(image, weight, padding=(0, length - 1), groups=features)  # [B, H, 1, 2L - 1]
    half = full[..., length - 1 :] if reverse else full[..., :length]  # [B, H, 1, L]
    return half.permute(0, 2, 3, 1).squeeze(1)  # [B, L, H]


def _kernel_gradient(group: Group, grad: Tensor, tokens: Tensor, out: Tensor) -> None:
    """Add ``sum_{b, l} grad[b, l] * tokens[b, l - k]`` to ``out[k]`` for every lag ``k >= 1``."""
    output, source, length = group.tokens(grad), group.tokens(tokens), group.length
    if length < _LONG:
        for lag in range(1, length):
            out[lag] += (output[:, lag:] * source[:, : length - lag]).sum((0, 1))
        return
    # Per feature [L, B] @ [B, L]; the k-th diagonal below the main one belongs to lag k.
    output, source = _by_feature(output), _by_feature(source)
    backwards = output.new_zeros(len(output), length)  # [H, L], longest lag first, so that whole rows are added
    for start in range(0, length, _BLOCK):
        end = min(start + _BLOCK, length)
        products = output[..., start:end].transpose(1, 2) @ source[..., :end]  # [H, end - start, end]
        for row in range(start, end):
            backwards[:, length - 1 - row :] += products[:, row - start, : row + 1]
    out[1:length] += backwards[:, :-1].flip(1).t()


def _by_feature(sequences: Tensor) -> Tensor:
    """``[B, L, H]`` as ``[H, B, L]``; transposing a matrix is several times as fast as permuting three dimensions."""
    rows, length, features = sequences.shape
    return sequences.reshape(-1, features).t().contiguous().view(features, rows, length)


def segment_mean(tokens: Tensor, segments: Segments) -> Tensor:
    """Mean over the positions of every sequence: ``[N, H]`` to ``[num_rows, H]``."""
    out: Tensor = _SegmentMean.apply(tokens, segments)
    return out


class _SegmentMean(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, tokens: Tensor, segments: Segments) -> Tensor:
        ctx.segments = segments
        ctx.shape = tokens.shape
        out = tokens.new_empty(segments.num_rows, tokens.shape[1])
        for group in segments.groups:
            torch.mean(group.tokens(tokens), 1, out=group.rows(out))
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        out = grad.new_empty(ctx.shape)
        for group in ctx.segments.groups:
            group.tokens(out).copy_((group.rows(grad) / group.length).unsqueeze(1))
        return out, None


def repeat_rows(rows: Tensor, positions: Tensor, sources: tuple[tuple[int, int, int], ...]) -> Tensor:
    """Repeat vectors to sequences and add an encoding of the position.

    Args:
        rows: ``[R, H]``, one vector per sample of every environment.
        positions: constant ``[U, H]``, one row per position of each block.
        sources: ``(first row, number of rows, sequence length)`` of each block of the result, in its order.

    Returns:
        Packed ``[N, H]``, N being the sum over the blocks of rows times length.
    """
    out: Tensor = _RepeatRows.apply(rows, positions, sources)
    return out


class _RepeatRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor, positions: Tensor, sources: tuple[tuple[int, int, int], ...]) -> Tensor:
        ctx.sources, ctx.shape = sources, rows.shape
        out = rows.new_empty(sum(count * length for _, count, length in sources), rows.shape[1])
        for own, outputs, target in _readouts(sources):
            sequences = out[target].view(own.stop - own.start, -1, rows.shape[1])
            torch.add(rows[own].unsqueeze(1), positions[outputs], out=sequences)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        out = grad.new_zeros(ctx.shape)
        for own, _, target in _readouts(ctx.sources):
            out[own] = grad[target].view(own.stop - own.start, -1, grad.shape[1]).sum(1)
        return out, None, None


def lift_components(scalars: Tensor, constants: Tensor, slopes: Tensor, blocks: tuple[tuple[int, int], ...]) -> Tensor:
    """Turn every component of an observation into a token that is linear in its value.

    Args:
        scalars: ``[N]``, the observations of all blocks, one after the other.
        constants, slopes: ``[U, H]``, one row per component of each block. Computed in their dtype.
        blocks: ``(number of observations, components)`` of each environment.

    Returns:
        ``[N, H]``: ``constants[u] + scalars[n] * slopes[u]``, ``n`` being a value of component ``u``.
    """
    out: Tensor = _LiftComponents.apply(scalars.to(slopes.dtype), constants, slopes, blocks)
    return out


class _LiftComponents(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, scalars: Tensor, constants: Tensor, slopes: Tensor, blocks: tuple[tuple[int, int], ...]
    ) -> Tensor:
        ctx.save_for_backward(scalars, slopes)
        ctx.blocks = blocks
        out = slopes.new_empty(len(scalars), slopes.shape[1])
        for tokens, components, shape in _slices(blocks):
            values = scalars[tokens].view(*shape, 1)
            torch.addcmul(constants[components], values, slopes[components], out=out[tokens].view(*shape, -1))
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor, Tensor, None]:
        scalars, slopes = ctx.saved_tensors
        grad_constants, grad_slopes = torch.empty_like(slopes), torch.empty_like(slopes)
        grad_scalars = torch.empty_like(scalars) if ctx.needs_input_grad[0] else None
        for tokens, components, shape in _slices(ctx.blocks):
            own, values = grad[tokens].view(*shape, -1), scalars[tokens].view(shape)
            # Per component [2, B] @ [B, H]: both gradients in one pass over ``grad``.
            weights = torch.stack([torch.ones_like(values), values]).permute(2, 0, 1)
            sums = weights @ own.transpose(0, 1)
            grad_constants[components], grad_slopes[components] = sums.unbind(1)
            if grad_scalars is not None:
                torch.sum(own * slopes[components], 2, out=grad_scalars[tokens].view(shape))
        return grad_scalars, grad_constants, grad_slopes, None


def _slices(blocks: tuple[tuple[int, int], ...]) -> Iterator[tuple[slice, slice, tuple[int, int]]]:
    """Tokens, components and ``(count, length)`` of every block."""
    token = component = 0
    for count, length in blocks:
        yield slice(token, token + count * length), slice(component, component + length), (count, length)
        token += count * length
        component += length


def block_linear(scalars: Tensor, weights: Tensor, biases: Tensor, blocks: tuple[tuple[int, int], ...]) -> Tensor:
    """Apply a different linear layer, ``b + x W / sqrt(components)``, to the observations of each block.

    Args:
        scalars: ``[N]``, the observations of all blocks, one after the other.
        weights: ``[U, H]``, one row per component of each block. Computed in its dtype.
        biases: ``[E, H]``, one row per block.
        blocks: ``(number of observations, components)`` of each environment.

    Returns:
        ``[R, H]``, the rows of all blocks one after the other.
    """
    scalars, biases = scalars.to(weights.dtype), biases.to(weights.dtype)
    if is_functional():
        own = zip(biases, _slices(blocks), strict=True)
        return torch.cat([b + scalars[n].view(s) @ weights[u] * s[1] ** -0.5 for b, (n, u, s) in own])
    out: Tensor = _BlockLinear.apply(scalars, weights, biases, blocks)
    return out


class _BlockLinear(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, scalars: Tensor, weights: Tensor, biases: Tensor, blocks: tuple[tuple[int, int], ...]
    ) -> Tensor:
        ctx.save_for_backward(scalars, weights)
        ctx.blocks = blocks
        out = weights.new_empty(sum(count for count, _ in blocks), weights.shape[1])
        row = 0
        for bias, (tokens, components, shape) in zip(biases, _slices(blocks), strict=True):
            own = out[row : row + shape[0]]
            torch.addmm(bias, scalars[tokens].view(shape), weights[components], alpha=shape[1] ** -0.5, out=own)
            row += shape[0]
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor, Tensor, None]:
        scalars, weights = ctx.saved_tensors
        grad_weights, grad_biases = torch.empty_like(weights), weights.new_empty(len(ctx.blocks), weights.shape[1])
        grad_scalars = torch.empty_like(scalars) if ctx.needs_input_grad[0] else None
        row = 0
        for index, (tokens, components, shape) in enumerate(_slices(ctx.blocks)):
            own, scale = grad[row : row + shape[0]], shape[1] ** -0.5
            of_weights = grad_weights[components]
            torch.addmm(of_weights, scalars[tokens].view(shape).t(), own, beta=0, alpha=scale, out=of_weights)
            torch.sum(own, 0, out=grad_biases[index])
            if grad_scalars is not None:
                of_scalars = grad_scalars[tokens].view(shape)
                torch.addmm(of_scalars, own, weights[components].t(), beta=0, alpha=scale, out=of_scalars)
            row += shape[0]
        return grad_scalars, grad_weights, grad_biases, None


def read_rows(rows: Tensor, weights: Tensor, biases: Tensor, sources: tuple[tuple[int, int, int], ...]) -> Tensor:
    """Read outputs from vectors by a different linear layer for each environment.

    Args:
        rows: ``[R, H]``.
        weights: ``[U, H]``, one row per output of each environment. Computed in its dtype.
        biases: ``[U]``.
        sources: ``(first row, number of rows, outputs)`` of each environment.

    Returns:
        ``[N]``, the outputs of each environment one after the other, ``[rows, outputs]`` each.
    """
    rows, biases = rows.to(weights.dtype), biases.to(weights.dtype)
    if is_functional():
        own = ((rows[r], weights[u], biases[u]) for r, u, _ in _readouts(sources))
        return torch.cat([torch.addmm(b, r, w.t()).flatten() for r, w, b in own])
    out: Tensor = _ReadRows.apply(rows, weights, biases, sources)
    return out


class _ReadRows(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, rows: Tensor, weights: Tensor, biases: Tensor, sources: tuple[tuple[int, int, int], ...]
    ) -> Tensor:
        ctx.save_for_backward(rows, weights)
        ctx.sources = sources
        out = rows.new_empty(sum(count * size for _, count, size in sources))
        for own, outputs, target in _readouts(sources):
            target_of_block = out[target].view(-1, outputs.stop - outputs.start)
            torch.addmm(biases[outputs], rows[own], weights[outputs].t(), out=target_of_block)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        rows, weights = ctx.saved_tensors
        grad_rows, grad_weights = torch.zeros_like(rows), torch.empty_like(weights)
        grad_biases = weights.new_empty(len(weights))
        for own, outputs, target in _readouts(ctx.sources):
            grad_of_block = grad[target].view(-1, outputs.stop - outputs.start)
            torch.mm(grad_of_block, weights[outputs], out=grad_rows[own])
            torch.mm(grad_of_block.t(), rows[own], out=grad_weights[outputs])
            torch.sum(grad_of_block, 0, out=grad_biases[outputs])
        return grad_rows, grad_weights, grad_biases, None


def _readouts(sources: tuple[tuple[int, int, int], ...]) -> Iterator[tuple[slice, slice, slice]]:
    """Rows, outputs and place in the result of every environment."""
    output = place = 0
    for row, count, size in sources:
        yield slice(row, row + count), slice(output, output + size), slice(place, place + count * size)
        output += size
        place += count * size
