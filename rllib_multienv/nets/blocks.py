"""The building blocks of the paper's Figure 1a: encoder block and decoder block; `ResidualMLP` stands between them."""

from __future__ import annotations

import math
from typing import cast

import torch.nn.functional as F
from torch import Tensor, nn

from .packed_ops import lift_components, repeat_rows, segment_mean
from .segments import Segments
from .sequence import SEQUENCE_EMBEDDINGS
from .transformer import TransformerLayer

__all__ = ["DecoderBlock", "EncoderBlock", "SequenceTrunk"]


class SequenceTrunk(nn.Module):
    """A sequence embedding, then transformer layers; no normalisation after the last residual.

    The decoder averages over the features, and the mean of a normalised vector is a constant (docs/deviations.md, 2).
    """

    def __init__(
        self,
        *,
        d_model: int,
        embedding: str,
        d_state: int,
        num_embedding_layers: int,
        num_transformer_layers: int,
        num_heads: int,
        dim_feedforward: int,
        dropout: float,
    ) -> None:
        super().__init__()
        self.embedding = SEQUENCE_EMBEDDINGS[embedding](d_model, d_state, num_embedding_layers, dropout)
        self.transformer = nn.ModuleList(
            TransformerLayer(d_model, num_heads, dim_feedforward, dropout) for _ in range(num_transformer_layers)
        )

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
        position_size: number of position features given beside each scalar; 1 means none, as in the paper
            (docs/deviations.md, 1).
        trunk: the sequence layers.
    """

    def __init__(self, d_model: int, position_size: int, trunk: SequenceTrunk) -> None:
        super().__init__()
        # Of a position's features (the first is constant: the bias) the first half of the weights makes the token of
        # the value zero, the second half what is added for each unit of the value. So every position has its own
        # direction, as a column of an MLP's weight.
        self.lift = nn.Linear(2 * position_size, d_model, bias=False)
        self.trunk = trunk
        self.norm = nn.LayerNorm(d_model)
        nn.init.normal_(self.lift.weight, std=1 / math.sqrt(position_size))

    def forward(
        self, scalars: Tensor, positions: Tensor, blocks: tuple[tuple[int, int], ...], segments: Segments
    ) -> Tensor:
        """Encode.

        Args:
            scalars: ``[N]`` all observations, packed.
            positions: ``[U, position_size]`` the position features of each component of each environment.
            blocks: number of observations and of components of each environment, see `lift_components`.
            segments: the layout, one row per observation.

        Returns:
            ``[num_rows, H]``.
        """
        of_constants, of_slopes = self.lift.weight.chunk(2, 1)
        tokens = lift_components(scalars, F.linear(positions, of_constants), F.linear(positions, of_slopes), blocks)
        pooled: Tensor = self.norm(segment_mean(self.trunk(tokens, segments), segments))
        return pooled


class DecoderBlock(nn.Module):
    """A vector to a sequence of any length: repeat, add positions, trunk, mean over the features.

    The mean over H features is multiplied by ``gain``. At the start the residual branches of the trunk are
    scaled down by ``init_scale``, and the repeated vector is normalised and hence has no mean, so the outputs
    start near 0 while the gradient reaches every layer (docs/deviations.md, 3).

    Args:
        d_model: features H.
        trunk: the sequence layers.
        gain: factor of the mean.
        init_scale: start of the trunk's residual branches relative to the usual.
        orthogonal: whether the trunk's linear layers start orthogonal, with gain sqrt(2) and without biases.
        bins: K, where each output is logits over so many bins, from a linear layer in the place of the mean.
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
                    nn.init.orthogonal_(module.weight, math.sqrt(2))
                    nn.init.zeros_(module.bias)
        trunk.scale_output(init_scale)
        self.head = None if bins is None else nn.Linear(d_model, bins)
        if self.head is not None:
            nn.init.normal_(self.head.weight, std=0.01)  # nearly uniform, and a gradient for the layers below
            nn.init.zeros_(self.head.bias)

    def forward(
        self,
        rows: Tensor,
        positions: Tensor,
        sources: tuple[tuple[int, int], ...],
        segments: Segments,
        readouts: Tensor | None = None,
    ) -> Tensor:
        """Decode.

        Args:
            rows: ``[R, H]``.
            positions: ``[max_length, H]`` position encodings.
            sources: which rows feed which sequences, see `repeat_rows`.
            segments: layout of the outputs.
            readouts: ``[segments.num_tokens, H]``, how much each feature counts; None: all count alike.

        Returns:
            ``[segments.num_tokens]``, or logits ``[segments.num_tokens, K]``.
        """
        repeated = repeat_rows(self.norm(rows), positions, sources, segments)
        tokens = self.trunk(repeated, segments)
        if readouts is not None:
            # The vector itself has no mean, but half of it has one: only what the trunk adds is read.
            tokens = (tokens - repeated) * readouts
        if self.head is None:
            return tokens.mean(1) * self.gain
        logits: Tensor = self.head(tokens)
        return logits
