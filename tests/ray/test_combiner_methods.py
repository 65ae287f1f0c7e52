"""Gradient combiners, one by one: against torchjd, against their equations, and on small problems."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from rllib_multienv import MultiEnvPPOConfig
from rllib_multienv.learners.combine import (
    COMBINERS,
    FAMO,
    MGDA,
    CAGrad,
    Combiner,
    GradientCosine,
    GradNorm,
    LossScale,
    NashMTL,
    TaskGradients,
    UncertaintyWeighting,
    UPGrad,
    make_combiner,
)

torchjd = pytest.importorskip("torchjd.aggregation")

GRAM_METHODS: list[Callable[[], Combiner]] = [MGDA, UPGrad, CAGrad, NashMTL, lambda: make_combiner("pcgrad")]
CRITIC_METHODS: list[Callable[[], Combiner]] = [GradNorm, FAMO, UncertaintyWeighting, LossScale]


def tasks(gradients: Tensor, losses: Any = None) -> TaskGradients:
    rows = gradients.double()
    return TaskGradients(
        env_ids=tuple(f"env{i}" for i in range(len(rows))),
        losses=None if losses is None else torch.as_tensor(losses, dtype=torch.float64),
        gram=rows @ rows.T,
        gradients=None,
        seed=(0,),
    )


def weights_of(combiner: Combiner, gradients: Tensor, losses: Any = None) -> Tensor:
    return combiner.checked(tasks(gradients, losses)).double()


def direction(combiner: Combiner, gradients: Tensor) -> Tensor:
    return weights_of(combiner, gradients) @ gradients.double()


def random_gradients(num: int, seed: int, size: int = 60) -> Tensor:
    """[E, P] with conflicts, and norms that differ tenfold."""
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randn(num, size, generator=generator, dtype=torch.float64)
    return rows * torch.logspace(-0.5, 0.5, num, dtype=torch.float64)[:, None]


def opposed() -> Tensor:
    """Two gradients at 135 degrees, one three times as long: the shorter one loses in their sum."""
    return torch.tensor([[1.0, 0.0], [-3 / 2**0.5, 3 / 2**0.5]], dtype=torch.float64)


SIZES = [(2, 0), (3, 1), (8, 2), (20, 3), (50, 4)]


@pytest.mark.parametrize(("num", "seed"), SIZES)
def test_mgda_is_the_point_of_least_norm(num: int, seed: int) -> None:
    gradients = random_gradients(num, seed)
    gram = gradients @ gradients.T
    found = weights_of(MGDA(), gradients) / num
    reference = torchjd.MGDAWeighting(epsilon=1e-9, max_iters=200_000 // num)(gram)
    assert found.sum() == pytest.approx(1) and found.min() >= 0
    assert found @ gram @ found <= reference @ gram @ reference + 1e-9
    # Optimal: no gradient has a smaller product with the point than the point itself (Frank-Wolfe's gap is zero).
    np.testing.assert_allclose((gram @ found).min(), found @ gram @ found, rtol=1e-6)


def test_mgda_of_two_has_the_closed_form() -> None:
    first, second = gradients = random_gradients(2, 5)
    share = ((second - first) @ second / (first - second).square().sum()).clamp(0, 1)
    np.testing.assert_allclose(weights_of(MGDA(), gradients) / 2, [share, 1 - share], atol=1e-9)


@pytest.mark.parametrize(("num", "seed"), SIZES)
def test_upgrad_is_that_of_torchjd(num: int, seed: int) -> None:
    pytest.importorskip("quadprog")
    from torchjd._linalg import QuadprogProjector

    gradients = random_gradients(num, seed)
    weighting = torchjd.UPGradWeighting(projector=QuadprogProjector(norm_eps=0.0, reg_eps=1e-10))
    np.testing.assert_allclose(weights_of(UPGrad(), gradients), num * weighting(gradients @ gradients.T), atol=1e-5)


@pytest.mark.parametrize(("num", "seed"), SIZES)
@pytest.mark.parametrize("c", [0.2, 0.8])
def test_cagrad_is_that_of_torchjd(num: int, seed: int, c: float) -> None:
    pytest.importorskip("clarabel")
    gradients = random_gradients(num, seed)
    reference = num * torchjd.CAGradWeighting(c=c, norm_eps=1e-9)(gradients @ gradients.T) / (1 + c**2)
    np.testing.assert_allclose(weights_of(CAGrad(c), gradients), reference, atol=1e-3 * float(reference.max()))


@pytest.mark.parametrize(("num", "seed"), SIZES)
def test_nash_mtl_solves_its_equation(num: int, seed: int) -> None:
    gradients = random_gradients(num, seed)
    gram = gradients @ gradients.T
    found = weights_of(NashMTL(), gradients)
    np.testing.assert_allclose((gram / gram.norm() @ found) * found, np.ones(num), rtol=1e-4)


@pytest.mark.parametrize("make", GRAM_METHODS)
def test_equal_gradients_are_summed(make: Callable[[], Combiner]) -> None:
    gradients = random_gradients(1, 0).repeat(4, 1)
    longer = (1 + 0.5) / (1 + 0.5**2) if make is CAGrad else 1.0  # the ball around the mean reaches further
    np.testing.assert_allclose(direction(make(), gradients), longer * gradients.sum(0), rtol=1e-6)


@pytest.mark.parametrize("make", [MGDA, UPGrad, NashMTL, lambda: make_combiner("pcgrad")])
def test_a_step_harms_no_environment_where_the_sum_would(make: Callable[[], Combiner]) -> None:
    gradients = opposed()
    assert (gradients @ gradients.sum(0)).min() < 0
    assert (gradients @ direction(make(), gradients)).min() > -1e-9


@pytest.mark.parametrize("make", [MGDA, UPGrad, NashMTL])
@pytest.mark.parametrize("seed", range(5))
def test_a_step_harms_none_of_ten_environments(make: Callable[[], Combiner], seed: int) -> None:
    gradients = random_gradients(10, seed, size=12)
    products = gradients @ direction(make(), gradients)
    assert products.min() > -1e-8 * products.abs().max()


def test_cagrads_worst_improvement_is_at_least_that_of_the_mean() -> None:
    for seed in range(5):
        gradients = random_gradients(6, seed, size=10)
        mean = gradients.mean(0)
        found = direction(CAGrad(0.5), gradients) * (1 + 0.5**2) / 6  # the paper's d, in the ball around the mean
        assert (gradients @ found).min() >= (gradients @ mean).min() - 1e-9
        assert (found - mean).norm() <= 0.5 * mean.norm() * (1 + 1e-6)


def test_nash_mtl_gives_opposed_environments_the_same_share() -> None:
    """Every environment's gain, times its weight, is equal: the bargaining solution does not depend on scales."""
    gradients = opposed()
    d, larger = direction(NashMTL(), gradients), direction(NashMTL(), gradients * torch.tensor([[1.0], [100.0]]))
    np.testing.assert_allclose(d / d.norm(), larger / larger.norm(), atol=1e-3)


