"""Actions of any supported space from rows of the network, and back."""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from rllib_multienv.spaces.rows import ActionPart, ActionRow
from rllib_multienv.spaces.tree import SpaceTree, UnsupportedSpaceError, each, words

__all__ = ["ActionWriter", "usable_bounds"]

SUPPORTED = (
    "Supported are actions in a Discrete, Box, MultiDiscrete or MultiBinary space, and in Dict and Tuple spaces of "
    "these."
)
# Bounds as large as float32's largest number are how many environments write "no bound".
_NO_BOUND = 1e30
_warned_unbounded: set[str] = set()


class _Leaf(ABC):
    """One leaf of an action.

    Attributes:
        parts: Its factors of the action distribution.
        columns: Where it is in a row.
    """

    def __init__(self, tree: SpaceTree, parts: list[ActionPart], width: int) -> None:
        self.path, self.space, self.shape, self.parts, self.width = tree.path, tree.space, tree.shape, parts, width
        self.columns = slice(0, width)

    @abstractmethod
    def to_env(self, columns: np.ndarray) -> np.ndarray:
        """``[B, ...]`` in the space's shape and dtype, from columns ``[B, width]``."""

    @abstractmethod
    def from_env(self, values: np.ndarray) -> np.ndarray:
        """The inverse: ``[B, width]``."""

    @abstractmethod
    def names(self) -> list[str]:
        """Words for each logit, or for each continuous component."""


class _Choices(_Leaf):
    """A Discrete or MultiDiscrete space: one choice each."""

    def __init__(self, tree: SpaceTree) -> None:
        space: Any = tree.space
        counts = (space.nvec if isinstance(space, spaces.MultiDiscrete) else np.array(space.n)).reshape(-1).tolist()
        self._starts = np.asarray(space.start, np.int64).reshape(-1)  # [K]
        super().__init__(tree, [ActionPart("categorical", count) for count in counts], len(counts))

    def to_env(self, columns: np.ndarray) -> np.ndarray:
        if columns.dtype.kind == "f":
            columns = np.rint(columns).astype(np.int64)
        chosen = columns + self._starts  # [B, K]
        return chosen.reshape(-1, *self.shape).astype(self.space.dtype, copy=False)

    def from_env(self, values: np.ndarray) -> np.ndarray:
        return np.asarray(values, np.int64).reshape(len(values), -1) - self._starts

    def names(self) -> list[str]:
        base, found = words(self.path, "action"), []
        for number, (part, start) in enumerate(zip(self.parts, self._starts.tolist(), strict=True)):
            which = base if isinstance(self.space, spaces.Discrete) else f"{base} {number}"
            found += [f"{which} is {start + value}" for value in range(part.size)]
        return found


class _Bits(_Leaf):
    """A MultiBinary space."""

    def __init__(self, tree: SpaceTree) -> None:
        size = tree.size
        super().__init__(tree, [ActionPart("bernoulli", size)], size)

    def to_env(self, columns: np.ndarray) -> np.ndarray:
        return (columns > 0.5).reshape(-1, *self.shape).astype(self.space.dtype)

    def from_env(self, values: np.ndarray) -> np.ndarray:
        return np.asarray(values).reshape(len(values), -1)

    def names(self) -> list[str]:
        return _numbered(words(self.path, "action"), self.width)


