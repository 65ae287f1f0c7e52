"""Where the benchmarks' tables go. Not to be run itself."""

from __future__ import annotations

from pathlib import Path

__all__ = ["publish"]


def publish(text: str, output: Path | None) -> None:
    """Print a benchmark's text, and write it to ``output`` where one was given."""
    print(text)
    if output:
        output.write_text(text + "\n", encoding="utf-8")
