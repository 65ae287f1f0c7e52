"""What a configuration may name as a data set, and which reader reads it."""

from __future__ import annotations

import importlib
import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from rllib_multienv.gym_ids import did_you_mean
from rllib_multienv.offline.array_mapping import from_arrays
from rllib_multienv.offline.blocks import IN_MEMORY, ArrayStore
from rllib_multienv.offline.concatenate import concatenate
from rllib_multienv.offline.d4rl_file import opened, peek_d4rl, read_d4rl
from rllib_multienv.offline.d4rl_names import d4rl_path, read_d4rl_name
from rllib_multienv.offline.errors import DatasetError
from rllib_multienv.offline.fit import inferred_spaces
from rllib_multienv.offline.minari_data import check_minari, peek_minari, read_minari
from rllib_multienv.offline.raw import RawDataset
from rllib_multienv.space_spec import SpaceSpec

Source = str | Path | Callable[[], Mapping[str, Any]] | Mapping[str, Any]

MINARI, D4RL = "minari:", "d4rl:"
HDF5, PARQUET = (".hdf5", ".h5"), ".parquet"
KINDS = (
    "minari:NAME, d4rl:NAME, a file *.hdf5, *.h5 or *.parquet, a folder of these, 'module:function' or a function that "
    "returns a mapping of arrays, or a mapping with 'record'"
)
_FUNCTION = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")


def read_source(source: Source, *, data_dir: str | Path | None = None, store: ArrayStore = IN_MEMORY) -> RawDataset:
    """Read a data set of any kind.

    Args:
        source: One of `KINDS`. In a folder each file ends an episode, but a folder of Parquet files is one data set of
            RLlib's. A function may return a `RawDataset` too; so settings of a reader can be given, for example
            ``lambda: read_rllib_episodes(folder, normalized_actions=True)``.
        data_dir: Where D4RL's files are, and where relative paths are looked for first.
        store: Where arrays are made.

    Raises:
        ValueError: The source is of no known kind.
        FileNotFoundError: It is not on this machine.
        ImportError: A package that it needs is not installed.
        DatasetError: It cannot be used.
    """
    if isinstance(source, Mapping):
        return read_d4rl(_recorded_file(source), store=store)
    if callable(source) or _is_function(source):
        return _called(source, store)
    if (name := _after(MINARI, source)) is not None:
        return read_minari(name, store=store)
    if (name := _after(D4RL, source)) is not None:
        return read_d4rl_name(name, data_dir=data_dir, store=store)
    path = _path(source, data_dir)
    if path.is_dir():
        return _read_folder(path, store)
    return read_d4rl(path, store=store) if path.suffix in HDF5 else _read_parquet(path, store)


def absolute(source: Any, *, data_dir: str | Path | None = None) -> Any:
    """The same source wherever it is read: workers have working directories of their own."""
    if isinstance(source, Mapping) and isinstance(source.get("path"), str | Path):
        return {**source, "path": str(Path(source["path"]).expanduser().absolute())}
    is_path = isinstance(source, Path) or (isinstance(source, str) and not source.startswith((MINARI, D4RL)))
    if not is_path or not str(source) or _is_function(source):
        return source
    if data_dir is not None and (Path(data_dir).expanduser() / source).exists():
        return str(source)
    return str(Path(source).expanduser().absolute())


def check_source(source: Source, *, data_dir: str | Path | None = None) -> None:
    """Check that a data set is there and of a known kind, without reading it.

    Raises:
        ValueError, FileNotFoundError, ImportError, DatasetError: As `read_source` does, as far as it is seen here.
    """
    if isinstance(source, Mapping):
        _check_recorded(source)
    elif callable(source) or _is_function(source):
        _function(source)
    elif (name := _after(MINARI, source)) is not None:
        check_minari(name)
    elif (name := _after(D4RL, source)) is not None:
        _check_file(d4rl_path(name, data_dir))
    else:
        path = _path(source, data_dir)
        for file in _files(path) if path.is_dir() else [path]:
            _check_file(file)


def peek_spaces(env_id: str, source: Source, *, data_dir: str | Path | None = None) -> SpaceSpec:
    """The spaces of a data set, reading as little of it as possible.

    Raises:
        ValueError, FileNotFoundError, ImportError, DatasetError: As `read_source` does.
        UnsupportedSpaceError: The spaces are of a kind that networks cannot take.
    """
    if isinstance(source, Mapping):
        return _recorded_spaces(env_id, source)
    if not callable(source) and not _is_function(source):
        if (name := _after(MINARI, source)) is not None:
            return peek_minari(env_id, name)
        if (name := _after(D4RL, source)) is not None:
            return peek_d4rl(env_id, d4rl_path(name, data_dir))
        path = _path(source, data_dir)
        files = _files(path) if path.is_dir() else [path]
        if all(file.suffix in HDF5 for file in files):
            # A file may lack the largest of discrete actions.
            return max((peek_d4rl(env_id, file) for file in files), key=lambda spec: spec.action_size)
    return inferred_spaces(env_id, read_source(source, data_dir=data_dir))


