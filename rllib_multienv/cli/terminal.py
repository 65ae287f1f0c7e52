"""The terminal: consoles and numbers, errors without tracebacks, and the output of libraries sent to a log."""

from __future__ import annotations

import contextlib
import io
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

import typer
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

# The last line of a traceback, as in "package.module.SomeError: the reason".
_EXCEPTION_LINE = re.compile(r"^[A-Za-z_][\w.]*(Error|Exception|Failure|Found|Interrupt|Exit|Warning)\w*(:|$)")


def make_console(stream: TextIO | None = None) -> Console:
    """A console on a stream; at least 120 columns wide where it is not a terminal."""
    console = Console(file=stream)
    return console if console.is_terminal else Console(file=stream, width=max(console.width, 120))


def make_table(first: str, *headings: str, title: str | None = None) -> Table:
    """A table with names in the first column, and numbers in the others."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, title=title, title_justify="left")
    table.add_column(first, no_wrap=True)
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=True)
    return table


def number(value: float | None) -> str:
    """A number in few characters; a dash for None."""
    if value is None:
        return "-"
    if value == 0 or 0.01 <= abs(value) < 100_000:
        return f"{value:.1f}" if abs(value) >= 100 else f"{value:.2f}" if abs(value) >= 1 else f"{value:.3f}"
    return f"{value:.1e}"


def duration(seconds: float) -> str:
    """Hours, minutes and seconds: ``7:05``, ``1:00:09``."""
    hours, rest = divmod(max(0, round(seconds)), 3600)
    minutes, left = divmod(rest, 60)
    return f"{hours}:{minutes:02}:{left:02}" if hours else f"{minutes}:{left:02}"


def shown(path: Path) -> str:
    """A path relative to the current folder, if it is inside."""
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)


def failure_reason(error: BaseException) -> str:
    """The reason for an error in one of Ray's processes, in one line or a few.

    Ray sends errors with the traceback of the other process as their text. The log has all of it; here only the
    exception at its end is wanted, with its message.
    """
    text = str(error).strip()
    lines = text.splitlines()
    starts = [index for index, line in enumerate(lines) if _EXCEPTION_LINE.match(line)]
    if ("Traceback (most recent call last)" not in text and "ray::" not in text) or not starts:
        error = _root_cause(error)
        return f"{type(error).__name__}: {error}".removesuffix(": ")
    # An exception without a message, raised from another one, says less than that other one.
    telling = [index for index in starts if ":" in lines[index]] or starts
    end = next((index for index in range(telling[-1], len(lines)) if not lines[index].strip()), len(lines))
    # This package's own errors are whole sentences, which need no class before them.
    return re.sub(r"^rllib_multienv\.[\w.]+: (?=\S)", "", "\n".join(lines[telling[-1] : end]))


def _root_cause(error: BaseException) -> BaseException:
    """The exception that was raised first, below Ray's wrappers."""
    seen = {id(error)}
    while True:
        inner = getattr(error, "cause", None)
        if not isinstance(inner, BaseException) or id(inner) in seen:
            return error
        seen.add(id(inner))
        error = inner


def print_error(message: str) -> None:
    """Print an error to the standard error stream, exactly as it is (no markup)."""
    Console(stderr=True).print(Text.assemble(("Error: ", "bold red"), message), soft_wrap=True)


@contextlib.contextmanager
def user_errors() -> Iterator[None]:
    """Turn the errors that bad input causes into a message and exit status 1; others pass through."""
    try:
        yield
    except (ValueError, OSError, LookupError, ImportError, NotImplementedError) as error:
        print_error(str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error))
        raise typer.Exit(1) from error
    except RuntimeError as error:
        # The error class for a failing environment has its id; any other RuntimeError is a fault in the program.
        if not hasattr(error, "env_id"):
            raise
        print_error(str(error))
        raise typer.Exit(1) from error


class QuietOutput:
    """The state of `quiet_output`.

    Args:
        screen: Stream to the former standard output.
        log: The file that all other output goes to.
        file: The open log.
    """

    def __init__(self, screen: TextIO, log: Path, file: TextIO) -> None:
        self.screen, self.log, self._file = screen, log, file

    def move_log(self, path: Path) -> None:
        """Continue the log at another path, and append its content so far there.

        Child processes that run already keep writing to the old place.
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
    """Send standard output and standard error to `log`, for this process, its C libraries and its children.

    Replacing `sys.stdout` alone would miss the output of MuJoCo, Ray's C++ core and worker processes, so the file
    descriptors themselves are redirected.

    Args:
        log: The file; appended to.

    Yields:
        An object with a stream that still leads to the screen.
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
    """A stream to the screen; `sys.stdout` itself where that is not a file (in a notebook, in a test)."""
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
