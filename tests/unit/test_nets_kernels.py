"""The S4 kernel follows equations 6 and 7 of the paper, and kernels are kept until a parameter changes."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from copy import deepcopy

import pytest
import torch

from rllib_multienv.nets.kernels import S4DKernels, S4Kernels, dplr_legs, legs_matrix
from rllib_multienv.nets.packed import Segments, causal_convolution


def _kernels(cls: type = S4Kernels, layers: int = 2, d_model: int = 3, d_state: int = 8) -> torch.nn.Module:
    torch.manual_seed(0)
    bank = cls(layers, d_model, d_state).double()
    with torch.no_grad():  # away from the start, where B is real and Lambda's real part constant
        for parameter in bank.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return bank


def _discretised(bank: S4Kernels, layer: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Dense ``Abar [H, N, N]``, ``Bbar [H, N]``, ``C [H, N]`` and ``D [H]`` of the paper's equation 6."""
    dt = bank.log_dt[layer].exp()[:, None, None]
    half = torch.complex(-bank.log_decay[layer].exp(), bank.frequency[layer])
    b, c = torch.complex(bank.b_real[layer], bank.b_imag[layer]), torch.view_as_complex(bank.c[layer])
    p = torch.cat([bank.p[layer], bank.p[layer]]).to(half.dtype)
    matrix = torch.diag(torch.cat([half, half.conj()])) - torch.outer(p, p)
    eye = torch.eye(len(matrix), dtype=matrix.dtype)
    a_bar = torch.linalg.solve(eye - dt / 2 * matrix, eye + dt / 2 * matrix)
    b_bar = torch.linalg.solve(eye - dt / 2 * matrix, dt[..., 0] * torch.cat([b, b.conj()]))
    return a_bar, b_bar, torch.cat([c, c.conj()], -1), bank.d[layer]


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
        a_bar, power, c, d = _discretised(bank, layer)
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
    a_bar, b_bar, c, d = _discretised(bank, 1)
    state = torch.zeros(2, 3, 8, dtype=torch.complex128)
    for position in range(length):
        state = torch.einsum("hnm,bhm->bhn", a_bar, state) + b_bar * u[:, position, :, None]
        expected = torch.real((c * state).sum(-1)) + d * u[:, position]
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


def _fresh(bank: S4Kernels, length: int) -> torch.Tensor:
    return deepcopy(bank).compute(length)


def test_kept_between_calls_and_sliced_for_shorter_sequences() -> None:
    bank = S4Kernels(2, 3, 4)
    with torch.no_grad():
        first = bank(7)
        assert bank(7) is first
        assert bank(3) is first
        assert bank(9).shape[1] == 9
        assert torch.allclose(bank(7)[:, :7], first, atol=1e-6)


def test_computed_anew_with_gradients() -> None:
    bank = S4Kernels(2, 3, 4)
    with torch.no_grad():
        bank(7)
    assert bank(7).requires_grad


def _adam(fused: bool) -> Callable[[S4Kernels], S4Kernels]:
    def change(bank: S4Kernels) -> S4Kernels:
        optimiser = torch.optim.Adam(bank.parameters(), lr=0.1, fused=fused)
        bank(5).square().sum().backward()
        optimiser.step()
        return bank

    return change


def _load(bank: S4Kernels) -> S4Kernels:
    bank.load_state_dict(S4Kernels(2, 3, 4).state_dict())
    return bank


def _assign(bank: S4Kernels) -> S4Kernels:
    bank.load_state_dict(S4Kernels(2, 3, 4).state_dict(), assign=True)
    return bank


def _swap_data(bank: S4Kernels) -> S4Kernels:
    for parameter in bank.parameters():
        parameter.data = torch.randn_like(parameter)
    return bank


def _copy_and_step(bank: S4Kernels) -> S4Kernels:
    return _adam(False)(deepcopy(bank))


def _pickled(bank: S4Kernels) -> S4Kernels:
    return _load(pickle.loads(pickle.dumps(bank)))


@pytest.mark.parametrize(
    "change",
    [_adam(False), _adam(True), _load, _assign, _swap_data, _copy_and_step, _pickled, lambda b: b.double()],
    ids=["adam", "fused_adam", "load", "assign", "data", "deepcopy", "pickle", "double"],
)
def test_changed_weights_give_changed_kernels(change: Callable[[S4Kernels], S4Kernels]) -> None:
    bank = S4Kernels(2, 3, 4)
    with torch.no_grad():
        bank(7)
    bank = change(bank)
    with torch.no_grad():
        assert torch.equal(bank(7), _fresh(bank, 7))


def test_copy_leaves_the_original_alone() -> None:
    bank = S4Kernels(2, 3, 4)
    with torch.no_grad():
        before = bank(7)
    _copy_and_step(bank)
    with torch.no_grad():
        assert torch.equal(bank(7), before)


def test_clear_after_a_write_that_escapes_the_version_counter() -> None:
    bank = S4Kernels(2, 3, 4)
    with torch.no_grad():
        bank(7)
        bank.c.data.mul_(2)
        bank.clear_cache()
        assert torch.equal(bank(7), _fresh(bank, 7))
