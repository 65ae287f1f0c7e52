"""Calls of a network with other parameters than its own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["functional", "is_functional"]

_is_functional = False


def is_functional() -> bool:
    """Whether a network is called with other parameters: it keeps nothing, and has second derivatives."""
    return _is_functional


@contextmanager
def functional() -> Iterator[None]:
    """Calls inside are made by `torch.func.functional_call`."""
    global _is_functional
    before, _is_functional = _is_functional, True
    try:
        yield
    finally:
        _is_functional = before
