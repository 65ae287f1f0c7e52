"""Leaves of an observation, by kind: numbers, choices, images, texts and action masks."""

from __future__ import annotations

import warnings
from typing import Any, Literal

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from rllib_multienv.spaces.rows import ImageShape
from rllib_multienv.spaces.tree import SpaceTree, UnsupportedSpaceError, words

#: Key of the action mask, in a Dict observation or in infos.
ACTION_MASK = "action_mask"
#: Least height and width of an image.
IMAGE_SIDE = 16


class Leaf:
    """One leaf of an observation. A row has its values as they are, laid flat, unless a derived class says otherwise.

    Attributes:
        kind: What it is.
        path: Of the leaf.
        size: Numbers, or bytes, of a row.
        is_wide: Whether float32 cannot hold its numbers.
        columns: Where it is among a row's numbers or, for an image, a text or a mask, among the bytes after these.
        image: Layout of an image.
        num_cut: Texts that were too long, so far.
    """

    kind: Literal["number", "choice", "image", "text", "mask"] = "number"
    is_wide = False
    image: ImageShape | None = None
    num_cut = 0

    def __init__(self, tree: SpaceTree, size: int | None = None) -> None:
        self.path, self.space, self.shape = tree.path, tree.space, tree.shape
        self.size = tree.size if size is None else size
        self.columns = slice(0, self.size)
        self.is_number = self.kind in ("number", "choice")
        self.label = f"observation {tree.path!r}" if tree.path else "observation"

    def take(self, values: Any, batch: tuple[int, ...]) -> np.ndarray:
        """Check ``batch`` values, and return them as ``[*batch, size]``; raises as `checked`."""
        return self.checked(values, batch).reshape(*batch, self.size)

    def give(self, columns: np.ndarray) -> np.ndarray | list[str]:
        """B values of the space, from what `take` made of them, ``[B, size]``."""
        return columns.reshape(len(columns), *self.shape).astype(self.space.dtype)

    def unpacked(self, columns: np.ndarray) -> np.ndarray:
        """``[..., size]`` in the shape that says most."""
        return columns.reshape(*columns.shape[:-1], *self.shape) if self.kind in ("number", "image") else columns

    def names(self) -> list[str]:
        """Words for each number."""
        return []

    def checked(self, values: Any, batch: tuple[int, ...]) -> np.ndarray:
        """Values as an array ``[*batch, ...]`` of the space's shape, with numbers that fit its dtype.

        Raises:
            ValueError: A value is outside of the space.
            TypeError: Its dtype cannot become the space's: text, objects, or fractions in a space of integers.
        """
        array, dtype = np.asarray(values), np.dtype(self.space.dtype)
        shape = self.shape
        if array.shape != (*batch, *shape):
            raise ValueError(f"the {self.label} has shape {array.shape[len(batch) :]}, but its space says {shape}")
        if array.dtype == dtype:
            return array
        if dtype.kind in "iu" and array.dtype.kind in "iub":
            bounds = np.iinfo(dtype)
            if array.size and (array.min() < bounds.min or array.max() > bounds.max):
                raise ValueError(
                    f"the {self.label} has values from {array.min()} to {array.max()}, too large for {dtype}"
                )
        elif not np.can_cast(array.dtype, dtype, "same_kind"):
            raise TypeError(f"the {self.label} has dtype {array.dtype}, but its space says {dtype}")
        return array


class _Numbers(Leaf):
    """A Box that is no image, or a MultiBinary space."""

    def __init__(self, tree: SpaceTree) -> None:
        super().__init__(tree)
        self.is_wide = not np.can_cast(np.dtype(tree.space.dtype), np.float32)
        self._bits = isinstance(tree.space, spaces.MultiBinary)

    def take(self, values: Any, batch: tuple[int, ...]) -> np.ndarray:
        array = super().take(values, batch)
        if self._bits and ((array != 0) & (array != 1)).any():
            raise ValueError(f"the {self.label} has values other than 0 and 1, outside its space {self.space}")
        return array

    def names(self) -> list[str]:
        base = words(self.path, "observation")
        return [base] if self.size == 1 else [f"{base} {number}" for number in range(self.size)]


