"""The S4 kernel is what equations 6 and 7 of the paper say."""

import pytest
import torch

from rllib_multienv.nets.packed_ops import causal_convolution
from rllib_multienv.nets.s4 import S4Kernels, dplr_legs, legs_matrix
from rllib_multienv.nets.s4d import S4DKernels
from rllib_multienv.nets.segments import Segments


def _kernels(cls: type = S4Kernels, layers: int = 2, d_model: int = 3, d_state: int = 8) -> torch.nn.Module:
    torch.manual_seed(0)
    bank = cls(layers, d_model, d_state).double()
    with torch.no_grad():  # away from the start, where B is real and Lambda's real part constant
        for parameter in bank.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return bank


def test_diagonal_plus_low_rank_is_legs_in_another_basis() -> None:
    for d_state in (2, 8, 64):
        lam, p, b, basis = dplr_legs(d_state)
        matrix, b_legs = legs_matrix(d_state)
        rebuilt = basis @ (torch.diag(lam) - torch.outer(p, p)).to(basis.dtype) @ basis.mH
        assert torch.allclose(basis @ basis.mH, torch.eye(d_state, dtype=basis.dtype), atol=1e-12)
        assert torch.allclose(rebuilt, matrix.to(basis.dtype), atol=1e-10 * d_state)
        assert torch.allclose(basis @ b, b_legs.to(basis.dtype), atol=1e-10)
        assert torch.allclose(lam.flip(0), lam.conj(), atol=1e-10 * d_state)
        assert torch.allclose(b.flip(0), b.conj(), atol=1e-10)


@pytest.mark.parametrize("length", [1, 2, 7, 200])
def test_kernel_equals_matrix_powers_of_the_dense_discretisation(length: int) -> None:
    bank = _kernels()
    kernels = bank.compute(length)
    for layer in range(2):
        a_bar, power, c, d = bank.discrete(layer)
        expected = []
        for lag in range(length):
            expected.append((c * power).sum(-1).real + (d if lag == 0 else 0))
            power = torch.einsum("hnm,hm->hn", a_bar, power)
        assert torch.allclose(kernels[layer], torch.stack(expected), atol=1e-8, rtol=1e-8)


@pytest.mark.parametrize("length", [1, 2, 4, 5, 11, 60, 250])
def test_convolution_equals_recurrence(length: int) -> None:
    bank = _kernels()
    u = torch.randn(2, length, 3, dtype=torch.float64)
    y = causal_convolution(u.flatten(0, 1), bank.compute(length)[1], Segments.of([(length, 2)])).view(2, length, 3)
    discrete = bank.discrete(1)
    state = torch.zeros(2, 3, 8, dtype=torch.complex128)
    for position in range(length):
        state, expected = bank.step(discrete, state, u[:, position])
        assert torch.allclose(y[:, position], expected, atol=1e-6)


@pytest.mark.parametrize("cls", [S4Kernels, S4DKernels])
def test_short_kernel_is_the_head_of_a_long_one(cls: type) -> None:
    bank = _kernels(cls, d_state=16)
    longest = bank.compute(376)
    for length in (1, 2, 5, 17, 111):
        assert torch.allclose(bank.compute(length), longest[:, :length], atol=1e-8, rtol=1e-8)


def test_paper_sized_kernel_is_finite_in_single_precision() -> None:
    torch.manual_seed(0)
    bank = S4Kernels(1, 4, 256)
    kernels = bank.compute(376)
    assert kernels.dtype == torch.float32
    assert kernels.isfinite().all()
    assert kernels[:, :64].square().sum(1).mean() < 10
    kernels.sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in bank.parameters())


@pytest.mark.parametrize("cls", [S4Kernels, S4DKernels])
def test_kernel_gradients(cls: type) -> None:
    bank = _kernels(cls, layers=1, d_model=2, d_state=4)
    names = [name for name, _ in bank.named_parameters()]
    values = [p.detach().clone().requires_grad_() for p in bank.parameters()]

    def compute(*parameters: torch.Tensor) -> torch.Tensor:
        return torch.func.functional_call(bank, dict(zip(names, parameters, strict=True)), (6,))

    assert torch.autograd.gradcheck(compute, values, atol=1e-5)
