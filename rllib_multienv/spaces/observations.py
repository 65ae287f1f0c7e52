"""Observations of any supported space as rows, and back; everything that an environment observes is checked here.

*Raw* observations are what an environment's copies give, and runners and data sets keep, before normalisation:

- a Box that is no image, or a Discrete space: arrays ``[B, ...]`` of the space's own shape and dtype;
- everything else: *raw rows* ``[B, W]``. They are laid out as `ObservationRow` says, but their numbers are float64
  where one of them is not exact in float32.
"""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from rllib_multienv.spaces.rows import ActionRow, ImageShape, ObservationRow
from rllib_multienv.spaces.tree import SpaceTree, UnsupportedSpaceError, each, words

__all__ = ["ACTION_MASK", "ObservationReader"]

#: Key of the action mask, in a Dict observation or in infos.
ACTION_MASK = "action_mask"
#: Least height and width of an image.
IMAGE_SIDE = 16
SUPPORTED = (
    "Supported are observations in a Box, Discrete, MultiDiscrete, MultiBinary or Text space, and in Dict and Tuple "
    "spaces of these."
)


class _Leaf(ABC):
    """One leaf of an observation.

    Attributes:
        path: Of the leaf.
        size: Numbers, or bytes, of a row.
        is_wide: Whether float32 cannot hold its numbers.
        columns: Where it is among a row's numbers or, for an image, a text or a mask, among the bytes after these.
    """

    is_number = True
    is_wide = False

    def __init__(self, tree: SpaceTree, size: int) -> None:
        self.path, self.space, self.shape, self.size = tree.path, tree.space, tree.shape, size
        self.columns = slice(0, size)
        self.label = f"observation {tree.path!r}" if tree.path else "observation"

    @abstractmethod
    def take(self, values: Any, batch: tuple[int, ...]) -> np.ndarray:
        """Check ``batch`` values, and return them as ``[*batch, size]``; raises as `checked`."""

    @abstractmethod
    def give(self, columns: np.ndarray) -> np.ndarray | list[str]:
        """B values of the space, from what `take` made of them, ``[B, size]``."""

    def unpacked(self, columns: np.ndarray) -> np.ndarray:
        """``[..., size]`` in the shape that says most."""
        return columns

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


class _Numbers(_Leaf):
    """A Box that is no image, or a MultiBinary space."""

    def __init__(self, tree: SpaceTree) -> None:
        super().__init__(tree, tree.size)
        self.is_wide = not np.can_cast(np.dtype(tree.space.dtype), np.float32)
        self._bits = isinstance(tree.space, spaces.MultiBinary)

    def take(self, values: Any, batch: tuple[int, ...]) -> np.ndarray:
        array = self.checked(values, batch)
        if self._bits and ((array != 0) & (array != 1)).any():
            raise ValueError(f"the {self.label} has values other than 0 and 1, outside its space {self.space}")
        return array.reshape(*batch, self.size)

    def give(self, columns: np.ndarray) -> np.ndarray:
        return self.unpacked(columns).astype(self.space.dtype)

    def unpacked(self, columns: np.ndarray) -> np.ndarray:
        return columns.reshape(*columns.shape[:-1], *self.shape)

    def names(self) -> list[str]:
        base = words(self.path, "observation")
        return [base] if self.size == 1 else [f"{base} {number}" for number in range(self.size)]


class _OneHot(_Leaf):
    """A Discrete or MultiDiscrete space, one-hot each."""

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


class _Image(_Leaf):
    """A uint8 Box of rank 2 or 3 with bounds 0 and 255 and both sides at least `IMAGE_SIDE`."""

    is_number = False

    def __init__(self, tree: SpaceTree, layout: ImageShape) -> None:
        super().__init__(tree, layout.size)
        self.layout = layout

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

    def take(self, values: Any, batch: tuple[int, ...]) -> np.ndarray:
        return self.checked(values, batch).reshape(*batch, self.size)

    def give(self, columns: np.ndarray) -> np.ndarray:
        return self.unpacked(columns)

    def unpacked(self, columns: np.ndarray) -> np.ndarray:
        return columns.reshape(*columns.shape[:-1], *self.shape)


class _Text(_Leaf):
    """A Text: its UTF-8 bytes, padded with 0. A longer text is cut, and counted in `num_cut`."""

    is_number = False

    def __init__(self, tree: SpaceTree) -> None:
        self._characters: frozenset[str] = tree.space.character_set  # type: ignore[attr-defined]
        widest = max((len(character.encode()) for character in self._characters), default=1)
        super().__init__(tree, widest * tree.space.max_length)  # type: ignore[attr-defined]
        self.num_cut = 0

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


