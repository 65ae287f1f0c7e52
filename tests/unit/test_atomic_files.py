"""A folder is written whole or not at all, wherever its writer is killed."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest

from rllib_multienv import atomic_files
from rllib_multienv.atomic_files import atomic_folder, interrupted_writes, upload_sealed

OLD = {"a": "old", "inner/b": "old", "inner/gone": "old", "seal": "old"}
NEW = {"a": "new", "inner/b": "new", "inner/come": "new", "seal": "new"}


def fill(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


def content(folder: Path) -> dict[str, str]:
    return {str(p.relative_to(folder)): p.read_text() for p in folder.rglob("*") if p.is_file()}


def write(path: Path) -> None:
    with atomic_folder(path, seal="seal", known=OLD) as new:
        fill(new, NEW)


def killed_at(number: int, work: Callable[[], None]) -> bool:
    """Does `work` in a process that is killed when it has touched the disk so often; whether that came to pass."""
    process = os.fork()
    if process == 0:
        left = number

        def hook(event: str, arguments: tuple) -> None:
            nonlocal left
            if event != "os.kill" and event.startswith(("open", "os.", "ctypes.", "shutil.")):
                left -= 1
                if left < 0:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(hook)
        try:
            work()
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    _, status = os.waitpid(process, 0)
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0
    return os.WIFSIGNALED(status)


def every_kill(work: Callable[[], None], before: Callable[[], None], check: Callable[[], None]) -> int:
    """Kills `work` at every place; the number of places."""
    number = 0
    while True:
        before()
        killed = killed_at(number, work)
        check()
        if not killed:
            return number
        number += 1


def start_over(folder: Path, files: dict[str, str]) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    fill(folder / "it", files)


def test_a_kill_at_any_place_leaves_the_old_one_or_the_new_one(tmp_path: Path) -> None:
    folder, seen = tmp_path / "folder", []

    def check() -> None:
        seen.append(content(folder / "it"))
        assert seen[-1] in (OLD, NEW)
        write(folder / "it")  # it can be written again, and what the kill has left is cleaned up
        assert content(folder / "it") == NEW and os.listdir(folder) == ["it"]

    places = every_kill(lambda: write(folder / "it"), lambda: start_over(folder, OLD), check)
    assert places > 20 and seen[0] == OLD and seen[-1] == NEW


def test_a_kill_at_any_place_of_the_first_time_leaves_nothing_or_all(tmp_path: Path) -> None:
    folder = tmp_path / "folder"

    def check() -> None:
        assert not (folder / "it").exists() or content(folder / "it") == NEW

    assert every_kill(lambda: write(folder / "it"), lambda: start_over(folder, {}), check) > 10


def test_where_folders_cannot_be_exchanged_the_old_one_is_never_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(atomic_files, "_exchange", lambda one, other: False)
    folder, aside = tmp_path / "folder", []

    def check() -> None:
        if (folder / "it").exists():
            assert content(folder / "it") in (OLD, NEW)
        else:
            aside.append([content(path) for path in interrupted_writes(folder / "it", seal="seal")])
            assert OLD in aside[-1]
        write(folder / "it")
        assert content(folder / "it") == NEW and os.listdir(folder) == ["it"]

    every_kill(lambda: write(folder / "it"), lambda: start_over(folder, OLD), check)
    assert aside


def test_files_of_somebody_else_stay(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    foreign = {"mine.txt": "mine", "inner/mine.txt": "mine"}

    def check() -> None:
        found = content(folder / "it")
        assert found["mine.txt"] == found["inner/mine.txt"] == "mine"
        if "seal" in found:  # without it, it is known to be incomplete
            assert found in ({**OLD, **foreign}, {**NEW, **foreign})

    every_kill(lambda: write(folder / "it"), lambda: start_over(folder, {**OLD, **foreign}), check)
    write(folder / "it")
    assert content(folder / "it") == {**NEW, **foreign}


def test_a_mount_point_is_filled_from_inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(tmp_path / "it", OLD)
    (tmp_path / "it" / ".it.writing-killed").mkdir()
    inode = (tmp_path / "it").stat().st_ino
    monkeypatch.setattr(Path, "is_mount", lambda path: True)
    write(tmp_path / "it")
    assert content(tmp_path / "it") == NEW and (tmp_path / "it").stat().st_ino == inode
    assert sorted(os.listdir(tmp_path / "it")) == ["a", "inner", "seal"]


def test_an_error_changes_nothing(tmp_path: Path) -> None:
    fill(tmp_path / "it", OLD)
    with pytest.raises(RuntimeError), atomic_folder(tmp_path / "it", seal="seal") as new:
        fill(new, {"a": "half"})
        raise RuntimeError
    assert content(tmp_path / "it") == OLD and os.listdir(tmp_path) == ["it"]


def test_links_modes_and_files(tmp_path: Path) -> None:
    (tmp_path / "far" / "it").mkdir(parents=True, mode=0o750)
    (tmp_path / "link").symlink_to("far/it")
    write(tmp_path / "link")
    assert (tmp_path / "link").is_symlink() and content(tmp_path / "far" / "it") == NEW
    assert (tmp_path / "far" / "it").stat().st_mode & 0o777 == 0o750
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError, match="is a file, not a folder"):
        write(tmp_path / "file")


def test_another_writer_is_left_alone(tmp_path: Path) -> None:
    with atomic_folder(tmp_path / "it", seal="seal") as new:
        fill(new, OLD)
        write(tmp_path / "it")
        assert content(new) == OLD


def test_an_upload_has_its_seal_last(tmp_path: Path) -> None:
    import pyarrow.fs

    files = pyarrow.fs.SubTreeFileSystem(str(tmp_path), pyarrow.fs.LocalFileSystem())
    source, target = tmp_path / "source", tmp_path / "target" / "it"
    fill(source, NEW)

    def check() -> None:
        found = content(target)
        assert found.get("seal") != "old" or found == OLD
        assert found.get("seal") != "new" or found.items() >= NEW.items()

    # What pyarrow does shows in no audit event: the opening of what is to be copied stands for it.
    places = every_kill(
        lambda: upload_sealed(source, files, "target/it", seal="seal"), lambda: start_over(target.parent, OLD), check
    )
    assert places >= len(NEW)