def test_cosine_gates_what_conflicts_with_the_main_environment() -> None:
    gradients = torch.tensor([[2.0, 0.0], [1.0, 1.0], [-1.0, 0.0], [0.0, 5.0]])
    np.testing.assert_allclose(weights_of(GradientCosine("env0"), gradients), [1, 0.5**0.5, 0, 0], atol=1e-7)
    np.testing.assert_allclose(weights_of(GradientCosine("env0", weighted=False), gradients), [1, 1, 0, 0], atol=1e-7)
    with pytest.raises(ValueError, match=r"main='env'.*env0, env1"):
        GradientCosine("env").check(["env0", "env1"])


def descend(combiner: Combiner, curvatures: list[float], steps: int, rate: float) -> tuple[Tensor, Tensor]:
    """Losses ``c x^2 / 2 + 1``, each of a parameter of its own, by gradient descent; losses and weighted norms."""
    scale, x = torch.tensor(curvatures, dtype=torch.float64), torch.ones(len(curvatures), dtype=torch.float64)
    for _ in range(steps):
        gradients = torch.diag(scale * x)
        losses = scale * x**2 / 2
        weights = weights_of(combiner, gradients, losses)
        x = x - rate * weights @ gradients
    return losses, weights * (scale * x).abs()


def test_grad_norm_balances_norms() -> None:
    combiner = GradNorm(alpha=0.0)
    gradients = torch.diag(torch.tensor([1.0, 20.0]))
    for _ in range(300):
        weights = weights_of(combiner, gradients, [0.5, 10.0])
    norms = weights * torch.tensor([1.0, 20.0])
    assert norms[0] == pytest.approx(float(norms[1]), rel=0.2)
    assert weights.sum() == pytest.approx(2)


def test_grad_norm_favours_a_loss_that_lags_behind() -> None:
    combiner = GradNorm(alpha=1.0)
    gradients = torch.eye(2)
    for loss in np.linspace(1, 0.2, 200):
        weights = weights_of(combiner, gradients, [1.0, loss])
    assert weights[0] > 1.2 * weights[1]


