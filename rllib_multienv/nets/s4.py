"""S4: a linear state space as a convolution, with the HiPPO-LegS matrix as a diagonal plus a rank-one part.

The paper's equation 6 discretises ``x' = A x + B u, y = C x`` with the bilinear rule,

    Abar = (I - Delta/2 A)^-1 (I + Delta/2 A),    Bbar = (I - Delta/2 A)^-1 Delta B,

and its equation 7 is the convolution with ``K_k = C Abar^k Bbar``. Gu et al. (2021a) write ``A = Lambda - P
P*`` in a unitary basis. There the generating function of the kernel is, for any complex z,

    sum_k K_k z^k = Delta C [ (1 - z) I - Delta/2 (1 + z) A ]^-1 B,

a diagonal matrix plus a rank-one matrix, inverted in closed form. (Multiplied through by ``1 + z``, so that
nothing is divided by a number that vanishes at z = -1.) We evaluate it at M = 2 L points on a circle of
radius r < 1 with r^M = 1e-10 and transform back: the aliased terms K_{k+M} are damped by 1e-10 and rounding
is amplified by at most 1e5, so in double precision the kernel is exact to about 1e-10 for *any* length, and a
short kernel is the head of a long one. Nothing depends on a maximum length, unlike the truncated C-tilde of
Gu et al. (docs/deviations.md, 6).
"""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor, nn

from .kernel_cache import KernelBank

__all__ = ["S4Kernels", "dplr_legs", "legs_matrix"]

_ALIASING = 1e-10


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
    """Constants of the evaluation points for one length.

    Returns:
        ``1 - z`` and ``1 + z`` ``[M/2 + 1]`` complex; ``(1 - z)^2`` and the pair ``(1 - z^2, (1 + z)^2)`` as
        real numbers ``[1, 2(M/2 + 1)]`` and ``[2, 2(M/2 + 1)]``; the inverse transform ``[L, 2(M/2 + 1)]``.
        The kernel is real, so the upper half of the circle carries all of it.
    """
    # Not in inference mode: the constants outlive the call and a later training step saves them for its
    # backward.
    with torch.inference_mode(False):
        return _circle_constants(length, device)


