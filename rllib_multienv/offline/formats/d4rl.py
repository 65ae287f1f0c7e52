"""HDF5 files in the layout of D4RL (Fu et al. 2020, arXiv 2004.07219), and D4RL's names for its own."""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import os
import re
import runpy
import secrets
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from rllib_multienv.offline.formats.arrays import from_arrays, numbers
from rllib_multienv.offline.raw import (
    COLUMNS,
    IN_MEMORY,
    REQUIRED,
    ArrayStore,
    DatasetError,
    RawDataset,
    blocks,
    concatenate,
    data_files,
    inferred_spaces,
)
from rllib_multienv.spaces.space_spec import SpaceSpec
from rllib_multienv.spec import EnvSpec

SUFFIXES = (".hdf5", ".h5")


def check(path: str | Path) -> None:
    """Check that a file, or all files of a folder, can be opened and have all keys."""
    for file in data_files(Path(path), SUFFIXES):
        with _opened(file):
            pass


def peek(env_id: str, path: str | Path) -> SpaceSpec:
    """The spaces that fit one row of each file, and the largest of all discrete actions."""
    specs = []
    for file in data_files(Path(path), SUFFIXES):
        with _opened(file) as content:
            arrays = {key: numbers(str(file), key, content[key]) for key in REQUIRED}
            rows = {key: array[:1] if array.shape else array[()] for key, array in arrays.items()}
            if np.issubdtype(arrays["actions"].dtype, np.integer) and rows["actions"].size:
                rows["actions"] = arrays["actions"][:].max(0, keepdims=True)
            specs.append(inferred_spaces(env_id, from_arrays(str(file), {**rows, **_described(content)})))
    return max(specs, key=lambda spec: spec.action_size)


def read(path: str | Path, *, store: ArrayStore = IN_MEMORY) -> RawDataset:
    """Read a file with ``observations, actions, rewards, terminals`` and optional ``timeouts, next_observations``.

    All files of a folder are joined. Each file's last step ends an episode; metadata are kept where all agree.
    """
    files = data_files(Path(path), SUFFIXES)
    if len(files) == 1:
        return _read_file(files[0], store)
    temporary = store.below("parts")
    try:
        parts = [_read_file(file, temporary.below(str(index))) for index, file in enumerate(files)]
        shared = [
            (key, value)
            for key, value in parts[0].metadata.items()
            if all(key in part.metadata and np.array_equal(part.metadata[key], value) for part in parts)
        ]
        cut = [replace(part, part_ends=(len(part) - 1,)) for part in parts]
        spaces = {key: getattr(parts[0], key) for key in ("observation_space", "action_space", "mask_in_info")}
        num_steps = sum(map(len, parts))
        return concatenate(str(path), cut, num_steps=num_steps, store=store, metadata=dict(shared), **spaces)
    finally:
        if temporary.folder is not None:
            shutil.rmtree(temporary.folder, ignore_errors=True)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[h5py.File]:
    if path.stat().st_size == 0:
        raise DatasetError(str(path), "the file is empty")
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        problem = f"cannot be opened as HDF5; is it cut off or of another format? ({error})"
        raise DatasetError(str(path), problem) from error
    with file:
        for key in REQUIRED:
            if key not in file:
                problem = f"is missing; a file in D4RL's layout has {', '.join(REQUIRED)}, this one has "
                raise DatasetError(str(path), problem + (", ".join(sorted(file)) or "nothing"), key=key)
        yield file


def _read_file(path: Path, store: ArrayStore) -> RawDataset:
    with _opened(path) as file:
        arrays = {key: file[key] for key in COLUMNS if key in file}
        return from_arrays(str(path), {**arrays, **_described(file)}, store=store)


def _described(file: h5py.File) -> dict[str, Any]:
    """Metadata and, where a recording has them, spaces."""
    metadata = _metadata(file)
    if not metadata.get("spaces"):
        return {"metadata": metadata}
    spaces = SpaceSpec.from_dict(json.loads(metadata["spaces"]))
    named = {"observation_space": spaces.observation_space, "action_space": spaces.action_space}
    return {"metadata": metadata, "mask_in_info": spaces.mask_in_info, **named}


def _metadata(file: h5py.File) -> dict[str, Any]:
    """Attributes of the file and of its group ``metadata``, and the scalars in that group, as Python's values."""
    found: dict[str, Any] = dict(file.attrs)
    group = file.get("metadata")
    if isinstance(group, h5py.Group):
        found |= dict(group.attrs)
        found |= {key: item[()] for key, item in group.items() if isinstance(item, h5py.Dataset) and item.shape == ()}
    for key, value in found.items():
        if isinstance(value, bytes):
            found[key] = value.decode(errors="replace")
        elif isinstance(value, np.generic):
            found[key] = value.item()
    return found


