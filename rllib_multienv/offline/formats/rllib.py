"""Parquet files of RLlib's offline writers: episodes, or single steps."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import pairwise, zip_longest
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from ray.rllib.core.columns import Columns
from ray.rllib.env.single_agent_episode import SingleAgentEpisode
from ray.rllib.utils.compression import unpack_if_needed

from rllib_multienv.offline.formats.arrays import numbers
from rllib_multienv.offline.raw import (
    IN_MEMORY,
    ArrayStore,
    DatasetError,
    RawDataset,
    concatenate,
    data_files,
    inferred_spaces,
    memory_dtype,
)
from rllib_multienv.spaces.actions import ActionWriter
from rllib_multienv.spaces.observations import ObservationReader
from rllib_multienv.spaces.rows import ActionRow
from rllib_multienv.spaces.space_spec import SpaceSpec

SUFFIXES = (".parquet",)
#: Column of files of episodes; a file without it is one of steps.
EPISODES = "item"
REQUIRED = (Columns.OBS, Columns.ACTIONS, Columns.REWARDS)
STEPS = (*REQUIRED, Columns.NEXT_OBS, Columns.TERMINATEDS, Columns.TRUNCATEDS, Columns.EPS_ID, "dones")


def check(path: str | Path) -> None:
    """Check that a file, or all files of a folder, have RLlib's columns, without reading rows."""
    for file in data_files(Path(path), SUFFIXES):
        _opened(file)


def peek(env_id: str, path: str | Path) -> SpaceSpec:
    """The spaces of a data set; all of it is read."""
    return inferred_spaces(env_id, read(path))


def read(
    path: str | Path,
    *,
    normalized_actions: bool = False,
    action_space: gym.Space | None = None,
    store: ArrayStore = IN_MEMORY,
) -> RawDataset:
    """Read files of ``offline_data(output=...)``, with ``output_write_episodes`` on or off, compressed or not.

    Parts of an episode, which RLlib writes one by one, are joined. An episode within which the recording stopped counts
    as cut. Observations are those after RLlib's env-to-module connectors. Compressed columns are unpickled: read them
    only from files that you trust.

    Args:
        path: File, or folder of files.
        normalized_actions: RLlib records actions before they are unsquashed or clipped. Set this where they were
            recorded under its default ``normalize_actions=True``: ``[-1, 1]`` stands for the bounds, and what lies
            outside was clipped. Otherwise actions must be as the environment takes them.
        action_space: For ``normalized_actions``, where the data set does not have it (files of steps do not).
        store: Makes the arrays.
    """
    source = str(path)
    parts = _in_order(part for file in data_files(Path(path), SUFFIXES) for part in _parts(file))
    if not parts:
        raise DatasetError(source, "the data set has no steps", key=Columns.REWARDS)
    spaces: list[Any] = [part.observation_space for part in parts]
    observation_space, action_space = spaces[0], action_space or parts[0].action_space
    if isinstance(observation_space, gym.spaces.Discrete):  # each perhaps of the numbers in one file
        low = min(int(space.start) for space in spaces)
        observation_space = gym.spaces.Discrete(max(int(s.start + s.n) for s in spaces) - low, start=low)
    raw = concatenate(
        source,
        parts,
        num_steps=sum(map(len, parts)),
        store=store,
        observation_space=observation_space,
        action_space=action_space,
    )
    if not normalized_actions or isinstance(action_space, gym.spaces.Discrete):
        return raw
    if not isinstance(action_space, gym.spaces.Box):
        problem = (
            "are normalized, and there is no action_space to tell the bounds"
            if action_space is None
            else (f"have the space {action_space}; normalized_actions is for a Box")
        )
        raise DatasetError(source, problem, key="actions")
    unbounded = gym.spaces.Box(-np.inf, np.inf, (1,), np.float32)
    return replace(raw, actions=SpaceSpec.from_spaces(source, unbounded, action_space).action_to_env(raw.actions))


def _in_order(parts: Iterable[RawDataset]) -> list[RawDataset]:
    """Parts of the same episode one after the other; the episode is cut after the last one, and at gaps."""
    episodes: dict[Any, list[RawDataset]] = {}
    for part in parts:
        episodes.setdefault(part.metadata["episode"], []).append(part)
    for own in episodes.values():
        own.sort(key=lambda part: part.metadata.get("started", 0))
        for part, following in zip_longest(own, own[1:]):
            assert part.timeouts is not None
            if following is None or not _continues(part, following):
                part.timeouts[-1] = not part.terminals[-1]
    return [part for own in episodes.values() for part in own]


