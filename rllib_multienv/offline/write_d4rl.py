"""Writer of HDF5 files in the layout of D4RL (Fu et al. 2020, arXiv 2004.07219)."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from rllib_multienv.offline.blocks import blocks
from rllib_multienv.offline.raw import RawDataset

ARRAYS = ("observations", "actions", "rewards", "terminals", "timeouts", "next_observations")
SUFFIXES = (".hdf5", ".h5")


def write_d4rl(path: str | Path, raw: RawDataset, *, overwrite: bool = False) -> None:
    """Write a data set; the file is there as a whole or not at all.

    Args:
        path: The file; folders above it are made.
        raw: What is written. Its metadata become attributes of the group ``metadata``; mappings and lists as JSON,
            and what is None is left out.
        overwrite: Whether it may take the place of a file that is there.

    Raises:
        FileExistsError: There is such a file.
        ValueError: The name is not that of an HDF5 file.
    """
    path = Path(path)
    check_new_file(path, overwrite=overwrite)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.writing-{secrets.token_hex(4)}")
    try:
        with h5py.File(temporary, "x") as file:
            _fill(file, raw)
        with open(temporary, "rb") as written:
            os.fsync(written.fileno())
        _put_in_place(temporary, path, overwrite)
    finally:
        temporary.unlink(missing_ok=True)


def check_new_file(path: Path, *, overwrite: bool = False) -> None:
    """Check that a data set can be written to a file.

    Raises:
        FileExistsError: There is such a file, and it is to be kept.
        ValueError: The name is not that of an HDF5 file.
        NotADirectoryError: What is to be its folder is a file.
    """
    if path.suffix not in SUFFIXES:
        raise ValueError(f"{str(path)!r}: a data set file ends in {' or '.join(SUFFIXES)}.")
    if path.is_dir():
        raise FileExistsError(f"{str(path)!r} is a folder; give the name of a file.")
    if path.exists() and not overwrite:
        raise FileExistsError(f"There is a file {str(path)!r} already; give another name, or ask to overwrite it.")
    for folder in path.absolute().parents:
        if folder.exists():
            if not folder.is_dir():
                raise NotADirectoryError(f"{str(path)!r}: {str(folder)!r} is a file, not a folder.")
            break


def _fill(file: h5py.File, raw: RawDataset) -> None:
    for key in ARRAYS:
        array = getattr(raw, key)
        if array is None:
            continue
        dtype = bool if key in ("terminals", "timeouts") else array.dtype
        stored = file.create_dataset(key, array.shape, dtype, compression="gzip", compression_opts=4, shuffle=True)
        for block in blocks(array):
            stored[block] = array[block]
    attributes = file.create_group("metadata").attrs
    for key, value in raw.metadata.items():
        if value is not None:
            attributes[key] = _attribute(value)


def _attribute(value: Any) -> Any:
    """What HDF5 can hold."""
    return value if isinstance(value, str | bytes | int | float | np.generic) else json.dumps(value, default=str)


def _put_in_place(temporary: Path, path: Path, overwrite: bool) -> None:
    """Give a file its name.

    Raises:
        FileExistsError: Another has taken the name in the meantime.
    """
    if not overwrite:
        # A second link fails where the name is taken; a rename would replace that file.
        try:
            os.link(temporary, path)
        except FileExistsError:
            raise FileExistsError(f"A file {str(path)!r} has appeared in the meantime; it is left as it is.") from None
        except OSError:  # a file system without links
            check_new_file(path)
            os.replace(temporary, path)
    else:
        os.replace(temporary, path)
    with contextlib.suppress(OSError):  # not every file system can, for folders
        descriptor = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
