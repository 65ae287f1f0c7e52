"""Reader of HDF5 files in the layout of D4RL (Fu et al. 2020, arXiv 2004.07219)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from rllib_multienv.offline.blocks import IN_MEMORY, ArrayStore, blocks
from rllib_multienv.offline.errors import DatasetError
from rllib_multienv.offline.fit import inferred_spaces
from rllib_multienv.offline.raw import RawDataset
from rllib_multienv.space_spec import SpaceSpec

REQUIRED = ("observations", "actions", "rewards", "terminals")
OPTIONAL = ("timeouts", "next_observations")


@contextmanager
def opened(path: Path) -> Iterator[h5py.File]:
    """The file, opened for reading; it has all keys that it needs.

    Raises:
        FileNotFoundError: There is no such file.
        DatasetError: The file is damaged, or a key is missing.
    """
    if not path.is_file():
        raise FileNotFoundError(f"There is no data set file {str(path)!r}.")
    if path.stat().st_size == 0:
        raise DatasetError(str(path), "the file is empty")
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise DatasetError(
            str(path), f"cannot be opened as HDF5; is it cut off or of another format? ({error})"
        ) from error
    with file:
        for key in REQUIRED:
            if key not in file:
                raise DatasetError(
                    str(path),
                    f"is missing; a file in D4RL's layout has {', '.join(REQUIRED)}, this one has "
                    f"{', '.join(sorted(file)) or 'nothing'}",
                    key=key,
                )
        yield file


def read_d4rl(path: str | Path, *, store: ArrayStore = IN_MEMORY) -> RawDataset:
    """Read a file with ``observations, actions, rewards, terminals`` and optional ``timeouts, next_observations``.

    Raises:
        FileNotFoundError: There is no such file.
        DatasetError: The file is damaged, or a key is missing or not as it should be.
    """
    path = Path(path)
    with opened(path) as file:
        arrays = {key: _read(file, key, path, store) for key in (*REQUIRED, *OPTIONAL) if key in file}
        return RawDataset(
            source=str(path),
            observations=arrays["observations"],
            actions=arrays["actions"],
            rewards=arrays["rewards"],
            terminals=arrays["terminals"],
            timeouts=arrays.get("timeouts"),
            next_observations=arrays.get("next_observations"),
            metadata=_metadata(file),
        )


def peek_d4rl(env_id: str, path: str | Path) -> SpaceSpec:
    """The spaces that a file's arrays tell, without reading more than one row (and all actions if they are integers).

    Raises:
        FileNotFoundError, DatasetError: As `read_d4rl` does, as far as it is seen here.
    """
    path = Path(path)
    with opened(path) as file:
        observations, actions = (_numbers(file, key, path) for key in ("observations", "actions"))
        for key, stored in (("observations", observations), ("actions", actions)):
            if not stored.shape or not len(stored):
                raise DatasetError(str(path), f"has shape {stored.shape}; one row for each step is expected", key=key)
        whole_numbers = np.issubdtype(actions.dtype, np.integer)
        try:
            one_row = RawDataset(
                source=str(path),
                observations=observations[:1].astype(memory_dtype(observations.dtype)),
                actions=actions[:].max(0, keepdims=True) if whole_numbers else actions[:1].astype(np.float32),
                rewards=np.zeros(1, np.float32),
                terminals=np.ones(1, bool),
            )
        except OSError as error:
            raise DatasetError(str(path), f"cannot be read, the file is damaged ({error})") from error
        return inferred_spaces(env_id, one_row)


def memory_dtype(stored: np.dtype) -> np.dtype:
    """In which type numbers are kept: simulators work in float64, networks in float32."""
    return np.dtype(np.float32) if stored == np.float64 else stored


def as_column(key: str, array: np.ndarray) -> np.ndarray:
    """One number for each step as ``[N]``, also where it is stored as ``[N, 1]``; other arrays as they are."""
    single = key in ("rewards", "terminals", "timeouts") and array.ndim == 2 and array.shape[1] == 1
    return array[:, 0] if single else array


def _numbers(file: h5py.File, key: str, path: Path) -> h5py.Dataset:
    """The array ``key`` as it lies in the file, which is one of numbers."""
    stored = file[key]
    if not isinstance(stored, h5py.Dataset):
        raise DatasetError(str(path), "is a group; an array is expected", key=key)
    if not (np.issubdtype(stored.dtype, np.number) or stored.dtype == bool):
        raise DatasetError(str(path), f"has values of type {stored.dtype}; numbers are expected", key=key)
    return stored


def _read(file: h5py.File, key: str, path: Path, store: ArrayStore) -> np.ndarray:
    stored = _numbers(file, key, path)
    array = store.empty(key, stored.shape, memory_dtype(stored.dtype))
    try:
        for block in blocks(stored) if stored.shape else ():
            array[block] = stored[block]
    except OSError as error:
        raise DatasetError(str(path), f"cannot be read, the file is damaged ({error})", key=key) from error
    return as_column(key, array)


def _metadata(file: h5py.File) -> dict[str, Any]:
    """Attributes of the file and of its group ``metadata``, and the scalars in that group."""
    found: dict[str, Any] = dict(file.attrs)
    group = file.get("metadata")
    if isinstance(group, h5py.Group):
        found |= dict(group.attrs)
        found |= {key: item[()] for key, item in group.items() if isinstance(item, h5py.Dataset) and item.shape == ()}
    return {key: _plain(value) for key, value in found.items()}


def _plain(value: Any) -> Any:
    """Text and numbers of Python instead of those of HDF5."""
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    return value.item() if isinstance(value, np.generic) else value
