"""A family of tasks that is as small as can be."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np


class Guess(gym.Env[np.ndarray, np.int64]):
    """Four actions, of which the task is the right one: reward 1. Three steps an episode, the observation is the step.

    Training tasks are 0 and 1, test tasks 2 and 3. The task -1 ends the episode with the first step.
    """

    observation_space = gym.spaces.Box(0.0, 3.0, (1,))
    action_space = gym.spaces.Discrete(4)

    def __init__(self, split: str = "train", render_mode: str | None = None) -> None:
        self.split, self.task, self.t = split, np.zeros(1), 0
        self._given = False

    def sample_tasks(self, n: int, split: str, rng: np.random.Generator) -> np.ndarray:
        return rng.integers(0, 2, (n, 1)) + (0.0 if split == "train" else 2.0)

    def set_task(self, task: np.ndarray) -> None:
        self.task, self._given = np.asarray(task, dtype=float), True

    def oracle_action(self) -> np.int64:
        return np.int64(max(0, self.task[0]))

    def oracle_return(self) -> float | None:
        return 3.0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        if not self._given:
            self.task = self.sample_tasks(1, self.split, self.np_random)[0]
        self.t = 0
        return np.zeros(1, np.float32), {"episode": "begun"}

    def step(self, action: Any) -> Any:
        self.t += 1
        reward = float(action == self.task[0])
        return np.full(1, self.t, np.float32), reward, bool(self.task[0] < 0), self.t == 3, {"t": self.t}
