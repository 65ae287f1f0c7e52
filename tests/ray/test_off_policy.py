"""The off-policy loop: stores grow, learners that share an environment draw the same, a restored run continues."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from first_gradient import assert_same_parameters, of_learners
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig
from ray.rllib.core.columns import Columns
from rollouts import ends
from tiny_runs import TINY_NET, assert_goes_on_when_restored, running, weights

from rllib_multienv.algorithms.off_policy import OffPolicyAlgorithm, OffPolicyConfigMixin, transitions
from rllib_multienv.learners import MultiEnvLearner

ENVS = ("CartPole-v1", "Reacher-v4", "Pendulum-v1")


class CloningLearner(MultiEnvLearner):
    """Makes what was done likelier: the simplest loss on transitions."""

    def compute_loss_for_module(self, *, module_id: str, batch: Any, fwd_out: Any, **kwargs: Any) -> Any:
        distribution = self.module[module_id].get_train_action_dist_cls().from_logits(fwd_out["action_dist_inputs"])
        return -distribution.logp(batch[Columns.ACTIONS]).mean()


class CloningConfig(OffPolicyConfigMixin, AlgorithmConfig):
    def get_default_learner_class(self) -> type:
        return CloningLearner


class Cloning(OffPolicyAlgorithm):
    @classmethod
    def get_default_config(cls) -> CloningConfig:
        return CloningConfig(algo_class=cls)


def config(num_learners: int = 0) -> Any:
    return (
        CloningConfig(algo_class=Cloning)
        .environment(envs=ENVS)
        .env_runners(num_envs_per_env_runner=2, rollout_fragment_length=16)
        .rl_module(model_config=TINY_NET)
        .training(replay_capacity=50, min_replay_size=40, batch_size=9, update_to_data_ratio=3 / 32)
        .learners(num_learners=num_learners)
        .debugging(seed=0)
    )


def sizes(learner: Any) -> dict[str, int]:
    return {env_id: len(store) for env_id, store in learner.replays.items()}


def test_transitions_have_the_real_next_observation() -> None:
    rollout = ends((3, 2), terminated=[(0, 0)], truncated=[(1, 1)], resets=[(2, 1)])
    rollout.obs[:] = [[0, 10], [1, 11], [2, 12]]
    rollout.final_obs[:] = [100, 111, 102]  # after (0, 0), (1, 1) and (2, 0)
    found = transitions(rollout)
    assert found["obs"].tolist() == [0, 10, 1, 11, 2]
    assert found["new_obs"].tolist() == [100, 11, 2, 111, 102]
    assert found["terminateds"].tolist() == [True, False, False, False, False]


def test_returns_of_several_steps_end_with_the_episode_and_the_rollout() -> None:
    rollout = ends((5, 1), terminated=[(2, 0)])
    rewards = np.array([[1.0], [10.0], [100.0], [1000.0], [10000.0]])
    rollout = replace(rollout, obs=np.arange(5.0)[:, None], rewards=rewards, final_obs=np.array([-2.0, -4.0]))
    found = transitions(rollout, n_step=2, gamma=0.5)
    assert found["rewards"].tolist() == [6, 60, 100, 6000, 10000]
    assert found["new_obs"].tolist() == [2, -2, -2, -4, -4]
    assert found["terminateds"].tolist() == [False, True, True, False, False]
    assert found["discounts"].tolist() == [0.25, 0.25, 0.5, 0.25, 0.5]
    assert found["obs"].tolist() == [0, 1, 2, 3, 4]


@pytest.mark.usefixtures("ray_cluster")
def test_stores_grow_and_environments_are_trained_on_once_they_are_filled() -> None:
    with running(config()) as algo:
        before = weights(algo)
        result = algo.train()  # 32 transitions of each, fewer than min_replay_size
        assert "CartPole-v1" not in result["learners"]
        assert all(np.array_equal(a, before[name]) for name, a in weights(algo).items())
        result = algo.train()
        assert of_learners(algo.learner_group, sizes) == [dict.fromkeys(ENVS, 50)]
        assert [result["learners"][env_id]["num_module_steps_trained"] for env_id in ENVS] == [27] * 3
        algo.remove_env("Reacher-v4")
        algo.train()
        assert set(of_learners(algo.learner_group, sizes)[0]) == {"CartPole-v1", "Pendulum-v1"}


@pytest.mark.usefixtures("ray_cluster")
def test_two_learners_take_the_steps_of_one() -> None:
    parameters = []
    for num_learners in (0, 2):
        with running(config(num_learners=num_learners)) as algo:
            for _ in range(3):
                algo.train()
            parameters.append(weights(algo))
            if num_learners:
                assert_same_parameters(algo.learner_group)
                with pytest.raises(ValueError, match="replay stores"):
                    algo.remove_env("Reacher-v4")
    for name, array in parameters[0].items():
        np.testing.assert_allclose(parameters[1][name], array, rtol=1e-3, atol=1e-5, err_msg=name)


@pytest.mark.usefixtures("ray_cluster")
def test_an_environment_may_have_its_own_batch_size_also_after_another_has_left() -> None:
    made = config().rl_module(algorithm_config_overrides_per_module={"Pendulum-v1": {"batch_size": 4}})
    with running(made) as algo:
        algo.train()
        result = algo.train()["learners"]
        assert [result[env_id]["num_module_steps_trained"] for env_id in ENVS] == [27, 27, 12]
        algo.remove_env("CartPole-v1")
        algo.add_env("Acrobot-v1")
        assert algo.train()["learners"]["Pendulum-v1"]["num_module_steps_trained"] == 12


def test_a_store_that_can_never_be_filled_is_refused() -> None:
    with pytest.raises(ValueError, match="min_replay_size=40: must be at most replay_capacity=10"):
        config().training(replay_capacity=10).validate()


@pytest.mark.usefixtures("ray_cluster")
def test_a_restored_run_continues_as_it_would_have(tmp_path: Path) -> None:
    assert_goes_on_when_restored(config(), tmp_path)