def test_famo_equalises_the_decrease_of_logarithms() -> None:
    def falls(combiner: Combiner) -> Tensor:
        first, _ = descend(copy.deepcopy(combiner), [1.0, 4.0], 1, 0.002)
        last, _ = descend(combiner, [1.0, 4.0], 400, 0.002)
        return (first / last).log()

    plain, adapted = falls(make_combiner("weighted_sum")), falls(FAMO(decay=0.0))
    assert plain.max() > 3.5 * plain.min()
    assert adapted.max() < 1.3 * adapted.min()


def test_uncertainty_divides_each_loss_by_itself() -> None:
    combiner = UncertaintyWeighting(lr=0.05)
    for _ in range(1000):
        weights = weights_of(combiner, torch.eye(2), [0.1, 40.0])
    np.testing.assert_allclose(weights * torch.tensor([0.1, 40.0]), [1, 1], rtol=0.1)


def test_loss_scale_divides_by_the_running_mean() -> None:
    combiner = LossScale(decay=0.5)
    weights_of(combiner, torch.eye(2), [1.0, 10.0])
    # Means (0.5 * 1 + 3) / 1.5 and (0.5 * 10 + 40) / 1.5.
    np.testing.assert_allclose(weights_of(combiner, torch.eye(2), [3.0, 40.0]), [1.5 / 3.5, 1.5 / 45])


@pytest.mark.parametrize("make", [*GRAM_METHODS[:-1], lambda: GradientCosine("env1"), *CRITIC_METHODS])
def test_an_environment_without_rows_changes_nothing(make: Callable[[], Combiner]) -> None:
    gradients, losses = random_gradients(3, 7), torch.tensor([1.0, 2.0, 3.0])
    among = torch.stack([*gradients, torch.zeros(60)])
    weights = weights_of(make(), among, [*losses, 0.0])
    np.testing.assert_allclose(weights[:3], weights_of(make(), gradients, losses), rtol=1e-5)
    assert weights[3] == pytest.approx(float(weights[:3].mean()))


@pytest.mark.parametrize("make", CRITIC_METHODS)
def test_a_state_is_taken_over_and_a_bad_step_leaves_it(make: Callable[[], Combiner]) -> None:
    def step(combiner: Combiner, seed: int) -> Tensor:
        gradients = random_gradients(3, seed)
        return weights_of(combiner, gradients, gradients.square().sum(1))

    one, other = make(), make()
    for seed in range(3):
        step(one, seed)
    other.set_state(one.get_state())
    bad = weights_of(one, random_gradients(3, 0), [1.0, torch.nan, 1.0])
    assert bad.isnan().all()
    np.testing.assert_array_equal(step(one, 3), step(other, 3))


def test_names_and_settings() -> None:
    assert set(COMBINERS) >= {"pcgrad", "mgda", "cagrad", "nash_mtl", "upgrad", "cosine", "grad_norm", "famo"}
    assert make_combiner({"type": "cagrad", "c": 0.3}) == CAGrad(0.3)
    assert make_combiner({"type": "rllib_multienv.learners.combine:GradientCosine", "main": "a"}).main == "a"  # type: ignore[attr-defined]
    for value, message in (
        ({"type": "cagrad", "d": 1}, "unexpected keyword argument 'd'; its settings are c"),
        ({"type": "cagrad", "c": 1.5}, r"c=1.5 of CAGrad must be a number in \[0, 1\)"),
        ({"type": "loss_scale", "decay": "0.9"}, r"decay='0.9' of LossScale must be a number in \[0, 1\)"),
        ({"type": "famo", "lr": 0}, "lr=0 of FAMO must be a number above 0"),
        ({"type": "famo", "decay": -1}, "decay=-1 of FAMO must be a number of at least 0"),
        ({"type": "grad_norm", "alpha": float("inf")}, "alpha=inf of GradNorm must be a number of at least 0"),
        ("cosine", "missing a required argument: 'main'"),
        ({"type": "mgda", "c": 1}, "it has no settings"),
        ({"c": 0.5}, "must be a name"),
    ):
        with pytest.raises((TypeError, ValueError), match=message):
            make_combiner(value)  # type: ignore[arg-type]


def test_settings_are_checked_before_anything_starts() -> None:
    config = MultiEnvPPOConfig().environment(envs=["CartPole-v1", "Acrobot-v1"])
    with pytest.raises(ValueError, match=r"main='CartPole' must be one of the environments.*'CartPole-v1'"):
        config.training(gradient_combiner={"type": "cosine", "main": "CartPole"}).validate()
    with pytest.raises(ValueError, match="combine_every=0"):
        config.training(combine_every=0)
