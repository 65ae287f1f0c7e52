"""Trials: several episodes of one task as one episode (RL², Duan et al. 2016, arXiv 1611.02779, section 2.2)."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np

from rllib_multienv.tasks.family import family_of


class Trial(gym.Wrapper[Any, Any, Any, Any]):
    """K episodes of one task, which look like a single episode.

    The step that ends an episode within a trial returns the first observation (and info) of the next episode, and is
    neither terminated nor truncated. The end of the K-th episode is the end of the trial, with its own flags.

    A task family (`tasks.family`) draws a new task of its split at each `reset`, unless one is set; other environments
    have K episodes of what they always do.

    Attributes:
        episodes: K.
        episode_ended: Whether the last step was the last of an episode, the K-th included.
    """

    def __init__(self, env: gym.Env[Any, Any], episodes: int) -> None:
        super().__init__(env)
        self.episodes = episodes
        self.episode_ended = False
        self._task: np.ndarray | None = None  # None: drawn
        self._done = 0  # episodes of this trial
        self._rng = np.random.default_rng()

    def set_task(self, task: np.ndarray | None) -> None:
        """Use this task (``[D]``) from the next trial on; None: draw one for each trial again."""
        self._task = task

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begin a new trial with a new task."""
        if seed is not None:
            self._rng = np.random.default_rng([seed, 1])  # not the stream of the environment's own generator
        if (family := family_of(self.env)) is not None:
            drawn = family.sample_tasks(1, family.split, self._rng)[0] if self._task is None else self._task
            family.set_task(drawn)
        self._done = 0
        return self.env.reset(seed=seed, options=options)

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """One step; an episode within the trial that ends is followed by the next one."""
        obs, reward, terminated, truncated, info = self.env.step(action)
        self.episode_ended = bool(terminated or truncated)
        self._done += self.episode_ended
        if self.episode_ended and self._done < self.episodes:
            obs, begun = self.env.reset()
            return obs, reward, False, False, {**info, **begun}
        return obs, reward, terminated, truncated, info
