"""RLlib's recordings in Parquet files, as parts of episodes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from ray.rllib.core.columns import Columns
from ray.rllib.utils.compression import unpack_if_needed
from ray.rllib.utils.serialization import gym_space_from_dict

from rllib_multienv.offline.errors import DatasetError

#: Column of files of episodes; without it, a file is one of steps.
EPISODES = "item"
REQUIRED = (Columns.OBS, Columns.ACTIONS, Columns.REWARDS)
STEPS = (*REQUIRED, Columns.NEXT_OBS, Columns.TERMINATEDS, Columns.TRUNCATEDS, Columns.EPS_ID, "dones")


@dataclass(kw_only=True)
class Chunk:
    """Successive steps of one episode: T steps, and T + 1 observations if the one after the last is known.

    Attributes:
        episode: RLlib's id of the episode.
        observations: ``[T, ...]`` or ``[T + 1, ...]``.
        actions: ``[T]`` or ``[T, A]``.
        rewards: ``[T]``.
        terminated, truncated: Of the last step.
        started: Steps of the episode before these; None if the file does not say.
        spaces: Of observations and actions, where the file has them.
    """

    episode: Any
    observations: np.ndarray
    actions: np.ndarray
    rewards: np.ndarray
    terminated: bool
    truncated: bool
    started: int | None = None
    spaces: tuple[gym.Space | None, gym.Space | None] = (None, None)


def parquet_files(path: Path) -> list[Path]:
    """The file, or those in a folder and below it, sorted.

    Raises:
        FileNotFoundError: There is no such file or folder.
        DatasetError: The folder has none.
    """
    if not path.is_dir():
        if not path.is_file():
            raise FileNotFoundError(f"There is no data set file or folder {str(path)!r}.")
        return [path]
    files = sorted(path.rglob("*.parquet"))
    if not files:
        raise DatasetError(str(path), "the folder has no file *.parquet")
    return files


def check_parquet(path: Path) -> None:
    """Check that a file is one of RLlib's recording, without reading its rows.

    Raises:
        DatasetError: It is not.
    """
    _check_columns(str(path), _opened(path).schema_arrow.names)


def _opened(path: Path) -> pq.ParquetFile:
    if path.stat().st_size == 0:
        raise DatasetError(str(path), "the file is empty")
    try:
        return pq.ParquetFile(path)
    except (pa.ArrowException, OSError) as error:
        raise DatasetError(
            str(path), f"cannot be opened as Parquet; is it cut off or of another format? ({error})"
        ) from error


def _check_columns(source: str, names: Iterable[str]) -> None:
    names = list(names)
    if EPISODES in names:
        return
    for key in REQUIRED:
        if key not in names:
            raise DatasetError(
                source,
                f"is missing; RLlib's files have a column {EPISODES!r} (episodes) or {', '.join(REQUIRED)}, "
                f"{Columns.TERMINATEDS} (steps), this one has {', '.join(names) or 'none'}",
                key=key,
            )
    if Columns.TERMINATEDS not in names and "dones" not in names:
        raise DatasetError(source, f"is missing; this file has {', '.join(names)}", key=Columns.TERMINATEDS)


def read_chunks(files: list[Path]) -> Iterator[Chunk]:
    """Parts of episodes, in the order of the files.

    Raises:
        DatasetError: A file is damaged, or a column is missing or not as it should be.
    """
    for path in files:
        file = _opened(path)
        names = file.schema_arrow.names
        _check_columns(str(path), names)
        wanted = [EPISODES] if EPISODES in names else [name for name in STEPS if name in names]
        try:
            table = file.read(columns=wanted)
        except (pa.ArrowException, OSError) as error:
            raise DatasetError(str(path), f"cannot be read, the file is damaged ({error})") from error
        yield from _episode_chunks(table, str(path)) if EPISODES in names else _step_chunks(table, str(path))


def _episode_chunks(table: pa.Table, source: str) -> Iterator[Chunk]:
    for row, packed in enumerate(table.column(EPISODES)):
        state = _unpacked(packed.as_py(), source, row)
        observation_space, action_space = (
            gym_space_from_dict(state[key]) if state.get(key) else None
            for key in ("_observation_space", "_action_space")
        )
        observations = _own_items(state["observations"], observation_space, source, Columns.OBS, row)
        rewards = _own_items(state["rewards"], None, source, Columns.REWARDS, row)
        actions = _own_items(state["actions"], None, source, Columns.ACTIONS, row)
        if len(observations) != len(rewards) + 1 or len(actions) != len(rewards):
            raise DatasetError(
                source,
                f"the episode has {len(observations)} observations, {len(actions)} actions and {len(rewards)} rewards; "
                "T + 1, T and T are expected",
                key=EPISODES,
                index=row,
            )
        if not len(rewards):
            continue
        if isinstance(observation_space, gym.spaces.Dict | gym.spaces.Tuple):
            observation_space = gym.spaces.utils.flatten_space(observation_space)
        yield Chunk(
            episode=state["id_"],
            observations=observations,
            actions=actions,
            rewards=rewards,
            terminated=bool(state["is_terminated"]),
            truncated=bool(state["is_truncated"]),
            started=int(state["t_started"]),
            spaces=(observation_space, action_space),
        )


def _unpacked(packed: Any, source: str, row: int) -> Mapping[str, Any]:
    """The state of an episode."""
    try:
        import msgpack
        import msgpack_numpy
    except ImportError as error:
        raise ImportError(
            f"Data set {source!r} has RLlib episodes, which need {error.name}: pip install msgpack msgpack-numpy"
        ) from error
    try:
        state = msgpack.unpackb(packed, object_hook=msgpack_numpy.decode, strict_map_key=False)
        if isinstance(state, dict) and {"observations", "actions", "rewards", "is_terminated"} <= state.keys():
            return state
        problem = "its keys are not those of an episode's state"
    except (ValueError, TypeError, msgpack.UnpackException) as error:
        problem = str(error)
    raise DatasetError(source, f"is no episode of one agent, packed with msgpack ({problem})", key=EPISODES, index=row)


def _own_items(state: Mapping[str, Any], space: gym.Space | None, source: str, key: str, row: int) -> np.ndarray:
    """The items of a buffer, ``[T, ...]``, without those that it has from the part before (its lookback)."""
    if not isinstance(state["data"], list | np.ndarray):
        raise DatasetError(
            source, f"is a {type(state['data']).__name__}; a list of steps is expected", key=key, index=row
        )
    items = state["data"][int(state["lookback"]) :]
    if isinstance(space, gym.spaces.Dict | gym.spaces.Tuple):
        items = [gym.spaces.utils.flatten(space, item) for item in items]
    return _numbers(items, source, key, row)


def _step_chunks(table: pa.Table, source: str) -> Iterator[Chunk]:
    """Parts of episodes: rows up to the end of an episode, to another episode, or to a gap."""
    if not table.num_rows:
        return
    columns = {name: _column(table.column(name), source, name) for name in table.column_names if name != Columns.EPS_ID}
    terminals = columns.get(Columns.TERMINATEDS, columns.get("dones"))
    assert terminals is not None
    terminals = terminals.astype(bool)
    truncated = columns.get(Columns.TRUNCATEDS, np.zeros(len(terminals))).astype(bool)
    observations, following = columns[Columns.OBS], columns.get(Columns.NEXT_OBS)
    ids: list[Any] = table.column(Columns.EPS_ID).to_pylist() if Columns.EPS_ID in table.column_names else []
    ends = terminals | truncated
    if ids:
        ends[:-1] |= np.array([a != b for a, b in pairwise(ids)], bool)
    if following is not None:
        if following.shape != observations.shape:
            raise DatasetError(
                source, f"has shape {following.shape}, but 'obs' has {observations.shape}", key=Columns.NEXT_OBS
            )
        gaps = following[:-1] != observations[1:]
        ends[:-1] |= gaps.any(axis=tuple(range(1, gaps.ndim)))
    ends[-1] = True
    start = 0
    for stop in (np.flatnonzero(ends) + 1).tolist():
        own = observations[start:stop]
        yield Chunk(
            # Without ids, parts of an episode in two files cannot be told to be so.
            episode=ids[start] if ids else (source, start),
            observations=own if following is None else np.concatenate([own, following[stop - 1 : stop]]),
            actions=columns[Columns.ACTIONS][start:stop],
            rewards=columns[Columns.REWARDS][start:stop],
            terminated=bool(terminals[stop - 1]),
            truncated=bool(truncated[stop - 1]),
        )
        start = stop


def _column(column: pa.ChunkedArray, source: str, key: str) -> np.ndarray:
    """A column as an array ``[N, ...]``; tensors come out flat, ``[N, I]``."""
    array = column.combine_chunks()
    if isinstance(array, pa.ExtensionArray):  # Ray's tensors, if its types are registered in this process
        array = array.storage
    if pa.types.is_struct(array.type) and "data" in {child.name for child in array.type}:  # tensors of unlike shapes
        array = array.field("data")
    if array.null_count:
        row = int(np.argmax(np.asarray(array.is_null())))
        raise DatasetError(source, "has no value", key=key, index=row)
    if pa.types.is_list(array.type) or pa.types.is_large_list(array.type) or pa.types.is_fixed_size_list(array.type):
        return _rows(array, source, key)
    items = array.to_pylist() if _is_packed(array.type) else array.to_numpy(zero_copy_only=False)
    if _is_packed(array.type):
        try:
            items = [np.asarray(unpack_if_needed(item)).reshape(-1) for item in items]
        except Exception as error:  # whatever pickle, base64 and lz4 raise
            raise DatasetError(source, f"cannot be unpacked ({error})", key=key) from error
    return _numbers(items, source, key, None)


def _is_packed(kind: pa.DataType) -> bool:
    tests = (pa.types.is_string, pa.types.is_large_string, pa.types.is_binary, pa.types.is_large_binary)
    return any(test(kind) for test in tests)


def _rows(lists: pa.Array, source: str, key: str) -> np.ndarray:
    """Lists of numbers as an array ``[N, I]``."""
    lengths = lists.value_lengths().to_numpy(zero_copy_only=False)
    unlike = lengths != lengths[0]
    if unlike.any():
        row = int(np.argmax(unlike))
        raise DatasetError(source, f"has {lengths[row]} numbers, but index 0 has {lengths[0]}", key=key, index=row)
    values = lists.flatten()
    while pa.types.is_nested(values.type) and not pa.types.is_struct(values.type):
        values = values.flatten()
    return _numbers(values.to_numpy(zero_copy_only=False), source, key, None).reshape(len(lists), -1)


def _numbers(items: Any, source: str, key: str, row: int | None) -> np.ndarray:
    """An array of numbers, float64 as float32."""
    try:
        array = np.asarray(items)
    except ValueError as error:
        raise DatasetError(source, f"has values of unlike shapes ({error})", key=key, index=row) from error
    if array.size and array.dtype.kind not in "biuf":
        raise DatasetError(source, f"has values of type {array.dtype}; numbers are expected", key=key, index=row)
    return array.astype(np.float32 if array.dtype.kind == "f" else array.dtype, copy=False)
