"""Keeps the screen for the user: everything that libraries and child processes print goes to a log file."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO


class QuietOutput:
    """Where output goes while `quiet_output` is active.

    Args:
        screen: Stream to the place where standard output went before.
        log: The file to which everything else goes.
    """

    def __init__(self, screen: TextIO, log: Path, file: TextIO) -> None:
        self.screen, self.log, self._file = screen, log, file

    def move_log(self, path: Path) -> None:
        """Continues the log at another place, with what it holds so far added there.

        Child processes that are started already go on writing to the old place.
        """
        _flush()
        with open(path, "ab") as target:
            target.write(self.log.read_bytes())
            os.dup2(target.fileno(), self._file.fileno())
            for descriptor in _real_descriptors():
                os.dup2(target.fileno(), descriptor)
        self.log.unlink(missing_ok=True)
        self.log = path


@contextlib.contextmanager
def quiet_output(log: Path) -> Iterator[QuietOutput]:
    """Sends standard output and standard error to `log`, for this process, its C libraries and its children.

    Replacing `sys.stdout` alone would miss what MuJoCo, Ray's C++ core and worker processes print, so the
    file descriptors themselves are redirected.

    Args:
        log: The file; appended to.

    Yields:
        The stream that leads to the screen nevertheless.
    """
    _flush()
    stdout, stderr = sys.stdout, sys.stderr
    saved = {descriptor: os.dup(descriptor) for descriptor in _real_descriptors()}
    with open(log, "a", buffering=1, encoding="utf-8", errors="replace") as file:
        screen = _screen(stdout, saved)
        try:
            for descriptor in saved:
                os.dup2(file.fileno(), descriptor)
            sys.stdout = sys.stderr = file
            yield QuietOutput(screen, log, file)
        finally:
            _flush()
            sys.stdout, sys.stderr = stdout, stderr
            for descriptor, copy in saved.items():
                os.dup2(copy, descriptor)
                os.close(copy)
            if screen is not stdout:
                screen.close()


def _screen(stdout: TextIO, saved: dict[int, int]) -> TextIO:
    """A stream to the screen; `sys.stdout` itself where that is no file (in a notebook, in a test)."""
    try:
        if 1 in saved and stdout.fileno() == 1:
            return os.fdopen(os.dup(saved[1]), "w", buffering=1, encoding=stdout.encoding, errors="replace")
    except (OSError, io.UnsupportedOperation):
        pass
    return stdout


def _real_descriptors() -> list[int]:
    found = []
    for descriptor in (1, 2):
        with contextlib.suppress(OSError):
            os.fstat(descriptor)
            found.append(descriptor)
    return found


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
