"""The residual MLP, and the layers that the paper's single and specific agents put around it."""

from __future__ import annotations

from torch import Tensor, nn

__all__ = ["ResidualMLP", "input_layer", "output_layer"]


class ResidualMLP(nn.Module):
    """``depth`` blocks ``x + W2 GELU(W1 LayerNorm(x))`` of hidden size ``width``; none leaves its input as it is."""

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


def input_layer(size: int, width: int) -> nn.Linear:
    """``[R, size]`` to ``[R, width]``: a linear layer that keeps the scale of its inputs."""
    linear = nn.Linear(size, width)
    nn.init.orthogonal_(linear.weight)
    nn.init.zeros_(linear.bias)
    return linear


def output_layer(width: int, size: int, gain: float) -> nn.Sequential:
    """``[R, width]`` to ``[R, size]``: normalisation and a linear layer; outputs start with size ``gain``."""
    linear = nn.Linear(width, size)
    nn.init.orthogonal_(linear.weight, gain)
    nn.init.zeros_(linear.bias)
    return nn.Sequential(nn.LayerNorm(width), linear)
