"""A penalty on each environment's KL divergence, with a coefficient that is adapted to a target."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from first_gradient import assert_same_parameters, of_learners
from tiny_runs import assert_goes_on_when_restored, assert_same, running, tiny_config, weights

from rllib_multienv.algorithms.ppo.adaptive import LARGEST, SMALLEST, KLCoefficients

ENVS = ("CartPole-v1", "Pendulum-v1", "Acrobot-v1")


def test_coefficients_follow_the_divergence() -> None:
    coefficients = KLCoefficients()
    assert coefficients.of("a", 0.2) == 0.2
    assert coefficients.adapt("a", 0.021, initial=0.2, target=0.01) == pytest.approx(0.3)
    assert coefficients.adapt("a", 0.019, initial=0.2, target=0.01) == pytest.approx(0.3)
    assert coefficients.adapt("a", 0.004, initial=0.2, target=0.01) == pytest.approx(0.15)
    assert coefficients.adapt("a", float("nan"), initial=0.2, target=0.01) == pytest.approx(0.15)
    assert coefficients.of("b", 0.2) == 0.2  # another environment has its own
    again = KLCoefficients()
    again.set_state(coefficients.get_state())
    assert again.of("a", 1.0) == pytest.approx(0.15)


def test_coefficients_stay_where_they_can_come_back_from() -> None:
    coefficients = KLCoefficients()
    for _ in range(100):
        low = coefficients.adapt("a", 0.0, initial=0.2, target=0.01)
        high = coefficients.adapt("b", 1.0, initial=0.2, target=0.01)
        none = coefficients.adapt("c", 1.0, initial=0.0, target=0.01)
    assert (low, high, none) == (SMALLEST, LARGEST, 0.0)


@pytest.mark.usefixtures("ray_cluster")
def test_a_policy_is_held_where_it_was() -> None:
    divergences, parameters = {}, {}
    for name, settings in {
        "plain": {},
        "zero": {"use_kl_loss": True, "kl_coeff": 0.0},
        "strong": {"use_kl_loss": True, "kl_coeff": 50.0},
    }.items():
        config = tiny_config(ENVS, num_epochs=12, actor_lr=1e-2, **settings)
        with running(config) as algo:
            result = algo.train()["learners"]
            parameters[name] = weights(algo)
        divergences[name] = {env_id: result[env_id]["mean_kl_loss"] for env_id in ENVS}
    assert_same(parameters["zero"], parameters["plain"])
    assert divergences["zero"] == divergences["plain"]
    for env_id in ENVS:
        assert 0 < divergences["strong"][env_id] < 0.5 * divergences["plain"][env_id]


@pytest.mark.usefixtures("ray_cluster")
def test_the_reported_coefficients_follow_the_reported_divergence() -> None:
    config = tiny_config(ENVS, num_epochs=4, actor_lr=3e-3, use_kl_loss=True, kl_coeff=0.2, kl_target=1e-7)
    config.multi_agent(algorithm_config_overrides_per_module={"Pendulum-v1": {"kl_coeff": 0.4, "kl_target": 10.0}})
    with running(config) as algo:
        expected = KLCoefficients()
        for _ in range(3):
            result = algo.train()["learners"]
            for env_id in ENVS:
                initial, target = (0.4, 10.0) if env_id == "Pendulum-v1" else (0.2, 1e-7)
                value = expected.adapt(env_id, result[env_id]["mean_kl_loss"], initial=initial, target=target)
                assert result[env_id]["curr_kl_coeff"] == pytest.approx(value)
    assert expected.of("Pendulum-v1", 0.0) == pytest.approx(0.05)
    assert expected.of("CartPole-v1", 0.0) > 0.2


@pytest.mark.usefixtures("ray_cluster")
def test_a_restored_run_goes_on_as_it_would_have(tmp_path: Path) -> None:
    config = tiny_config(ENVS, use_kl_loss=True, kl_coeff=5.0, kl_target=10.0)
    assert_goes_on_when_restored(config, tmp_path)


@pytest.mark.usefixtures("ray_cluster")
def test_two_learners_hold_the_same_coefficients() -> None:
    config = tiny_config(ENVS, use_kl_loss=True, kl_target=1e-7, actor_lr=3e-3).learners(num_learners=2)
    with running(config) as algo:
        result: dict[str, Any] = {}
        for _ in range(2):
            result = algo.train()["learners"]
        states = of_learners(algo.learner_group, lambda learner: learner._kl_coefficients.get_state())
        assert_same_parameters(algo.learner_group)
    assert states[0] == states[1] and states[0].keys() == set(ENVS)
    assert {env_id: result[env_id]["curr_kl_coeff"] for env_id in ENVS} == pytest.approx(states[0])