def _after(prefix: str, source: Any) -> str | None:
    """The name after a prefix, or None if the source has another."""
    return source.removeprefix(prefix) if isinstance(source, str) and source.startswith(prefix) else None


def _unknown(source: Any, why: str = "") -> ValueError:
    return ValueError(f"Data set {source!r} is of no known kind{why}. There are: {KINDS}.")


# --- Files and folders


def _path(source: Any, data_dir: str | Path | None) -> Path:
    """The file or folder that is meant; a file need not exist."""
    if not isinstance(source, str | Path) or not str(source):
        raise _unknown(source)
    path = Path(source).expanduser()
    if data_dir is not None and (Path(data_dir).expanduser() / path).exists():
        path = Path(data_dir).expanduser() / path
    if path.is_dir() or path.suffix in (*HDF5, PARQUET):
        return path
    raise _unknown(source, "" if path.is_file() else ", and there is no such folder")


def _files(folder: Path) -> list[Path]:
    """The data files in a folder and below it, sorted; all are HDF5, or all are Parquet.

    Raises:
        DatasetError: There is none, or there are some of both.
    """
    files = sorted(file for file in folder.rglob("*") if file.suffix in (*HDF5, PARQUET) and file.is_file())
    if not files:
        raise DatasetError(str(folder), "the folder has no file *.hdf5, *.h5 or *.parquet")
    if len({file.suffix == PARQUET for file in files}) > 1:
        raise DatasetError(str(folder), "has files of both HDF5 and Parquet; files of one kind are expected")
    return files


def _read_folder(folder: Path, store: ArrayStore) -> RawDataset:
    files = _files(folder)
    if files[0].suffix == PARQUET:
        return _read_parquet(folder, store)
    if len(files) == 1:
        return read_d4rl(files[0], store=store)
    if store.folder is None:
        return concatenate(str(folder), [read_d4rl(file) for file in files])
    # The parts' own arrays lie on disk too, until they are in the whole.
    parts_folder = store.folder / "parts"
    try:
        parts = [
            read_d4rl(file, store=ArrayStore(folder=parts_folder / str(index))) for index, file in enumerate(files)
        ]
        return concatenate(str(folder), parts, store=store)
    finally:
        shutil.rmtree(parts_folder, ignore_errors=True)


def _read_parquet(path: Path, store: ArrayStore) -> RawDataset:
    from rllib_multienv.offline.rllib_episodes import read_rllib_episodes  # imports RLlib

    return read_rllib_episodes(path, store=store)


def _check_file(path: Path) -> None:
    if path.suffix in HDF5:
        with opened(path):
            return
    from rllib_multienv.offline.rllib_parquet import check_parquet, parquet_files  # imports RLlib

    for file in parquet_files(path):
        check_parquet(file)


# --- Functions


def _is_function(source: Any) -> bool:
    return (
        isinstance(source, str)
        and _FUNCTION.fullmatch(source) is not None
        and not source.startswith((MINARI, D4RL))
        and Path(source).suffix not in (*HDF5, PARQUET)
    )


def _function(source: Any) -> Callable[[], Any]:
    if not isinstance(source, str):
        return source
    module, _, name = source.partition(":")
    try:
        found: Any = importlib.import_module(module)
    except ImportError as error:
        raise ImportError(f"Data set {source!r}: {error}", name=error.name) from error
    for part in name.split("."):
        if not hasattr(found, part):
            raise ValueError(f"Data set {source!r}: there is no {part!r} in it.{did_you_mean(part, dir(found))}")
        found = getattr(found, part)
    if not callable(found):
        raise ValueError(
            f"Data set {source!r} is a {type(found).__name__}; a function that returns arrays is expected."
        )
    return found


def _called(source: Any, store: ArrayStore) -> RawDataset:
    function = _function(source)
    arrays = function()
    if isinstance(arrays, RawDataset):
        return arrays
    called = source if isinstance(source, str) else _name_of(function)
    return from_arrays(called, arrays, store=store)


def _name_of(function: Callable[[], Any]) -> str:
    return f"{getattr(function, '__module__', '?')}:{getattr(function, '__qualname__', type(function).__name__)}"


# --- Recordings


def _recorded_file(source: Mapping[str, Any]) -> Path:
    _require_record(source)
    from rllib_multienv.offline.recorded_source import recorded_file  # imports environments

    return recorded_file(source)


def _check_recorded(source: Mapping[str, Any]) -> None:
    _require_record(source)
    from rllib_multienv.offline.recorded_source import check_recorded_source

    check_recorded_source(source)


def _recorded_spaces(env_id: str, source: Mapping[str, Any]) -> SpaceSpec:
    _require_record(source)
    from rllib_multienv.offline.recorded_source import recorded_spaces

    return recorded_spaces(env_id, source)


def _require_record(source: Mapping[str, Any]) -> None:
    if "record" not in source:
        raise _unknown(dict(source), ": a mapping needs the key 'record'")
