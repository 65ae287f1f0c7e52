"""Pre-norm transformer layers over packed sequences."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .segments import Segments

__all__ = ["TransformerLayer"]


class TransformerLayer(nn.Module):
    """Self-attention and a feed-forward part, each as ``x + f(LayerNorm(x))`` (Vaswani et al., 2017;
    pre-norm).

    Sequences of one token attend to themselves only: their attention is the value projection, and the query
    and key projections are left out where no longer sequence is present.
    """

    def __init__(self, d_model: int, num_heads: int, dim_feedforward: int, dropout: float) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.dropout = dropout
        self.attention_norm = nn.LayerNorm(d_model)
        self.qkv = nn.Linear(d_model, 3 * d_model)
        self.attention_out = nn.Linear(d_model, d_model)
        self.feedforward_norm = nn.LayerNorm(d_model)
        self.feedforward_in = nn.Linear(d_model, dim_feedforward)
        self.feedforward_out = nn.Linear(dim_feedforward, d_model)

    def forward(self, tokens: Tensor, segments: Segments) -> Tensor:
        """Transform every sequence of the packed ``[N, H]``."""
        tokens = tokens + self._drop(self.attention_out(self._attend(self.attention_norm(tokens), segments)))
        hidden = self._drop(F.gelu(self.feedforward_in(self.feedforward_norm(tokens))))
        return tokens + self._drop(self.feedforward_out(hidden))

    @torch.no_grad()
    def scale_output(self, factor: float) -> None:
        """Scale what the layer adds to its input."""
        for linear in (self.attention_out, self.feedforward_out):
            linear.weight.mul_(factor)
            linear.bias.zero_()

    def _drop(self, tokens: Tensor) -> Tensor:
        return F.dropout(tokens, self.dropout) if self.dropout and self.training else tokens

    def _attend(self, tokens: Tensor, segments: Segments) -> Tensor:
        width = tokens.shape[1]
        if segments.max_length == 1:
            return F.linear(tokens, self.qkv.weight[2 * width :], self.qkv.bias[2 * width :])
        parts = []
        for group, qkv in zip(segments.groups, self.qkv(tokens).split(segments.token_counts), strict=True):
            if group.length == 1:
                parts.append(qkv[:, 2 * width :])
                continue
            split = qkv.view(group.count, group.length, 3, self.num_heads, width // self.num_heads)
            query, key, value = split.permute(2, 0, 3, 1, 4).unbind(0)
            drop = self.dropout if self.training else 0.0
            attended = F.scaled_dot_product_attention(query, key, value, dropout_p=drop)
            parts.append(attended.transpose(1, 2).reshape(-1, width))
        return torch.cat(parts) if len(parts) > 1 else parts[0]
