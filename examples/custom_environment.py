"""Environments of your own beside one of Gymnasium's, in the same agent: one with vectors and one with images.

Run it with::

    python examples/custom_environment.py [ITERATIONS]

``Corridor`` and ``Catch`` below are ordinary Gymnasium environments. The agent needs an id and a factory, here the
class itself, with keyword arguments if you like. Nothing is to be said about the pictures that ``Catch`` shows: they
stay bytes, and are encoded by convolutions that all environments share. One line per iteration shows the mean returns
(30 iterations by default, one or two seconds each). In the corridor they rise from about -100 to -15 (one for each
step), in ``Catch`` from -0.8 (the ball is missed) to 0.9 (it is caught), with setbacks, in CartPole-v1 from 20 to 270.
"""

import sys
from typing import Any

import gymnasium as gym
import numpy as np

from rllib_multienv import AgnosticNetConfig, EnvSpec, MultiEnvPPOConfig


class Corridor(gym.Env):
    """Walk from one end of a corridor to the other; the observation is one-hot, every step costs one."""

    def __init__(self, length: int = 6) -> None:
        self.length = length
        self.observation_space = gym.spaces.Box(0.0, 1.0, (length,))
        self.action_space = gym.spaces.Discrete(2)
        self.position = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict]:
        """Go to the left end."""
        super().reset(seed=seed)
        self.position = 0
        return self._observation(), {}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict]:
        """Left (0) or right (1)."""
        self.position = max(0, self.position + (1 if action == 1 else -1))
        return self._observation(), -1.0, self.position == self.length - 1, False, {}

    def _observation(self) -> np.ndarray:
        return np.eye(self.length, dtype=np.float32)[self.position]


class Catch(gym.Env):
    """Catch a falling ball with a paddle; the observation is a picture of both.

    Args:
        cells: Width and height of the field, in cells.
        pixels: Width and height of a cell, in pixels. Pictures smaller than 16x16 count as numbers.
    """

    def __init__(self, cells: int = 12, pixels: int = 2) -> None:
        self.cells, self.pixels = cells, pixels
        side = cells * pixels
        self.observation_space = gym.spaces.Box(0, 255, (side, side, 1), np.uint8)
        self.action_space = gym.spaces.Discrete(3)
        self.row = self.column = self.paddle = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict]:
        """Ball and paddle start in random columns, at the top and at the bottom."""
        super().reset(seed=seed)
        self.row, (self.column, self.paddle) = 0, self.np_random.integers(self.cells, size=2).tolist()
        return self._picture(), {}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict]:
        """Left (0), stay (1) or right (2); the reward is 1 for a ball that is caught, else -1."""
        self.paddle = int(np.clip(self.paddle + int(action) - 1, 0, self.cells - 1))
        self.row += 1
        over = self.row == self.cells - 1
        reward = (1.0 if self.paddle == self.column else -1.0) if over else 0.0
        return self._picture(), reward, over, False, {}

    def _picture(self) -> np.ndarray:
        field = np.zeros((self.cells, self.cells), np.uint8)
        field[-1, self.paddle] = 128
        field[self.row, self.column] = 255
        return np.kron(field, np.ones((self.pixels, self.pixels), np.uint8))[:, :, None]  # [height, width, 1]


if __name__ == "__main__":
    iterations = int(sys.argv[1]) if len(sys.argv) > 1 else 30
    config = (
        MultiEnvPPOConfig()
        .environment(
            envs=[
                EnvSpec("corridor", make=Corridor, kwargs={"length": 16}, max_episode_steps=200),
                EnvSpec("catch", make=Catch),
                "CartPole-v1",
            ]
        )
        .env_runners(num_env_runners=0, num_envs_per_env_runner=8, rollout_fragment_length=128)
        .rl_module(model_config=AgnosticNetConfig(d_model=32))
        .training(actor_lr=5e-4, critic_lr=5e-4)
        .debugging(seed=0)
    )
    algo = config.build_algo()
    for iteration in range(iterations):
        returns = algo.train()["env_runners"]["module_episode_return_mean"]
        print(iteration + 1, {env_id: round(float(value), 2) for env_id, value in returns.items()}, flush=True)
    algo.stop()