def _circle_constants(length: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    count = 2 * length
    radius = _ALIASING ** (1 / count)
    m = torch.arange(length + 1, dtype=torch.float64)
    z = torch.polar(torch.full_like(m, radius), -2 * math.pi * m / count)
    minus, plus = 1 - z, 1 + z

    def flat(values: Tensor) -> Tensor:
        return torch.view_as_real(values).reshape(1, -1)

    k = torch.arange(length, dtype=torch.float64)
    weight = torch.full_like(m, 2 / count)
    weight[0] = weight[-1] = 1 / count
    angle = 2 * math.pi * torch.outer(k, m) / count
    inverse = torch.stack([torch.cos(angle), -torch.sin(angle)], -1) * weight[:, None]
    inverse = inverse.reshape(length, -1) * (radius**-k)[:, None]
    constants = (
        minus,
        plus,
        flat(minus * minus),
        torch.cat([flat(minus * plus), flat(plus * plus)]),
        inverse,
    )
    return tuple(tensor.to(device) for tensor in constants)  # type: ignore[return-value]


class S4Kernels(KernelBank):
    """The kernels of ``num_layers`` S4 layers of width ``d_model``, including the skip term D at lag 0.

    Learned per layer and feature: log Delta, C (complex, one of each conjugate pair) and D. Learned per layer
    and shared by its features: Lambda (negative real part by construction), P (real: the basis' free phases
    absorb its argument) and B. ``Lambda - P P*`` is stable whatever the parameters are.

    Args:
        num_layers: layers of the stack.
        d_model: features H.
        d_state: state size N, even.
        dt_range: Delta starts log-uniform between these; one over Delta is the length that a feature looks
            back over.
    """

    def __init__(
        self, num_layers: int, d_model: int, d_state: int, dt_range: tuple[float, float] = (0.01, 1.0)
    ) -> None:
        super().__init__()
        lam, p, b, _ = dplr_legs(d_state)
        half = d_state // 2
        low, high = math.log(dt_range[0]), math.log(dt_range[1])

        def per_layer(value: Tensor) -> Tensor:
            return value[:half].to(torch.get_default_dtype()).expand(num_layers, half).clone()

        self.log_dt = nn.Parameter(low + (high - low) * torch.rand(num_layers, d_model))
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

    def _continuous(self) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Delta ``[n, H, 1]``, Lambda ``[n, N/2]``, P ``[n, N/2]``, B ``[n, N/2]``, C ``[n, H, N/2]``."""
        lam = torch.complex(-self.log_decay.double().exp(), self.frequency.double())
        b = torch.complex(self.b_real.double(), self.b_imag.double())
        return (
            self.log_dt.double().exp()[:, :, None],
            lam,
            self.p.double(),
            b,
            torch.view_as_complex(self.c.double()),
        )

    def compute(self, length: int) -> Tensor:
        """Kernels ``[num_layers, length, H]`` in the dtype of the parameters."""
        minus, plus, constant, basis, inverse = _circle(length, self.c.device)
        dt, lam, p, b, c = self._continuous()
        layers, features, half = c.shape
        # A conjugate pair l, l~ with numerators x, x~ sums to a quotient of polynomials with real
        # coefficients: [2 Re(x) (1-z) - Delta Re(x l~) (1+z)] / [(1-z)^2 - Delta Re(l) (1-z)(1+z) + Delta^2/4
        # |l|^2 (1+z)^2].
        decay = dt * lam.real.neg()[:, None]
        speed = (dt * dt / 4) * (lam.real.square() + lam.imag.square())[:, None]
        denominator = torch.addmm(constant, torch.stack([decay, speed], -1).view(-1, 2), basis)
        quotient = torch.view_as_real(
            torch.view_as_complex(denominator.view(layers, features, half, -1, 2)).reciprocal()
        )
        pb = (p * b)[:, None].expand_as(c)
        pp = (p * p).to(c.dtype)[:, None].expand_as(c)
        numerator = torch.stack([c * b[:, None], c * p[:, None], pb, pp], 2)
        turned = torch.real(numerator * lam.conj()[:, None, None]) * -dt[..., None]
        coefficients = torch.cat([2 * torch.real(numerator), turned], 2)
        sums = torch.view_as_complex((coefficients @ quotient.flatten(3)).view(layers, features, 8, -1, 2))
        cb, cp, pb, pp = (sums[:, :, :4] * minus + sums[:, :, 4:] * plus).unbind(2)
        # (D + e p p*)^-1 = D^-1 - e D^-1 p p* D^-1 / (1 + e p* D^-1 p), with e = Delta/2 (1+z).
        edge = (dt / 2) * plus
        values = dt * (cb - edge * cp * pb / (1 + edge * pp)) + self.d.double()[:, :, None]
        kernels = inverse @ torch.view_as_real(values).flatten(2).transpose(1, 2)
        return kernels.to(self.c.dtype)

    def discrete(self, layer: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Dense ``Abar [H, N, N]``, ``Bbar [H, N]``, ``C [H, N]`` (complex double), ``D [H]`` of the paper's
        equation 6.

        For checking, and for stepping through a sequence one token at a time with `step`.
        """
        dt, lam, p, b, c = (value[layer] for value in self._continuous())
        lam, b, c = torch.cat([lam, lam.conj()]), torch.cat([b, b.conj()]), torch.cat([c, c.conj()], -1)
        p = torch.cat([p, p]).to(lam.dtype)
        matrix = torch.diag(lam) - torch.outer(p, p)
        eye = torch.eye(len(lam), dtype=lam.dtype, device=lam.device)
        left = eye - dt[..., None] / 2 * matrix
        a_bar = torch.linalg.solve(left, eye + dt[..., None] / 2 * matrix)
        b_bar = torch.linalg.solve(left, dt.to(lam.dtype) * b)
        return a_bar, b_bar, c, self.d[layer].double()

    @staticmethod
    def step(discrete: tuple[Tensor, Tensor, Tensor, Tensor], state: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
        """One step: state ``[B, H, N]`` complex, u ``[B, H]`` to (new state, y ``[B, H]``)."""
        a_bar, b_bar, c, d = discrete
        state = torch.einsum("hnm,bhm->bhn", a_bar, state) + b_bar * u[..., None]
        return state, torch.real((c * state).sum(-1)) + d * u