# --- D4RL's names


def find(name: str, data_dir: str | Path | None = None) -> Path:
    """The file of a D4RL name such as ``hopper-medium-expert-v2``, under one of its usual spellings.

    Its folder is ``data_dir``, ``$D4RL_DATASET_DIR`` or ``~/.d4rl/datasets``.
    """
    folder = Path(data_dir or os.environ.get("D4RL_DATASET_DIR") or Path.home() / ".d4rl" / "datasets").expanduser()
    url = _infos().get("DATASET_URLS", {}).get(name)
    stem, version = match.groups() if (match := re.fullmatch(r"(.+)(-v\d+)", name)) else (name, "")
    underscored = stem.replace("-", "_")
    stems = [underscored + version, name, (underscored + version).replace("-", "_")]
    if version == "-v0":  # D4RL's files of version 0 often have no version in their names; others always have
        stems += [underscored, stem]
    names = list(dict.fromkeys([*([url.rsplit("/", 1)[-1]] if url else []), *(f"{stem}.hdf5" for stem in stems)]))
    for candidate in names:
        if (folder / candidate).is_file():
            return folder / candidate
    raise FileNotFoundError(
        f"There is no file of data set 'd4rl:{name}': {names[0]!r} is expected in {str(folder)!r} (or "
        f"{', '.join(map(repr, names[1:]))}). "
        + (f"D4RL's own copy is at {url}" if url else "With the package d4rl installed, the name of its file is known")
        + "."
    )


def with_reference_scores(raw: RawDataset, name: str) -> RawDataset:
    """The data set with D4RL's reference scores in its metadata, where it has none of its own."""
    scores = reference_scores(name)
    if scores is None:
        return raw
    return replace(raw, metadata={"ref_min_score": scores[0], "ref_max_score": scores[1], **raw.metadata})


def reference_scores(name: str) -> tuple[float, float] | None:
    """Returns of a random and of an expert policy, by which D4RL normalizes; None where they are not known.

    They come from the package ``d4rl`` (``pip install 'rllib-multienv[d4rl]'``).
    """
    low, high = (_infos().get(key, {}).get(name) for key in ("REF_MIN_SCORE", "REF_MAX_SCORE"))
    return None if low is None or high is None else (float(low), float(high))


def _infos() -> Mapping[str, Any]:
    """The tables of the package's ``d4rl/infos.py``, which is not imported (it needs an old Gym); empty without it."""
    try:
        path = Path(str(importlib.metadata.distribution("d4rl").locate_file("d4rl/infos.py")))
    except importlib.metadata.PackageNotFoundError:
        return {}
    return _tables(str(path)) if path.is_file() else {}


_tables = lru_cache(maxsize=1)(runpy.run_path)


# --- Writing


def write(path: str | Path, raw: RawDataset, env: EnvSpec | None = None, *, overwrite: bool = False) -> None:
    """Write a data set atomically: readers see the whole file or none.

    Args:
        path: The file; folders above it are made.
        raw: The data set. Its metadata become attributes of the group ``metadata``: mappings and lists as JSON, None
            left out.
        env: Unused: the metadata of a recording say how to make its environment.
        overwrite: Replace a file that is there.
    """
    path = Path(path)
    check_new(path, overwrite=overwrite)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.writing-{secrets.token_hex(4)}")
    try:
        with h5py.File(temporary, "x") as file:
            _fill(file, raw)
        with open(temporary, "rb") as written:
            os.fsync(written.fileno())
        if not overwrite:
            # A second link fails where the name is taken; a rename would replace the other file.
            with contextlib.suppress(OSError):  # a file system without links
                os.link(temporary, path)
                return
            check_new(path)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def check_new(path: str | Path, *, overwrite: bool = False) -> None:
    """Check that a data set can be written to a file."""
    path = Path(path)
    if path.suffix not in SUFFIXES:
        raise ValueError(f"{str(path)!r}: a data set file ends in {' or '.join(SUFFIXES)}.")
    if path.is_dir():
        raise FileExistsError(f"{str(path)!r} is a folder; give the name of a file.")
    if path.exists() and not overwrite:
        raise FileExistsError(f"There is a file {str(path)!r} already; give another name, or ask to overwrite it.")
    folder = next(folder for folder in path.absolute().parents if folder.exists())
    if not folder.is_dir():
        raise NotADirectoryError(f"{str(path)!r}: {str(folder)!r} is a file, not a folder.")


def _fill(file: h5py.File, raw: RawDataset) -> None:
    for key in COLUMNS:
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
            is_plain = isinstance(value, str | bytes | int | float | np.generic)
            attributes[key] = value if is_plain else json.dumps(value, default=str)
