"""An environment with images beside one with vectors, in the same agent.

Run it with::

    python examples/images_and_vectors.py [ITERATIONS]

``Catch`` below is an ordinary Gymnasium environment whose observations are pictures of 24x24 pixels. Nothing more is to
be said: images are encoded by convolutions that all environments share, and stay bytes until then. One line per
iteration shows the mean returns. In ``Catch`` they rise from about -0.8 (the ball is missed) to 1 (it is caught).
"""

import sys
from typing import Any

import gymnasium as gym
import numpy as np

from rllib_multienv import AgnosticNetConfig, EnvSpec, MultiEnvPPOConfig


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
    iterations = int(sys.argv[1]) if len(sys.argv) > 1 else 40
    config = (
        MultiEnvPPOConfig()
        .environment(envs=[EnvSpec("catch", make=Catch), "CartPole-v1"])
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
