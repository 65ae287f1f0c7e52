"""Errors of configuration files, and the search for the name that was meant."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping


class ConfigFileError(ValueError):
    """A configuration file that cannot be used; the message begins with the file and the line."""

    def __init__(self, message: str, *, source: str | None = None, line: int | None = None) -> None:
        self.source, self.line, self.reason = source, line, message
        place = "".join([source or "", f":{line}" if line is not None else ""])
        super().__init__(f"{place}: {message}" if place else message)


def error_at(
    message: str, path: tuple[str | int, ...], *, source: str, lines: Mapping[tuple[str | int, ...], int]
) -> ConfigFileError:
    """An error at the line of `path`, or of the nearest thing around it whose line is known."""
    for length in range(len(path), 0, -1):
        if path[:length] in lines:
            return ConfigFileError(message, source=source, line=lines[path[:length]])
    return ConfigFileError(message, source=source)


def unknown_key_message(key: object, known: Iterable[str], *, where: str) -> str:
    """Says that `key` is unknown in `where`, which known keys are near it, or else which ones there are."""
    names = sorted(set(known))
    message = f"unknown key {str(key)!r} in {where}"
    near = difflib.get_close_matches(str(key), names, n=3, cutoff=0.55)
    if near:
        return f"{message}; did you mean {' or '.join(repr(name) for name in near)}?"
    return f"{message}; it takes {', '.join(names)}" if names else f"{message}, which takes no keys"
