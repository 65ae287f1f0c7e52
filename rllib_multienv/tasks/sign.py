"""3D sign navigation of DREAM (Liu et al. 2021): a sign around the corner says which object is the right one.

MiniWorld renders and simulates it; it needs the extra ``miniworld``.
"""

from __future__ import annotations

import contextlib
import io
import os
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from rllib_multienv.tasks.family import Split, TaskSplits

if not os.environ.get("DISPLAY"):
    os.environ.setdefault("PYGLET_HEADLESS", "true")  # before pyglet is imported
try:
    from miniworld.envs.sign import Sign
except ImportError as error:
    raise ImportError(f"MiniWorld cannot be imported ({error}): pip install 'rllib-multienv[miniworld]'.") from error

__all__ = ["SignNavigation"]


class SignNavigation(TaskSplits, Sign):
    """Touch the box or the key of the colour on the sign: +1, any other object: -1; both end an episode of 20 steps.

    The observation is what the agent sees (``"obs"``, uint8 ``[60, 80, 3]``) and whether a box (0) or a key (1) is
    wanted (``"goal"``). Actions: left, right, forward, end the episode. A task is the colour (0 blue, 1 red, 2 green)
    and what is wanted; all six are in both splits.

    Args:
        split: The tasks that resets draw from.
        task_visible: Whether the observation has the task too, under ``"task"``.
        exploration_episodes: Episodes without rewards after a task is set. DREAM has one before one with rewards:
            ``EnvSpec(..., kwargs={"exploration_episodes": 1}, trial_episodes=2)``.
        kwargs: MiniWorld's own, such as ``render_mode="rgb_array"``.
    """

    def __init__(
        self, *, split: Split = "train", task_visible: bool = False, exploration_episodes: int = 0, **kwargs: Any
    ) -> None:
        self.check_split(split)
        self.split, self.task_visible, self.exploration_episodes = split, task_visible, exploration_episodes
        self._given: np.ndarray | None = None
        self._episodes = 0  # of the task that is set
        with contextlib.redirect_stdout(io.StringIO()):  # it prints how it draws
            super().__init__(**kwargs)  # resets, too
        if task_visible:
            task = spaces.Box(0, 2, (2,), np.float64)
            self.observation_space: Any = spaces.Dict({**self.observation_space.spaces, "task": task})

    @property
    def task(self) -> np.ndarray:
        """``[2]``, the colour on the sign, and what is wanted."""
        return np.array([self._color_index, self._goal], dtype=np.float64)

    def listed_tasks(self, split: Split) -> np.ndarray:
        """All six."""
        return np.array([[colour, goal] for colour in range(3) for goal in range(2)], dtype=np.float64)

    def set_task(self, task: Any) -> None:
        """See `TaskFamily.set_task`."""
        self._given, self._episodes = None if task is None else np.array(task, dtype=np.float64), 0

    def oracle_action(self) -> int:
        """Turn to the right object, and go there; in one of ten episodes another object is in the way."""
        offset = self._objects[self._goal][self._color_index].pos - self.agent.pos
        error = (np.arctan2(-offset[2], offset[0]) - self.agent.dir + np.pi) % (2 * np.pi) - np.pi
        if abs(error) > np.pi / 8:
            return int(self.actions.turn_left if error > 0 else self.actions.turn_right)
        return int(self.actions.move_forward)

    def oracle_return(self) -> float | None:
        """None: it is not known from which first places the right object can be reached in time."""
        return None

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        """Begin an episode, of a new task unless one is set."""
        gym.Env.reset(self, seed=seed)
        given = self._given
        task = self.sample_tasks(1, self.split, self.np_random)[0] if given is None else given
        self._color_index, self._goal = (int(number) for number in task)
        self._episodes += 1
        obs, info = super().reset(options=options)
        return self._observed(obs), info

    def step(self, action: Any) -> Any:
        """MiniWorld's step."""
        obs, reward, terminated, truncated, info = super().step(int(action))
        pays = self._given is None or self._episodes > self.exploration_episodes
        return self._observed(obs), float(reward) if pays else 0.0, bool(terminated), bool(truncated), info

    def _observed(self, obs: dict[str, Any]) -> dict[str, Any]:
        return {**obs, "task": self.task} if self.task_visible else obs
