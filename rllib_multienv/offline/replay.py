"""Replay stores: transitions of one environment, from which minibatches are drawn.

A data set's store is finished; the store of an off-policy algorithm grows. Both are drawn from in the same way.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from rllib_multienv.normalization import Moments, ObservationNormalizer
from rllib_multienv.offline.transitions import Transitions
from rllib_multienv.spaces.rows import ObservationRow

# RLlib's columns (its `Columns`), so that minibatches go to its modules as they are.
OBS, NEXT_OBS, ACTIONS, REWARDS, TERMINATEDS = "obs", "new_obs", "actions", "rewards", "terminateds"


def draw_generator(seed: int, step: int, key: int) -> np.random.Generator:
    """The generator of one environment's minibatch in one optimiser step: the same in all processes.

    Args:
        seed: Of the run.
        step: Number of the optimiser step.
        key: Of the environment (see :func:`~rllib_multienv.spec.environment_keys`).
    """
    return np.random.default_rng([seed, step, key])


class Replay(ABC):
    """Transitions of one environment."""

    @abstractmethod
    def __len__(self) -> int:
        """Number of transitions that can be drawn."""

    @abstractmethod
    def draw(self, rng: np.random.Generator, size: int) -> np.ndarray:
        """Rows of ``size`` transitions, drawn uniformly with replacement, ``[size]``."""

    @abstractmethod
    def columns(self, rows: np.ndarray) -> dict[str, np.ndarray]:
        """The transitions in ``rows`` [K]: a mapping with at least the columns above, each ``[K, ...]``."""

    def sample(self, rng: np.random.Generator, size: int) -> dict[str, np.ndarray]:
        """``size`` transitions, drawn uniformly with replacement."""
        return self.columns(self.draw(rng, size))


@dataclass(frozen=True, kw_only=True)
class RewardScale:
    """The map ``r -> scale * r + shift``."""

    scale: float = 1.0
    shift: float = 0.0

    def __call__(self, rewards: np.ndarray) -> np.ndarray:
        """Normalised rewards, float32."""
        return (self.scale * rewards + self.shift).astype(np.float32)


@dataclass(frozen=True, kw_only=True)
class DatasetReplay(Replay):
    """Transitions of a data set, normalised when they are drawn.

    The arrays are never written: learners of one node share them in the object store.

    Attributes:
        transitions: The data set.
        obs_moments: Statistics that observations are normalised by; None for none.
        rewards: Normalises rewards.
        value_scale: Values are learned in units of this many normalised rewards.
        layout: Of its rows; None for numbers alone.
    """

    transitions: Transitions
    obs_moments: Moments | None
    rewards: RewardScale
    value_scale: float = 1.0
    layout: ObservationRow | None = None

    def __len__(self) -> int:
        return len(self.transitions)

    def draw(self, rng: np.random.Generator, size: int) -> np.ndarray:
        """See :meth:`Replay.draw`."""
        return self.transitions.usable[rng.integers(len(self), size=size)]

    def columns(self, rows: np.ndarray) -> dict[str, np.ndarray]:
        """See :meth:`Replay.columns`; observations are rows ``[K, W]`` as networks take them."""
        data = self.transitions
        return {
            OBS: self._normalised(data.observations[rows]),
            NEXT_OBS: self._normalised(data.next_observations(rows)),
            ACTIONS: data.actions[rows],
            REWARDS: self.rewards(data.rewards[rows]) / np.float32(self.value_scale),
            TERMINATEDS: data.terminals[rows],
        }

    def _normalised(self, rows: np.ndarray) -> np.ndarray:
        layout = self.layout or ObservationRow(rows.shape[1])
        if self.obs_moments is None:
            return rows if layout.packed else rows.astype(np.float32, copy=False)
        return _of_numbers(rows, layout, ObservationNormalizer.of(self.obs_moments))


def _of_numbers(
    rows: np.ndarray, layout: ObservationRow | None, mapping: Callable[[np.ndarray], np.ndarray]
) -> np.ndarray:
    """Rows ``[..., W]`` whose numbers are mapped."""
    layout = layout or ObservationRow(rows.shape[-1])
    numbers, extra = layout.split(rows.reshape(-1, rows.shape[-1]))
    if numbers.dtype == np.uint8:
        numbers = numbers.astype(np.float32)
    return layout.join(mapping(numbers), extra).reshape(rows.shape)


class GrowingReplay(Replay):
    """The last ``capacity`` transitions of one environment, in a ring buffer.

    The first :meth:`add` fixes columns, shapes and dtypes. Memory is used only as far as it is filled.

    Args:
        capacity: Transitions to keep, at least 1.
        layout: Of observations; None for numbers alone.

    Attributes:
        reward_scale: What rewards are divided by when they are drawn, whenever they were added.
        obs_moments: What observations are normalised by when they are drawn, likewise; None: not at all.
    """

    def __init__(self, capacity: int, layout: ObservationRow | None = None) -> None:
        if capacity < 1:
            raise ValueError(f"capacity={capacity}: a replay store must hold at least one transition.")
        self.capacity, self.layout = capacity, layout
        self.reward_scale = 1.0
        self.obs_moments = None
        self._arrays: dict[str, np.ndarray] = {}  # {column: [capacity, ...]}
        self._size = self._next = 0  # transitions held, and the row that the next one goes to

    def __len__(self) -> int:
        return self._size

    @property
    def obs_moments(self) -> Moments | None:
        """See the class."""
        return self._obs_moments

    @obs_moments.setter
    def obs_moments(self, moments: Moments | None) -> None:
        self._obs_moments = moments
        self._normalizer = None if moments is None else ObservationNormalizer.of(moments)

    def normalised(self, rows: np.ndarray) -> np.ndarray:
        """Stored observations ``[..., W]`` as networks take them now."""
        return rows if self._normalizer is None else _of_numbers(rows, self.layout, self._normalizer)

    def unnormalised(self, transitions: Mapping[str, np.ndarray], moments: Moments | None) -> dict[str, np.ndarray]:
        """Transitions with observations as they were before they were normalised by these statistics."""
        if moments is None:
            return dict(transitions)
        inverse = ObservationNormalizer.of(moments).inverse
        raw = {key: _of_numbers(transitions[key], self.layout, inverse) for key in (OBS, NEXT_OBS)}
        return {**transitions, **raw}

    def add(self, transitions: Mapping[str, np.ndarray], obs_moments: Moments | None = None) -> None:
        """Add K transitions, oldest first; they replace the oldest where the store is full.

        Args:
            transitions: ``{column: [K, ...]}``.
            obs_moments: What their observations were normalised by.

        Raises:
            ValueError: Columns, lengths, shapes or dtypes differ from each other or from those added before.
        """
        transitions = self.unnormalised(transitions, obs_moments)
        if not self._arrays:
            self._arrays = {
                key: np.empty((self.capacity, *column.shape[1:]), column.dtype) for key, column in transitions.items()
            }
        if transitions.keys() != self._arrays.keys():
            raise ValueError(f"The columns are {', '.join(transitions)}; expected are {', '.join(self._arrays)}.")
        count = len(next(iter(transitions.values())))
        for key, column in transitions.items():
            array = self._arrays[key]
            if column.shape != (count, *array.shape[1:]) or column.dtype != array.dtype:
                raise ValueError(
                    f"Column {key!r} has shape {column.shape} and dtype {column.dtype}; expected are "
                    f"{(count, *array.shape[1:])} and {array.dtype}."
                )
        kept = slice(max(0, count - self.capacity), count)
        rows = (self._next + np.arange(count)[kept]) % self.capacity
        for key, column in transitions.items():
            self._arrays[key][rows] = column[kept]
        self._next = (self._next + count) % self.capacity
        self._size = min(self.capacity, self._size + count)

    def draw(self, rng: np.random.Generator, size: int) -> np.ndarray:
        """See :meth:`Replay.draw`.

        Raises:
            ValueError: Nothing was added yet.
        """
        if not self._size:
            raise ValueError("The replay store is empty: add transitions before drawing from it.")
        return rng.integers(self._size, size=size)

    def columns(self, rows: np.ndarray) -> dict[str, np.ndarray]:
        """See :meth:`Replay.columns`."""
        columns = {key: array[rows] for key, array in self._arrays.items()}
        if self.reward_scale != 1.0:
            columns[REWARDS] = columns[REWARDS] / np.float32(self.reward_scale)
        if self.obs_moments is not None:
            columns |= {key: self.normalised(columns[key]) for key in (OBS, NEXT_OBS)}
        return columns

    def get_state(self) -> dict[str, Any]:
        """All transitions with their rows, for a checkpoint; after :meth:`set_state` the same rows are drawn."""
        arrays = {key: array[: self._size].copy() for key, array in self._arrays.items()}
        return {
            "arrays": arrays,
            "size": self._size,
            "next": self._next,
            "capacity": self.capacity,
            "reward_scale": self.reward_scale,
            "obs_moments": self.obs_moments and self.obs_moments.to_dict(),
        }

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Take over a state.

        Raises:
            ValueError: It is of a store of another capacity.
        """
        if state["capacity"] != self.capacity:
            raise ValueError(f"The state is of a replay store of {state['capacity']} transitions, not {self.capacity}.")
        if "obs_moments" not in state:
            return  # Of an earlier version, whose observations were normalised by statistics that are lost.
        self._arrays = {
            key: np.empty((self.capacity, *array.shape[1:]), array.dtype) for key, array in state["arrays"].items()
        }
        for key, array in state["arrays"].items():
            self._arrays[key][: state["size"]] = array
        self._size, self._next, self.reward_scale = state["size"], state["next"], state["reward_scale"]
        self.obs_moments = state["obs_moments"] and Moments.from_dict(state["obs_moments"])
