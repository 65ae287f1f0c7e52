"""What one environment's copies did during T time steps, as arrays, and its cut into episode chunks."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from ray.rllib.core.columns import Columns
from ray.rllib.env.single_agent_episode import SingleAgentEpisode
from ray.rllib.env.utils.infinite_lookback_buffer import InfiniteLookbackBuffer

from rllib_multienv.connectors.episodes_to_batch import REWARD_SCALE_KEY
from rllib_multienv.envs.vector import VectorStep


@dataclass
class RunningEpisode:
    """An episode of one copy that may span several fragments."""

    id_: str = field(default_factory=lambda: uuid.uuid4().hex)
    length: int = 0  # steps in chunks already cut
    return_: float = 0.0  # reward in chunks already cut
    custom_data: dict[str, Any] = field(default_factory=dict)
    chunks: list[SingleAgentEpisode] = field(default_factory=list)  # kept only where a callback wants them


@dataclass
class FinishedChunk:
    """An episode chunk that was cut, with what is known of the whole episode so far."""

    env_index: int
    episode: SingleAgentEpisode
    running: RunningEpisode


class Fragment:
    """Columns of T steps of B copies of one environment.

    A row ``(t, b)`` is experience unless ``is_reset[t, b]``: the copy was only being reset at that step (NEXT_STEP
    autoreset).
    """

    def __init__(self, env_id: str, num_envs: int) -> None:
        self.env_id = env_id
        self.num_envs = num_envs
        self._columns: dict[str, list[np.ndarray]] = {}
        self._steps: list[VectorStep] = []

    def __len__(self) -> int:
        return len(self._steps)

    def append(self, columns: dict[str, np.ndarray], step: VectorStep) -> None:
        """Add one time step: what the module saw and did ([B, ...] each), and what the environment answered."""
        for key, value in columns.items():
            self._columns.setdefault(key, []).append(value)
        self._steps.append(step)

    def final_observations(self) -> tuple[list[tuple[int, int]], np.ndarray | None]:
        """Places ``(t, b)`` of finished episodes and their last raw observations [F, ...] (None if F is 0)."""
        places = [(t, b) for t, step in enumerate(self._steps) for b in step.final_obs]
        if not places:
            return [], None
        return places, np.stack([self._steps[t].final_obs[b] for t, b in places])

    def finish(self) -> None:
        """Turn the lists into arrays [T, B, ...]; no step can be added after that."""
        self.columns = {key: np.stack(values) for key, values in self._columns.items()}
        self.rewards = np.stack([step.rewards for step in self._steps])
        self.terminated = np.stack([step.terminated for step in self._steps])
        self.truncated = np.stack([step.truncated for step in self._steps]) & ~self.terminated
        self.dones = self.terminated | self.truncated
        self.valid = ~np.stack([step.is_reset for step in self._steps])

    def _chunks(self, env_index: int) -> Iterator[tuple[int, int]]:
        """First row and row after the last of each chunk of a copy, in time order."""
        first: int | None = None
        for t in range(len(self)):
            if not self.valid[t, env_index]:
                continue
            if first is None:
                first = t
            if self.dones[t, env_index]:
                yield first, t + 1
                first = None
        if first is not None:
            yield first, len(self)

    def cut(
        self,
        running: list[RunningEpisode],
        final_obs: dict[tuple[int, int], np.ndarray],
        last_obs: np.ndarray,
        reward_scale: float,
        on_start: Callable[[int, RunningEpisode, np.ndarray], None],
        wanted: list[int] | None = None,
    ) -> Iterator[FinishedChunk]:
        """Cut into chunks, copy by copy, and carry each copy's running episode on.

        A generator: what the caller puts into a running episode's ``custom_data`` is in its next chunk.

        Args:
            running: [B], replaced in place where an episode ended.
            final_obs: The module's view of the last observation of finished episodes, by place.
            last_obs: [B, I], the module's view of the observation after the last step.
            reward_scale: What the learner is to divide rewards by.
            on_start: Called with the copy, the episode and its first observation (as the module sees it, [I]) before
                the episode's first chunk is built.
            wanted: [B], how many episodes each copy is still to finish, counted down in place; what a copy does beyond
                that is left out. None for everything.
        """
        for b in range(self.num_envs):
            for first, stop in self._chunks(b):
                if wanted is not None and wanted[b] == 0:
                    break
                done = bool(self.dones[stop - 1, b])
                last = final_obs[stop - 1, b] if done else last_obs[b]
                if running[b].length == 0:
                    on_start(b, running[b], self.columns[Columns.OBS][first, b])
                episode = self._episode(b, first, stop, last, running[b])
                episode.custom_data.update(running[b].custom_data)
                running[b].custom_data = episode.custom_data
                episode.custom_data[REWARD_SCALE_KEY] = reward_scale
                running[b].length += stop - first
                running[b].return_ += float(self.rewards[first:stop, b].sum())
                yield FinishedChunk(b, episode, running[b])
                if done:
                    running[b] = RunningEpisode()
                    if wanted is not None:
                        wanted[b] -= 1

    def _episode(self, b: int, first: int, stop: int, last: np.ndarray, running: RunningEpisode) -> SingleAgentEpisode:
        rows = slice(first, stop)
        observations = np.concatenate([self.columns[Columns.OBS][rows, b], last[None]])
        return SingleAgentEpisode(
            id_=running.id_,
            agent_id=self.env_id,
            module_id=self.env_id,
            multi_agent_episode_id=running.id_,
            observations=InfiniteLookbackBuffer(observations),
            infos=InfiniteLookbackBuffer([{}] * len(observations)),
            actions=InfiniteLookbackBuffer(self.columns[Columns.ACTIONS][rows, b]),
            rewards=InfiniteLookbackBuffer(self.rewards[rows, b]),
            extra_model_outputs={
                key: InfiniteLookbackBuffer(column[rows, b])
                for key, column in self.columns.items()
                if key not in (Columns.OBS, Columns.ACTIONS)
            },
            terminated=bool(self.terminated[stop - 1, b]),
            truncated=bool(self.truncated[stop - 1, b]),
            t_started=running.length,
            len_lookback_buffer=0,
        )
