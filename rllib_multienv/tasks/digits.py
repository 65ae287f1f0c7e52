"""A handwritten digit to be named, beside a search engine for images that can be asked first.

The example of the blog post that worlds come from: a classifier that may wait for what a search finds, at a price. The
images, 8 x 8 pixels, are scikit-learn's (the extra ``datasets``).
"""

from __future__ import annotations

import functools
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from rllib_multienv.tasks.family import Split, VectorFamily
from rllib_multienv.tasks.worlds import Delayed

__all__ = ["DigitQuestion", "DigitSearch"]

_SIDE, _CLASSES, _NUM_TEST = 8, 10, 597
_PIXELS = _SIDE * _SIDE


@functools.cache
def _digits() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Images float32 ``[1797, 64]`` from 0 to 1, their classes, and for each the training image most like it."""
    try:
        from sklearn.datasets import load_digits
        from sklearn.neighbors import NearestNeighbors
    except ImportError as error:
        raise ImportError(f"The digits need scikit-learn ({error}): pip install 'rllib-multienv[datasets]'.") from error
    found = load_digits()
    order = np.random.default_rng(0).permutation(len(found.target))
    images, classes = (found.data[order] / 16).astype(np.float32), found.target[order]
    nearest = NearestNeighbors(n_neighbors=2).fit(images[_NUM_TEST:]).kneighbors(images, return_distance=False)
    # A training image finds itself first. Test images come first.
    chosen = np.where(np.arange(len(images)) < _NUM_TEST, nearest[:, 0], nearest[:, 1]) + _NUM_TEST
    return images, classes, chosen


class _Digits(VectorFamily):
    """The task: number of an image. Those of the training split are others than those of the test split."""

    def __init__(
        self,
        num_envs: int,
        action_space: gym.Space,
        horizon: int,
        obs_names: list[str],
        action_names: list[str],
        **options: Any,
    ) -> None:
        self.images, self.classes, self.similar = _digits()
        super().__init__(
            num_envs,
            spaces.Box(-np.inf, np.inf, (len(obs_names),), np.float32),
            action_space,
            horizon,
            obs_names=obs_names,
            action_names=action_names,
            task_names=["image"],
            **options,
        )

    def listed_tasks(self, split: Split) -> np.ndarray:
        """``[images, 1]``; 597 for tests, 1200 for training."""
        bounds = (0, _NUM_TEST) if split == "test" else (_NUM_TEST, len(self.images))
        return np.arange(*bounds, dtype=np.float64)[:, None]

    @property
    def asked(self) -> np.ndarray:
        """int64 ``[B]``, the images that are to be named."""
        return self.tasks[:, 0].astype(np.int64)

    @property
    def is_last(self) -> np.ndarray:
        """bool ``[B]``, whether the present step is the last of its episode. Nothing comes after it."""
        return self._steps + 1 >= self.horizon

    def begin(self, copies: np.ndarray) -> None:
        """See `VectorFamily.begin`."""

    def draw(self, copy: int) -> np.ndarray:
        """See `VectorFamily.draw`: the image that is to be named, and what is observed beside it."""
        shown = np.stack([self.images[self.asked[copy]], self.observe()[copy, :_PIXELS]])
        pixels = shown.reshape(2, _SIDE, _SIDE).transpose(1, 0, 2).reshape(_SIDE, 2 * _SIDE, 1)
        return np.kron(255 * (1 - pixels.clip(0, 1)), np.ones((12, 12, 3))).astype(np.uint8)


class DigitQuestion(Delayed, _Digits):
    """Observes an image through noise, and may wait or answer with its digit. Only the first answer counts.

    An action is whether to answer (0: wait), and the digit. The right answer gives 1, each step of waiting before it
    costs ``cost``. After it nothing is observed.

    Args:
        num_envs: Number of copies.
        horizon: Steps of an episode.
        cost: What a step of waiting costs.
        noise: Standard deviation of what is added to each pixel, drawn for each episode. Pixels are from 0 to 1.
        options: Those of `VectorFamily`.
    """

    STATE = ("_answered", "_noise")

    def __init__(
        self, num_envs: int = 1, *, horizon: int = 2, cost: float = 0.1, noise: float = 0.5, **options: Any
    ) -> None:
        self.noise, self._noise = noise, np.zeros((num_envs, _PIXELS), np.float32)
        actions = ["wait", "answer", *(f"digit {digit}" for digit in range(_CLASSES))]
        space = spaces.MultiDiscrete([2, _CLASSES])
        super().__init__(num_envs, space, horizon, _pixel_names(), actions, cost=cost, **options)

    @property
    def labels(self) -> np.ndarray:
        """See `Delayed`."""
        return self.classes[self.asked]

    def begin(self, copies: np.ndarray) -> None:
        """See `VectorFamily.begin`."""
        super().begin(copies)
        for copy in copies.tolist():
            self._noise[copy] = self.noise * self.generators[copy].standard_normal(_PIXELS)

    def observe(self) -> np.ndarray:
        """See `VectorFamily.observe`; zeros after the answer."""
        return (self.images[self.asked] + self._noise) * ~self._answered[:, None]

    def advance(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """See `VectorFamily.advance`."""
        rewards, _ = super().advance(np.where(actions[:, 0] == 0, 0, 1 + actions[:, 1]))
        return rewards, self.is_last

    def oracle_actions(self) -> np.ndarray:
        """The right answer, without waiting."""
        return np.stack([np.ones(self.num_envs, np.int64), self.labels], axis=1)  # [B, 2]


class DigitSearch(_Digits):
    """Shows the training image most like the one that is to be named, and its digit (one-hot), after it was searched.

    It has two actions, to do nothing and to search, and no reward. An image is not found by itself.

    Args:
        num_envs: Number of copies.
        horizon: Steps of an episode.
        options: Those of `VectorFamily`.
    """

    STATE = ("_found",)

    def __init__(self, num_envs: int = 1, *, horizon: int = 2, **options: Any) -> None:
        self._found = np.zeros(num_envs, bool)
        shown = [*_pixel_names(), *(f"shown {digit}" for digit in range(_CLASSES))]
        super().__init__(num_envs, spaces.Discrete(2), horizon, shown, ["nothing", "search"], **options)

    def begin(self, copies: np.ndarray) -> None:
        """See `VectorFamily.begin`."""
        self._found[copies] = False

    def observe(self) -> np.ndarray:
        """See `VectorFamily.observe`."""
        found = self.similar[self.asked]
        captions = np.eye(_CLASSES, dtype=np.float32)[self.classes[found]]
        return np.concatenate([self.images[found], captions], axis=1) * self._found[:, None]  # [B, 74]

    def advance(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """See `VectorFamily.advance`."""
        self._found = np.asarray(actions) == 1
        return np.zeros(self.num_envs), self.is_last

    def oracle_actions(self) -> np.ndarray:
        """To search."""
        return np.ones(self.num_envs, np.int64)

    def oracle_returns(self) -> np.ndarray:
        """Zero."""
        return np.zeros(self.num_envs)


def _pixel_names() -> list[str]:
    return [f"pixel {row} {column}" for row in range(_SIDE) for column in range(_SIDE)]
