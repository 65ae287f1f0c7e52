"""S4D: the diagonal variant of S4 (Gu et al., 2022), without the low-rank term."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from .kernel_cache import KernelBank

__all__ = ["S4DKernels"]


class S4DKernels(KernelBank):
    """Kernels ``K_k = 2 Re sum_n C_n Bbar_n Abar_n^k + D [k = 0]`` with the bilinear rule of the paper's
    equation 6.

    ``A_n = -1/2 + i pi n`` at the start (S4D-Lin), shared by the features of a layer; B is one and absorbed
    by C. Arguments as in `S4Kernels`.
    """

    def __init__(
        self, num_layers: int, d_model: int, d_state: int, dt_range: tuple[float, float] = (0.01, 1.0)
    ) -> None:
        super().__init__()
        half = d_state // 2
        low, high = math.log(dt_range[0]), math.log(dt_range[1])
        self.log_dt = nn.Parameter(low + (high - low) * torch.rand(num_layers, d_model))
        self.log_decay = nn.Parameter(torch.full((num_layers, half), math.log(0.5)))
        self.frequency = nn.Parameter((math.pi * torch.arange(half)).expand(num_layers, half).clone())
        self.c = nn.Parameter(torch.randn(num_layers, d_model, half, 2))
        self.d = nn.Parameter(torch.zeros(num_layers, d_model))
        with torch.no_grad():
            self.c.div_(self.compute(64).square().sum(1).sqrt()[:, :, None, None])
            self.d.normal_()

    def compute(self, length: int) -> Tensor:
        """Kernels ``[num_layers, length, H]`` in the dtype of the parameters."""
        half_step = 0.5 * self.log_dt.exp()[:, :, None]
        a = torch.complex(-self.log_decay.exp(), self.frequency)[:, None] * half_step
        scale = torch.view_as_complex(self.c) * (2 * half_step / (1 - a))
        log_a_bar = torch.log((1 + a) / (1 - a))
        lags = torch.arange(length, dtype=half_step.dtype, device=half_step.device)
        powers = torch.exp(log_a_bar[:, None] * lags[:, None, None])
        kernels = 2 * torch.real((scale[:, None] * powers).sum(-1))
        return torch.cat([kernels[:, :1] + self.d[:, None], kernels[:, 1:]], 1)
