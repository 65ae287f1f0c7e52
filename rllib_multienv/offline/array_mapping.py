"""Data sets that lie in memory: a mapping of arrays with D4RL's keys."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from rllib_multienv.offline.blocks import IN_MEMORY, ArrayStore, blocks
from rllib_multienv.offline.d4rl_file import OPTIONAL, REQUIRED, as_column, memory_dtype
from rllib_multienv.offline.errors import DatasetError
from rllib_multienv.offline.raw import RawDataset


def from_arrays(source: str, arrays: Mapping[str, Any], *, store: ArrayStore = IN_MEMORY) -> RawDataset:
    """Make a data set of arrays.

    Args:
        source: What to call it in messages.
        arrays: ``observations, actions, rewards, terminals`` and optional ``timeouts, next_observations``, as in a file
            in D4RL's layout; optional ``metadata``, ``observation_space``, ``action_space``.
        store: Where arrays are made.

    Raises:
        DatasetError: A key is missing or not as it should be.
    """
    if not isinstance(arrays, Mapping):
        raise DatasetError(source, f"gave a {type(arrays).__name__}; a mapping of arrays is expected")
    for key in REQUIRED:
        if arrays.get(key) is None:
            raise DatasetError(
                source, f"is missing; {', '.join(REQUIRED)} are needed, there are {', '.join(arrays)}", key=key
            )
    found = {
        key: _array(source, key, arrays[key], store) for key in (*REQUIRED, *OPTIONAL) if arrays.get(key) is not None
    }
    return RawDataset(
        source=source,
        observations=found["observations"],
        actions=found["actions"],
        rewards=found["rewards"],
        terminals=found["terminals"],
        timeouts=found.get("timeouts"),
        next_observations=found.get("next_observations"),
        metadata=dict(arrays.get("metadata") or {}),
        observation_space=arrays.get("observation_space"),
        action_space=arrays.get("action_space"),
    )


def _array(source: str, key: str, values: Any, store: ArrayStore) -> np.ndarray:
    try:
        array = np.asanyarray(values)
    except ValueError as error:
        raise DatasetError(source, f"is no array: {error}", key=key) from error
    if array.dtype.kind not in "biuf":
        raise DatasetError(source, f"has values of type {array.dtype}; numbers are expected", key=key)
    array = as_column(key, array)
    dtype = memory_dtype(array.dtype)
    if array.ndim == 0 or (array.dtype == dtype and (store.folder is None or isinstance(array, np.memmap))):
        return array
    kept = store.empty(key, array.shape, dtype)
    for block in blocks(array):
        kept[block] = array[block]
    return kept
