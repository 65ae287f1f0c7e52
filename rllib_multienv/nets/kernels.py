"""Convolution kernels of the S4 and S4D layers.

The paper's equation 6 discretises ``x' = A x + B u, y = C x`` with the bilinear rule,

    Abar = (I - Delta/2 A)^-1 (I + Delta/2 A),    Bbar = (I - Delta/2 A)^-1 Delta B,

and its equation 7 is the convolution with ``K_k = C Abar^k Bbar``.

**S4** takes the HiPPO-LegS matrix, which Gu et al. (2021a) write as ``A = Lambda - P P*`` in a unitary basis. There the
generating function of the kernel is, for any complex z,

    sum_k K_k z^k = Delta C [ (1 - z) I - Delta/2 (1 + z) A ]^-1 B,

a diagonal plus a rank-one matrix, inverted in closed form. (Multiplied by ``1 + z``, so that nothing is divided by a
number that vanishes at z = -1.) It is evaluated at M = 2 L points on a circle of radius r < 1 with r^M = 1e-10 and
transformed back: the aliased terms K_{k+M} are damped by 1e-10 and rounding is amplified by at most 1e5, so in double
precision the kernel is exact to about 1e-10 for any length, and a short kernel is the head of a long one. There is no
maximum length, unlike with the truncated C-tilde of Gu et al. (docs/deviations.md, 6).

**S4D** (Gu et al., 2022) is the diagonal variant, without the low-rank term.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from functools import lru_cache

import torch
from torch import Tensor, nn

from .cache import CachedModule

__all__ = ["KernelBank", "S4DKernels", "S4Kernels", "dplr_legs", "legs_matrix"]

_ALIASING = 1e-10
# One over Delta is the length that a feature looks back over.
_DT_RANGE = (0.01, 1.0)


class KernelBank(CachedModule):
    """The convolution kernels of a stack of layers, computed together; a subclass implements `compute`.

    Without gradients the kernels are kept until a parameter changes or a longer kernel is needed.
    """

    @abstractmethod
    def compute(self, length: int) -> Tensor:
        """Return the kernels ``[num_layers, length, H]``; ``compute(l)`` is the head of any longer one."""

    def forward(self, length: int) -> Tensor:
        """Kernels ``[num_layers, L, H]`` with ``L >= length``."""
        return self.cached("kernels", lambda: self.compute(length), lambda kept: kept.shape[1] >= length)


def _initial_log_dt(num_layers: int, d_model: int, dt_range: tuple[float, float] = _DT_RANGE) -> Tensor:
    """``[num_layers, H]``, log-uniform."""
    low, high = (math.log(dt) for dt in dt_range)
    return low + (high - low) * torch.rand(num_layers, d_model)


def legs_matrix(d_state: int) -> tuple[Tensor, Tensor]:
    """The HiPPO-LegS pair of Gu et al. (2020): ``A [N, N]`` and ``B [N]``, float64."""
    scale = torch.sqrt(2 * torch.arange(d_state, dtype=torch.float64) + 1)
    matrix = -torch.tril(torch.outer(scale, scale), -1) - torch.diag(torch.arange(1, d_state + 1, dtype=torch.float64))
    return matrix, scale


@lru_cache(maxsize=8)
def dplr_legs(d_state: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """HiPPO-LegS as ``A = V (Lambda - P P*) V*`` with unitary V.

    ``A + p p^T`` with ``p_n = sqrt(n + 1/2)`` is ``-1/2 I`` plus a skew-symmetric matrix, hence normal. The
    eigenvectors' free phases are chosen such that P is real and positive.

    Returns:
        Lambda ``[N]`` complex, P ``[N]`` real, B ``[N]`` complex, V ``[N, N]`` complex, all in double
        precision, ordered by falling imaginary part: the second half is the conjugate of the first in reverse
        order.
    """
    matrix, b = legs_matrix(d_state)
    p = torch.sqrt(torch.arange(d_state, dtype=torch.float64) + 0.5)
    normal = matrix + torch.outer(p, p)
    skew = normal + 0.5 * torch.eye(d_state, dtype=torch.float64)
    frequencies, vectors = torch.linalg.eigh(-1j * skew.to(torch.complex128))
    order = torch.argsort(frequencies, descending=True)
    frequencies, vectors = frequencies[order], vectors[:, order]
    projected = vectors.mH @ p.to(torch.complex128)
    vectors = vectors * (projected / projected.abs())
    return (
        torch.complex(torch.full_like(frequencies, -0.5), frequencies),
        projected.abs(),
        vectors.mH @ b.to(torch.complex128),
        vectors,
    )


@lru_cache(maxsize=64)
def _circle(length: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Constants of the evaluation points z for one length; M = 2 length.

    The kernel is real, so the upper half of the circle, M/2 + 1 points, carries all of it.

    Returns:
        ``1 - z`` and ``1 + z`` ``[M/2 + 1]`` complex; ``(1 - z)^2`` and the pair ``(1 - z^2, (1 + z)^2)`` as
        real numbers ``[1, 2(M/2 + 1)]`` and ``[2, 2(M/2 + 1)]``; the inverse transform ``[L, 2(M/2 + 1)]``.
    """

    def flat(values: Tensor) -> Tensor:
        return torch.view_as_real(values).reshape(1, -1)

    # Not in inference mode: the constants outlive the call, and later training steps save them for their backward.
    with torch.inference_mode(False):
        count = 2 * length
        radius = _ALIASING ** (1 / count)
        m = torch.arange(length + 1, dtype=torch.float64)
        z = torch.polar(torch.full_like(m, radius), -2 * math.pi * m / count)
        minus, plus = 1 - z, 1 + z
        lags = torch.arange(length, dtype=torch.float64)
        weight = torch.full_like(m, 2 / count)
        weight[0] = weight[-1] = 1 / count
        angle = 2 * math.pi * torch.outer(lags, m) / count  # [L, M/2 + 1]
        inverse = torch.stack([torch.cos(angle), -torch.sin(angle)], -1) * weight[:, None]  # [L, M/2 + 1, 2]
        inverse = inverse.reshape(length, -1) * (radius**-lags)[:, None]
        products = torch.cat([flat(minus * plus), flat(plus * plus)])
        constants = (minus, plus, flat(minus * minus), products, inverse)
        return tuple(tensor.to(device) for tensor in constants)  # type: ignore[return-value]


