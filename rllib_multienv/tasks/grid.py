"""Navigation to an unknown cell of a grid (GridNavi of VariBAD, 1910.08348, section 5.1)."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import spaces

from rllib_multienv.tasks.drawing import BLUE, GREEN, GREY, Picture
from rllib_multienv.tasks.family import SPLITS, Split, VectorFamily

__all__ = ["GridNavi"]

# By action: stay, up, right, down, left.
_MOVES = np.array([[0, 0], [0, 1], [1, 0], [0, -1], [-1, 0]])


class GridNavi(VectorFamily):
    """A grid in which one cell, the goal, gives +1 in each step; every other cell gives -0.1.

    The agent sees its cell ``(x, y)``, starts in (0, 0), and goes on at the goal. Goals are all cells but (0, 0),
    (1, 0), (0, 1) and (1, 1). Test goals are those with ``(x + 2 y) % 5 == 4``, the others are for training.

    Args:
        num_envs: Number of copies.
        size: Cells of a side.
        held_out: False: all goals are in both splits, as in the paper.
        horizon: Steps of an episode.
        options: Those of `VectorFamily`.
    """

    STATE = ("cells",)

    def __init__(
        self, num_envs: int = 1, *, size: int = 5, held_out: bool = True, horizon: int = 15, **options: Any
    ) -> None:
        if isinstance(size, bool) or not isinstance(size, int) or size < 3:
            raise ValueError(f"GridNavi: size={size!r} must be a whole number of at least 3.")
        self.size, self.held_out = size, held_out
        self.cells = np.zeros((num_envs, 2), np.int64)
        super().__init__(
            num_envs,
            spaces.Box(0, size - 1, (2,), np.float32),
            spaces.Discrete(len(_MOVES)),
            horizon,
            obs_names=("position x", "position y"),
            action_names=("move none", "move y positive", "move x positive", "move y negative", "move x negative"),
            task_names=("goal x", "goal y"),
            **options,
        )

    def listed_tasks(self, split: Split) -> np.ndarray:
        """``[goals, 2]``."""
        cells = np.stack(np.meshgrid(np.arange(self.size), np.arange(self.size)), axis=-1).reshape(-1, 2)
        goals = cells[(cells > 1).any(axis=1)]
        if not self.held_out:
            return goals
        is_test = (goals @ [1, 2]) % 5 == 4
        return goals[is_test == (split == SPLITS[1])]

    def begin(self, copies: np.ndarray) -> None:
        """See `VectorFamily.begin`."""
        self.cells[copies] = 0

    def advance(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """See `VectorFamily.advance`."""
        self.cells = np.clip(self.cells + _MOVES[actions], 0, self.size - 1)
        at_goal = (self.cells == self.tasks).all(axis=1)
        return np.where(at_goal, 1.0, -0.1), np.zeros(self.num_envs, bool)

    def observe(self) -> np.ndarray:
        """See `VectorFamily.observe`."""
        return self.cells.astype(np.float32)

    def oracle_actions(self) -> np.ndarray:
        """Along x first, then y."""
        x, y = np.sign(self.tasks - self.cells).astype(np.int64).T
        return np.where(x > 0, 2, np.where(x < 0, 4, np.where(y > 0, 1, np.where(y < 0, 3, 0))))

    def oracle_returns(self) -> np.ndarray:
        """The way to the goal, then +1 until the end."""
        distance = self.tasks.sum(axis=1)
        return np.where(
            distance > self.horizon, -0.1 * self.horizon, self.horizon + 1 - distance - 0.1 * (distance - 1)
        )

    def draw(self, copy: int) -> np.ndarray:
        """See `VectorFamily.draw`."""
        edge = self.size - 0.5
        picture = Picture((-0.5, -0.5), (edge, edge))
        for line in range(self.size):
            picture.box((line - 0.5, edge / 2), 0.04, 2 * edge, GREY)
            picture.box((edge / 2, line - 0.5), 2 * edge, 0.04, GREY)
        picture.box(self.tasks[copy], 0.8, 0.8, GREEN)
        picture.disc(self.cells[copy], 0.25, BLUE)
        return picture.pixels
