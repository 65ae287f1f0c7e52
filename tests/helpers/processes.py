"""Processes below another one, and their end."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterable
from pathlib import Path


def below(pid: int) -> list[int]:
    """The children of a process, their children and so on."""
    parents = {int(path.name): parent for path in Path("/proc").glob("[0-9]*") if (parent := _parent(path)) is not None}
    found = [pid]
    for process in found:
        found += [child for child, parent in parents.items() if parent == process]
    return found[1:]


def kill_all(pids: Iterable[int]) -> None:
    """SIGKILL to all of them, as one after the other as can be."""
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue


def wait_until_gone(pids: Iterable[int], timeout: float) -> None:
    """Waits for the end of processes."""
    until = time.monotonic() + timeout
    left = [*pids]
    while left := [pid for pid in left if _parent(Path(f"/proc/{pid}")) is not None]:
        assert time.monotonic() < until, f"still there after {timeout} s: {left}"
        time.sleep(0.05)


def _parent(process: Path) -> int | None:
    """None if the process has ended."""
    try:
        state, parent = (process / "stat").read_text().rpartition(")")[2].split()[:2]
    except OSError:
        return None
    return None if state == "Z" else int(parent)