def _continues(part: RawDataset, following: RawDataset) -> bool:
    """Whether ``following`` begins with the step after ``part``, of the same episode."""
    assert part.timeouts is not None
    if part.terminals[-1] or part.timeouts[-1] or part.next_observations is None:
        return False
    if "started" in part.metadata and following.metadata.get("started") != part.metadata["started"] + len(part):
        return False
    return np.array_equal(part.next_observations[-1], following.observations[0])


# --- Files


def _opened(path: Path) -> pq.ParquetFile:
    """A file that has all columns."""
    if path.stat().st_size == 0:
        raise DatasetError(str(path), "the file is empty")
    try:
        file = pq.ParquetFile(path)
    except (pa.ArrowException, OSError) as error:
        problem = f"cannot be opened as Parquet; is it cut off or of another format? ({error})"
        raise DatasetError(str(path), problem) from error
    names = file.schema_arrow.names
    missing = [key for key in REQUIRED if key not in names]
    if Columns.TERMINATEDS not in names and "dones" not in names:
        missing.append(Columns.TERMINATEDS)
    if missing and EPISODES not in names:
        problem = f"is missing; RLlib's files have a column {EPISODES!r} (episodes) or {', '.join(REQUIRED)}, "
        problem += f"{Columns.TERMINATEDS} (steps), this one has {', '.join(names) or 'none'}"
        raise DatasetError(str(path), problem, key=missing[0])
    return file


def _parts(path: Path) -> Iterator[RawDataset]:
    """Successive steps of one episode each; metadata: RLlib's id, and the steps before these if the file has that."""
    file = _opened(path)
    names = file.schema_arrow.names
    wanted = [EPISODES] if EPISODES in names else [name for name in STEPS if name in names]
    try:
        table = file.read(columns=wanted)
    except (pa.ArrowException, OSError) as error:
        raise DatasetError(str(path), f"cannot be read, the file is damaged ({error})") from error
    yield from _parts_of_episodes(table, str(path)) if EPISODES in names else _parts_of_steps(table, str(path))


def _parts_of_episodes(table: pa.Table, source: str) -> Iterator[RawDataset]:
    for row, packed in enumerate(table.column(EPISODES)):
        found = _unpacked(packed.as_py(), source, row)
        if not len(found):
            continue
        space, observations = found._observation_space, found.get_observations()  # [T + 1, ...]
        actions = found.get_actions()
        writer = None if found._action_space is None else ActionWriter(source, found._action_space)
        if isinstance(found._action_space, gym.spaces.Dict | gym.spaces.Tuple):
            assert writer is not None
            actions = writer.from_env(actions)
        if space is not None and not isinstance(space, gym.spaces.Box | gym.spaces.Discrete):
            reader = ObservationReader(source, space, writer.layout if writer else ActionRow(()))
            try:
                observations = reader.batch(observations)
            except (ValueError, TypeError) as error:
                raise DatasetError(source, f"do not fit their space: {error}", key=Columns.OBS, index=row) from error
        flags = np.zeros((2, len(found)), bool)
        flags[:, -1] = found.is_terminated, found.is_truncated and not found.is_terminated
        observations = _array(source, Columns.OBS, observations)
        yield RawDataset(
            source=f"{source}, episode {found.id_!r}",
            observations=observations[:-1],
            next_observations=observations[1:],
            actions=_array(source, Columns.ACTIONS, actions),
            rewards=_array(source, Columns.REWARDS, found.get_rewards()),
            terminals=flags[0],
            timeouts=flags[1],
            observation_space=space or _discrete_space(observations),
            action_space=found._action_space,
            metadata={"episode": found.id_, "started": int(found.t_started)},
        )


def _unpacked(packed: Any, source: str, row: int) -> SingleAgentEpisode:
    try:
        import msgpack
        import msgpack_numpy
    except ImportError as error:
        raise ImportError(
            f"Data set {source!r} has RLlib episodes, which need {error.name}: pip install msgpack msgpack-numpy"
        ) from error
    try:
        state = msgpack.unpackb(packed, object_hook=msgpack_numpy.decode, strict_map_key=False)
        return SingleAgentEpisode.from_state(state).to_numpy()
    except (ValueError, TypeError, KeyError, AssertionError, msgpack.UnpackException) as error:
        problem = f"is no episode of one agent, packed with msgpack ({type(error).__name__}: {error})"
        raise DatasetError(source, problem, key=EPISODES, index=row) from error


