"""Transitions by task: minibatches of tasks, each with transitions to learn from and a context to infer it from."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor

from rllib_multienv.algorithms.off_policy import OffPolicyData
from rllib_multienv.learners import Minibatch, MultiEnvLearner
from rllib_multienv.learners.training_data import NOISE
from rllib_multienv.learners.trials import OpenTrials
from rllib_multienv.offline.replay import ACTIONS, NEXT_OBS, OBS, REWARDS, TERMINATEDS, GrowingReplay
from rllib_multienv.rollout import EPISODE_ENDS, Rollout
from rllib_multienv.spaces.rows import ObservationRow

#: Columns [M, C, ...] of M tasks' contexts, and [M, C] which of their transitions there are.
CONTEXT_OBS, CONTEXT_NEXT_OBS, CONTEXT_VALID = "context_obs", "context_new_obs", "context_valid"
#: Contexts come from so many trials of a task, the newest ones.
_RECENT_TRIALS = 8
#: Column [T, B, D] of rollouts: the task of each step.
TASK = "task"
#: Column [M, D] of standard normal numbers that latents are made of.
LATENT_NOISE = "latent_noise"


class _Trial(NamedTuple):
    """Where a trial is.

    Attributes:
        task: What its task is known by.
        start: Number of its first transition among all that were ever added.
        usable: Its transitions, from 0, whose next observation is known: not the last ones of episodes within it.
        stops: Numbers of its transitions up to the end of each episode.
    """

    task: bytes
    start: int
    usable: np.ndarray
    stops: np.ndarray


class TaskReplay(GrowingReplay):
    """A replay store of whole trials, by their tasks. A trial of an environment that has no tasks is one of its own.

    Args:
        capacity: Transitions to keep.
        layout: See `GrowingReplay`.
        rows_per_task: Transitions of each task in a minibatch.
        context_size: Transitions of each task's context, at most.
    """

    def __init__(
        self, capacity: int, layout: ObservationRow | None = None, *, rows_per_task: int, context_size: int
    ) -> None:
        super().__init__(capacity, layout)
        self.rows_per_task, self.context_size = rows_per_task, context_size
        self._trials: deque[_Trial] = deque()
        self._open = OpenTrials[dict[str, np.ndarray]]()
        self._total = 0  # transitions ever added
        self._by_task: list[tuple[list[_Trial], np.ndarray]] = []

    def add_fragments(self, rollouts: Sequence[Rollout]) -> None:
        """Add the trials that end in the fragments of one iteration, in the same order of runners each time."""
        for rollout in rollouts:
            self.reward_scale, self.obs_moments = rollout.reward_scale, rollout.obs_moments
        for parts in self._open.whole(rollouts, self._transitions):
            columns = {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
            stops = np.flatnonzero(columns.pop(EPISODE_ENDS)) + 1
            task = columns.pop(TASK)[0].tobytes() or self._total.to_bytes(8)
            length = len(columns[OBS])
            if not len(stops) or stops[-1] != length:
                stops = np.append(stops, length)
            usable = np.delete(np.arange(length), stops[:-1] - 1)
            self._trials.append(_Trial(task, self._total, usable, stops))
            self.add(columns)
            self._total += length
        while self._trials and self._trials[0].start < self._total - self.capacity:
            self._trials.popleft()
        self._list_tasks()

    def _list_tasks(self) -> None:
        """List the trials of each task, and its usable transitions."""
        trials: dict[bytes, list[_Trial]] = {}
        for trial in self._trials:
            trials.setdefault(trial.task, []).append(trial)
        self._by_task = [(own, np.concatenate([one.start + one.usable for one in own])) for own in trials.values()]

    def draw(self, rng: np.random.Generator, size: int) -> np.ndarray:
        """Rows ``[size, rows_per_task + context_size]`` of as many tasks, drawn uniformly with replacement.

        A context has transitions of the first k episodes of one of the task's newest trials, k being drawn, each once;
        -1 where there are fewer.

        Raises:
            ValueError: There is no whole trial yet.
        """
        if not self._by_task:
            raise ValueError("The replay store has no whole trial: add some before drawing from it.")
        rows = np.full((size, self.rows_per_task + self.context_size), -1)
        for place, number in enumerate(rng.integers(len(self._by_task), size=size).tolist()):
            trials, usable = self._by_task[number]
            chosen = usable[rng.integers(len(usable), size=self.rows_per_task)]
            trial = trials[-1 - rng.integers(min(len(trials), _RECENT_TRIALS))]
            prefix = trial.stops[rng.integers(len(trial.stops))]
            context = trial.start + rng.permutation(prefix)[: self.context_size]
            own = np.concatenate([chosen, context])
            rows[place, : len(own)] = own % self.capacity
        return rows

    def columns(self, rows: np.ndarray) -> dict[str, np.ndarray]:
        """Columns ``[M, rows_per_task, ...]``, and those of contexts ``[M, context_size, ...]``."""
        found = super().columns(rows[:, : self.rows_per_task])
        context = rows[:, self.rows_per_task :]
        there = np.maximum(context, 0)
        return found | {
            CONTEXT_OBS: self.normalised(self._arrays[OBS][there]),
            CONTEXT_NEXT_OBS: self.normalised(self._arrays[NEXT_OBS][there]),
            CONTEXT_VALID: context >= 0,
        }

    def get_state(self) -> dict[str, Any]:
        """All transitions, which tasks and trials they are of, and trials that are not over."""
        trials = [tuple(trial) for trial in self._trials]
        return {**super().get_state(), "trials": trials, "open": self._open.get_state(), "total": self._total}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Take over a state."""
        super().set_state(state)
        self._trials = deque(_Trial(*trial) for trial in state["trials"])
        self._open.set_state(state["open"])
        self._total = state["total"]
        self._list_tasks()

    def _transitions(self, rollout: Rollout, chunk: tuple[int, int, int]) -> dict[str, np.ndarray]:
        """Transitions of one of a rollout's chunks, with the ends of episodes within the trial, and the task."""
        b, first, stop = chunk
        rows = slice(first, stop)
        obs, last = rollout.obs[rows, b], rollout.final_obs[rollout.final_place(stop - 1, b)]
        ends = rollout.extra.get(EPISODE_ENDS, rollout.done)
        tasks = rollout.extra.get(TASK, np.zeros((*rollout.done.shape, 0)))
        found = {
            OBS: obs.copy(),
            NEXT_OBS: np.concatenate([obs[1:], last[None]]),
            ACTIONS: rollout.actions[rows, b].copy(),
            REWARDS: rollout.clipped_rewards[rows, b].astype(np.float32),
            TERMINATEDS: rollout.value_ends[rows, b].copy(),
            EPISODE_ENDS: ends[rows, b].copy(),
            TASK: tasks[rows, b].copy(),
        }
        return self.unnormalised(found, rollout.obs_moments)


