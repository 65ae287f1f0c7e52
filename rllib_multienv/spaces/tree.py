"""Nested spaces: their leaves by path, the values of the leaves, and values made of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import gymnasium as gym
import numpy as np

__all__ = ["SpaceTree", "UnsupportedSpaceError", "each", "words"]


class UnsupportedSpaceError(ValueError):
    """An environment's observation or action space, or a part of it, is of an unsupported kind or size."""


class SpaceTree:
    """A space and, in a Dict or a Tuple, the spaces below it; keys of a Dict are sorted, so their order never matters.

    Attributes:
        space: The space.
        path: Keys and positions from the root, joined by ``/``; empty at the root.
        children: Key or position, and tree, of each space directly below.
        leaves: Everything below (or this tree itself) that is neither a Dict nor a Tuple, in order.
        shape, size: Of a leaf's values; ``()`` and 1 where the space has none.
    """

    def __init__(self, space: gym.Space, path: str = "") -> None:
        self.space, self.path = space, path
        self.shape: tuple[int, ...] = space.shape or ()
        self.size = int(np.prod(self.shape, dtype=np.int64))
        items: list[tuple[Any, gym.Space]] = []
        if isinstance(space, gym.spaces.Dict):
            items = sorted(space.spaces.items(), key=lambda item: str(item[0]))
        elif isinstance(space, gym.spaces.Tuple):
            items = list(enumerate(space.spaces))
        self.children = [(key, SpaceTree(part, f"{path}/{key}" if path else str(key))) for key, part in items]
        self.is_leaf = not isinstance(space, gym.spaces.Dict | gym.spaces.Tuple)
        self.leaves: list[SpaceTree] = [self] if self.is_leaf else [leaf for _, t in self.children for leaf in t.leaves]
        self._keys = {key for key, _ in self.children}

    def values(self, value: Any) -> Iterator[Any]:
        """The leaves' values in a value of this space, or arrays of them in a batch whose leaves are arrays.

        Raises:
            TypeError: Something is no mapping where the space is a Dict, or no tuple where it is a Tuple.
            ValueError: A key is missing or unknown, or a tuple has another length.
        """
        if self.is_leaf:
            yield value
            return
        where = f" at {self.path!r}" if self.path else ""
        if isinstance(self.space, gym.spaces.Dict):
            if not isinstance(value, Mapping):
                raise TypeError(f"{value!r:.80}{where} is no mapping, but its space is a Dict of {self._names()}")
            if value.keys() != self._keys:
                missing = ", ".join(sorted(repr(key) for key in self._keys - value.keys()))
                unknown = ", ".join(sorted(repr(key) for key in value.keys() - self._keys))
                found = " and ".join(
                    filter(None, [missing and f"no {missing}", unknown and f"{unknown}, which its space has not"])
                )
                raise ValueError(f"the Dict{where} has {found}; its space has {self._names()}")
        elif not isinstance(value, tuple | list) or len(value) != len(self.children):
            raise TypeError(f"{value!r:.80}{where} is no tuple of {len(self.children)}, as its space says")
        for key, tree in self.children:
            yield from tree.values(value[key])

    def value(self, leaves: Iterator[Any]) -> Any:
        """A value of this space from those of its leaves, in order."""
        if self.is_leaf:
            return next(leaves)
        if isinstance(self.space, gym.spaces.Dict):
            return {key: tree.value(leaves) for key, tree in self.children}
        return tuple(tree.value(leaves) for _, tree in self.children)

    def _names(self) -> str:
        return ", ".join(repr(key) for key, _ in self.children)


def words(path: str, default: str) -> str:
    """A path as words: ``"robot/achieved_goal"`` is ``"robot achieved goal"``."""
    return path.replace("/", " ").replace("_", " ") or default


def each(values: np.ndarray | list[Any]) -> list[Any]:
    """The B values in an array ``[B, ...]``: integers as such, everything else as arrays."""
    if isinstance(values, list) or values.dtype.kind in "iu":
        return list(values)
    return [values[b, ...] for b in range(len(values))]
