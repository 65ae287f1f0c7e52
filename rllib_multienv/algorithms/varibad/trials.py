"""Recent trials of an environment, whole: what VariBAD's encoder and decoders learn from."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from rllib_multienv.learners.trials import OpenTrials
from rllib_multienv.rollout import EPISODE_ENDS, Rollout

__all__ = ["Trial", "TrialBatch", "TrialStore"]


@dataclass(frozen=True)
class Trial:
    """L time steps of one trial, or of a part of it.

    Attributes:
        obs, next_obs: ``[L, W]``, as the module saw them.
        rewards: ``[L]``, the environment's own.
        decoded: bool ``[L]``, ``next_obs`` is what the step led to: after an episode within the trial it is not known.
    """

    obs: np.ndarray
    next_obs: np.ndarray
    rewards: np.ndarray
    decoded: np.ndarray

    @classmethod
    def of(cls, rollout: Rollout, chunk: tuple[int, int, int]) -> Trial:
        """Steps of a rollout, one of its `Rollout.chunks`."""
        b, first, stop = chunk
        rows = slice(first, stop)
        last = rollout.final_obs[rollout.final_place(stop - 1, b)]
        decoded = np.ones(stop - first, dtype=bool)
        if EPISODE_ENDS in rollout.extra:
            decoded = ~rollout.extra[EPISODE_ENDS][rows, b]
            decoded[-1] |= rollout.done[stop - 1, b]
        obs = rollout.obs[rows, b]
        next_obs = np.concatenate([obs[1:], last[None]])
        return cls(obs.copy(), next_obs, rollout.rewards[rows, b].astype(np.float32), decoded)

    @classmethod
    def joined(cls, parts: Sequence[Trial]) -> Trial:
        """Parts one after another."""
        return cls(*(np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(cls)))


@dataclass(frozen=True)
class TrialBatch:
    """N trials, time first, the shorter ones padded.

    Attributes:
        obs, next_obs: ``[T, N, W]``.
        rewards: ``[T, N]``, divided by their standard deviation over the store.
        decoded, valid: bool ``[T, N]``; `valid`: the trial has this step.
    """

    obs: np.ndarray
    next_obs: np.ndarray
    rewards: np.ndarray
    decoded: np.ndarray
    valid: np.ndarray

    def part(self, own: slice) -> TrialBatch:
        """Some of the trials, padded to the same length."""
        return TrialBatch(*(getattr(self, field.name)[:, own] for field in fields(self)))


class TrialStore:
    """The newest trials of one environment. Trials that go over several fragments are put together.

    Args:
        capacity: Trials that are kept.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self._trials: deque[Trial] = deque(maxlen=capacity)
        self._open = OpenTrials[Trial]()
        self._moments = np.zeros(3)  # count, sum and sum of squares of the rewards seen

    def __len__(self) -> int:
        """Whole trials that can be drawn."""
        return len(self._trials)

    def add(self, rollouts: Sequence[Rollout]) -> None:
        """Add the fragments of one iteration, in the same order of runners each time."""
        for rollout in rollouts:
            rewards = rollout.rewards[rollout.valid]
            self._moments += [len(rewards), rewards.sum(), np.square(rewards).sum()]
        self._trials.extend(map(Trial.joined, self._open.whole(rollouts, Trial.of)))

    @property
    def deviation(self) -> float:
        """Standard deviation of all rewards so far; 1 where they are all alike."""
        count, total, squares = self._moments
        deviation = float(np.sqrt(max(0.0, squares / count - (total / count) ** 2))) if count else 0.0
        return deviation if deviation > 1e-6 else 1.0

    def draw(self, rng: np.random.Generator, size: int) -> list[int]:
        """Numbers of ``size`` trials, drawn uniformly with replacement."""
        return rng.integers(len(self._trials), size=size).tolist()

    def batch(self, numbers: Sequence[int]) -> TrialBatch:
        """These trials."""
        trials = [self._trials[number] for number in numbers]
        longest = max(len(trial.rewards) for trial in trials)

        def padded(column: np.ndarray) -> np.ndarray:
            return np.concatenate([column, np.zeros((longest - len(column), *column.shape[1:]), column.dtype)])

        columns = {field.name: np.stack([padded(getattr(t, field.name)) for t in trials], 1) for field in fields(Trial)}
        valid = np.arange(longest)[:, None] < np.array([len(trial.rewards) for trial in trials])  # [T, N]
        return TrialBatch(**{**columns, "rewards": columns["rewards"] / np.float32(self.deviation)}, valid=valid)

    def get_state(self) -> dict[str, Any]:
        """All trials, and those that are not over."""
        return {"trials": list(self._trials), "open": self._open.get_state(), "moments": self._moments.copy()}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Take over a state of `get_state`."""
        self._trials = deque(state["trials"], maxlen=self.capacity)
        self._moments = state["moments"].copy()
        self._open.set_state(state["open"])
