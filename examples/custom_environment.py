"""An environment of your own beside one of Gymnasium's, in the same agent.

Run it with::

    python examples/custom_environment.py [ITERATIONS]

``Corridor`` below is an ordinary Gymnasium environment. The agent needs an id and a factory, here the class itself;
keyword arguments make a short and a long corridor. One line per iteration shows the mean returns (20 iterations by
default, a second or two each). In the corridors they rise from far below zero to about -5 and -15 (one for each step),
while CartPole-v1 rises from about 20.
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


if __name__ == "__main__":
    iterations = int(sys.argv[1]) if len(sys.argv) > 1 else 20
    config = (
        MultiEnvPPOConfig()
        .environment(
            envs=[
                EnvSpec("short-corridor", make=Corridor, kwargs={"length": 6}, max_episode_steps=200),
                EnvSpec("long-corridor", make=Corridor, kwargs={"length": 16}, max_episode_steps=200),
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
        print(iteration + 1, {env_id: round(float(value), 1) for env_id, value in returns.items()}, flush=True)
    algo.stop()
