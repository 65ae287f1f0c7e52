"""Layers that networks are built from: residual MLPs, transformer layers over packed sequences, and the encoder and
decoder blocks of the agnostic network (paper, Figure 1a)."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .layout import Layout, OutputLayout
from .packed import Segments, lift_components, repeat_rows, segment_mean
from .sequence import ConvolutionEmbedding, GRUEmbedding

__all__ = [
    "ACTIVATIONS",
    "DecoderBlock",
    "EncoderBlock",
    "ResidualMLP",
    "SequenceTrunk",
    "TransformerLayer",
    "input_layer",
    "mlp",
    "output_layer",
]

ACTIVATIONS: dict[str, type[nn.Module]] = {"tanh": nn.Tanh, "relu": nn.ReLU, "gelu": nn.GELU}


def mlp(sizes: list[int], activation: type[nn.Module], last_gain: float) -> nn.Sequential:
    """Linear layers with orthogonal weights and zero biases; gain sqrt(2), the last one ``last_gain``."""
    layers: list[nn.Module] = []
    for index, (fan_in, fan_out) in enumerate(pairwise(sizes)):
        last = index == len(sizes) - 2
        linear = _orthogonal(nn.Linear(fan_in, fan_out), last_gain if last else math.sqrt(2))
        layers += [linear] if last else [linear, activation()]
    return nn.Sequential(*layers)


def input_layer(size: int, width: int) -> nn.Linear:
    """``[R, size]`` to ``[R, width]``: a linear layer that keeps the scale of its inputs."""
    return _orthogonal(nn.Linear(size, width), 1.0)


def output_layer(width: int, size: int, gain: float) -> nn.Sequential:
    """``[R, width]`` to ``[R, size]``: normalisation and a linear layer; outputs start with size ``gain``."""
    return nn.Sequential(nn.LayerNorm(width), _orthogonal(nn.Linear(width, size), gain))


def _orthogonal(linear: nn.Linear, gain: float) -> nn.Linear:
    nn.init.orthogonal_(linear.weight, gain)
    nn.init.zeros_(linear.bias)
    return linear


class ResidualMLP(nn.Module):
    """``depth`` blocks ``x + W2 GELU(W1 LayerNorm(x))`` of hidden size ``width``; the identity at depth 0."""

    def __init__(self, d_model: int, depth: int, width: int, dropout: float) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.LayerNorm(d_model),
                nn.Linear(d_model, width),
                nn.GELU(),
                nn.Dropout(dropout),
                nn.Linear(width, d_model),
            )
            for _ in range(depth)
        )

    def forward(self, rows: Tensor) -> Tensor:
        """``[R, H]`` to ``[R, H]``."""
        for block in self.blocks:
            rows = rows + block(rows)
        return rows


class TransformerLayer(nn.Module):
    """Self-attention and a feed-forward part, each as ``x + f(LayerNorm(x))`` (Vaswani et al., 2017; pre-norm).

    Sequences of one token attend to themselves only: their attention is the value projection, and the query and key
    projections are left out if there is no longer sequence.
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
        """``[N, H]`` to ``[N, H]``."""
        width = tokens.shape[1]
        if segments.max_length == 1:
            return F.linear(tokens, self.qkv.weight[2 * width :], self.qkv.bias[2 * width :])
        parts = []
        for group, qkv in zip(segments.groups, self.qkv(tokens).split(segments.token_counts), strict=True):
            if group.length == 1:
                parts.append(qkv[:, 2 * width :])
                continue
            split = qkv.view(group.count, group.length, 3, self.num_heads, width // self.num_heads)
            query, key, value = split.permute(2, 0, 3, 1, 4).unbind(0)  # each [count, heads, length, H / heads]
            drop = self.dropout if self.training else 0.0
            attended = F.scaled_dot_product_attention(query, key, value, dropout_p=drop)
            parts.append(attended.transpose(1, 2).reshape(-1, width))  # [count * length, H]
        return torch.cat(parts) if len(parts) > 1 else parts[0]


class SequenceTrunk(nn.Module):
    """A sequence embedding, then transformer layers; no normalisation after the last residual.

    The decoder averages over the features, and the mean of a normalised vector is a constant (docs/deviations.md, 2).
    """

    def __init__(
        self,
        embedding: ConvolutionEmbedding | GRUEmbedding,
        transformer_layer: Callable[[], TransformerLayer],
        num_transformer_layers: int,
    ) -> None:
        super().__init__()
        self.embedding = embedding
        self.transformer = nn.ModuleList(transformer_layer() for _ in range(num_transformer_layers))

    def forward(self, tokens: Tensor, segments: Segments) -> Tensor:
        """Transform every sequence of the packed ``[N, H]``."""
        tokens = self.embedding(tokens, segments)
        for layer in self.transformer:
            tokens = layer(tokens, segments)
        return tokens

    def scale_output(self, factor: float) -> None:
        """Scale what every layer adds to its input."""
        self.embedding.scale_output(factor)
        for layer in self.transformer:
            cast(TransformerLayer, layer).scale_output(factor)


class EncoderBlock(nn.Module):
    """Observation of any length to a vector: lift each scalar to H features, trunk, mean over the positions.

    Args:
        d_model: features H.
        position_size: P, number of position features given beside each scalar; 1 means none, as in the paper
            (docs/deviations.md, 1).
        trunk: the sequence layers.
    """

    def __init__(self, d_model: int, position_size: int, trunk: SequenceTrunk) -> None:
        super().__init__()
        # The first half of the weights makes, from a position's features (the first is constant: the bias), the token
        # of the value zero; the second half what each unit of the value adds. So every position has a direction of its
        # own, as a column of an MLP's weight.
        self.lift = nn.Linear(2 * position_size, d_model, bias=False)
        self.trunk = trunk
        self.norm = nn.LayerNorm(d_model)
        nn.init.normal_(self.lift.weight, std=1 / math.sqrt(position_size))

    def forward(self, scalars: Tensor, layout: Layout) -> Tensor:
        """``[R, H]`` from the packed observations ``[N]``; the layout has the position features ``[U, P]``."""
        constants, slopes = (F.linear(layout.components, weight) for weight in self.lift.weight.chunk(2, 1))  # [U, H]
        tokens = lift_components(scalars, constants, slopes, layout.blocks)  # [N, H]
        pooled: Tensor = self.norm(segment_mean(self.trunk(tokens, layout.segments), layout.segments))  # [R, H]
        return pooled


class DecoderBlock(nn.Module):
    """A vector to a sequence of any length: repeat, add positions, trunk, mean over the features.

    The mean over H features is multiplied by ``gain``. The trunk's residual branches start scaled down by
    ``init_scale``, and the repeated vector is normalised and hence has no mean, so the outputs start near 0 while the
    gradient reaches every layer (docs/deviations.md, 3).

    Args:
        d_model: features H.
        trunk: the sequence layers.
        gain: factor of the mean.
        init_scale: start of the trunk's residual branches relative to the usual.
        orthogonal: whether the trunk's linear layers start orthogonal, with gain sqrt(2) and without biases.
        bins: K, if each output is logits over so many bins, from a linear layer instead of the mean.
    """

    def __init__(
        self,
        d_model: int,
        trunk: SequenceTrunk,
        gain: float,
        init_scale: float,
        *,
        orthogonal: bool = False,
        bins: int | None = None,
    ) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(d_model)
        self.trunk = trunk
        self.gain = gain
        if orthogonal:
            for module in trunk.modules():
                if isinstance(module, nn.Linear):
                    _orthogonal(module, math.sqrt(2))
        trunk.scale_output(init_scale)
        self.head = None if bins is None else nn.Linear(d_model, bins)
        if self.head is not None:
            nn.init.normal_(self.head.weight, std=0.01)  # nearly uniform, with a gradient for the layers below
            nn.init.zeros_(self.head.bias)

    def forward(self, rows: Tensor, outputs: OutputLayout) -> Tensor:
        """Decode.

        Args:
            rows: ``[R, H]``.
            outputs: layout of the outputs. Their constants are ``[U, H]`` encodings of the position and, if there are
                ``[U, 2H]``, the weight of each feature in each output; else all weigh the same.

        Returns:
            ``[N]``, or logits ``[N, K]``.
        """
        width = rows.shape[1]
        repeated = repeat_rows(self.norm(rows), outputs.constants[:, :width], outputs.sources)  # [N, H]
        tokens = self.trunk(repeated, outputs.segments)
        if outputs.constants.shape[1] > width:
            # The repeated vector has no mean over all features, but has one over half of them: leave it out.
            tokens = (tokens - repeated) * outputs.of_tokens[:, width:]
        if self.head is None:
            return tokens.mean(1) * self.gain  # [N]
        logits: Tensor = self.head(tokens)  # [N, K]
        return logits