@dataclass
class PEARLData(OffPolicyData):
    """Fragments for stores of whole trials, from which minibatches of tasks are drawn; ``batch_sizes`` counts tasks."""

    def add(self, store: GrowingReplay, rollouts: Sequence[Rollout], config: Any) -> None:
        """See `OffPolicyData.add`."""
        assert isinstance(store, TaskReplay)
        store.add_fragments(rollouts)

    def steps(self, learner: MultiEnvLearner, *, num_steps: int = 1, **kwargs: Any) -> Iterator[Minibatch]:
        """See `OffPolicyData.steps`; the columns of contexts are by task, all others by row."""
        latent = learner.config.network_config.belief_size
        for minibatch in super().steps(learner, num_steps=num_steps, **kwargs):
            yield replace(minibatch, columns={e: by_row(columns, latent) for e, columns in minibatch.columns.items()})


def by_row(columns: Mapping[str, Tensor], latent: int) -> dict[str, Tensor]:
    """Columns ``[M, b, ...]`` as ``[M * b, ...]``, those of contexts as they are; ``latent`` is D."""
    per_task = columns[OBS].shape[1]
    found = {key: column if key.startswith("context") else column.flatten(0, 1) for key, column in columns.items()}
    of_latents, of_rows = columns[NOISE].tensor_split([latent], 1)
    found |= {LATENT_NOISE: of_latents, NOISE: of_rows.unflatten(1, (per_task, -1)).flatten(0, 1)}
    return found
