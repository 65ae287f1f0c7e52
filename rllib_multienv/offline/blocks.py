"""Arrays that may be larger than memory: made on disk where asked for, and walked through block by block."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

#: Bytes of one block: small beside memory, large beside the cost of a call.
BLOCK_BYTES = 2**26


@dataclass(frozen=True, kw_only=True)
class ArrayStore:
    """Where new arrays are made: in memory, or as ``.npy`` files that are mapped into it.

    Attributes:
        folder: Of the files; None for memory.
    """

    folder: Path | None = None

    def empty(self, name: str, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
        """An array to be filled; ``name`` is that of its file."""
        if self.folder is None:
            return np.empty(shape, dtype)
        self.folder.mkdir(parents=True, exist_ok=True)
        return np.lib.format.open_memmap(self.folder / f"{name}.npy", mode="w+", dtype=np.dtype(dtype), shape=shape)


IN_MEMORY = ArrayStore()


def blocks(array: Any) -> Iterator[slice]:
    """Slices of the first axis that together are all of ``array`` (anything with ``shape`` and ``dtype``)."""
    row_bytes = max(1, array.dtype.itemsize * int(np.prod(array.shape[1:])))
    step = max(1, BLOCK_BYTES // row_bytes)
    for start in range(0, array.shape[0], step):
        yield slice(start, min(start + step, array.shape[0]))
