"""What a reader gives: the arrays of a data set as they are stored, checked one by one and against each other."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn

import gymnasium as gym
import numpy as np

from rllib_multienv.offline.blocks import blocks
from rllib_multienv.offline.errors import DatasetError


@dataclass(frozen=True, kw_only=True)
class RawDataset:
    """Steps of episodes, one after the other, as the environment gave them.

    Attributes:
        source: File, folder or name, for messages.
        observations: ``[N, ...]``.
        actions: ``[N]`` (discrete) or ``[N, A]``.
        rewards: ``[N]``.
        terminals: ``[N]``; true where the step led to a terminal state.
        timeouts: ``[N]``; true where an episode was cut after the step. None if the data set does not say.
        next_observations: ``[N, ...]``; None if they are to be read off the next row.
        part_ends: Last rows of the parts (files) that this was made of, where an episode is cut whatever ``timeouts``
            says.
        metadata: Whatever else the data set says of itself.
        observation_space, action_space: If the data set has them; None to infer them from the arrays.
    """

    source: str
    observations: np.ndarray
    actions: np.ndarray
    rewards: np.ndarray
    terminals: np.ndarray
    timeouts: np.ndarray | None = None
    next_observations: np.ndarray | None = None
    part_ends: tuple[int, ...] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict)
    observation_space: gym.Space | None = None
    action_space: gym.Space | None = None

    def __len__(self) -> int:
        return len(self.rewards)

    def __post_init__(self) -> None:
        """Check ranks, lengths and numbers.

        Raises:
            DatasetError: Names the key and the first index that is wrong.
        """
        self._check_shapes()
        for key in ("observations", "actions", "rewards", "next_observations"):
            array = getattr(self, key)
            if array is None or not np.issubdtype(array.dtype, np.floating):
                continue
            for block in blocks(array):
                finite = np.isfinite(array[block]).reshape(block.stop - block.start, -1).all(1)
                if not finite.all():
                    self._fail("is not a finite number", key, block.start + int(np.argmin(finite)))

    def _check_shapes(self) -> None:
        if self.rewards.ndim != 1:
            self._fail(f"has shape {self.rewards.shape}; one number for each step is expected, [N]", "rewards")
        if len(self) == 0:
            self._fail("is empty; there is nothing to learn from", "rewards")
        for key in ("observations", "actions", "terminals", "timeouts", "next_observations"):
            array = getattr(self, key)
            if array is None:
                continue
            if array.ndim == 0 or len(array) != len(self):
                rows = len(array) if array.ndim else "no"
                self._fail(f"has {rows} rows, but 'rewards' has {len(self)}; all must have the same", key)
            if key in ("terminals", "timeouts") and array.ndim != 1:
                self._fail(f"has shape {array.shape}; one flag for each step is expected, [N]", key)
            if key == "actions" and array.ndim > 2:
                self._fail(f"has shape {array.shape}; [N] or [N, A] is expected", key)
        one_number = isinstance(self.observation_space, gym.spaces.Discrete)
        if self.observations.ndim < 2 and not one_number:
            self._fail(
                f"has shape {self.observations.shape}; a vector for each step is expected, [N, I]", "observations"
            )
        if self.next_observations is not None and self.next_observations.shape != self.observations.shape:
            self._fail(
                f"has shape {self.next_observations.shape}, but 'observations' has {self.observations.shape}",
                "next_observations",
            )

    def _fail(self, problem: str, key: str, index: int | None = None) -> NoReturn:
        raise DatasetError(self.source, problem, key=key, index=index)

    def with_timeouts(self, episode_limit: int | None) -> np.ndarray:
        """Where episodes were cut; inferred from their limit (with a warning) if the data set does not say.

        Args:
            episode_limit: Steps after which the environment cuts an episode; None if it does not.

        Raises:
            DatasetError: It cannot be known where the episodes end.
        """
        terminals = self.terminals.astype(bool)
        if self.timeouts is not None:
            timeouts = self.timeouts.astype(bool) & ~terminals
        else:
            timeouts = np.zeros(len(self), bool)
            if episode_limit is not None:
                age, part_ends = 0, set(self.part_ends)
                for row, terminal in enumerate(terminals):
                    age = 0 if terminal else age + 1
                    if age == episode_limit:
                        timeouts[row], age = True, 0
                    if row in part_ends:
                        age = 0
                if timeouts.any():
                    warnings.warn(
                        f"Data set {self.source!r} has no 'timeouts'; episodes are taken to be cut after "
                        f"{episode_limit} steps, at {int(timeouts.sum())} places.",
                        stacklevel=2,
                    )
        cut = np.asarray(self.part_ends, int)
        timeouts[cut] = ~terminals[cut]
        if not (timeouts.any() or terminals.any()):
            raise DatasetError(
                self.source,
                f"its {len(self)} steps are one episode without an end. Mark the steps after which an episode ended "
                "(terminals) or was cut (timeouts), or give the environment's max_episode_steps",
                key="terminals",
            )
        return timeouts
