"""Kept kernels are always those of the present weights."""

import pickle
from collections.abc import Callable
from copy import deepcopy

import pytest
import torch

from rllib_multienv.nets.s4 import S4Kernels


def _fresh(bank: S4Kernels, length: int) -> torch.Tensor:
    return deepcopy(bank).compute(length)


def test_kept_between_calls_and_sliced_for_shorter_sequences(monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_forget_after_a_write_that_escapes_the_version_counter() -> None:
    bank = S4Kernels(2, 3, 4)
    with torch.no_grad():
        bank(7)
        bank.c.data.mul_(2)
        bank.forget()
        assert torch.equal(bank(7), _fresh(bank, 7))
