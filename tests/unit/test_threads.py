"""PyTorch's threads outside of Ray: one for a small network, unless the user has set a number."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from rllib_multienv import process


@pytest.fixture(autouse=True)
def _restore(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    before = torch.get_num_threads()
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(process, "_DEFAULT_THREADS", 2)
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(("parameters", "threads"), [(10_000, 1), (2_000_000, 2), (None, 2)])
def test_a_small_network_has_one_thread(parameters: int | None, threads: int) -> None:
    process.set_threads(parameters)
    assert torch.get_num_threads() == threads


def test_what_the_user_has_set_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.set_num_threads(3)
    process.set_threads(10_000)
    assert torch.get_num_threads() == 3
    torch.set_num_threads(2)
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    process.set_threads(10_000)
    assert torch.get_num_threads() == 2