class _Mask(_Leaf):
    """A part of the action mask."""

    is_number = False

    def __init__(self, tree: SpaceTree) -> None:
        super().__init__(tree, tree.size)

    def take(self, values: Any, batch: tuple[int, ...]) -> np.ndarray:
        return self.checked(values, batch).reshape(*batch, self.size) != 0

    def give(self, columns: np.ndarray) -> np.ndarray:
        return columns.reshape(len(columns), *self.shape).astype(self.space.dtype)


class ObservationReader:
    """Reads an environment's observations into raw ones; see the module.

    Args:
        env_id: The environment's id, for errors.
        space: Its observation space.
        action: Layout of its actions.
        mask_in_info: Whether infos have the action mask, under `ACTION_MASK`.
        previous: Numbers after the environment's own (`spaces.previous`), of which it knows nothing.

    Attributes:
        layout: Of a row as the network sees it.
        raw_shape, raw_dtype: Of one raw observation.
        size: Numbers and bytes of an observation, without the constant 0 and a mask in infos.
        is_plain: Whether raw observations are values of the space itself.

    Raises:
        UnsupportedSpaceError: A leaf is of an unsupported kind, or the action mask has another length than the logits.
    """

    def __init__(
        self, env_id: str, space: gym.Space, action: ActionRow, mask_in_info: bool = False, previous: int = 0
    ) -> None:
        self.env_id, self.space = env_id, space
        self._tree = SpaceTree(space)
        self._leaves = [self._leaf(tree) for tree in self._tree.leaves]
        images = [leaf for leaf in self._leaves if isinstance(leaf, _Image)]
        texts = [leaf for leaf in self._leaves if isinstance(leaf, _Text)]
        masks = [leaf for leaf in self._leaves if isinstance(leaf, _Mask)]
        own = self._place([leaf for leaf in self._leaves if leaf.is_number])
        self._place([*images, *texts, *masks])
        length = sum(leaf.size for leaf in masks) if masks else action.num_logits if mask_in_info else 0
        if masks and length != action.num_logits:
            raise UnsupportedSpaceError(
                f"Environment {env_id!r}: the action mask {masks[0].path!r} in its observations has {length} entries, "
                f"but its actions have {action.num_logits} choices in all. An action mask has one entry for each."
            )
        self._mask_in_info = mask_in_info and not masks
        self.layout = ObservationRow(
            max(1, own) + previous,
            images=tuple(leaf.layout for leaf in images),
            texts=tuple(leaf.size for leaf in texts),
            mask=length,
        )
        self._texts = texts
        self._has_numbers, self._previous = own > 0, previous
        self.size = sum(leaf.size for leaf in self._leaves)
        self.is_plain = not length and not images and not previous and isinstance(space, spaces.Box | spaces.Discrete)
        self._is_wide = any(leaf.is_wide for leaf in self._leaves)
        self._number = np.dtype(np.float64 if self._is_wide else np.float32)
        self._head = self.layout.numbers * self._number.itemsize  # bytes of a raw row's numbers
        self.raw_shape: tuple[int, ...]
        if self.is_plain:
            self.raw_shape, self.raw_dtype = space.shape or (), np.dtype(space.dtype)
        elif self.layout.packed:
            self.raw_shape, self.raw_dtype = (self._head + self.layout.extra,), np.dtype(np.uint8)
        else:
            self.raw_shape, self.raw_dtype = (self.layout.numbers,), self._number
        # Each categorical part must have a choice that is allowed.
        ends = np.cumsum([0, *(part.size for part in action.parts if part.kind != "continuous")])
        self._choices = [
            slice(first, last)
            for part, first, last in zip(action.parts, ends, ends[1:], strict=False)
            if part.kind == "categorical"
        ]

    def _leaf(self, tree: SpaceTree) -> _Leaf:
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
            f"Environment {self.env_id!r} has an unsupported observation space{where}: {space}. {SUPPORTED}"
        )

    @staticmethod
    def _place(leaves: Sequence[_Leaf]) -> int:
        """Lay leaves one after another; returns where they end."""
        end = 0
        for leaf in leaves:
            leaf.columns = slice(end, end + leaf.size)
            end += leaf.size
        return end

    @property
    def texts_cut(self) -> int:
        """Texts that were too long, so far."""
        return sum(text.num_cut for text in self._texts)

    def names(self) -> tuple[str, ...]:
        """Words for each number, from the paths; empty for a Box or a Discrete space, whose numbers have no path."""
        if isinstance(self.space, spaces.Box | spaces.Discrete):
            return ()
        return tuple(name for leaf in self._leaves for name in leaf.names()) or ("constant",)

    # --- From the environment

    def empty(self, batch: int) -> np.ndarray:
        """Room for raw observations ``[batch, ...]``."""
        return np.empty((batch, *self.raw_shape), self.raw_dtype)

    def read(self, out: np.ndarray, copy: int, observation: Any, info: Any = None, *, ended: bool = False) -> None:
        """Check one observation, and write it to ``out[copy]``.

        Args:
            out: From `empty`.
            copy: Row of ``out``.
            observation: As the environment gives it.
            info: The info that came with it.
            ended: Whether the episode ended there: nobody acts on the observation, and nothing need be allowed.

        Raises:
            ValueError: A value, or the action mask, is outside of its space; a key is missing or unknown.
            TypeError: A value is of another type than its space says.
        """
        if self.is_plain:
            out[copy] = self._leaves[0].checked(observation, ())
        else:
            mask = self._mask_of(info, ended) if self._mask_in_info else None
            self._fill(out[copy], observation, mask, (), ended)

    def batch(self, observations: Any, infos: Any = None) -> np.ndarray:
        """Raw observations ``[B, ...]`` of a batch: nested as the space, with a leading axis B in every leaf.

        Raises:
            ValueError, TypeError: As in `read`.
        """
        values = list(self._tree.values(observations))
        batch = (len(values[0]),) if values else (0,)
        if self.is_plain:
            return self._leaves[0].checked(values[0], batch)
        out = self.empty(*batch)
        self._fill(out, observations, self._mask_of(infos, False) if self._mask_in_info else None, batch, False)
        return out

    def given(self, observations: Any, mask: Any = None) -> tuple[np.ndarray, bool]:
        """Raw observations ``[B, ...]`` of one observation or a batch, and whether it was one (B = 1).

        Args:
            observations: One observation as the environment gives it; or a batch: nested arrays with a leading axis B,
                or, in a Dict or Tuple space, a list of B observations.
            mask: The action mask, or B of them, where infos have it.

        Raises:
            ValueError: A value is outside of its space; names the environment.
        """
        if self._mask_in_info and mask is None:
            raise ValueError(
                f"{self.env_id}: its infos have an action mask; pass action_mask=info[{ACTION_MASK!r}] with the "
                "observation."
            )
        try:
            if not self._tree.is_leaf and isinstance(observations, list):
                raw = self.empty(len(observations))
                for row, observation in enumerate(observations):
                    self.read(raw, row, observation, {ACTION_MASK: mask[row]} if self._mask_in_info else None)
                return raw, False
            leaf, first = self._leaves[0], next(self._tree.values(observations))
            is_one = isinstance(first, str) if isinstance(leaf, _Text) else np.ndim(first) == len(leaf.shape)
            if is_one or np.ndim(first) == 0:
                if self.is_plain:
                    return leaf.checked(np.asarray(observations)[None], (1,)), True
                raw = self.empty(1)
                self.read(raw, 0, observations, {ACTION_MASK: mask})
                return raw, True
            return self.batch(observations, {ACTION_MASK: mask}), False
        except (ValueError, TypeError) as error:
            raise ValueError(f"{self.env_id}: {error}.") from error

    def _fill(
        self, rows: np.ndarray, observation: Any, mask: np.ndarray | None, batch: tuple[int, ...], ended: bool
    ) -> None:
        numbers, extra = rows, rows
        if self.layout.packed:
            numbers, extra = rows[..., : self._head].view(self._number), rows[..., self._head :]
        if self._previous or not self._has_numbers:
            numbers[...] = 0
        for leaf, value in zip(self._leaves, self._tree.values(observation), strict=True):
            (numbers if leaf.is_number else extra)[..., leaf.columns] = leaf.take(value, batch)
        if self.layout.mask:
            if mask is not None:
                extra[..., -self.layout.mask :] = mask
            if not ended:
                self._check_mask(extra[..., -self.layout.mask :])

    def _check_mask(self, mask: np.ndarray) -> None:
        for number, choices in enumerate(self._choices):
            if not mask[..., choices].any(-1).all():
                which = f" of choice {number}" if len(self._choices) > 1 else ""
                raise ValueError(
                    f"the action mask allows no action{which}; it must have at least one entry other than 0 while the "
                    "episode goes on"
                )

    def _mask_of(self, info: Any, ended: bool) -> np.ndarray:
        """The mask ``[..., num_logits]`` in an info, or in a mapping of arrays of a batch."""
        if not isinstance(info, Mapping) or ACTION_MASK not in info:
            if ended:
                return np.zeros(self.layout.mask, bool)
            raise ValueError(
                f"its info has no {ACTION_MASK!r}, though that of its first reset has one; every info of reset() and "
                "step() must have it"
            )
        mask = _joined_mask(info[ACTION_MASK])
        if mask.shape[-1:] != (self.layout.mask,):
            raise ValueError(
                f"info[{ACTION_MASK!r}] has {mask.shape[-1] if mask.ndim else 1} entries, but the actions have "
                f"{self.layout.mask} choices in all; an action mask has one entry for each"
            )
        return mask != 0

    def actions_allowed(self, raw: np.ndarray) -> np.ndarray | None:
        """The action masks bool ``[B, num_logits]`` in raw observations; None where there are none."""
        return raw[..., -self.layout.mask :] != 0 if self.layout.mask else None

    # --- To the network, and back

    def split(self, raw: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        """Numbers ``[B, I]`` and the bytes after them ``[B, extra]`` (None without) of raw observations.

        Numbers are float32, but float64 where `raw` and the space both have numbers that float32 cannot hold:
        normalising needs them. They may share memory with `raw`.
        """
        if self.is_plain:
            (leaf,) = self._leaves
            if isinstance(leaf, _OneHot):
                try:
                    return leaf.take(raw.reshape(-1).astype(np.int64, copy=False), (raw.size,)), None
                except (ValueError, TypeError) as error:
                    raise ValueError(f"Environment {self.env_id!r}: {error}.") from error
            raw = raw.reshape(-1, self.layout.numbers)
            wide = self._is_wide and not np.can_cast(raw.dtype, np.float32)
            return raw.astype(np.float64 if wide else np.float32, copy=False), None
        if not self.layout.packed:
            return raw, None
        return np.ascontiguousarray(raw[:, : self._head]).view(self._number), raw[:, self._head :]

    def with_previous(self, numbers: np.ndarray, extra: np.ndarray | None, previous: np.ndarray) -> np.ndarray:
        """Raw observations, from what `split` gives without the previous numbers, and these ``[B, previous]``."""
        joined = np.concatenate([numbers, previous], axis=1, dtype=self._number)  # [B, I]
        return joined if extra is None else np.concatenate([joined.view(np.uint8), extra], axis=1)

    def unpack(self, rows: np.ndarray) -> dict[str, np.ndarray]:
        """The parts of rows ``[..., W]``, raw or as the network sees them, by path.

        Returns:
            Boxes and MultiBinary in their shape (normalised where the rows are), choices one-hot ``[..., n]``, images
            in their shape, uint8, texts as bytes ``[..., length]``, the action mask ``[..., num_logits]`` under its
            path, or ``"action_mask"`` where infos have it. The path of a space that is neither Dict nor Tuple is
            ``""``.
        """
        axes, width = rows.shape[:-1], rows.shape[-1]
        flat = rows.reshape(-1, width)
        if not self.layout.packed:
            numbers, extra = flat, None
        elif width == self.layout.width:
            numbers, extra = self.layout.split(flat)
        else:
            numbers, extra = self.split(flat)
        found = {}
        for leaf in self._leaves:
            columns = numbers if leaf.is_number else extra
            assert columns is not None
            found[leaf.path] = leaf.unpacked(columns[:, leaf.columns].reshape(*axes, leaf.size))
        if self._mask_in_info:
            assert extra is not None
            found[ACTION_MASK] = extra[:, -self.layout.mask :].reshape(*axes, -1)
        return found

    def values(self, raw: np.ndarray) -> list[Any]:
        """The environment's own observations, from raw ones ``[B, ...]``."""
        return [self._tree.value(iter(parts)) for parts in zip(*map(each, self._given(raw)), strict=True)]

    def nested(self, raw: np.ndarray) -> Any:
        """The same, nested with a leading axis B in every leaf: the inverse of `batch`."""
        return self._tree.value(iter(self._given(raw)))

    def _given(self, raw: np.ndarray) -> list[Any]:
        """The leaves' values, B each."""
        if self.is_plain:
            return [raw.reshape(-1, *self.raw_shape)]
        numbers, extra = self.split(raw)
        leaves = []
        for leaf in self._leaves:
            columns = numbers if leaf.is_number else extra
            assert columns is not None
            leaves.append(leaf.give(columns[:, leaf.columns]))
        return leaves


def _joined_mask(mask: Any) -> np.ndarray:
    """A mask, or the masks of several choices in a tuple or a mapping, one after another."""
    if isinstance(mask, Mapping):
        mask = tuple(mask[key] for key in sorted(mask, key=str))
    if isinstance(mask, tuple | list) and any(np.ndim(part) for part in mask):
        return np.concatenate([_joined_mask(part) for part in mask], axis=-1)
    return np.asarray(mask)
