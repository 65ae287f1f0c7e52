"""A bidirectional GRU as the sequence embedding."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .segments import Segments

__all__ = ["GRUEmbedding"]


class GRUEmbedding(nn.Module):
    """``num_layers`` bidirectional GRU layers with residual connections, from ``[N, H]`` to ``[N, H]``.

    Each direction has ``d_model / 2`` units, so that both together have the width of the tokens. ``d_state``
    is not used; the argument keeps the constructors of all embeddings alike.
    """

    def __init__(self, d_model: int, d_state: int, num_layers: int, dropout: float) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            nn.GRU(d_model, d_model // 2, batch_first=True, bidirectional=True) for _ in range(num_layers)
        )
        self.norms = nn.ModuleList(nn.LayerNorm(d_model) for _ in range(num_layers))
        self.dropout = nn.Dropout(dropout)
        self.scale = 1.0

    def forward(self, tokens: Tensor, segments: Segments) -> Tensor:
        """Embed every sequence of the packed ``[N, H]``."""
        for norm, layer in zip(self.norms, self.layers, strict=True):
            normed = norm(tokens)
            parts = [layer(group.tokens(normed))[0].flatten(0, 1) for group in segments.groups]
            tokens = tokens + self.scale * self.dropout(torch.cat(parts) if len(parts) > 1 else parts[0])
        return tokens

    def scale_output(self, factor: float) -> None:
        """Scale what every layer adds to its input. A GRU has no linear output, so the factor stays."""
        self.scale = factor
