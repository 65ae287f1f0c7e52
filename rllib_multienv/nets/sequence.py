"""Sequence embeddings: residual layers that let each token of a packed sequence depend on the others.

Each class has the constructor ``(d_model, d_state, num_layers, dropout)``, the call ``(tokens [N, H], segments) ->
[N, H]``, and ``scale_output(factor)``, which scales what its layers add to the tokens at the start.
`SEQUENCE_EMBEDDINGS` maps the config's ``embedding`` to the class.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .kernels import KernelBank, S4DKernels, S4Kernels
from .packed import Segments, causal_convolution

__all__ = ["SEQUENCE_EMBEDDINGS", "ConvolutionEmbedding", "GRUEmbedding"]


class MixingLayer(nn.Module):
    """One pre-norm residual layer: causal convolution, GELU, gated linear unit (docs/deviations.md, 2 and 6)."""

    def __init__(self, d_model: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(d_model)
        self.linear = nn.Linear(d_model, 2 * d_model)
        self.dropout = dropout

    def forward(self, tokens: Tensor, kernel: Tensor, segments: Segments) -> Tensor:
        """``[N, H]`` to ``[N, H]`` with the convolution kernel ``[L, H]``."""
        return self.mixed(tokens, self.norm(tokens), kernel, segments)

    def mixed(
        self, tokens: Tensor, normed: Tensor, kernel: Tensor, segments: Segments, carried: Tensor | None = None
    ) -> Tensor:
        """The same of tokens that were normalised already; ``carried`` ``[N, H]`` is added to the convolution."""
        convolved = causal_convolution(normed, kernel, segments)
        mixed = F.gelu(convolved if carried is None else convolved + carried)
        mixed = F.glu(self.linear(mixed), -1)  # [N, 2H] to [N, H]
        if self.dropout and self.training:
            mixed = F.dropout(mixed, self.dropout)
        return tokens + mixed

    @torch.no_grad()
    def scale_output(self, factor: float) -> None:
        """Scale what the layer adds to its input."""
        half = self.linear.out_features // 2
        self.linear.weight[:half].mul_(factor)
        self.linear.bias[:half].zero_()


class ConvolutionEmbedding(nn.Module):
    """S4 or S4D layers. The kernels of the whole stack are computed together, for the longest sequence."""

    def __init__(
        self,
        kernels: Callable[[int, int, int], KernelBank],
        d_model: int,
        d_state: int,
        num_layers: int,
        dropout: float,
    ) -> None:
        super().__init__()
        self.kernels = kernels(num_layers, d_model, d_state)
        self.layers = nn.ModuleList(MixingLayer(d_model, dropout) for _ in range(num_layers))

    def forward(self, tokens: Tensor, segments: Segments) -> Tensor:
        """Embed every sequence of the packed ``[N, H]``."""
        for layer, kernel in zip(self.layers, self.kernels(segments.max_length).unbind(0), strict=True):
            tokens = layer(tokens, kernel, segments)
        return tokens

    def scale_output(self, factor: float) -> None:
        """Scale what every layer adds to its input."""
        for layer in self.layers:
            cast(MixingLayer, layer).scale_output(factor)


class GRULayer(nn.Module):
    """One pre-norm residual layer: bidirectional GRU, linear.

    Each direction has ``d_model / 2`` units, so that both together have the width of the tokens. A GRU's states lie in
    (-1, 1); the linear layer lets the layer add more than that.
    """

    def __init__(self, d_model: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(d_model)
        self.gru = nn.GRU(d_model, d_model // 2, batch_first=True, bidirectional=True)
        self.linear = nn.Linear(d_model, d_model)
        self.dropout = dropout

    def forward(self, tokens: Tensor, segments: Segments) -> Tensor:
        """``[N, H]`` to ``[N, H]``."""
        normed = self.norm(tokens)
        parts = [self.gru(group.tokens(normed))[0].flatten(0, 1) for group in segments.groups]
        states = torch.cat(parts) if len(parts) > 1 else parts[0]
        return tokens + F.dropout(self.linear(states), self.dropout, self.training)

    @torch.no_grad()
    def scale_output(self, factor: float) -> None:
        """Scale what the layer adds to its input."""
        self.linear.weight.mul_(factor)
        self.linear.bias.zero_()


class GRUEmbedding(nn.Module):
    """Bidirectional GRU layers; ``d_state`` is not used."""

    def __init__(self, d_model: int, d_state: int, num_layers: int, dropout: float) -> None:
        super().__init__()
        self.layers = nn.ModuleList(GRULayer(d_model, dropout) for _ in range(num_layers))

    def forward(self, tokens: Tensor, segments: Segments) -> Tensor:
        """Embed every sequence of the packed ``[N, H]``."""
        for layer in self.layers:
            tokens = layer(tokens, segments)
        return tokens

    def scale_output(self, factor: float) -> None:
        """Scale what every layer adds to its input."""
        for layer in self.layers:
            cast(GRULayer, layer).scale_output(factor)


SEQUENCE_EMBEDDINGS: dict[str, Callable[[int, int, int, float], ConvolutionEmbedding | GRUEmbedding]] = {
    "s4": partial(ConvolutionEmbedding, S4Kernels),
    "s4d": partial(ConvolutionEmbedding, S4DKernels),
    "gru": GRUEmbedding,
}
