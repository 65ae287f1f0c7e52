"""Errors that are the user's to mend are shown as one message and not as a traceback."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import typer
from rich.console import Console
from rich.text import Text

# The last line of a traceback, as in "package.module.SomeError: what is wrong".
_EXCEPTION_LINE = re.compile(r"^[A-Za-z_][\w.]*(Error|Exception|Failure|Found|Interrupt|Exit|Warning)\w*(:|$)")


def root_cause(error: BaseException) -> BaseException:
    """The exception that was raised in the first place, below the wrappers that Ray puts around it."""
    seen = {id(error)}
    while True:
        inner = getattr(error, "cause", None)
        if not isinstance(inner, BaseException) or id(inner) in seen:
            return error
        seen.add(id(inner))
        error = inner


def failure_reason(error: BaseException) -> str:
    """What went wrong in a process of Ray's, in one line or a few.

    Ray sends errors with the traceback of the other process as their text; the log has all of it, here only what
    stands at its end is wanted: the exception that was raised there, with its message.
    """
    text = str(error).strip()
    lines = text.splitlines()
    starts = [index for index, line in enumerate(lines) if _EXCEPTION_LINE.match(line)]
    if ("Traceback (most recent call last)" not in text and "ray::" not in text) or not starts:
        error = root_cause(error)
        return f"{type(error).__name__}: {error}".removesuffix(": ")
    # An exception without a message, raised from another one, says less than that other one.
    telling = [index for index in starts if ":" in lines[index]] or starts
    end = next((index for index in range(telling[-1], len(lines)) if not lines[index].strip()), len(lines))
    # This package's own errors are whole sentences, which need no class before them.
    return re.sub(r"^rllib_multienv\.[\w.]+: (?=\S)", "", "\n".join(lines[telling[-1] : end]))


def print_error(message: str) -> None:
    """Prints an error to the standard error stream, exactly as it is (no markup)."""
    console = Console(stderr=True)
    console.print(Text.assemble(("Error: ", "bold red"), message), soft_wrap=True)


@contextmanager
def user_errors() -> Iterator[None]:
    """Turns the errors that bad input leads to into a message and exit status 1; others pass through."""
    try:
        yield
    except (ValueError, OSError, LookupError, ImportError, NotImplementedError) as error:
        print_error(str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error))
        raise typer.Exit(1) from error
    except RuntimeError as error:
        # An environment that fails says so with a class of its own; any other RuntimeError is a fault in the
        # program.
        if not hasattr(error, "env_id"):
            raise
        print_error(str(error))
        raise typer.Exit(1) from error