def _parts_of_steps(table: pa.Table, source: str) -> Iterator[RawDataset]:
    """Rows up to the end of an episode, to another episode, or to a gap."""
    if not table.num_rows:
        return
    columns = {name: _column(table.column(name), source, name) for name in table.column_names if name != Columns.EPS_ID}
    terminals = (columns[Columns.TERMINATEDS] if Columns.TERMINATEDS in columns else columns["dones"]).astype(bool)
    timeouts = columns.get(Columns.TRUNCATEDS, np.zeros(len(terminals))).astype(bool) & ~terminals
    observations, following = columns[Columns.OBS], columns.get(Columns.NEXT_OBS)
    ids: list[Any] = table.column(Columns.EPS_ID).to_pylist() if Columns.EPS_ID in table.column_names else []
    ends = terminals | timeouts
    if ids:
        ends[:-1] |= np.array([a != b for a, b in pairwise(ids)], bool)
    if following is not None:
        if following.shape != observations.shape:
            problem = f"has shape {following.shape}, but 'obs' has {observations.shape}"
            raise DatasetError(source, problem, key=Columns.NEXT_OBS)
        gaps = following[:-1] != observations[1:]
        ends[:-1] |= gaps.any(axis=tuple(range(1, gaps.ndim)))
    ends[-1] = True
    space = _discrete_space(observations)
    start = 0
    for stop in (np.flatnonzero(ends) + 1).tolist():
        rows = slice(start, stop)
        yield RawDataset(
            source=source,
            observations=observations[rows],
            next_observations=None if following is None else following[rows],
            actions=columns[Columns.ACTIONS][rows],
            rewards=columns[Columns.REWARDS][rows].reshape(-1),
            terminals=terminals[rows],
            timeouts=timeouts[rows],
            observation_space=space,
            # Without ids, parts of an episode in two files cannot be joined.
            metadata={"episode": ids[start] if ids else (source, start)},
        )
        start = stop


def _discrete_space(observations: np.ndarray) -> gym.Space | None:
    """The space of observations that are integers, ``[N]``; None for others."""
    if observations.ndim > 1 or not np.issubdtype(observations.dtype, np.integer):
        return None
    low = min(0, int(observations.min()))
    return gym.spaces.Discrete(int(observations.max()) + 1 - low, start=low)


def _column(column: pa.ChunkedArray, source: str, key: str) -> np.ndarray:
    """A column as an array ``[N, ...]``; tensors come out flat, ``[N, I]``."""
    array = column.combine_chunks()
    if isinstance(array, pa.ExtensionArray):  # Ray's tensors, if its types are registered in this process
        array = array.storage
    if pa.types.is_struct(array.type) and "data" in {child.name for child in array.type}:  # tensors of unlike shapes
        array = array.field("data")
    if array.null_count:
        raise DatasetError(source, "has no value", key=key, index=int(np.argmax(np.asarray(array.is_null()))))
    if hasattr(array, "value_lengths"):  # lists of numbers
        lengths = array.value_lengths().to_numpy(zero_copy_only=False)
        if (lengths != lengths[0]).any():
            row = int(np.argmax(lengths != lengths[0]))
            raise DatasetError(source, f"has {lengths[row]} numbers, but index 0 has {lengths[0]}", key=key, index=row)
        values = array.flatten(recursive=True).to_numpy(zero_copy_only=False)
        return _array(source, key, values).reshape(len(array), -1)
    values = array.to_numpy(zero_copy_only=False)
    if values.dtype == object:  # compressed
        try:
            values = [np.asarray(unpack_if_needed(item)).reshape(-1) for item in values]
        except Exception as error:  # whatever pickle, base64 and lz4 raise
            raise DatasetError(source, f"cannot be unpacked ({error})", key=key) from error
    return _array(source, key, values)


def _array(source: str, key: str, values: Any) -> np.ndarray:
    array = numbers(source, key, values)
    return array.astype(memory_dtype(array.dtype), copy=False)
