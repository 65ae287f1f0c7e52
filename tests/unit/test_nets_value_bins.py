"""Values as distributions over bins."""

from __future__ import annotations

import pytest
import torch

from rllib_multienv.nets.value_bins import ValueBins

KINDS = ("two_hot", "hl_gauss")
TARGETS = torch.tensor([-100.0, -37.5, -1.0, -0.03, 0.0, 0.4, 2.0, 99.0])


@pytest.mark.parametrize("kind", KINDS)
def test_targets_are_read_back(kind: str) -> None:
    bins = ValueBins(kind, 101, 100.0)
    probabilities = bins.distribution(TARGETS)
    assert probabilities.shape == (8, 101)
    assert (probabilities >= 0).all()
    torch.testing.assert_close(probabilities.sum(1), torch.ones(8))
    read = bins.read(torch.log(probabilities.clamp(min=1e-30)))
    # Two-hot is exact; a Gaussian is wider than a bin, and at the ends cut off.
    tolerance = {"atol": 1e-4, "rtol": 1e-4} if kind == "two_hot" else {"atol": 0.02, "rtol": 0.08}
    torch.testing.assert_close(read, TARGETS, **tolerance)


def test_two_hot_uses_the_two_bins_around_the_target_and_hl_gauss_more() -> None:
    used = {kind: (ValueBins(kind, 101, 100.0).distribution(torch.tensor([1.7])) > 1e-4).sum().item() for kind in KINDS}
    assert used["two_hot"] == 2
    assert 4 <= used["hl_gauss"] <= 9


@pytest.mark.parametrize("kind", KINDS)
def test_targets_beyond_the_limit_count_as_the_limit(kind: str) -> None:
    bins = ValueBins(kind, 51, 10.0)
    found = bins.distribution(torch.tensor([1e6, -1e6]))
    torch.testing.assert_close(found, bins.distribution(torch.tensor([10.0, -10.0])))


@pytest.mark.parametrize("kind", KINDS)
def test_the_loss_is_zero_at_the_target_and_its_gradient_bounded(kind: str) -> None:
    bins = ValueBins(kind, 101, 100.0)
    wanted = bins.distribution(TARGETS)
    assert bins.loss(torch.log(wanted.clamp(min=1e-38)), TARGETS).abs().max() < 1e-4
    for scale in (1.0, 90.0):
        logits = torch.zeros(1, 101, requires_grad=True)
        bins.loss(logits, torch.tensor([scale])).sum().backward()
        assert logits.grad is not None
        assert logits.grad.abs().sum() <= 2.0


@pytest.mark.parametrize("kind", KINDS)
def test_gradient_descent_finds_the_mean_of_noisy_targets(kind: str) -> None:
    torch.manual_seed(0)
    bins, targets = ValueBins(kind, 101, 100.0), 3.0 + torch.randn(256)
    logits = torch.zeros(101, requires_grad=True)
    optimizer = torch.optim.Adam([logits], lr=0.1)
    for _ in range(300):
        optimizer.zero_grad()
        bins.loss(logits.expand(256, -1), targets).mean().backward()
        optimizer.step()
    assert float(bins.read(logits)) == pytest.approx(float(targets.mean()), abs=0.1)
