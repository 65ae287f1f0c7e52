"""Contextual attention over encoders (CARE; Sodhani et al. 2021, arXiv 2102.06177)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .config import require_whole
from .generated import Middle
from .layers import ResidualMLP
from .layout import Layout
from .task_encoder import TaskNetConfig

__all__ = ["CARENetConfig", "MixtureOfEncoders"]


@dataclass(frozen=True, kw_only=True)
class CARENetConfig(TaskNetConfig):
    """Config of a generated network with a `MixtureOfEncoders`.

    The paper embeds a description of the task by RoBERTa; without a download that is ``context="words"``, or vectors of
    your own under ``context_vectors``. The plain network of as many parameters is `same_size` of a
    `GeneratedNetConfig`.

    Attributes:
        num_encoders: k; the paper has 4 to 6 for MT10.
        encoder_width: size of both layers of an encoder.
    """

    type: ClassVar[str] = "care"

    context: Literal["computed", "words", "vectors", "embedding"] = "words"
    num_encoders: int = 4
    encoder_width: int = 50

    def __post_init__(self) -> None:
        """Check the fields."""
        super().__post_init__()
        require_whole(self, "num_encoders", "encoder_width")

    def make_middle(self) -> Middle:
        """See `GeneratedNetConfig.make_middle`."""
        return MixtureOfEncoders(self)


class MixtureOfEncoders(Middle):
    """k small encoders of each row, mixed by the environment's attention; its vector is given beside the mixture."""

    def __init__(self, config: CARENetConfig) -> None:
        super().__init__(config.make_context())
        size, hidden, k = config.context_size, config.encoder_width, config.num_encoders
        self.first = nn.Parameter(torch.randn(k, config.width, hidden) * math.sqrt(2 / config.width))
        self.first_bias = nn.Parameter(torch.zeros(k, 1, hidden))
        self.second = nn.Parameter(torch.randn(k, hidden, hidden) * math.sqrt(2 / hidden))
        self.second_bias = nn.Parameter(torch.zeros(k, 1, hidden))
        self.context_mlp = nn.Sequential(nn.ReLU(), nn.Linear(size, size), nn.ReLU(), nn.Linear(size, size))
        self.attention_logits = nn.Sequential(nn.ReLU(), nn.Linear(size, k))
        self.of_mixture = nn.Linear(hidden, config.width)
        self.of_context = nn.Linear(size, config.width, bias=False)
        self.blocks = ResidualMLP(config.width, config.depth, config.width, config.dropout)

    def attention(self, layout: Layout, like: Tensor) -> Tensor:
        """``[E, k]``, how much each environment takes from each encoder; rows sum to one."""
        return self._attention(self.context_mlp(self.contexts(layout, like)))

    def _attention(self, contexts: Tensor) -> Tensor:
        return F.softmax(self.attention_logits(contexts), 1)

    def forward(self, rows: Tensor, layout: Layout) -> Tensor:
        """``[R, H]`` to ``[R, H]``."""
        contexts = self.context_mlp(self.contexts(layout, rows))  # [E, C]
        shares = self.of_rows(self._attention(contexts), layout).expand(len(rows), -1)  # [R, k]
        encoded = F.relu(torch.matmul(rows, self.first) + self.first_bias)  # [k, R, hidden]
        encoded = torch.baddbmm(self.second_bias, encoded, self.second)
        mixture = torch.einsum("rk,krh->rh", shares, encoded)  # [R, hidden]
        joint = self.of_mixture(F.relu(mixture)) + self.of_rows(self.of_context(F.relu(contexts)), layout)
        hidden: Tensor = self.blocks(joint)
        return hidden