class _Continuous(_Leaf):
    """A Box: ``[-1, 1]`` spans the bounds in use, and what lies outside is clipped."""

    def __init__(self, tree: SpaceTree, low: np.ndarray, high: np.ndarray) -> None:
        super().__init__(tree, [ActionPart("continuous", len(low))], len(low))
        self.low, self.high = low, high  # float64 [n]
        # Centre and half-width rather than low and width: exact for symmetric bounds, the common case.
        self._centre, self._half = ((low + high) / 2).astype(np.float32), ((high - low) / 2).astype(np.float32)
        self._dtype = np.dtype(tree.space.dtype)

    def to_env(self, columns: np.ndarray) -> np.ndarray:
        scaled = np.clip(np.asarray(columns, dtype=np.float32), -1.0, 1.0) * self._half + self._centre
        if self._dtype.kind not in "f":
            scaled = np.rint(np.clip(scaled, self.low, self.high))
            return scaled.reshape(-1, *self.shape).astype(self._dtype, copy=False)
        # Rounding, above or to the space's dtype, may overshoot a bound by one unit in the last place.
        low, high = self.low.astype(self._dtype), self.high.astype(self._dtype)
        return np.clip(scaled.astype(self._dtype, copy=False), low, high).reshape(-1, *self.shape)

    def from_env(self, values: np.ndarray) -> np.ndarray:
        flat = np.asarray(values, dtype=np.float32).reshape(-1, self.width)
        # A dimension whose bounds coincide carries no information: its inverse is 0.
        unit = np.divide(flat - self._centre, self._half, out=np.zeros_like(flat), where=self._half > 0)
        return np.clip(unit, -1.0, 1.0)

    def names(self) -> list[str]:
        return _numbered(words(self.path, "action"), self.width)


def _numbered(base: str, size: int) -> list[str]:
    return [base] if size == 1 else [f"{base} {number}" for number in range(size)]


class ActionWriter:
    """Turns rows of the network into actions that an environment takes, and back.

    Rows have the choices and bits of all leaves, in the order of their paths, then the continuous components.

    Args:
        env_id: The environment's id, for errors.
        space: Its action space.
        bounds: Low and high bounds in use of all continuous components; None for `usable_bounds`.

    Attributes:
        layout: Of a row.
        low, high: The bounds in use.

    Raises:
        UnsupportedSpaceError: A leaf is of an unsupported kind or empty.
    """

    def __init__(
        self, env_id: str, space: gym.Space, bounds: tuple[Sequence[float], Sequence[float]] | None = None
    ) -> None:
        self.env_id, self.space, self._tree = env_id, space, SpaceTree(space)
        if not self._tree.leaves:
            raise self._unsupported(self._tree)
        self.low, self.high = usable_bounds(env_id, space) if bounds is None else map(tuple, bounds)
        self._leaves: list[_Leaf] = []
        first = 0
        for tree in self._tree.leaves:
            if isinstance(tree.space, spaces.Discrete | spaces.MultiDiscrete):
                self._leaves.append(_Choices(tree))
            elif isinstance(tree.space, spaces.MultiBinary):
                self._leaves.append(_Bits(tree))
            elif isinstance(tree.space, spaces.Box) and tree.size:
                rows = slice(first, first := first + tree.size)
                low, high = (np.asarray(side[rows], np.float64) for side in (self.low, self.high))
                self._leaves.append(_Continuous(tree, low, high))
            else:
                raise self._unsupported(tree)
        ordered = sorted(self._leaves, key=lambda leaf: isinstance(leaf, _Continuous))
        parts, end = [], 0
        for leaf in ordered:
            leaf.columns = slice(end, end + leaf.width)
            end += leaf.width
            parts += [part for part in leaf.parts if part.kind != "continuous"]
        if first:
            parts.append(ActionPart("continuous", first))
        self.layout = ActionRow(tuple(parts))
        self._ordered = ordered

    def _unsupported(self, tree: SpaceTree) -> UnsupportedSpaceError:
        where = f" at {tree.path!r}" if tree.path else ""
        return UnsupportedSpaceError(
            f"Environment {self.env_id!r} has an unsupported action space{where}: {tree.space}. {SUPPORTED}"
        )

    def names(self) -> tuple[str, ...]:
        """Words for each logit and continuous component, from the paths; empty for a Discrete space or a Box."""
        if isinstance(self.space, spaces.Box | spaces.Discrete):
            return ()
        return tuple(name for leaf in self._ordered for name in leaf.names())

    def to_env(self, rows: np.ndarray) -> Any:
        """The environment's actions of B rows: ``[B, ...]``, or a list of B where the space is a Dict or a Tuple."""
        if isinstance(self.space, spaces.Discrete):
            return (np.asarray(rows) + self.space.start).astype(self.space.dtype, copy=False)
        rows = np.asarray(rows)
        if self.layout.discrete:
            rows = rows[:, None]  # [B, 1]
        if self._tree.is_leaf:
            return self._leaves[0].to_env(rows)
        leaves = [each(leaf.to_env(rows[:, leaf.columns])) for leaf in self._leaves]
        return [self._tree.value(iter(parts)) for parts in zip(*leaves, strict=True)]

    def nested(self, rows: np.ndarray) -> Any:
        """Actions of rows ``[B, width]``, nested as the space with a leading axis B in every leaf."""
        return self._tree.value(iter([leaf.to_env(rows[:, leaf.columns]) for leaf in self._leaves]))

    def from_env(self, actions: Any) -> np.ndarray:
        """The inverse of `to_env`, for recorded data: int64 ``[B]``, or float32 ``[B, width]``.

        Where the space is a Dict or a Tuple, actions are a list of B, or nested as the space with a leading axis B in
        every leaf, or rows already.
        """
        if not self._tree.is_leaf and isinstance(actions, np.ndarray) and actions.dtype != object:
            return actions.astype(np.int64 if self.layout.discrete else np.float32, copy=False)
        if not self._tree.is_leaf and isinstance(actions, list | np.ndarray):
            actions = self._tree.value(iter(map(np.stack, zip(*map(self._tree.values, actions), strict=True))))
        values = list(self._tree.values(actions))
        if self.layout.discrete:
            return self._leaves[0].from_env(np.asarray(values[0]))[:, 0]
        columns = [leaf.from_env(value) for leaf, value in zip(self._leaves, values, strict=True)]
        if len(columns) == 1:
            return columns[0].astype(np.float32, copy=False)
        order = [self._leaves.index(leaf) for leaf in self._ordered]
        return np.concatenate([columns[number] for number in order], axis=1).astype(np.float32)

    def random_rows(self, count: int, generator: np.random.Generator, allowed: np.ndarray | None = None) -> np.ndarray:
        """Rows of uniformly random actions ``[count]`` or ``[count, width]``.

        Args:
            count: B.
            generator: Source of the draws.
            allowed: bool ``[B, num_logits]``, the action mask.
        """
        if allowed is None:
            allowed = np.ones((count, self.layout.num_logits), bool)
        columns, logit = [], 0
        for part in self.layout.parts:
            if part.kind == "continuous":
                columns.append(generator.uniform(-1.0, 1.0, (count, part.size)))
                continue
            own = allowed[:, logit : logit + part.size]
            logit += part.size
            draws = generator.random((count, part.size))
            if part.kind == "categorical":
                columns.append(np.where(own, draws, -1.0).argmax(1)[:, None])
            else:
                columns.append((draws < 0.5) & own)
        if self.layout.discrete:
            return columns[0][:, 0]
        return np.concatenate(columns, axis=1).astype(np.float32)


