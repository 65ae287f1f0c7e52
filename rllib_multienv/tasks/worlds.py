"""Environments that can only be solved together with others of their world (`rllib_multienv.worlds`).

`Oracle` shows what `Guess` is asked for. Apart from each other, guessing is all that is left.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import spaces

from rllib_multienv.tasks.drawing import BLUE, GREEN, GREY, Picture
from rllib_multienv.tasks.family import VectorFamily

__all__ = ["Guess", "Oracle"]


class _Secret(VectorFamily):
    """The task: one of ``choices`` numbers."""

    def __init__(
        self, num_envs: int, choices: int, horizon: int, at: int | None, size: int, num_actions: int, **options: Any
    ) -> None:
        name = type(self).__name__
        if isinstance(choices, bool) or not isinstance(choices, int) or choices < 2:
            raise ValueError(f"{name}: choices={choices!r} must be a whole number of at least 2.")
        if at is not None and not 0 <= at < horizon:
            raise ValueError(f"{name}: at={at!r} must be one of the {horizon} steps from 0 on, or None.")
        self.choices, self.at = choices, at
        super().__init__(
            num_envs,
            spaces.Box(0, 1, (size,), np.float32),
            spaces.Discrete(num_actions),
            horizon,
            obs_names=["asked"] if size == 1 else [f"shown {choice}" for choice in range(choices)],
            action_names=[f"answer {choice}" for choice in range(num_actions)],
            task_names=["secret"],
            **options,
        )

    @property
    def secrets(self) -> np.ndarray:
        """int64 ``[B]``, the numbers."""
        return self.tasks[:, 0].astype(np.int64)

    def is_time(self) -> np.ndarray:
        """Whether it is step ``at``, bool ``[B]``; always where that is None."""
        return np.full(self.num_envs, True) if self.at is None else self._steps == self.at

    def listed_tasks(self, split: Any) -> np.ndarray:
        """``[choices, 1]``, the same in both splits."""
        return np.arange(self.choices, dtype=np.float64)[:, None]

    def begin(self, copies: np.ndarray) -> None:
        """See `VectorFamily.begin`."""

    def draw(self, copy: int) -> np.ndarray:
        """See `VectorFamily.draw`: all numbers in a row, the secret one blue, green when it is time."""
        picture, now = Picture((-0.5, -0.5), (self.choices - 0.5, 0.5)), self.is_time()[copy]
        for choice in range(self.choices):
            color = GREY if choice != self.secrets[copy] else GREEN if now else BLUE
            picture.box((choice, 0), 0.8, 0.8, color)
        return picture.pixels


class Oracle(_Secret):
    """Shows the secret number (one-hot) in step ``at``, or always. Its only action does nothing; there is no reward.

    Args:
        num_envs: Number of copies.
        choices: Numbers that there are.
        horizon: Steps of an episode.
        at: The step in which it shows the number; None: in all.
        options: Those of `VectorFamily`.
    """

    def __init__(
        self, num_envs: int = 1, *, choices: int = 5, horizon: int = 2, at: int | None = None, **options: Any
    ) -> None:
        super().__init__(num_envs, choices, horizon, at, choices, 2, **options)

    def observe(self) -> np.ndarray:
        """See `VectorFamily.observe`."""
        return np.eye(self.choices, dtype=np.float32)[self.secrets] * self.is_time()[:, None]

    def advance(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """See `VectorFamily.advance`."""
        return np.zeros(self.num_envs), np.zeros(self.num_envs, bool)

    def oracle_actions(self) -> np.ndarray:
        """Any."""
        return np.zeros(self.num_envs, np.int64)

    def oracle_returns(self) -> np.ndarray:
        """Zero."""
        return np.zeros(self.num_envs)


class Guess(_Secret):
    """Rewards the right answer by 1, in step ``at`` or always, and observes only whether it is asked.

    Args:
        num_envs: Number of copies.
        choices: Numbers that there are.
        horizon: Steps of an episode.
        at: The step in which it asks; None: in all.
        options: Those of `VectorFamily`.
    """

    def __init__(
        self, num_envs: int = 1, *, choices: int = 5, horizon: int = 2, at: int | None = None, **options: Any
    ) -> None:
        super().__init__(num_envs, choices, horizon, at, 1, choices, **options)

    def observe(self) -> np.ndarray:
        """See `VectorFamily.observe`."""
        return self.is_time().astype(np.float32)[:, None]

    def advance(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """See `VectorFamily.advance`."""
        return ((actions == self.secrets) & self.is_time()).astype(np.float64), np.zeros(self.num_envs, bool)

    def oracle_actions(self) -> np.ndarray:
        """The secret number."""
        return self.secrets

    def oracle_returns(self) -> np.ndarray:
        """One for each step in which it asks."""
        return np.full(self.num_envs, 1.0 if self.at is not None else float(self.horizon))