class S4Kernels(KernelBank):
    """The kernels of ``num_layers`` S4 layers of width ``d_model``, including the skip term D at lag 0.

    Learned per layer and feature: log Delta, C (complex, one of each conjugate pair) and D. Learned per layer and
    shared by its features: Lambda (negative real part by construction), P (real, because the basis' free phases absorb
    its argument) and B. ``Lambda - P P*`` is stable for all parameters.

    Args:
        num_layers: layers of the stack.
        d_model: features H.
        d_state: state size N, even.
    """

    def __init__(self, num_layers: int, d_model: int, d_state: int) -> None:
        super().__init__()
        lam, p, b, _ = dplr_legs(d_state)
        half = d_state // 2

        def per_layer(value: Tensor) -> Tensor:
            return value[:half].to(torch.get_default_dtype()).expand(num_layers, half).clone()

        self.log_dt = nn.Parameter(_initial_log_dt(num_layers, d_model))
        self.log_decay = nn.Parameter(per_layer((-lam.real).log()))
        self.frequency = nn.Parameter(per_layer(lam.imag))
        self.p = nn.Parameter(per_layer(p))
        self.b_real = nn.Parameter(per_layer(b.real))
        self.b_imag = nn.Parameter(per_layer(b.imag))
        self.c = nn.Parameter(torch.randn(num_layers, d_model, half, 2))
        self.d = nn.Parameter(torch.zeros(num_layers, d_model))
        with torch.no_grad():
            # Every feature's response to white noise starts with unit variance.
            energy = self.compute(64).square().sum(1).sqrt()
            self.c.div_(energy[:, :, None, None])
            self.d.normal_()

    def compute(self, length: int) -> Tensor:
        """Kernels ``[num_layers, length, H]`` in the dtype of the parameters."""
        minus, plus, constant, basis, inverse = _circle(length, self.c.device)
        dt = self.log_dt.double().exp()[:, :, None]  # [layers, H, 1]
        lam = torch.complex(-self.log_decay.double().exp(), self.frequency.double())  # [layers, N/2]
        p, b = self.p.double(), torch.complex(self.b_real.double(), self.b_imag.double())  # [layers, N/2]
        c = torch.view_as_complex(self.c.double())  # [layers, H, N/2]
        layers, features, half = c.shape
        # A conjugate pair l, l~ with numerators x, x~ sums to a quotient of polynomials with real coefficients:
        # [2 Re(x) (1-z) - Delta Re(x l~) (1+z)] / [(1-z)^2 - Delta Re(l) (1-z)(1+z) + Delta^2/4 |l|^2 (1+z)^2].
        decay = dt * lam.real.neg()[:, None]  # [layers, H, N/2]
        speed = (dt * dt / 4) * (lam.real.square() + lam.imag.square())[:, None]
        denominator = torch.addmm(constant, torch.stack([decay, speed], -1).view(-1, 2), basis)  # [layers H N/2, 2 pts]
        quotient = torch.view_as_real(
            torch.view_as_complex(denominator.view(layers, features, half, -1, 2)).reciprocal()
        )  # [layers, H, N/2, points, 2]
        pb = (p * b)[:, None].expand_as(c)
        pp = (p * p).to(c.dtype)[:, None].expand_as(c)
        numerator = torch.stack([c * b[:, None], c * p[:, None], pb, pp], 2)  # [layers, H, 4, N/2]
        turned = torch.real(numerator * lam.conj()[:, None, None]) * -dt[..., None]
        coefficients = torch.cat([2 * torch.real(numerator), turned], 2)  # [layers, H, 8, N/2]
        sums = torch.view_as_complex((coefficients @ quotient.flatten(3)).view(layers, features, 8, -1, 2))
        cb, cp, pb, pp = (sums[:, :, :4] * minus + sums[:, :, 4:] * plus).unbind(2)  # each [layers, H, points]
        # (D + e p p*)^-1 = D^-1 - e D^-1 p p* D^-1 / (1 + e p* D^-1 p), with e = Delta/2 (1+z).
        edge = (dt / 2) * plus
        values = dt * (cb - edge * cp * pb / (1 + edge * pp)) + self.d.double()[:, :, None]
        kernels = inverse @ torch.view_as_real(values).flatten(2).transpose(1, 2)  # [layers, L, H]
        return kernels.to(self.c.dtype)


