"""A bidirectional GRU as the sequence embedding."""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .segments import Segments

__all__ = ["GRUEmbedding"]


class GRULayer(nn.Module):
    """One pre-norm residual layer: bidirectional GRU, linear.

    Each direction has ``d_model / 2`` units, so that both together have the width of the tokens. A GRU's states stay
    within (-1, 1); the linear layer lets what is added to the tokens grow beyond.
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
    """``num_layers`` bidirectional GRU layers with residual connections, from ``[N, H]`` to ``[N, H]``.

    ``d_state`` is not used; the argument keeps the constructors of all embeddings alike.
    """

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
