"""A time limit is not a terminal state: only a terminated episode's value ends at zero."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from ray.rllib.core.columns import Columns
from ray.rllib.evaluation.postprocessing import Postprocessing
from rollouts import ends
from tiny_runs import learner_batch, make_runner, tiny_config
from toy_envs import Counter

from rllib_multienv import EnvSpec
from rllib_multienv.connectors import generalized_advantages
from rllib_multienv.rollout import LOST_LIFE


def test_advantages_by_hand() -> None:
    # Three chunks: terminated after 2 steps, truncated after 2 steps, cut by the end of the fragment after 1 step.
    advantages = generalized_advantages(
        ends((5, 1), terminated=[(1, 0)], truncated=[(3, 0)]),
        rewards=np.array([[1.0], [2.0], [3.0], [4.0], [5.0]]),
        values=np.array([[10.0], [20.0], [30.0], [40.0], [50.0]]),
        final_values=np.array([100.0, 200.0, 300.0]),
        gamma=0.5,
        lambda_=0.5,
    )
    # delta_1 = 2 + 0.5 * 0 - 20 = -18; delta_0 = 1 + 0.5 * 20 - 10 = 1; A_0 = 1 + 0.25 * -18 = -3.5
    # delta_3 = 4 + 0.5 * 200 - 40 = 64; delta_2 = 3 + 0.5 * 40 - 30 = -7; A_2 = -7 + 0.25 * 64 = 9
    # delta_4 = 5 + 0.5 * 300 - 50 = 105
    assert advantages[:, 0].tolist() == [-3.5, -18.0, 9.0, 64.0, 105.0]


def test_a_step_that_only_resets_does_not_join_two_episodes() -> None:
    # Truncated after 1 step, a step that only resets, then a terminated episode of 1 step.
    advantages = generalized_advantages(
        ends((3, 1), terminated=[(2, 0)], truncated=[(0, 0)], resets=[(1, 0)]),
        rewards=np.array([[1.0], [0.0], [2.0]]),
        values=np.array([[10.0], [77.0], [20.0]]),
        final_values=np.array([100.0, 300.0]),
        gamma=0.5,
        lambda_=0.5,
    )
    assert advantages[[0, 2], 0].tolist() == [1 + 0.5 * 100 - 10, 2 - 20]


def test_a_lost_life_ends_values_and_not_the_episode() -> None:
    lost = np.array([[False], [True], [False]])
    rollout = replace(ends((3, 1)), extra={LOST_LIFE: lost}, rewards=np.array([[1.0], [-8.0], [4.0]]), reward_clip=2.0)
    assert not rollout.done.any() and rollout.value_ends.tolist() == lost.tolist()
    assert rollout.clipped_rewards[:, 0].tolist() == [1.0, -2.0, 2.0]
    advantages = generalized_advantages(
        rollout,
        rewards=rollout.clipped_rewards,
        values=np.array([[10.0], [20.0], [30.0]]),
        final_values=np.array([100.0]),
        gamma=0.5,
        lambda_=1.0,
    )
    assert advantages[:, 0].tolist() == [1 + 0.5 * -2 - 10, -2 - 20, 2 + 0.5 * 100 - 30]


def test_lambda_one_is_the_discounted_return() -> None:
    rewards, gamma = np.array([1.0, -2.0, 4.0]), 0.9
    values = np.array([[3.0], [5.0], [7.0]])
    advantages = generalized_advantages(
        ends((3, 1)),
        rewards=rewards[:, None],
        values=values,
        final_values=np.array([11.0]),
        gamma=gamma,
        lambda_=1.0,
    )
    returns = [1 + gamma * (-2 + gamma * (4 + gamma * 11)), -2 + gamma * (4 + gamma * 11), 4 + gamma * 11]
    np.testing.assert_allclose((advantages + values)[:, 0], returns, rtol=1e-12)


def train_batch(num_steps: int, lambda_: float, **training: Any) -> tuple[dict[str, torch.Tensor], Any, Any]:
    """Columns of a fragment of `Counter`, the full module, and the rollout."""
    config = tiny_config(
        [EnvSpec("counter", make=Counter)], lambda_=lambda_, gamma=0.9, normalize_obs=False, **training
    ).env_runners(rollout_fragment_length=num_steps, num_envs_per_env_runner=1)
    runner = make_runner(config)
    rollouts = runner.sample_rollouts()
    module = config.get_multi_rl_module_spec().build()
    return learner_batch(config, module, rollouts)["counter"], module, rollouts["counter"]


def value(module: Any, *observations: tuple[float, float]) -> list[float]:
    obs = torch.tensor(observations, dtype=torch.float32)
    return module.shared.compute_values({"counter": {Columns.OBS: obs}})["counter"].tolist()


def test_each_kind_of_end_bootstraps_with_the_right_observation() -> None:
    # Counter: episode 0 is terminated after 3 steps, episode 1 truncated after 4, then 2 steps of episode 2.
    batch, module, rollout = train_batch(9, lambda_=0.0, normalize_rewards=False)
    assert list(rollout.chunks()) == [(0, 0, 3), (0, 3, 7), (0, 7, 9)]
    assert np.flatnonzero(rollout.terminated).tolist() == [2] and np.flatnonzero(rollout.truncated).tolist() == [6]
    targets = batch[Postprocessing.VALUE_TARGETS].tolist()
    rewards = rollout.rewards[:, 0]
    final, reset, middle, after = value(module, (1, 4), (2, 0), (1, 1), (2, 2))
    assert 0.9 * abs(final - reset) > 2e-4  # or the test would not tell them apart
    assert targets[2] == pytest.approx(rewards[2], rel=1e-6)
    assert targets[3] == pytest.approx(rewards[3] + 0.9 * middle, rel=1e-6)
    assert targets[6] - rewards[6] == pytest.approx(0.9 * final, abs=2e-5)
    assert targets[6] - rewards[6] != pytest.approx(0.9 * reset, abs=1e-4)
    assert targets[8] == pytest.approx(rewards[8] + 0.9 * after, rel=1e-6)


def test_rewards_are_scaled_and_advantages_standardised_per_environment() -> None:
    batch, _, rollout = train_batch(20, lambda_=0.95)
    returns: list[float] = []
    for _, first, stop in rollout.chunks():
        running_return = 0.0
        for reward in rollout.rewards[first:stop, 0]:
            running_return = 0.9 * running_return + reward
            returns.append(running_return)
    scale = np.std(returns)
    assert rollout.reward_scale == pytest.approx(scale, rel=1e-6)
    advantages = batch[Postprocessing.ADVANTAGES].double()
    assert float(advantages.mean()) == pytest.approx(0.0, abs=1e-6)
    assert float(advantages.std(correction=0)) == pytest.approx(1.0, rel=1e-5)
    last_of_first = rollout.rewards[2, 0] / scale  # a terminal step: its target is its reward
    assert float(batch[Postprocessing.VALUE_TARGETS][2]) == pytest.approx(last_of_first, rel=1e-5)
    assert rollout.rewards.max() > 100  # rollouts keep the rewards as the environment gave them
