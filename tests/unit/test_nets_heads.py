"""Action distributions equal those of ``torch.distributions``; values as distributions over bins are read back."""

from __future__ import annotations

import pytest
import torch
import torch.distributions as reference
from interfaces import interface

from rllib_multienv.nets import Categorical, DiagGaussian, distribution_for
from rllib_multienv.nets.heads import ValueBins

KINDS = ("two_hot", "hl_gauss")
TARGETS = torch.tensor([-100.0, -37.5, -1.0, -0.03, 0.0, 0.4, 2.0, 99.0])


def test_categorical_equals_the_reference() -> None:
    a, b = torch.randn(2, 5, 4, dtype=torch.float64)
    ours, other = Categorical.from_logits(a), Categorical.from_logits(b)
    theirs, theirs_other = reference.Categorical(logits=a), reference.Categorical(logits=b)
    actions = torch.tensor([0, 3, 1, 2, 0])
    assert torch.allclose(ours.logp(actions), theirs.log_prob(actions))
    assert torch.allclose(ours.entropy(), theirs.entropy())
    assert torch.allclose(ours.kl(other), reference.kl_divergence(theirs, theirs_other))
    assert torch.equal(ours.to_deterministic().sample(), a.argmax(-1))


def test_gaussian_equals_the_reference() -> None:
    a, b = torch.randn(2, 5, 6, dtype=torch.float64)
    ours, other = DiagGaussian.from_logits(a), DiagGaussian.from_logits(b)
    theirs, theirs_other = (reference.Independent(reference.Normal(x[:, :3], x[:, 3:].exp()), 1) for x in (a, b))
    actions = torch.randn(5, 3, dtype=torch.float64)
    assert torch.allclose(ours.logp(actions), theirs.log_prob(actions))
    assert torch.allclose(ours.entropy(), theirs.entropy())
    assert torch.allclose(ours.kl(other), reference.kl_divergence(theirs, theirs_other))
    assert torch.equal(ours.to_deterministic().sample(), a[:, :3])


def test_categorical_samples_have_the_given_frequencies() -> None:
    probabilities = torch.tensor([0.1, 0.6, 0.3])
    generator = torch.Generator().manual_seed(0)
    actions = Categorical.from_logits(probabilities.log().expand(20_000, 3)).sample(generator)
    assert actions.dtype == torch.int64
    assert torch.allclose(torch.bincount(actions, minlength=3) / 20_000, probabilities, atol=0.015)


def test_gaussian_samples_have_the_given_moments() -> None:
    generator = torch.Generator().manual_seed(0)
    inputs = torch.tensor([1.0, -2.0, -1.0, 0.5]).expand(20_000, 4)
    actions = DiagGaussian.from_logits(inputs).sample(generator)
    assert torch.allclose(actions.mean(0), inputs[0, :2], atol=0.05)
    assert torch.allclose(actions.std(0), inputs[0, 2:].exp(), rtol=0.03)


def test_samples_follow_the_generator_and_carry_no_gradient() -> None:
    for cls in (Categorical, DiagGaussian):
        dist = cls.from_logits(torch.randn(7, 4, requires_grad=True))
        first, second = (dist.sample(torch.Generator().manual_seed(3)) for _ in range(2))
        assert torch.equal(first, second)
        assert not first.requires_grad


def test_impossible_actions_are_never_sampled() -> None:
    logits = torch.tensor([0.0, -torch.inf, 0.0]).expand(5_000, 3)
    assert not (Categorical.from_logits(logits).sample() == 1).any()


def test_the_interface_chooses_the_distribution() -> None:
    assert distribution_for(interface(1, 2, True)) is Categorical
    assert distribution_for(interface(1, 2, False)) is DiagGaussian


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
    assert bins.read(logits).item() == pytest.approx(float(targets.mean()), abs=0.1)
