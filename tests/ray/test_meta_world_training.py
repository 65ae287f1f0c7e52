"""Success as a metric, and training on Meta-World's MT10."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from tiny_runs import TINY_NET, running, tiny_config

from rllib_multienv import EnvSpec, MultiEnvAgent, MultiEnvSACConfig
from rllib_multienv.config_files import build_config, load_config_file

pytestmark = pytest.mark.usefixtures("ray_cluster")
needs_meta_world = pytest.mark.skipif(importlib.util.find_spec("metaworld") is None, reason="needs the extra metaworld")


class ReachesInTheMiddle(gym.Env):
    """Episodes of four steps; every second one reaches its goal in the second step, and leaves it again."""

    def __init__(self, key: str = "success") -> None:
        self.observation_space, self.action_space = gym.spaces.Box(0, 1, (2,)), gym.spaces.Discrete(2)
        self.key, self.episode, self.t = key, 0, 0

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[np.ndarray, dict]:
        super().reset(seed=seed)
        self.episode, self.t = self.episode + 1, 0
        return np.zeros(2, np.float32), {}

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict]:
        self.t += 1
        reached = self.t == 2 and self.episode % 2 == 0
        return np.zeros(2, np.float32), 1.0, False, self.t == 4, {self.key: reached} if self.t > 1 else {}


def test_success_counts_at_any_step_of_an_episode(tmp_path: Path) -> None:
    envs = [EnvSpec(f"{key}-v0", make=ReachesInTheMiddle, kwargs={"key": key}) for key in ("success", "is_success")]
    config = tiny_config([*envs, "CartPole-v1"]).evaluation(evaluation_interval=1, evaluation_duration=4)
    with running(config) as algo:
        result = algo.train()
        algo.save_to_path(str(tmp_path))
    rates = result["env_runners"]["success_rate"]
    assert rates == {"success-v0": 0.5, "is_success-v0": 0.5}  # CartPole has none
    assert result["evaluation"]["env_runners"]["success_rate"].keys() == rates.keys()
    found = MultiEnvAgent.from_checkpoint(tmp_path).evaluate(envs[0], episodes=20)  # two by each copy
    assert found.successes.count(True) == 10 and found.success_rate == found.to_dict()["success_rate"] == 0.5


def sac_config(envs: Sequence[EnvSpec]) -> MultiEnvSACConfig:
    return (
        MultiEnvSACConfig()
        .environment(envs=envs)
        .env_runners(num_envs_per_env_runner=2, rollout_fragment_length=16)
        .rl_module(model_config=TINY_NET)
        .training(batch_size=8, min_replay_size=32, num_random_steps=16, update_to_data_ratio=1 / 32)
        .debugging(seed=0)
    )


@needs_meta_world
@pytest.mark.parametrize("make_config", [tiny_config, sac_config])
def test_mt10_trains_and_reports_success(make_config: Callable[[Any], Any], tmp_path: Path) -> None:
    file = tmp_path / "mt10.yaml"
    file.write_text("algorithm: MultiEnvPPO\nenvironment: {envs: meta-world/MT10}\n")
    envs = build_config(load_config_file(file)).env_specs
    assert len(envs) == 10
    with running(make_config([replace(env, max_episode_steps=20) for env in envs])) as algo:
        for _ in range(2):
            result = algo.train()
    assert result["num_env_steps_sampled_lifetime"] == 2 * 10 * 2 * 16
    assert result["env_runners"]["success_rate"].keys() == {env.id for env in envs}
    assert all(0 <= rate <= 1 for rate in result["env_runners"]["success_rate"].values())
    assert all(np.isfinite(result["learners"][env.id]["policy_loss"]) for env in envs)
