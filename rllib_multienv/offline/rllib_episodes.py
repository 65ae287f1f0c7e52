"""Reader of what RLlib's offline writers make: Parquet files of episodes, or of single steps."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from ray.rllib.core.columns import Columns

from rllib_multienv.offline.blocks import IN_MEMORY, ArrayStore
from rllib_multienv.offline.errors import DatasetError
from rllib_multienv.offline.raw import RawDataset
from rllib_multienv.offline.rllib_parquet import Chunk, parquet_files, read_chunks
from rllib_multienv.space_spec import SpaceSpec


def read_rllib_episodes(
    path: str | Path,
    *,
    normalized_actions: bool = False,
    action_space: gym.Space | None = None,
    store: ArrayStore = IN_MEMORY,
) -> RawDataset:
    """Read a Parquet file, or all those in a folder and below it, as RLlib's recording writes them.

    Both forms are understood, ``output_write_episodes`` on and off, with or without compressed columns. Parts of the
    same episode, which RLlib writes one by one, are put together again. Where the recording stopped within an episode,
    the episode is taken to be cut.

    Observations are those that RLlib's env-to-module connectors left in the episode: they fit the environment only
    where these do not change them. Actions are taken to be as the environment takes them. RLlib records those of its
    network before they are unsquashed or clipped: record Box actions with ``normalize_actions=False`` from a policy
    that stays inside the bounds, or say ``normalized_actions=True``.

    Compressed columns are unpickled: read them only from files that you trust.

    Args:
        path: File or folder.
        normalized_actions: Actions were recorded under RLlib's default ``normalize_actions=True``: ``[-1, 1]`` stands
            for the bounds, and what lies outside was clipped.
        action_space: For ``normalized_actions``, where the data set does not have it (files of steps do not).
        store: Where arrays are made.

    Raises:
        FileNotFoundError: There is no such file or folder.
        DatasetError: A file is damaged, or a column is missing or not as it should be.
    """
    path = Path(path)
    source = str(path)
    chunks = _joined(read_chunks(parquet_files(path)), source)
    observation_space, found_space = chunks[0].spaces
    action_space = action_space or found_space
    actions = _concatenated(chunks, "actions", source)
    if normalized_actions:
        actions = _unsquashed(actions, action_space, source)
    observations, next_observations = _observations(chunks, source, store)
    if observation_space is None and observations.ndim == 1 and np.issubdtype(observations.dtype, np.integer):
        low = min(0, int(observations.min()))
        observation_space = gym.spaces.Discrete(int(observations.max()) + 1 - low, start=low)
    last = np.cumsum([len(chunk.rewards) for chunk in chunks]) - 1
    terminals, timeouts = np.zeros(last[-1] + 1, bool), np.zeros(last[-1] + 1, bool)
    terminals[last] = [chunk.terminated for chunk in chunks]
    timeouts[last] = ~terminals[last]
    return RawDataset(
        source=source,
        observations=observations,
        actions=actions,
        rewards=_concatenated(chunks, "rewards", source).reshape(-1),
        terminals=terminals,
        timeouts=timeouts,
        next_observations=next_observations,
        observation_space=observation_space,
        action_space=action_space,
    )


def _joined(parts: Iterable[Chunk], source: str) -> list[Chunk]:
    """Parts in the order of their episodes; those that follow on one another are one."""
    episodes: dict[Any, list[Chunk]] = {}
    for part in parts:
        episodes.setdefault(part.episode, []).append(part)
    if not episodes:
        raise DatasetError(source, "has no steps; there is nothing to learn from", key=Columns.REWARDS)
    joined: list[Chunk] = []
    for episode in episodes.values():
        if all(part.started is not None for part in episode):
            episode.sort(key=lambda part: part.started or 0)
        runs: list[list[Chunk]] = [[episode[0]]]
        for part in episode[1:]:
            if _follows(runs[-1][-1], part):
                runs[-1].append(part)
            else:
                runs.append([part])
        joined += [_one(run) for run in runs]
    return joined


def _follows(first: Chunk, second: Chunk) -> bool:
    """Whether a part is the next of the same episode."""
    if first.terminated or first.truncated:
        return False
    if first.started is not None and second.started != first.started + len(first.rewards):
        return False
    return len(first.observations) > len(first.rewards) and np.array_equal(
        first.observations[-1], second.observations[0]
    )


def _one(run: list[Chunk]) -> Chunk:
    if len(run) == 1:
        return run[0]
    observations = [part.observations[: len(part.rewards)] for part in run[:-1]] + [run[-1].observations]
    return Chunk(
        episode=run[0].episode,
        observations=np.concatenate(observations),
        actions=np.concatenate([part.actions for part in run]),
        rewards=np.concatenate([part.rewards for part in run]),
        terminated=run[-1].terminated,
        truncated=run[-1].truncated,
        started=run[0].started,
        spaces=run[0].spaces,
    )


def _concatenated(chunks: list[Chunk], key: str, source: str) -> np.ndarray:
    first = getattr(chunks[0], key)
    for chunk in chunks:
        array = getattr(chunk, key)
        if array.shape[1:] != first.shape[1:]:
            raise DatasetError(
                source,
                f"has rows of shape {array.shape[1:]} in episode {chunk.episode!r} and {first.shape[1:]} before",
                key=key,
            )
    return np.concatenate([getattr(chunk, key) for chunk in chunks])


def _observations(chunks: list[Chunk], source: str, store: ArrayStore) -> tuple[np.ndarray, np.ndarray | None]:
    """Observations before and after each step; the latter None where they are not known at every end."""
    first = chunks[0].observations
    steps = sum(len(chunk.rewards) for chunk in chunks)
    complete = all(len(chunk.observations) > len(chunk.rewards) for chunk in chunks)
    before = store.empty("observations", (steps, *first.shape[1:]), first.dtype)
    after = store.empty("next_observations", before.shape, before.dtype) if complete else None
    start = 0
    for chunk in chunks:
        stop = start + len(chunk.rewards)
        if chunk.observations.shape[1:] != first.shape[1:]:
            raise DatasetError(
                source,
                f"has rows of shape {chunk.observations.shape[1:]} in episode {chunk.episode!r} and {first.shape[1:]} "
                "before",
                key=Columns.OBS,
                index=start,
            )
        before[start:stop] = chunk.observations[: stop - start]
        if after is not None:
            after[start:stop] = chunk.observations[1:]
        start = stop
    return before, after


def _unsquashed(actions: np.ndarray, space: gym.Space | None, source: str) -> np.ndarray:
    """Actions as the environment took them, of those in [-1, 1]; discrete ones are so already."""
    if isinstance(space, gym.spaces.Discrete):
        return actions
    if space is None:
        raise DatasetError(source, "are normalized, and there is no action_space to tell the bounds", key="actions")
    unbounded = gym.spaces.Box(-np.inf, np.inf, (1,), np.float32)
    return SpaceSpec.from_spaces(source, unbounded, space).action_to_env(actions)
