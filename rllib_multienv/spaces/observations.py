"""Observations of any supported space as rows, and back; everything that an environment observes is checked here.

*Raw* observations are what an environment's copies give, and runners and data sets keep, before normalisation:

- a Box that is no image, or a Discrete space: arrays ``[B, ...]`` of the space's own shape and dtype;
- everything else: *raw rows* ``[B, W]``. They are laid out as `ObservationRow` says, but their numbers are float64
  where one of them is not exact in float32.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from rllib_multienv.spaces.leaves import ACTION_MASK, Leaf, leaf_of
from rllib_multienv.spaces.rows import ActionRow, ObservationRow
from rllib_multienv.spaces.tree import SpaceTree, UnsupportedSpaceError, each

__all__ = ["ObservationReader"]


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
        self._leaves = [leaf_of(env_id, tree) for tree in self._tree.leaves]
        images, texts, masks = ([x for x in self._leaves if x.kind == kind] for kind in ("image", "text", "mask"))
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
            images=tuple(leaf.image for leaf in images if leaf.image),
            texts=tuple(leaf.size for leaf in texts),
            mask=length,
        )
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

    @staticmethod
    def _place(leaves: Sequence[Leaf]) -> int:
        """Lay leaves one after another; returns where they end."""
        end = 0
        for leaf in leaves:
            leaf.columns = slice(end, end + leaf.size)
            end += leaf.size
        return end

    @property
    def texts_cut(self) -> int:
        """Texts that were too long, so far."""
        return sum(leaf.num_cut for leaf in self._leaves)

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
            is_one = isinstance(first, str) if leaf.kind == "text" else np.ndim(first) == len(leaf.shape)
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
            if leaf.kind == "choice":
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
