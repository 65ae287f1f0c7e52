"""Finds the format of a data set that a configuration names."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from rllib_multienv.offline.formats import arrays, d4rl, minari
from rllib_multienv.offline.raw import IN_MEMORY, ArrayStore, DatasetError, RawDataset, data_files
from rllib_multienv.spaces.space_spec import SpaceSpec

Source = str | Path | Callable[[], Mapping[str, Any]] | Mapping[str, Any]

MINARI, D4RL = "minari:", "d4rl:"
PARQUET = ".parquet"
KINDS = (
    "minari:NAME, d4rl:NAME, a file *.hdf5, *.h5 or *.parquet, a folder of these, 'module:function' or a function that "
    "returns a mapping of arrays, or a mapping with 'record'"
)


def read_source(source: Source, *, data_dir: str | Path | None = None, store: ArrayStore = IN_MEMORY) -> RawDataset:
    """Read a data set of any format.

    Args:
        source: One of `KINDS`. Each HDF5 file of a folder ends an episode; a folder of Parquet files is one data set of
            RLlib's. A function may return a `RawDataset`.
        data_dir: Folder of D4RL's files; relative paths are looked for there first.
        store: Makes the arrays.

    Raises:
        ValueError: The source has no known format. Others: see :mod:`rllib_multienv.offline.formats`.
    """
    found, argument = _format_of(source, data_dir)
    raw = found.read(argument, store=store)
    if isinstance(source, str) and source.startswith(D4RL):
        return d4rl.with_reference_scores(raw, source.removeprefix(D4RL))
    return raw


def check_source(source: Source, *, data_dir: str | Path | None = None) -> None:
    """Check that a data set is there and has a known format, without reading it; raises as `read_source` does."""
    found, argument = _format_of(source, data_dir)
    found.check(argument)


def peek_spaces(env_id: str, source: Source, *, data_dir: str | Path | None = None) -> SpaceSpec:
    """The spaces of a data set, reading as little of it as possible; raises as `read_source` does."""
    found, argument = _format_of(source, data_dir)
    return found.peek(env_id, argument)


def absolute(source: Any, *, data_dir: str | Path | None = None) -> Any:
    """The source with an absolute path: workers have their own working directories."""
    if isinstance(source, Mapping) and isinstance(source.get("path"), str | Path):
        return {**source, "path": str(Path(source["path"]).expanduser().absolute())}
    is_path = isinstance(source, Path) or (isinstance(source, str) and not source.startswith((MINARI, D4RL)))
    if not is_path or not str(source) or _is_function(source):
        return source
    if data_dir is not None and (Path(data_dir).expanduser() / source).exists():
        return str(source)
    return str(Path(source).expanduser().absolute())


def _format_of(source: Any, data_dir: str | Path | None) -> tuple[ModuleType, Any]:
    """The module of a source's format, and the argument of its functions."""
    if isinstance(source, Mapping):
        if "record" not in source:
            raise _unknown(dict(source), ": a mapping needs the key 'record'")
        from rllib_multienv.offline.formats import recorded  # imports environments

        return recorded, source
    if isinstance(source, str) and source.startswith(MINARI):
        return minari, source.removeprefix(MINARI)
    if isinstance(source, str) and source.startswith(D4RL):
        return d4rl, d4rl.find(source.removeprefix(D4RL), data_dir)
    if _is_function(source):
        return arrays, source
    if not isinstance(source, str | Path) or not str(source):
        raise _unknown(source)
    path = Path(source).expanduser()
    if data_dir is not None and (Path(data_dir).expanduser() / path).exists():
        path = Path(data_dir).expanduser() / path
    if not path.is_dir() and path.suffix not in (*d4rl.SUFFIXES, PARQUET):
        raise _unknown(source, "" if path.is_file() else ", and there is no such folder")
    kinds = {file.suffix == PARQUET for file in data_files(path, (*d4rl.SUFFIXES, PARQUET))}
    if len(kinds) > 1:
        raise DatasetError(str(path), "has files of both HDF5 and Parquet; files of one kind are expected")
    if kinds == {False}:
        return d4rl, path
    from rllib_multienv.offline.formats import rllib  # imports RLlib

    return rllib, path


def _is_function(source: Any) -> bool:
    if not isinstance(source, str):
        return callable(source)
    return bool(arrays.NAME.fullmatch(source)) and Path(source).suffix not in (*d4rl.SUFFIXES, PARQUET)


def _unknown(source: Any, why: str = "") -> ValueError:
    return ValueError(f"Data set {source!r} has no known format{why}. There are: {KINDS}.")
