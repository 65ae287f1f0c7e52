"""Data sets in memory: functions that return a mapping of arrays with D4RL's keys."""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Mapping
from typing import Any

import h5py
import numpy as np

from rllib_multienv.gym_ids import did_you_mean
from rllib_multienv.offline.raw import (
    COLUMNS,
    IN_MEMORY,
    REQUIRED,
    ArrayStore,
    DatasetError,
    RawDataset,
    inferred_spaces,
    memory_dtype,
)
from rllib_multienv.spaces.space_spec import SpaceSpec

NAME = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")


def check(source: Any) -> None:
    """Check that there is such a function, without calling it; raises a ValueError if the module has none."""
    if isinstance(source, str):
        find_function(source, "Data set")


def peek(env_id: str, source: Any) -> SpaceSpec:
    """The spaces of the arrays that the function returns."""
    return inferred_spaces(env_id, read(source))


def read(source: Any, *, store: ArrayStore = IN_MEMORY) -> RawDataset:
    """Call a function, or the function named ``"module:function"``, and check the arrays that it returns.

    It may return a `RawDataset` instead, which allows for settings of a reader:
    ``lambda: rllib.read(folder, normalized_actions=True)``.
    """
    function = find_function(source, "Data set") if isinstance(source, str) else source
    arrays = function()
    if isinstance(arrays, RawDataset):
        return arrays
    name = f"{function.__module__}:{getattr(function, '__qualname__', type(function).__name__)}"
    return from_arrays(source if isinstance(source, str) else name, arrays, store=store)


def from_arrays(source: str, arrays: Mapping[str, Any], *, store: ArrayStore = IN_MEMORY) -> RawDataset:
    """Make a data set of arrays, or of the arrays in an HDF5 file.

    Args:
        source: Its name in messages.
        arrays: ``observations, actions, rewards, terminals`` and optional ``timeouts, next_observations``; optional
            ``metadata``, ``observation_space``, ``action_space``.
        store: Makes the arrays.
    """
    if not isinstance(arrays, Mapping):
        raise DatasetError(source, f"gave a {type(arrays).__name__}; a mapping of arrays is expected")
    for key in REQUIRED:
        if arrays.get(key) is None:
            problem = f"is missing; {', '.join(REQUIRED)} are needed, there are {', '.join(arrays)}"
            raise DatasetError(source, problem, key=key)
    columns: dict[str, Any] = {
        key: _array(source, key, arrays[key], store) for key in COLUMNS if arrays.get(key) is not None
    }
    columns |= {key: arrays.get(key) for key in ("observation_space", "action_space")}
    columns["mask_in_info"] = bool(arrays.get("mask_in_info"))
    return RawDataset(source=source, **columns, metadata=dict(arrays.get("metadata") or {}))


def numbers(source: str, key: str, values: Any) -> Any:
    """The array of ``values``, if it is one of numbers; a data set of an HDF5 file is returned unread."""
    if isinstance(values, Mapping):  # HDF5's groups are mappings
        raise DatasetError(source, f"is a {type(values).__name__.lower()}; an array is expected", key=key)
    try:
        array = values if isinstance(values, h5py.Dataset) else np.asanyarray(values)
    except ValueError as error:
        raise DatasetError(source, f"is no array: {error}", key=key) from error
    if array.dtype.kind not in "biuf":
        raise DatasetError(source, f"has values of type {array.dtype}; numbers are expected", key=key)
    return array


def _array(source: str, key: str, values: Any, store: ArrayStore) -> np.ndarray:
    array = numbers(source, key, values)
    dtype = memory_dtype(array.dtype)
    is_ready = isinstance(array, np.memmap) or (isinstance(array, np.ndarray) and store.folder is None)
    try:
        if not array.shape:
            array = np.asarray(array[()])
        elif not is_ready or array.dtype != dtype:
            array = store.copy(key, array, dtype)
    except OSError as error:
        raise DatasetError(source, f"cannot be read, the file is damaged ({error})", key=key) from error
    is_column = key in ("rewards", "terminals", "timeouts") and array.ndim == 2 and array.shape[1] == 1
    return array[:, 0] if is_column else array


def find_function(name: str, what: str) -> Callable[..., Any]:
    """The function named ``"module:function"``; ``what`` it is for starts the messages.

    Raises:
        ImportError: The module cannot be imported.
        ValueError: It has no such function; names the nearest ones.
    """
    if not NAME.fullmatch(name):
        raise ValueError(f"{what} {name!r}: a name of the form 'module:function' is expected.")
    module, _, path = name.partition(":")
    try:
        found: Any = importlib.import_module(module)
    except ImportError as error:
        raise ImportError(
            f"{what} {name!r}: cannot import {module!r} ({error}). Is the folder on PYTHONPATH?", name=error.name
        ) from error
    for part in path.split("."):
        if not hasattr(found, part):
            public = [key for key in dir(found) if not key.startswith("_")]
            raise ValueError(f"{what} {name!r}: there is no {part!r} in it.{did_you_mean(part, public)}")
        found = getattr(found, part)
    if not callable(found):
        raise ValueError(f"{what} {name!r} is a {type(found).__name__}; a function is expected.")
    return found
