"""Sequence embeddings: what turns a packed sequence of tokens into one in which each token knows of the
    others.

Each has the constructor ``(d_model, d_state, num_layers, dropout)`` and the call
``(tokens [N, H], segments) -> [N, H]``, and ``scale_output(factor)`` for the start; `SEQUENCE_EMBEDDINGS`
maps the config's ``embedding`` to the class.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .gru import GRUEmbedding
from .kernel_cache import KernelBank
from .packed_ops import causal_convolution
from .s4 import S4Kernels
from .s4d import S4DKernels
from .segments import Segments

__all__ = ["SEQUENCE_EMBEDDINGS", "ConvolutionEmbedding", "S4DEmbedding", "S4Embedding"]


class MixingLayer(nn.Module):
    """One pre-norm residual layer: causal convolution, GELU, gated linear unit (docs/deviations.md, 2 and 6)."""

    def __init__(self, d_model: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(d_model)
        self.linear = nn.Linear(d_model, 2 * d_model)
        self.dropout = dropout

    def forward(self, tokens: Tensor, kernel: Tensor, segments: Segments) -> Tensor:
        """``[N, H]`` to ``[N, H]`` with the convolution kernel ``[L, H]``."""
        mixed = F.gelu(causal_convolution(self.norm(tokens), kernel, segments))
        mixed = F.glu(self.linear(mixed), -1)
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
    """A stack of convolution layers.

    The kernels of the whole stack are computed in one go and once per call, for the longest sequence.
    """

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


class S4Embedding(ConvolutionEmbedding):
    """S4 layers (see `S4Kernels`)."""

    def __init__(self, d_model: int, d_state: int, num_layers: int, dropout: float) -> None:
        super().__init__(S4Kernels, d_model, d_state, num_layers, dropout)


class S4DEmbedding(ConvolutionEmbedding):
    """S4D layers (see `S4DKernels`)."""

    def __init__(self, d_model: int, d_state: int, num_layers: int, dropout: float) -> None:
        super().__init__(S4DKernels, d_model, d_state, num_layers, dropout)


SEQUENCE_EMBEDDINGS: dict[str, Callable[[int, int, int, float], ConvolutionEmbedding | GRUEmbedding]] = {
    "s4": S4Embedding,
    "s4d": S4DEmbedding,
    "gru": GRUEmbedding,
}
