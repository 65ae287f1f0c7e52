"""Transitions (s, a, r, s') of one data set; no observation is stored twice."""

from __future__ import annotations

from dataclasses import dataclass, fields
from mmap import mmap
from typing import Any

import numpy as np

from rllib_multienv.offline.raw import (
    IN_MEMORY,
    ArrayStore,
    DatasetError,
    RawDataset,
    blocks,
    check_fits,
    dataset_reader,
)
from rllib_multienv.spaces.observations import ObservationReader
from rllib_multienv.spaces.space_spec import SpaceSpec


@dataclass(frozen=True, kw_only=True)
class Transitions:
    """Flat arrays over the N steps of a data set.

    The next observation of a step is the observation of the next row, except where an episode ends or the data set says
    otherwise (rows in another order than time); those are stored separately (F of them). Where the observation after a
    terminal state is not in the data set, the step's own stands in its place, because no loss uses it.

    Attributes:
        observations: ``[N, W]`` rows, not normalised: float32 (the numbers of a uint8 Box are kept), or bytes where
            rows are packed (`ObservationRow`).
        finals: ``[F, W]``, next observations that are no row's observation, such as the last of an episode.
        next_rows: ``[N]``, the row of ``observations`` that follows a step; or ``-1 - f``, the row f of ``finals``.
        actions: ``[N]`` int64 from 0 (discrete), or ``[N, width]`` float32, continuous components in [-1, 1].
        rewards: ``[N]`` float32.
        terminals: ``[N]`` bool.
        ends: ``[N]`` bool, the last step of each episode, whether it ended or was cut.
        usable: ``[M]``, the steps whose next observation is known or not needed.
    """

    observations: np.ndarray
    finals: np.ndarray
    next_rows: np.ndarray
    actions: np.ndarray
    rewards: np.ndarray
    terminals: np.ndarray
    ends: np.ndarray
    usable: np.ndarray

    def __len__(self) -> int:
        """Number of usable steps."""
        return len(self.usable)

    def next_observations(self, steps: np.ndarray) -> np.ndarray:
        """Observations after these steps, ``[len(steps), I]``."""
        rows = self.next_rows[steps]
        found = self.observations[np.maximum(rows, 0)]
        (at_end,) = np.nonzero(rows < 0)
        found[at_end] = self.finals[-1 - rows[at_end]]
        return found

    def episode_returns(self) -> np.ndarray:
        """Undiscounted returns of the episodes that have an end, ``[E]``."""
        sums = np.cumsum(self.rewards.astype(np.float64))[self.ends]
        return np.diff(sums, prepend=0.0)

    def __getstate__(self) -> dict[str, Any]:
        """Pickle arrays that are mapped from files as the files' names, others by value."""
        return {field.name: _portable(getattr(self, field.name)) for field in fields(self)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Map the files again.

        Raises:
            FileNotFoundError: This machine does not see the folder.
        """
        for name, array in state.items():
            object.__setattr__(self, name, np.load(array, mmap_mode="r") if isinstance(array, str) else array)


def _portable(array: np.ndarray) -> np.ndarray | str:
    # A slice of a mapped file has the file's name too.
    if isinstance(array, np.memmap) and isinstance(array.base, mmap) and str(array.filename).endswith(".npy"):
        return str(array.filename)
    return array


def build_transitions(
    raw: RawDataset, spec: SpaceSpec, *, episode_limit: int | None = None, store: ArrayStore = IN_MEMORY
) -> Transitions:
    """Build the transitions of a data set.

    A time limit is no terminal state, and the observation after it is never the first of the next episode: it is taken
    from ``next_observations``, and without these the step is left out, as in D4RL's own reader.

    Args:
        raw: The arrays as they were read.
        spec: The environment's spaces.
        episode_limit: Steps after which the environment cuts an episode, for data sets without ``timeouts``.
        store: Makes the arrays.

    Raises:
        DatasetError: The data set does not fit the environment, or does not say where its episodes end.
    """
    check_fits(raw, spec)
    reader, count = dataset_reader(raw, spec), len(raw)
    terminals = raw.terminals.astype(bool)
    ends = terminals | raw.with_timeouts(episode_limit)
    last = np.flatnonzero(ends) if ends[-1] else np.append(np.flatnonzero(ends), count - 1)
    next_rows = np.arange(1, count + 1)
    usable = np.ones(count, bool)
    if raw.next_observations is not None:
        separate = np.union1d(last, _out_of_order(raw))
        next_rows[separate] = -1 - np.arange(len(separate))
        finals = _flat(raw.next_observations[separate], reader)
    else:
        next_rows[last] = last
        usable[last] = terminals[last]
        finals = _flat(raw.observations[:0], reader)
    if not usable.any():
        raise DatasetError(raw.source, "has no step with a known next observation", key="observations")
    return Transitions(
        observations=_flat_all(raw.observations, reader, store),
        finals=finals,
        next_rows=next_rows,
        actions=_actions(raw.actions, spec, store),
        rewards=raw.rewards.astype(np.float32),
        terminals=terminals,
        ends=ends,
        usable=np.flatnonzero(usable),
    )


def _out_of_order(raw: RawDataset) -> np.ndarray:
    """Rows whose next observation is not the next row's observation."""
    found = [np.empty(0, np.int64)]
    for block in blocks(raw.observations):
        rows = np.arange(block.start, min(block.stop, len(raw) - 1))
        after, following = raw.next_observations[rows], raw.observations[rows + 1]  # type: ignore[index]
        found.append(rows[(after != following).reshape(len(rows), -1).any(1)])
    return np.concatenate(found)


def _flat_all(observations: np.ndarray, reader: ObservationReader, store: ArrayStore) -> np.ndarray:
    """All observations as rows, [N, W]; the same array if they are such rows already."""
    first = _flat(observations[:1], reader)
    if observations.shape[1:] == first.shape[1:] and observations.dtype == first.dtype:
        return observations
    flat = store.empty("flat_observations", (len(observations), *first.shape[1:]), first.dtype)
    for block in blocks(observations):
        flat[block] = _flat(observations[block], reader)
    return flat


def _flat(observations: np.ndarray, reader: ObservationReader) -> np.ndarray:
    if reader.layout.packed:
        if observations.shape[1:] != reader.raw_shape:  # images as arrays
            observations = reader.batch(observations.reshape(len(observations), *reader.space.shape))  # type: ignore[misc]
        return reader.layout.join(*reader.split(observations))
    if observations.dtype == np.uint8:
        return observations.reshape(len(observations), -1)
    return reader.split(observations)[0] if reader.is_plain else observations.reshape(len(observations), -1)


def _actions(actions: np.ndarray, spec: SpaceSpec, store: ArrayStore) -> np.ndarray:
    shape, dtype = ((len(actions),), np.int64) if spec.discrete else ((len(actions), spec.action.width), np.float32)
    converted = store.empty("converted_actions", shape, dtype)
    for block in blocks(actions):
        converted[block] = spec.action_from_env(actions[block])
    return converted
