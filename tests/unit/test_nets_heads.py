"""Action distributions equal those of ``torch.distributions``; values as distributions over bins are read back."""

from __future__ import annotations

import math

import pytest
import torch
import torch.distributions as reference
from interfaces import actions_of, any_interface, interface

from rllib_multienv.nets import Categorical, DiagGaussian, SquashedGaussian, distribution_for
from rllib_multienv.nets.heads import ValueBins, mask_logits

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


def test_squashed_gaussian_equals_the_reference() -> None:
    torch.manual_seed(0)
    inputs = 0.5 * torch.randn(5, 6, dtype=torch.float64, requires_grad=True)
    ours = SquashedGaussian.from_logits(inputs)
    normal = reference.Normal(inputs[:, :3], inputs[:, 3:].exp())
    theirs = reference.TransformedDistribution(reference.Independent(normal, 1), reference.TanhTransform())
    noise = torch.randn(5, 3, dtype=torch.float64)
    actions, logp = ours.relaxed(noise)
    assert torch.allclose(actions, torch.tanh(inputs[:, :3] + inputs[:, 3:].exp() * noise))
    assert torch.allclose(logp, theirs.log_prob(actions.detach()), rtol=1e-5)
    assert torch.allclose(ours.logp(actions), theirs.log_prob(actions), rtol=1e-5)
    assert torch.equal(ours.to_deterministic().sample(), torch.tanh(inputs[:, :3]))
    drawn = ours.sample(torch.Generator().manual_seed(0))
    assert not drawn.requires_grad and (drawn.abs() < 1).all()
    assert torch.isfinite(ours.logp(torch.ones(5, 3, dtype=torch.float64))).all()


def test_the_entropy_of_a_squashed_gaussian_is_estimated_without_bias() -> None:
    torch.manual_seed(0)
    narrow = torch.tensor([0.3, math.log(0.05)]).expand(20_000, 2)
    slope = math.log(1 - math.tanh(0.3) ** 2)  # nearly constant over so narrow a distribution
    expected = 0.5 * math.log(2 * math.pi * math.e) + math.log(0.05) + slope
    assert SquashedGaussian.from_logits(narrow).entropy().mean().item() == pytest.approx(expected, abs=0.02)


def test_relaxed_products_are_draws_with_gradients() -> None:
    one = any_interface(4, [("categorical", 3), ("categorical", 3), ("bernoulli", 2)])
    inputs = torch.tensor([[1.0, 0.0, -1.0, 0.0, 0.0, 2.0, 0.5, -0.5]]).repeat(20_000, 1).requires_grad_()
    distribution = distribution_for(one).from_logits(inputs)
    numbers, logp = distribution.relaxed(torch.randn(20_000, 8, generator=torch.Generator().manual_seed(0)))
    chances = torch.cat([inputs[0, :3].softmax(0), inputs[0, 3:6].softmax(0), inputs[0, 6:].sigmoid()])
    assert torch.allclose(numbers.mean(0), chances, atol=0.015)
    assert torch.allclose(numbers, numbers.round(), atol=1e-6)
    assert torch.allclose(logp, -distribution.entropy())
    gradient = torch.autograd.grad(numbers[:, 2].sum(), inputs)[0].mean(0)
    assert gradient[2] > 0 > gradient[0] and not gradient[3:].any()


def test_relaxed_numbers_of_a_mixed_action_end_with_the_continuous_ones() -> None:
    one = any_interface(4, [("bernoulli", 2), ("continuous", 3)])
    one.squashed = True
    inputs, noise = torch.randn(5, 8), torch.randn(5, 5)
    numbers, logp = distribution_for(one).from_logits(inputs).relaxed(noise)
    actions, density = SquashedGaussian.from_logits(inputs[:, 2:]).relaxed(noise[:, 2:])
    assert torch.equal(numbers[:, 2:], actions)
    entropy = reference.Bernoulli(logits=inputs[:, :2]).entropy().sum(1)
    assert torch.allclose(logp, density - entropy, atol=1e-5)


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
    assert distribution_for(MIXED) is distribution_for(MIXED)


PARTS = [("categorical", 3), ("categorical", 3), ("bernoulli", 2), ("categorical", 4), ("continuous", 2)]
MIXED = any_interface(1, PARTS)
# Of the distribution inputs: 12 logits, then 2 means, then 2 log standard deviations.
SLICES = [slice(0, 3), slice(3, 6), slice(6, 8), slice(8, 12)]


def references(inputs: torch.Tensor) -> list[reference.Distribution]:
    """The parts of `MIXED`, each with batch shape [B]."""
    first, second, bits, third = (inputs[:, own] for own in SLICES)
    return [
        reference.Categorical(logits=first),
        reference.Categorical(logits=second),
        reference.Independent(reference.Bernoulli(logits=bits), 1),
        reference.Categorical(logits=third),
        reference.Independent(reference.Normal(inputs[:, 12:14], inputs[:, 14:].exp()), 1),
    ]


