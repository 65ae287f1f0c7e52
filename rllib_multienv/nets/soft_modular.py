"""Soft modularisation (Yang et al. 2020, arXiv 2003.13661): every row routes itself through layers of modules."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .config import require_whole
from .generated import Middle
from .layout import Layout
from .task_encoder import TaskNetConfig

__all__ = ["SoftModularNetConfig", "SoftModules"]


@dataclass(frozen=True, kw_only=True)
class SoftModularNetConfig(TaskNetConfig):
    """Config of a generated network with `SoftModules` hidden layers.

    The paper has 2 layers of 2 modules for MT10 and 4 of 4 for MT50, width 256 and context size 400. The plain network
    of as many parameters is `same_size` of a `GeneratedNetConfig`.

    Attributes:
        depth: L, layers of modules.
        num_modules: n, modules of each layer, of width H.
        context_size: D, length of the embeddings of row and environment that decide the routing.
    """

    type: ClassVar[str] = "soft_modular"

    depth: int = 2
    num_modules: int = 4

    def __post_init__(self) -> None:
        """Check the fields."""
        super().__post_init__()
        require_whole(self, "depth", at_least=2)
        require_whole(self, "num_modules")

    def make_middle(self) -> Middle:
        """See `GeneratedNetConfig.make_middle`."""
        return SoftModules(self)


class SoftModules(Middle):
    """Layers of modules; a routing network decides how much each hears of each module before it.

    Equations 2 to 6 of the paper: with f(s) of the row and h(z) of the environment, the routing logits are
    ``p_1 = W_d ReLU(f * h)`` and ``p_{l+1} = W_d ReLU(W_u p_l * (f * h))``; module i of the next layer hears the sum
    over j of ``softmax_j(p_ij) ReLU(W_j g_j)``. What the paper's code adds to its text is left out.
    """

    def __init__(self, config: SoftModularNetConfig) -> None:
        super().__init__(config.make_context())
        width, size, self.num_modules = config.width, config.context_size, config.num_modules
        pairs = self.num_modules**2
        self.row_embedding = nn.Linear(width, size)
        self.down = nn.ModuleList(nn.Linear(size, pairs) for _ in range(config.depth - 1))
        self.up = nn.ModuleList(nn.Linear(pairs, size) for _ in range(config.depth - 2))
        self.weights = nn.ParameterList(
            torch.randn(self.num_modules, width, width) * math.sqrt(2 / width) for _ in range(config.depth)
        )
        self.biases = nn.ParameterList(torch.zeros(self.num_modules, 1, width) for _ in range(config.depth))

    def routing(self, rows: Tensor, layout: Layout) -> list[Tensor]:
        """``[R, n, n]`` for each layer but the first: shares of what each module (i) hears of those before it (j)."""
        joint = self.row_embedding(rows) * self.of_rows(self.contexts(layout, rows), layout)  # [R, D]
        logits = [self.down[0](F.relu(joint))]  # each [R, n * n]
        for up, down in zip(self.up, self.down[1:], strict=True):
            logits.append(down(F.relu(up(logits[-1]) * joint)))
        return [F.softmax(each.unflatten(1, (self.num_modules, self.num_modules)), 2) for each in logits]

    def forward(self, rows: Tensor, layout: Layout) -> Tensor:
        """``[R, H]`` to ``[R, H]``."""
        heard = F.relu(rows).expand(self.num_modules, -1, -1)  # [n, R, H]
        *first, last = zip(self.weights, self.biases, strict=True)
        for (weight, bias), shares in zip(first, self.routing(rows, layout), strict=True):
            said = F.relu(torch.baddbmm(bias, heard, weight))  # [n, R, H]
            heard = torch.einsum("rij,jrh->irh", shares, said)  # [n, R, H]
        return torch.baddbmm(last[1], heard, last[0]).sum(0)  # [R, H]