def usable_bounds(env_id: str, space: gym.Space) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Bounds of all continuous components; ``[-1, 1]`` without bounds, an interval of length 2 at a single one.

    A `UserWarning` names an environment without bounds once per process.
    """
    low, high = [], []
    unbounded = False
    for tree in SpaceTree(space).leaves:
        if not isinstance(tree.space, spaces.Box):
            continue
        sides = (side.astype(np.float64).reshape(-1).tolist() for side in (tree.space.low, tree.space.high))
        for lo, hi in zip(*sides, strict=True):
            has_low, has_high = abs(lo) < _NO_BOUND, abs(hi) < _NO_BOUND
            unbounded |= not (has_low and has_high)
            low.append(lo if has_low else hi - 2.0 if has_high else -1.0)
            high.append(hi if has_high else lo + 2.0 if has_low else 1.0)
    if unbounded and env_id not in _warned_unbounded:
        _warned_unbounded.add(env_id)
        warnings.warn(
            f"Environment {env_id!r} has an action space without bounds, {space}: actions from {low} to {high} are "
            "used. Wrap it in gymnasium.wrappers.ClipAction or RescaleAction, or declare bounds, if its actions mean "
            "another range.",
            UserWarning,
            stacklevel=4,
        )
    return tuple(low), tuple(high)
