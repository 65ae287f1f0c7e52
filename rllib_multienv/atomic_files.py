"""Atomic writes of files and folders: readers see the old content or the new one, wherever the writer is killed.

A new folder is written beside the old one, on the same file system, flushed to the disk, and exchanged with it in one
step. One of its files, the seal, is written last: a folder without its seal is incomplete.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import json
import os
import secrets
import shutil
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

_AT_FDCWD, _RENAME_EXCHANGE = -100, 2
# Errors of a kernel or a file system that cannot exchange two folders.
_NO_EXCHANGE = {errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EXDEV, errno.EBUSY}


def write_text(path: Path, text: str) -> None:
    """Replace a file's text. Of several processes that write at once, the last one wins."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)


def write_json(path: Path, data: Mapping[str, Any]) -> None:
    """Replace a JSON file."""
    write_text(path, json.dumps(data, indent=2) + "\n")


@contextlib.contextmanager
def atomic_folder(path: str | Path, *, seal: str, known: Collection[str] = ()) -> Iterator[Path]:
    """Yield a new, empty folder to fill; it replaces the folder ``path`` when the block ends.

    ``path`` is the old folder or the new one at every moment, with two exceptions. Where the file system cannot
    exchange folders (some network ones), a kill between two renames leaves nothing at ``path`` and the old folder
    beside it, where :func:`interrupted_writes` finds it. Where ``path`` holds files that are not in ``known``, or is a
    mount point, the new files are moved into it one by one; a kill in between leaves a folder without its seal.

    Leftovers of earlier kills beside ``path`` are removed once the new folder is in place.

    Args:
        path: The folder; it need not exist.
        seal: Name of the file that completes the folder; the caller writes it last.
        known: Files of the old folder, relative to it, that may be deleted if the new folder does not have them.

    Raises:
        NotADirectoryError: There is a file at ``path``.
    """
    path = Path(os.path.realpath(path))  # where it is a link, the link stays
    if path.exists() and not path.is_dir():
        raise NotADirectoryError(f"{str(path)!r} is a file, not a folder.")
    path.parent.mkdir(parents=True, exist_ok=True)
    inside = path.is_dir() and (path.is_mount() or not os.access(path.parent, os.W_OK))
    root = path if inside else path.parent
    new = root / f"{_prefix(path)}{secrets.token_hex(4)}"
    new.mkdir()
    with _locked(new):
        try:
            yield new
            if path.is_dir():
                shutil.copymode(path, new)
            _flush_tree(new)
            may_go = {*_files(new), *known}
            if inside or any(name not in may_go for name in _files(path)):
                _move_into(new, path, seal, known)
            else:
                _put_in_place(new, path)
            _flush(path.parent)
        except BaseException:
            shutil.rmtree(new, ignore_errors=True)
            raise
    _remove_leftovers(root, path)


def interrupted_writes(path: str | Path, *, seal: str) -> list[Path]:
    """Complete folders that a killed writer left beside ``path``."""
    path = Path(os.path.realpath(path))
    if not path.parent.is_dir():
        return []
    return sorted(folder for folder in _leftovers(path.parent, path) if (folder / seal).is_file())


def upload_sealed(folder: Path, filesystem: Any, path: str, *, seal: str) -> None:
    """Copy a local folder to a (pyarrow) file system that cannot exchange folders.

    The old seal is deleted first and the new one written last, so a kill in between leaves a folder without a seal.
    """
    target = Path(path)
    with contextlib.suppress(FileNotFoundError):
        filesystem.delete_file((target / seal).as_posix())
    for name in [*sorted({*_files(folder)} - {seal}), seal]:
        filesystem.create_dir((target / name).parent.as_posix(), recursive=True)
        with filesystem.open_output_stream((target / name).as_posix()) as stream, open(folder / name, "rb") as file:
            shutil.copyfileobj(file, stream, 1 << 20)


def _prefix(path: Path) -> str:
    return f".{path.name}.writing-"


def _files(folder: Path) -> Iterator[str]:
    """All files below a folder, relative to it, without those of unfinished writes inside it."""
    for where, folders, names in os.walk(folder):
        for name in [*names, *(name for name in folders if Path(where, name).is_symlink())]:
            found = str(Path(where, name).relative_to(folder))
            if not found.startswith(_prefix(folder)):
                yield found


def _put_in_place(new: Path, path: Path) -> None:
    with contextlib.suppress(OSError):
        os.rename(new, path)  # succeeds if there is no folder yet, or an empty one
        return
    if _exchange(new, path):
        shutil.rmtree(new, ignore_errors=True)
        return
    old = new.with_name(new.name + "-before")
    os.rename(path, old)
    try:
        os.rename(new, path)
    except OSError:
        os.rename(old, path)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _exchange(one: Path, other: Path) -> bool:
    """Exchange two folders in one step; False where that is not possible."""
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if rename is None:
        return False
    if rename(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE) == 0:
        return True
    code = ctypes.get_errno()
    if code in _NO_EXCHANGE:
        return False
    raise OSError(code, os.strerror(code), str(one), None, str(other))


def _move_into(new: Path, path: Path, seal: str, known: Collection[str]) -> None:
    """Move the files of one folder into another, which has no seal meanwhile."""
    (path / seal).unlink(missing_ok=True)
    _flush(path)
    names = {*_files(new)}
    for name in {*known} - names:
        (path / name).unlink(missing_ok=True)
    for name in [*sorted(names - {seal}), seal]:
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        os.replace(new / name, path / name)
    _flush(path)
    shutil.rmtree(new, ignore_errors=True)


def _leftovers(root: Path, path: Path) -> list[Path]:
    with os.scandir(root) as entries:
        return [Path(e.path) for e in entries if e.name.startswith(_prefix(path)) and e.is_dir(follow_symlinks=False)]


def _remove_leftovers(root: Path, path: Path) -> None:
    for folder in _leftovers(root, path):
        # A writer that is still alive holds the lock on its folder.
        with contextlib.suppress(OSError), _locked(folder, wait=False):
            shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _locked(folder: Path, *, wait: bool = True) -> Iterator[None]:
    """Hold a folder's lock; it ends with this process at the latest.

    Raises:
        OSError: ``wait`` is false, and another holds it or the file system has no locks.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            if not wait:
                raise
        yield
    finally:
        os.close(descriptor)


def _flush_tree(folder: Path) -> None:
    for where, _, names in os.walk(folder):
        for name in names:
            with open(Path(where, name), "rb") as file:
                os.fsync(file.fileno())
        _flush(Path(where))


def _flush(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # not every file system can flush folders
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
