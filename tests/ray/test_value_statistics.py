"""Values in units of their own for each environment, and value losses of one scale."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from first_gradient import assert_same_parameters, of_learners
from tiny_runs import assert_goes_on_when_restored, running, tiny_config

from rllib_multienv.algorithms.ppo.adaptive import RATE, ValueStatistics
from rllib_multienv.learners import Minibatch, Step

ENVS = ("CartPole-v1", "Pendulum-v1", "Acrobot-v1")


def test_the_first_update_gives_its_own_moments_and_later_ones_move_them() -> None:
    statistics = ValueStatistics()
    assert statistics.moments("a") == (0.0, 1.0)
    first, second = torch.tensor([1.0, 3.0]), torch.tensor([11.0, 13.0])
    statistics.update({"a": first}, {"a": first - 0.5}, ["a", "b"])
    assert statistics.moments("a") == pytest.approx((2.0, 1.0))
    assert statistics.error("a") == pytest.approx(0.25)
    assert (statistics.moments("b"), statistics.error("b")) == ((0.0, 1.0), 1.0)
    statistics.update({"a": second}, {"a": second}, ["a", "b"])
    share = RATE / (RATE + RATE * (1 - RATE))
    mean, square = 2.0 + share * 10.0, 5.0 + share * (145.0 - 5.0)
    assert statistics.moments("a") == pytest.approx((mean, (square - mean**2) ** 0.5))
    again = ValueStatistics()
    again.set_state(statistics.get_state())
    assert again.moments("a") == statistics.moments("a")
    assert again.error("a") == statistics.error("a")


def test_learners_with_different_environments_hold_the_same_statistics() -> None:
    targets = {"a": torch.randn(8), "b": torch.randn(8) * 5, "c": torch.randn(8) + 3}
    order = [*targets]
    whole = ValueStatistics()
    whole.update(targets, {env: torch.zeros(8) for env in order}, order)
    # Two learners share "b": both have all of its rows.
    parts: list[torch.Tensor] = []
    for own in (("a", "b"), ("b", "c")):
        ValueStatistics().update(
            {env: targets[env] for env in own}, {env: torch.zeros(8) for env in own}, order, parts.append
        )
    learner = ValueStatistics()

    def reduce(sums: torch.Tensor) -> None:
        sums.copy_(parts[0] + parts[1])

    learner.update({}, {}, order, reduce)
    for env in order:
        assert learner.moments(env) == pytest.approx(whole.moments(env))
        assert learner.error(env) == pytest.approx(whole.error(env))


@pytest.mark.usefixtures("ray_cluster")
def test_normalised_values_are_read_in_the_unit_of_rewards() -> None:
    with running(tiny_config(ENVS, value_normalization="running", vf_clip_param=None)) as algo:
        algo.train()
        learner = algo.learner_group._learner
        shared = learner.module.shared
        assert set(shared.value_moments) == set(ENVS)
        mean, std = shared.value_moments["Pendulum-v1"]
        assert (mean, std) == learner._value_statistics.moments("Pendulum-v1") != (0.0, 1.0)
        obs = torch.randn(4, 3)
        raw = learner.network.value({"Pendulum-v1": obs})["Pendulum-v1"]
        values = shared.compute_values({"Pendulum-v1": {"obs": obs}})["Pendulum-v1"]
        torch.testing.assert_close(values, raw * std + mean)
        trained = shared.forward_train({"Pendulum-v1": {"obs": obs}})["Pendulum-v1"]["vf_preds"]
        torch.testing.assert_close(trained, values)


@pytest.mark.usefixtures("ray_cluster")
@pytest.mark.parametrize("option", ["value_normalization", "value_loss_scaling"])
def test_a_restored_run_goes_on_as_it_would_have(option: str, tmp_path: Any) -> None:
    config = tiny_config(ENVS, **{option: "running"})
    assert_goes_on_when_restored(config, tmp_path)


@pytest.mark.usefixtures("ray_cluster")
def test_two_learners_hold_the_same_statistics() -> None:
    config = tiny_config(ENVS, value_normalization="running", value_loss_scaling="running").learners(num_learners=2)
    with running(config) as algo:
        algo.train()
        states = of_learners(algo.learner_group, lambda learner: learner._value_statistics.get_state())
        assert_same_parameters(algo.learner_group)
    assert states[0].keys() == set(ENVS)
    assert states[0] == states[1]


@pytest.mark.usefixtures("ray_cluster")
def test_scaled_value_losses_are_divided_by_their_running_error() -> None:
    with running(tiny_config(ENVS, value_loss_scaling="running", vf_clip_param=None)) as algo:
        learner = algo.learner_group._learner
        batch = learner.batch_of({"Pendulum-v1": [algo.env_runner.sample_rollouts()["Pendulum-v1"]]})
        step = Step(minibatch=Minibatch(columns=batch, weights={}))

        def critic_gradient() -> torch.Tensor:
            critic = set(learner.network.critic_parameters())
            pairs = zip(learner.parameters, learner.gradients(step), strict=True)
            return torch.cat([gradient.reshape(-1) for parameter, gradient in pairs if parameter in critic])

        plain = critic_gradient()
        known = {"weight": 1.0, "mean": 0.0, "square": 1.0}
        learner._value_statistics.set_state({"Pendulum-v1": {**known, "error": 4.0}})
        torch.testing.assert_close(critic_gradient(), plain / 4)
        # A loss that is small already is not blown up without bound.
        learner._value_statistics.set_state({"Pendulum-v1": {**known, "error": 1e-9}})
        torch.testing.assert_close(critic_gradient(), plain * 100, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("option", ["value_normalization", "value_loss_scaling"])
def test_unknown_choices_are_refused(option: str) -> None:
    with pytest.raises(ValueError, match=f"{option}='popart': must be 'none' or 'running'"):
        tiny_config(ENVS, **{option: "popart"}).validate()
