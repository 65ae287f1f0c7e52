"""What is wrong with a data set."""

from __future__ import annotations


class DatasetError(ValueError):
    """A data set cannot be used; the message names its source, the key and the index, and says what would be right."""

    def __init__(self, source: str, problem: str, *, key: str | None = None, index: int | None = None) -> None:
        place = f"Data set {source!r}"
        if key is not None:
            place += f", key {key!r}"
        if index is not None:
            place += f", index {index}"
        super().__init__(f"{place}: {problem}")
        self.source, self.key, self.index = source, key, index
