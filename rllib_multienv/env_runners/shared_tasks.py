"""Tasks that the members of a world share."""

from __future__ import annotations

import secrets
from typing import Any

import numpy as np

from rllib_multienv.envs.vector import EnvCopies


class SharedTasks:
    """The tasks of a world: its members' n-th episodes since all of them began have the same one.

    Members do not wait for each other: a task depends only on the seed, the world's number and n.

    Args:
        seed: Of the run; None for fresh entropy.
        split: Split of the families.
    """

    def __init__(self, seed: int | None, split: str) -> None:
        self._seed = secrets.randbits(32) if seed is None else seed
        self._split = split
        self._round = 0

    def restart(self) -> None:
        """All members begin new episodes in all worlds."""
        self._round += 1

    def of(self, copies: EnvCopies, world: int, episode: int) -> np.ndarray:
        """``[D]``, the task of a member's ``episode`` in a ``world``."""
        rng = np.random.default_rng([self._seed, self._round, world, episode])
        return copies.sample_tasks(1, self._split, rng)[0]

    def get_state(self) -> Any:
        """What `set_state` takes."""
        return self._seed, self._round

    def set_state(self, state: Any) -> None:
        """Go on as where `get_state` was called."""
        self._seed, self._round = state


class TaskFollower:
    """Gives the copies of one member their shared tasks, one episode ahead: copies are reset within a step.

    Args:
        tasks: The world's.
        copies: The member's copies.
        world_copies: Its copies in one world.
    """

    def __init__(self, tasks: SharedTasks, copies: EnvCopies, world_copies: int) -> None:
        self.tasks, self._copies, self._world_copies = tasks, copies, world_copies
        self._episodes = np.zeros(copies.num_copies, np.int64)  # of which the tasks are set
        self._next: list[Any] = [None] * copies.num_copies

    def before_reset(self) -> None:
        """All copies are about to be reset."""
        self._episodes[:] = 0
        self._set(np.arange(len(self._episodes)))

    def begun(self, copies: np.ndarray) -> None:
        """These copies (``[N]`` indices) have begun an episode."""
        if len(copies):
            self._episodes[copies] += 1
            self._set(copies)

    def _set(self, copies: np.ndarray) -> None:
        for b in copies.tolist():
            self._next[b] = self.tasks.of(self._copies, b // self._world_copies, int(self._episodes[b]))
        self._copies.set_tasks(np.stack(self._next))

    def get_state(self) -> Any:
        """What `set_state` takes."""
        return self._episodes.copy(), list(self._next), self.tasks.get_state()

    def set_state(self, state: Any) -> None:
        """Follow on from where `get_state` was called; the copies are restored apart."""
        episodes, following, tasks = state
        self._episodes[:], self._next = episodes, list(following)
        self.tasks.set_state(tasks)
