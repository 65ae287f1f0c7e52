"""Output of the benchmarks. Imported by them, not a program."""

from __future__ import annotations

from pathlib import Path

__all__ = ["publish"]


def publish(text: str, output: Path | None) -> None:
    """Print a benchmark's text, and write it to ``output`` if given."""
    print(text)
    if output:
        output.write_text(text + "\n", encoding="utf-8")