def test_a_product_equals_the_reference() -> None:
    a, b = torch.randn(2, 5, 16, dtype=torch.float64)
    ours, other = (distribution_for(MIXED).from_logits(inputs) for inputs in (a, b))
    theirs, theirs_other = references(a), references(b)
    actions = actions_of(MIXED, 5)
    columns = [actions[:, 0], actions[:, 1], actions[:, 2:4], actions[:, 4], actions[:, 5:]]
    logps = [part.log_prob(own.to(a)) for part, own in zip(theirs, columns, strict=True)]
    torch.testing.assert_close(ours.logp(actions), sum(logps, torch.zeros(5)))
    torch.testing.assert_close(ours.entropy(), sum((part.entropy() for part in theirs), torch.zeros(5)))
    divergences = [reference.kl_divergence(*pair) for pair in zip(theirs, theirs_other, strict=True)]
    torch.testing.assert_close(ours.kl(other), sum(divergences, torch.zeros(5)))
    mode = ours.to_deterministic().sample()
    assert torch.equal(mode[:, 0], a[:, :3].argmax(1).float())
    assert torch.equal(mode[:, 2:4], (a[:, 6:8] > 0).float())
    assert torch.equal(mode[:, 5:], a[:, 12:14].float())


def test_samples_of_a_product_have_the_given_means() -> None:
    inputs = torch.randn(1, 16, generator=torch.Generator().manual_seed(0)).expand(20_000, -1)
    samples = distribution_for(MIXED).from_logits(inputs).sample(torch.Generator().manual_seed(1))
    assert (samples.dtype, samples.shape) == (torch.float32, (20_000, 7))
    for column, part in ((0, SLICES[0]), (1, SLICES[1]), (4, SLICES[3])):
        frequencies = torch.bincount(samples[:, column].long(), minlength=part.stop - part.start) / 20_000
        torch.testing.assert_close(frequencies, inputs[0, part].softmax(0), atol=0.015, rtol=0.0)
    torch.testing.assert_close(samples[:, 2:4].mean(0), inputs[0, SLICES[2]].sigmoid(), atol=0.015, rtol=0.0)
    torch.testing.assert_close(samples[:, 5:].mean(0), inputs[0, 12:14], atol=0.05, rtol=0.0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_masked_actions_have_no_probability_and_leave_all_numbers_finite(dtype: torch.dtype) -> None:
    # Allowed: 0 and 2 of the first choice, 1 of the second, the second bit, 0 and 3 of the third choice.
    mask = torch.tensor([1, 0, 1, 0, 1, 0, 0, 1, 1, 0, 0, 1], dtype=torch.uint8).expand(2_000, -1)
    raw = torch.randn(2, 2_000, 16, generator=torch.Generator().manual_seed(0)).to(dtype)
    raw.requires_grad_()
    masked, other = (mask_logits(inputs, mask) for inputs in raw)
    dist, other_dist = (distribution_for(MIXED).from_logits(inputs) for inputs in (masked, other))
    samples = dist.sample(torch.Generator().manual_seed(1))
    for actions in (samples, dist.to_deterministic().sample()):
        assert set(actions[:, 0].tolist()) == {0.0, 2.0}
        assert set(actions[:, 1].tolist()) == {1.0}
        assert set(actions[:, 2].tolist()) == {0.0}
        assert set(actions[:, 3].tolist()) == {0.0, 1.0}
        assert set(actions[:, 4].tolist()) == {0.0, 3.0}
    assert torch.equal(masked[:, 12:], raw[0, :, 12:])  # the continuous part is as it was

    found = [dist.logp(samples), dist.entropy(), dist.kl(other_dist)]
    assert all(values.isfinite().all() for values in found)
    sum((values.float().sum() for values in found), torch.zeros(())).backward()
    assert raw.grad is not None and raw.grad.isfinite().all()
    assert not raw.grad[..., :12][(mask == 0).expand(2, -1, -1)].any()
    # The entropy is that of the choices that are left: the second has none.
    first, third = (reference.Categorical(logits=raw[0, :, own].float()) for own in ([0, 2], [8, 11]))
    rest = [first, third, reference.Bernoulli(logits=raw[0, :, 7].float())]
    gaussian = reference.Independent(reference.Normal(torch.zeros(2_000, 2), raw[0, :, 14:].float().exp()), 1)
    expected = sum((part.entropy() for part in [*rest, gaussian]), torch.zeros(2_000))
    tolerance = 1e-4 if dtype == torch.float32 else 0.2
    torch.testing.assert_close(dist.entropy().float(), expected, atol=tolerance, rtol=0.0)


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
