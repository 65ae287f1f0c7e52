"""Environments get actions in their own terms; the learner gets them in the network's."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import torch
from ray.rllib.core.columns import Columns
from tiny_runs import make_runner, tiny_config
from toy_envs import Grid

from rllib_multienv import EnvSpec
from rllib_multienv.nets import distribution_for


class Levers(gym.Env):
    """Two levers of unlike ranges; remembers how they were moved."""

    moved: list[np.ndarray] = []  # noqa: RUF012

    def __init__(self) -> None:
        self.observation_space = gym.spaces.Box(-1, 1, (3,), np.float32)
        self.action_space = gym.spaces.Box(np.float32([-3, 0]), np.float32([1, 0.4]), dtype=np.float32)

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[np.ndarray, dict]:
        super().reset(seed=seed)
        return np.zeros(3, np.float32), {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict]:
        assert action in self.action_space
        Levers.moved.append(action.copy())
        return np.ones(3, np.float32), 0.0, False, False, {}


class Watched(Grid):
    seen: set[int] = set()  # noqa: RUF012

    def step(self, action: Any) -> Any:
        Watched.seen.add(int(action))
        return super().step(action)


def test_continuous_actions_are_clipped_and_scaled_for_the_environment_only() -> None:
    Levers.moved.clear()
    runner = make_runner(tiny_config([EnvSpec("levers", make=Levers)]).env_runners(num_envs_per_env_runner=1))
    (chunk,) = runner.sample(num_timesteps=200)
    actions = chunk.get_actions()
    assert np.abs(actions).max() > 1.0  # as they were drawn
    clipped = actions.clip(-1, 1).astype(np.float64)
    expected = np.array([-3, 0]) + (clipped + 1) / 2 * np.array([4, 0.4])
    np.testing.assert_allclose(Levers.moved, expected, atol=1e-6)
    # The probability is that of the action that was drawn.
    inputs = torch.from_numpy(chunk.get_extra_model_outputs(Columns.ACTION_DIST_INPUTS))
    distribution = distribution_for(runner.config.space_specs["levers"]).from_logits(inputs)
    np.testing.assert_allclose(
        distribution.logp(torch.from_numpy(actions)).numpy(),
        chunk.get_extra_model_outputs(Columns.ACTION_LOGP),
        rtol=1e-4,
        atol=1e-4,
    )


def test_deterministic_action_is_the_mean() -> None:
    runner = make_runner(tiny_config([EnvSpec("levers", make=Levers)]))
    for chunk in runner.sample(explore=False):
        means = chunk.get_extra_model_outputs(Columns.ACTION_DIST_INPUTS)[:, :2]
        np.testing.assert_array_equal(chunk.get_actions(), means)


def test_discrete_actions_get_their_start() -> None:
    Watched.seen.clear()
    runner = make_runner(tiny_config([EnvSpec("grid", make=Watched)]))
    chunks = [chunk for _ in range(3) for chunk in runner.sample()]
    assert {int(a) for chunk in chunks for a in chunk.get_actions()} == {0, 1, 2}
    assert Watched.seen == {5, 6, 7}
