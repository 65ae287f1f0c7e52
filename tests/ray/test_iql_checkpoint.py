"""A saved offline run is resumed exactly, acts, and starts other runs offline and online."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from iql_runs import SEVEN, iql_config, learner_state, noise, running_iql
from tiny_runs import assert_same, running, tiny_config, weights

from rllib_multienv import MultiEnvAgent, MultiEnvIQL
from rllib_multienv.checkpoints import read_checkpoint

pytestmark = pytest.mark.usefixtures("ray_cluster")

THREE = {env_id: SEVEN[env_id] for env_id in ("cart", "pendulum", "lander")}


def test_a_restored_run_makes_the_updates_that_would_have_followed(tmp_path: Path) -> None:
    config = iql_config(THREE, actor_lr_cosine_steps=100)
    with running_iql(config) as algo:
        algo.train()
        algo.save_to_path(tmp_path / "checkpoint")
        result = algo.train()
        expected = learner_state(algo)
    with running_iql(config.copy(copy_frozen=False)) as algo:
        algo.restore_from_path(tmp_path / "checkpoint")
        again = algo.train()
        assert_same(learner_state(algo), expected)
    assert again["num_steps_lifetime"] == result["num_steps_lifetime"] == 8
    assert again["learners"]["cart"]["qf_loss"] == result["learners"]["cart"]["qf_loss"]
    algo = MultiEnvIQL.from_checkpoint(str(tmp_path / "checkpoint"))
    algo.train()
    assert_same(learner_state(algo), expected)
    algo.stop()


def test_the_agent_normalises_by_the_statistics_of_the_data(tmp_path: Path) -> None:
    with running_iql(iql_config(THREE)) as algo:
        algo.train()
        algo.save_to_path(tmp_path)
    agent = MultiEnvAgent.from_checkpoint(tmp_path)
    data = noise(3, 1)()["observations"]
    moments = agent.checkpoint.obs_moments["pendulum"]
    np.testing.assert_allclose(moments.mean, data.mean(0), rtol=1e-5)
    np.testing.assert_allclose(moments.variance, data.var(0), rtol=1e-4)
    action = agent.act("pendulum", data[0])
    assert action.shape == (1,) and (abs(action) <= 1).all()
    # Shifted and stretched observations are others to the network: the statistics are used.
    assert not np.array_equal(action, agent.act("pendulum", data[0] * 2 + 1))


def test_an_offline_run_starts_from_an_offline_one_with_its_action_values(tmp_path: Path) -> None:
    with running_iql(iql_config(THREE)) as algo:
        algo.train()
        algo.save_to_path(tmp_path)
        before = weights(algo)
        moments = algo.agent_checkpoint().obs_moments["pendulum"]
    # Of the same environment other data: it is seen through the statistics that the network knows.
    other = {"pendulum": noise(3, 1, seed=5), "new": noise(9, 2)}
    with running_iql(iql_config(other).initialize_from(tmp_path)) as algo:
        after = weights(algo)
        for name, array in after.items():
            if ".targets." in name or "/targets." in name:
                name = name.replace("targets.", "action_values.", 1)
            np.testing.assert_array_equal(array, before[name], err_msg=name)
        np.testing.assert_array_equal(algo.training_data.datasets["pendulum"].obs_moments.mean, moments.mean)
        assert not np.array_equal(algo.training_data.datasets["new"].obs_moments.mean, moments.mean[0])
        algo.train()


def test_an_online_run_goes_on_from_an_offline_one(tmp_path: Path) -> None:
    with running_iql(iql_config({"CartPole-v1": noise(4, 2, discrete=True)})) as algo:
        algo.train()
        algo.save_to_path(tmp_path)
        offline = weights(algo)
    checkpoint = read_checkpoint(tmp_path)
    with running(tiny_config(["CartPole-v1", "Reacher-v4"]).initialize_from(tmp_path)) as algo:
        online = weights(algo)
        assert {name for name in online if "network." in name}
        for name, array in online.items():
            np.testing.assert_array_equal(array, offline[name], err_msg=name)
        found = algo.agent_checkpoint()
        np.testing.assert_allclose(found.obs_moments["CartPole-v1"].mean, checkpoint.obs_moments["CartPole-v1"].mean)
        # Rewards keep their scale: the deviation of the data's discounted return.
        assert found.reward_moments["CartPole-v1"].variance == checkpoint.reward_moments["CartPole-v1"].variance
        algo.train()


def test_an_offline_run_starts_from_an_online_one(tmp_path: Path) -> None:
    with running(tiny_config(["CartPole-v1", "Reacher-v4"])) as algo:
        algo.train()
        algo.save_to_path(tmp_path)
        online = weights(algo)
    with running_iql(iql_config({"CartPole-v1": noise(4, 2, discrete=True)}).initialize_from(tmp_path)) as algo:
        offline = weights(algo)
        for name, array in online.items():
            np.testing.assert_array_equal(offline[name], array, err_msg=name)
        algo.train()


def test_what_is_frozen_stays(tmp_path: Path) -> None:
    with running_iql(iql_config(THREE)) as algo:
        algo.train()
        algo.save_to_path(tmp_path)
    with running_iql(iql_config(THREE).initialize_from(tmp_path, freeze=["encoder"])) as algo:
        before = weights(algo)
        algo.train()
        after = weights(algo)
    changed = {name for name in before if not np.array_equal(before[name], after[name])}
    frozen = {name for name in before if "network." in name and ".encoder." in name}
    assert frozen and not frozen & changed
    assert any(name.startswith("shared/network.actor.decoders") for name in changed)
    assert any("action_values" in name for name in changed) and any("targets" in name for name in changed)
