"""MultiEnvMAESN: tasks with latents of their own, the same gradient for any number of learners, and adaptation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from first_gradient import RecordsFirstGradient, assert_two_learners_have_the_gradient_of_one
from tiny_runs import assert_goes_on_when_restored, make_runner, running

from rllib_multienv import EnvSpec, GeneratedNetConfig, MultiEnvAgent, MultiEnvMAESNConfig
from rllib_multienv.algorithms.maesn import MultiEnvMAESNLearner
from rllib_multienv.algorithms.maml.batches import TASK
from rllib_multienv.latent_loop import TaskLatents

CIRCLE = EnvSpec("circle", make="multienv/PointSemicircle-v0", kwargs={"dense": True, "horizon": 5})
GRID = EnvSpec("grid", make="multienv/GridNavi-v0", max_episode_steps=5)


class RecordingMAESNLearner(RecordsFirstGradient, MultiEnvMAESNLearner):
    """MAESN's learner that keeps its first gradient."""


def maesn_config(envs: Any = (CIRCLE, GRID), **training: Any) -> MultiEnvMAESNConfig:
    return (
        MultiEnvMAESNConfig()
        .environment(envs=list(envs))
        .env_runners(num_env_runners=0, num_envs_per_env_runner=4, rollout_fragment_length=20)
        .rl_module(model_config=GeneratedNetConfig(width=8))
        .training(**{"inner_episodes": 2, "num_epochs": 2, "num_train_tasks": 6, **training})
        .debugging(seed=0)
    )


def test_wrong_settings_are_named() -> None:
    with pytest.raises(ValueError, match="Environment 'CartPole-v1' is no task family"):
        maesn_config([EnvSpec("CartPole-v1", max_episode_steps=5)]).validate()
    with pytest.raises(ValueError, match="method='reptile': latents have no start in common"):
        maesn_config(method="reptile").validate()
    assert maesn_config().network_config.inputs == ("noise:2",)


def test_copies_have_tasks_of_the_list_and_act_by_their_latents() -> None:
    config = maesn_config([CIRCLE], normalize_obs=False)
    runner = make_runner(config)
    network = runner.module.shared.network
    torch.nn.init.normal_(TaskLatents.of(network, "circle"))
    tasks = []
    for _ in range(2):
        rollout = runner.sample_rollouts()["circle"]
        numbers = rollout.extra[TASK]  # [T, B]
        assert (numbers == numbers[0]).all() and len(set(numbers[0].tolist())) == 4
        tasks.append((numbers[0], runner.environments["circle"].copies.env.env.tasks.copy()))
        table = TaskLatents.of(network, "circle").detach()[torch.from_numpy(numbers[0])]
        obs = torch.from_numpy(rollout.obs[0])
        z = table[:, 0] + table[:, 1].exp() * obs[:, -2:]
        expected = network.policy({"circle": torch.cat([obs[:, :-2], z], 1)})["circle"].detach()
        np.testing.assert_allclose(rollout.action_dist_inputs[0], expected, atol=1e-6)
    goals: dict[int, np.ndarray] = {}
    for numbers, found in tasks:
        for number, goal in zip(numbers.tolist(), found, strict=True):
            np.testing.assert_array_equal(goals.setdefault(number, goal), goal)
    assert len(goals) > 4


@pytest.mark.usefixtures("ray_cluster")
def test_two_learners_have_the_gradient_of_one() -> None:
    assert_two_learners_have_the_gradient_of_one(maesn_config(), learner_class=RecordingMAESNLearner)


@pytest.mark.usefixtures("ray_cluster")
def test_an_agent_is_resumed_exactly_and_adapts_by_its_latent(tmp_path: Path) -> None:
    config = maesn_config()
    with running(config.copy()) as algo:
        algo.train()
        latents = TaskLatents.of(algo.learner_group._learner.network, "circle")
        assert latents.detach().abs().max() > 0
        found = algo.adapt("circle", num_tasks=3, episodes=4)["circle"].returns
        path = algo.save_to_path(tmp_path / "agent")
    agent = MultiEnvAgent.from_checkpoint(path)
    assert agent.checkpoint.adapter["type"] == "latent_loop"
    np.testing.assert_array_equal(agent.adapt("circle", num_tasks=3, episodes=4).returns, found)
    later = agent.adapt("circle", num_tasks=3, episodes=4, inner_loop={"episodes": 5}).returns
    np.testing.assert_array_equal(found[:, :2], later[:, :2])  # before the first step
    assert (found[:, 2:] != later[:, 2:]).all()
    assert agent.adapt({"id": "bandit", "make": "multienv/Bandit-v0"}, num_tasks=2, episodes=2).returns.shape == (2, 2)
    assert_goes_on_when_restored(config, tmp_path)
