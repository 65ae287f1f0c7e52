"""The terminal: consoles and numbers, errors without tracebacks, and the output of libraries sent to a log."""

from __future__ import annotations

import contextlib
import io
import os
import re
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, TextIO

import typer
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

# Arguments of several commands.
Checkpoint = Annotated[
    Path, typer.Argument(help="A checkpoint, the results folder of a run, or an agent of the package: quickstart.")
]
Best = Annotated[bool, typer.Option("--best", help="The run's best checkpoint in place of its newest.")]

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
    """Sends standard output and standard error to a log, for this process, its C libraries and its children.

    Replacing `sys.stdout` alone would miss the output of MuJoCo, Ray's C++ core and worker processes, so the file
    descriptors themselves are redirected. A context manager.

    Attributes:
        screen: Stream that still leads to the former standard output.
    """

    def __enter__(self) -> QuietOutput:
        """Redirect to a temporary file, until `log_to` is called."""
        self._streams = (sys.stdout, sys.stderr)
        self._flush()
        self._saved = {descriptor: os.dup(descriptor) for descriptor in (1, 2) if _is_open(descriptor)}
        self.screen = self._screen()
        self._log = tempfile.TemporaryFile("w+", buffering=1, encoding="utf-8", errors="replace")
        self._redirect(self._log.fileno())
        sys.stdout = sys.stderr = self._log
        return self

    def log_to(self, path: Path) -> None:
        """Continue at the end of the file `path`, after a copy of all output so far.

        Child processes that run already keep writing to the temporary file.
        """
        self._flush()
        with open(path, "ab") as file:
            self._log.seek(0)
            file.write(self._log.read().encode())
            os.dup2(file.fileno(), self._log.fileno())
            self._redirect(file.fileno())

    def __exit__(self, *error: object) -> None:
        """Undo the redirection."""
        self._flush()
        sys.stdout, sys.stderr = self._streams
        for descriptor, copy in self._saved.items():
            os.dup2(copy, descriptor)
            os.close(copy)
        self._log.close()
        if self.screen is not sys.stdout:
            self.screen.close()

    def _redirect(self, target: int) -> None:
        for descriptor in self._saved:
            os.dup2(target, descriptor)

    def _screen(self) -> TextIO:
        """A stream to the screen; `sys.stdout` itself where that is not a file (in a notebook, in a test)."""
        stdout = sys.stdout
        with contextlib.suppress(OSError, io.UnsupportedOperation):
            if 1 in self._saved and stdout.fileno() == 1:
                return os.fdopen(os.dup(1), "w", buffering=1, encoding=stdout.encoding, errors="replace")
        return stdout

    @staticmethod
    def _flush() -> None:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):
                stream.flush()


def _is_open(descriptor: int) -> bool:
    with contextlib.suppress(OSError):
        os.fstat(descriptor)
        return True
    return False