class S4DKernels(KernelBank):
    """Kernels ``K_k = 2 Re sum_n C_n Bbar_n Abar_n^k + D [k = 0]`` with the bilinear rule of the paper's equation 6.

    ``A_n = -1/2 + i pi n`` at the start (S4D-Lin), shared by the features of a layer; B is one and absorbed by C.
    Arguments as in `S4Kernels`; ``dt_range``: smallest and largest Delta at the start.
    """

    def __init__(self, num_layers: int, d_model: int, d_state: int, dt_range: tuple[float, float] = _DT_RANGE) -> None:
        super().__init__()
        half = d_state // 2
        self.log_dt = nn.Parameter(_initial_log_dt(num_layers, d_model, dt_range))
        self.log_decay = nn.Parameter(torch.full((num_layers, half), math.log(0.5)))
        self.frequency = nn.Parameter((math.pi * torch.arange(half)).expand(num_layers, half).clone())
        self.c = nn.Parameter(torch.randn(num_layers, d_model, half, 2))
        self.d = nn.Parameter(torch.zeros(num_layers, d_model))
        with torch.no_grad():
            self.c.div_(self.compute(64).square().sum(1).sqrt()[:, :, None, None])
            self.d.normal_()

    def compute(self, length: int) -> Tensor:
        """Kernels ``[num_layers, length, H]`` in the dtype of the parameters."""
        return self._recurrence(length)[0]

    def recurrence(self, length: int) -> tuple[Tensor, Tensor, Tensor]:
        """The same layers as recurrences ``x_k = Abar x_{k-1} + u_k``, ``y_k = 2 Re(C Bbar x_k) + D u_k``.

        Returns:
            Kernels ``[num_layers, length, H]``, ``2 C Bbar`` complex ``[num_layers, H, N/2]``, and ``Abar^0`` to
            ``Abar^length`` complex ``[num_layers, length + 1, H, N/2]``.
        """
        return self.cached(("recurrence", length), lambda: self._recurrence(length))

    def _recurrence(self, length: int) -> tuple[Tensor, Tensor, Tensor]:
        half_step = 0.5 * self.log_dt.exp()[:, :, None]  # [layers, H, 1]
        a = torch.complex(-self.log_decay.exp(), self.frequency)[:, None] * half_step  # [layers, H, N/2]
        readout = 2 * torch.view_as_complex(self.c) * (2 * half_step / (1 - a))
        log_a_bar = torch.log((1 + a) / (1 - a))  # bilinear rule
        lags = torch.arange(length + 1, dtype=half_step.dtype, device=half_step.device)
        powers = torch.exp(log_a_bar[:, None] * lags[:, None, None])  # [layers, L + 1, H, N/2]
        kernels = torch.real((readout[:, None] * powers[:, :-1]).sum(-1))  # [layers, L, H]
        return torch.cat([kernels[:, :1] + self.d[:, None], kernels[:, 1:]], 1), readout, powers