class _OneHot(Leaf):
    """A Discrete or MultiDiscrete space, one-hot each."""

    kind = "choice"

    def __init__(self, tree: SpaceTree) -> None:
        space: Any = tree.space
        multi = isinstance(space, spaces.MultiDiscrete)
        self._counts = (space.nvec if multi else np.array(space.n)).reshape(-1).astype(np.int64)  # [K]
        self._starts = np.asarray(space.start, np.int64).reshape(-1)  # [K]
        self._offsets = np.cumsum(self._counts) - self._counts  # [K]
        super().__init__(tree, int(self._counts.sum()))
        self._first, self._end = int(self._starts[0]), int(self._starts[0] + self._counts[0])

    def checked(self, values: Any, batch: tuple[int, ...]) -> np.ndarray:
        # One number is the common case, and NumPy takes long for it.
        if values.__class__ in (int, np.int64) and not self.shape and self._first <= values < self._end:
            return np.asarray(values)
        array = super().checked(values, batch)
        chosen = array.reshape(*batch, len(self._starts)) - self._starts  # [*batch, K]
        outside = ((chosen < 0) | (chosen >= self._counts)).any(-1)  # [*batch]
        if outside.any():
            value = np.array2string(array[outside][0] if batch else array, threshold=8)
            raise ValueError(f"the {self.label} {value} is outside its space {self.space}")
        return array

    def take(self, values: Any, batch: tuple[int, ...]) -> np.ndarray:
        chosen = (
            self.checked(values, batch).reshape(*batch, len(self._starts)).astype(np.int64) - self._starts
        )  # [*batch, K]
        hot = np.zeros((*batch, self.size), np.float32)
        np.put_along_axis(hot, chosen + self._offsets, 1.0, -1)
        return hot

    def give(self, columns: np.ndarray) -> np.ndarray:
        parts = np.split(columns, self._offsets[1:], axis=-1)
        chosen = np.stack([part.argmax(-1) for part in parts], -1) + self._starts  # [B, K]
        return chosen.reshape(len(columns), *self.shape).astype(self.space.dtype)

    def names(self) -> list[str]:
        base, found = words(self.path, "observation"), []
        for number, (count, start) in enumerate(zip(self._counts.tolist(), self._starts.tolist(), strict=True)):
            which = base if isinstance(self.space, spaces.Discrete) else f"{base} {number}"
            found += [f"{which} is {start + value}" for value in range(count)]
        return found


class _Image(Leaf):
    """A uint8 Box of rank 2 or 3 with bounds 0 and 255 and both sides at least `IMAGE_SIDE`."""

    kind = "image"

    def __init__(self, tree: SpaceTree, image: ImageShape) -> None:
        super().__init__(tree, image.size)
        self.image = image

    @staticmethod
    def shape_of(space: gym.Space) -> ImageShape | None:
        """Its layout; None if the space is no image. The smallest of the first and the last axis is the channels'."""
        if not isinstance(space, spaces.Box) or space.dtype != np.uint8 or len(space.shape) not in (2, 3):
            return None
        first = len(space.shape) == 3 and space.shape[0] < space.shape[2]
        height, width, channels = (*space.shape[1:], space.shape[0]) if first else (*space.shape, 1)[:3]
        if min(height, width) < IMAGE_SIDE or (space.low != 0).any() or (space.high != 255).any():
            return None
        return ImageShape(height, width, channels, first)

    def give(self, columns: np.ndarray) -> np.ndarray:
        return self.unpacked(columns)


class _Text(Leaf):
    """A Text: its UTF-8 bytes, padded with 0. A longer text is cut, and counted in `num_cut`."""

    kind = "text"

    def __init__(self, tree: SpaceTree) -> None:
        self._characters: frozenset[str] = tree.space.character_set  # type: ignore[attr-defined]
        widest = max((len(character.encode()) for character in self._characters), default=1)
        super().__init__(tree, widest * tree.space.max_length)  # type: ignore[attr-defined]

    def take(self, values: Any, batch: tuple[int, ...]) -> np.ndarray:
        if batch:
            return np.stack([self.take(value, ()) for value in values])
        if not isinstance(values, str):
            raise TypeError(f"the {self.label} is {values!r:.80}, but its space is one of texts")
        if unknown := sorted(set(values) - self._characters):
            raise ValueError(
                f"the {self.label}, {values!r:.80}, has the character {unknown[0]!r}, which its space has not"
            )
        data = values.encode()
        if len(data) > self.size:
            if not self.num_cut:
                warnings.warn(
                    f"The {self.label} is longer than the {self.size} bytes of its space, and is cut: {values!r:.200}. "
                    "Further ones are cut and counted.",
                    UserWarning,
                    stacklevel=2,
                )
            self.num_cut += 1
        return np.frombuffer(data[: self.size].ljust(self.size, b"\0"), np.uint8)

    def give(self, columns: np.ndarray) -> list[str]:
        return [row.tobytes().rstrip(b"\0").decode(errors="ignore") for row in columns]


class _Mask(Leaf):
    """A part of the action mask."""

    kind = "mask"

    def take(self, values: Any, batch: tuple[int, ...]) -> np.ndarray:
        return super().take(values, batch) != 0


def leaf_of(env_id: str, tree: SpaceTree) -> Leaf:
    """The leaf of a space that is neither Dict nor Tuple.

    Raises:
        UnsupportedSpaceError: Its kind is not supported.
    """
    space = tree.space
    is_box = isinstance(space, spaces.Box) and np.dtype(space.dtype).kind in "fiub" and tree.size > 0
    if ACTION_MASK in tree.path.split("/") and (is_box or isinstance(space, spaces.MultiBinary)):
        return _Mask(tree)
    if (image := _Image.shape_of(space)) is not None:
        return _Image(tree, image)
    if is_box or isinstance(space, spaces.MultiBinary):
        return _Numbers(tree)
    if isinstance(space, spaces.Discrete | spaces.MultiDiscrete):
        return _OneHot(tree)
    if isinstance(space, spaces.Text):
        return _Text(tree)
    where = f" at {tree.path!r}" if tree.path else ""
    raise UnsupportedSpaceError(
        f"Environment {env_id!r} has an unsupported observation space{where}: {space}. Supported are observations in a "
        "Box, Discrete, MultiDiscrete, MultiBinary or Text space, and in Dict and Tuple spaces of these."
    )
