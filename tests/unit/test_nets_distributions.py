"""The action distributions equal those of ``torch.distributions``."""

from types import SimpleNamespace

import torch
import torch.distributions as reference

from rllib_multienv.nets import Categorical, DiagGaussian, distribution_for


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
    sizes = {"obs_size": 1, "action_size": 2, "action_low": (), "action_high": ()}
    assert distribution_for(SimpleNamespace(discrete=True, **sizes)) is Categorical
    assert distribution_for(SimpleNamespace(discrete=False, **sizes)) is DiagGaussian
