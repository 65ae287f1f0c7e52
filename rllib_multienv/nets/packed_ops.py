"""Operations that walk over the groups of a packed tensor, each as one node of the autograd graph.

Written as autograd functions because plain slicing would add a zero-filled gradient of the whole tensor per
group and a dozen graph nodes per operation; with short sequences that bookkeeping costs more than the
arithmetic.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from .segments import Group, Segments

__all__ = ["causal_convolution", "lift_components", "repeat_rows", "segment_mean"]

# Up to this length shifted multiply-adds are faster than a call of the depthwise convolution.
_SHORT = 4
# From this length on the gradient of the kernel is cheaper by matrix products than lag by lag.
_LONG = 16
# Positions in one of these products: a half of each is not needed, so small ones waste less.
_BLOCK = 64


def _depthwise(sequences: Tensor, kernel: Tensor, *, reverse: bool) -> Tensor:
    """Causal (or, reversed, anti-causal) depthwise convolution of ``[B, L, H]`` with ``[L, H]``.

    The tensor is already in the channels-last layout that the depthwise kernels of PyTorch are fastest with,
    so nothing is transposed. Autocast has no say: in bfloat16 these kernels of PyTorch 2.13 take seconds on a CPU
    from 17 taps on, and there is no arithmetic worth saving.
    """
    length, features = kernel.shape
    image = sequences.unsqueeze(1).permute(0, 3, 1, 2)
    taps = kernel if reverse else kernel.flip(0)
    weight = taps.t().reshape(features, 1, 1, length)
    with torch.autocast(image.device.type, enabled=False):
        full = F.conv2d(image, weight, padding=(0, length - 1), groups=features)
    half = full[..., length - 1 :] if reverse else full[..., :length]
    return half.permute(0, 2, 3, 1).squeeze(1)


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


def _kernel_gradient(group: Group, grad: Tensor, tokens: Tensor, out: Tensor) -> None:
    """Add ``sum_{b, l} grad[b, l] * tokens[b, l - k]`` for every lag ``k >= 1``."""
    output, source, length = group.tokens(grad), group.tokens(tokens), group.length
    if length < _LONG:
        for lag in range(1, length):
            out[lag] += (output[:, lag:] * source[:, : length - lag]).sum((0, 1))
        return
    # For each feature [L, B] @ [B, L]; what stands on the k-th diagonal below the main one belongs to lag k.
    output, source = _by_feature(output), _by_feature(source)
    backwards = output.new_zeros(len(output), length)  # the longest lag first, so that a row is added as it stands
    for start in range(0, length, _BLOCK):
        end = min(start + _BLOCK, length)
        products = output[..., start:end].transpose(1, 2) @ source[..., :end]
        for row in range(start, end):
            backwards[:, length - 1 - row :] += products[:, row - start, : row + 1]
    out[1:length] += backwards[:, :-1].flip(1).t()


def _by_feature(sequences: Tensor) -> Tensor:
    """``[B, L, H]`` as ``[H, B, L]``; a matrix is transposed several times as fast as three dimensions are permuted."""
    rows, length, features = sequences.shape
    return sequences.reshape(-1, features).t().contiguous().view(features, rows, length)


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


class _RepeatRows(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, rows: Tensor, positions: Tensor, sources: tuple[tuple[int, int], ...], segments: Segments
    ) -> Tensor:
        ctx.segments, ctx.sources, ctx.shape = segments, sources, rows.shape
        out = rows.new_empty(segments.num_tokens, rows.shape[1])
        start = 0
        for (row, count), length in zip(sources, _lengths(sources, segments), strict=True):
            target = out[start : start + count * length].view(count, length, -1)
            torch.add(rows[row : row + count].unsqueeze(1), positions[:length], out=target)
            start += count * length
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        out = grad.new_zeros(ctx.shape)
        start = 0
        for (row, count), length in zip(ctx.sources, _lengths(ctx.sources, ctx.segments), strict=True):
            out[row : row + count] = grad[start : start + count * length].view(count, length, -1).sum(1)
            start += count * length
        return out, None, None, None


class _LiftComponents(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, scalars: Tensor, constants: Tensor, slopes: Tensor, blocks: tuple[tuple[int, int], ...]
    ) -> Tensor:
        ctx.save_for_backward(scalars, slopes)
        ctx.blocks = blocks
        out = slopes.new_empty(len(scalars), slopes.shape[1])
        for tokens, components, shape in _blocks(blocks):
            values = scalars[tokens].view(*shape, 1)
            torch.addcmul(constants[components], values, slopes[components], out=out[tokens].view(*shape, -1))
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor, Tensor, None]:
        scalars, slopes = ctx.saved_tensors
        grad_constants, grad_slopes = torch.empty_like(slopes), torch.empty_like(slopes)
        grad_scalars = torch.empty_like(scalars) if ctx.needs_input_grad[0] else None
        for tokens, components, shape in _blocks(ctx.blocks):
            own, values = grad[tokens].view(*shape, -1), scalars[tokens].view(shape)
            # For each component [2, B] @ [B, H]: both gradients in one reading of ``grad``.
            weights = torch.stack([torch.ones_like(values), values]).permute(2, 0, 1)
            sums = weights @ own.transpose(0, 1)
            grad_constants[components], grad_slopes[components] = sums.unbind(1)
            if grad_scalars is not None:
                torch.sum(own * slopes[components], 2, out=grad_scalars[tokens].view(shape))
        return grad_scalars, grad_constants, grad_slopes, None


def _blocks(blocks: tuple[tuple[int, int], ...]) -> Iterator[tuple[slice, slice, tuple[int, int]]]:
    """Tokens, components and ``(count, length)`` of every block."""
    token = component = 0
    for count, length in blocks:
        yield slice(token, token + count * length), slice(component, component + length), (count, length)
        token += count * length
        component += length


def _lengths(sources: tuple[tuple[int, int], ...], segments: Segments) -> list[int]:
    """The sequence length of every source block; blocks lie in the order of the groups."""
    lengths: list[int] = []
    groups = iter(segments.groups)
    left, length = 0, 0
    for _, count in sources:
        if left == 0:
            group = next(groups)
            left, length = group.count, group.length
        lengths.append(length)
        left -= count
    return lengths


def causal_convolution(tokens: Tensor, kernel: Tensor, segments: Segments) -> Tensor:
    """Convolve every sequence with the head of the same kernel (paper, equation 7).

    Args:
        tokens: packed ``[N, H]``, contiguous.
        kernel: ``[L, H]`` with ``L >= segments.max_length``; feature ``h`` has the filter ``kernel[:, h]``, in whose
            dtype all is computed.
        segments: how the sequences lie in ``tokens``.

    Returns:
        ``[N, H]``: ``y[b, l] = sum_{k <= l} kernel[k] * tokens[b, l - k]``.
    """
    out: Tensor = _CausalConvolution.apply(tokens.to(kernel.dtype), kernel, segments)
    return out.to(tokens.dtype)


def lift_components(scalars: Tensor, constants: Tensor, slopes: Tensor, blocks: tuple[tuple[int, int], ...]) -> Tensor:
    """Turn every component of an observation into a token, linear in its value.

    Args:
        scalars: ``[N]``, the observations of all blocks, one after the other.
        constants, slopes: ``[U, H]``, one row for each component of each block, in whose dtype all is computed.
        blocks: ``(number of observations, components)`` of each, that is an environment.

    Returns:
        ``[N, H]``: ``constants[u] + scalars[n] * slopes[u]`` where ``u`` is the component that ``n`` is a value of.
    """
    out: Tensor = _LiftComponents.apply(scalars.to(slopes.dtype), constants, slopes, blocks)
    return out


def segment_mean(tokens: Tensor, segments: Segments) -> Tensor:
    """Mean over the positions of every sequence: ``[N, H]`` to ``[num_rows, H]``."""
    out: Tensor = _SegmentMean.apply(tokens, segments)
    return out


def repeat_rows(rows: Tensor, positions: Tensor, sources: tuple[tuple[int, int], ...], segments: Segments) -> Tensor:
    """Repeat vectors to sequences and add an encoding of the position.

    Args:
        rows: ``[R, H]``, one vector per sample of every environment.
        positions: constant ``[max_length, H]``.
        sources: ``(first row, number of rows)`` of each block, in the order in which the blocks lie in ``segments``.
        segments: the layout of the result.

    Returns:
        Packed ``[segments.num_tokens, H]``.
    """
    out: Tensor = _RepeatRows.apply(rows, positions, sources, segments)
    return out
