"""A data set as a learner draws from it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from ray.rllib.core.columns import Columns

from rllib_multienv.normalization import Moments, ObservationNormalizer
from rllib_multienv.offline.reward_normalization import RewardNormalization
from rllib_multienv.offline.transitions import Transitions


@dataclass(frozen=True, kw_only=True)
class Replay:
    """Transitions of one data set, and how they are normalised when they are drawn.

    Drawing is a gather in arrays that are never written: in the object store several learners of a node share them.

    Attributes:
        transitions: The data set.
        obs_moments: Statistics that observations are normalised by; None for none.
        rewards: How rewards are normalised.
        value_scale: Values are learned in units of this many normalised rewards.
    """

    transitions: Transitions
    obs_moments: Moments | None
    rewards: RewardNormalization
    value_scale: float = 1.0

    def __len__(self) -> int:
        return len(self.transitions)

    def draw(self, entropy: list[int], size: int) -> np.ndarray:
        """``[size]`` steps, drawn uniformly with replacement; the same for the same ``entropy``."""
        picks = np.random.default_rng(entropy).integers(len(self.transitions.usable), size=size)
        return self.transitions.usable[picks]

    def columns(self, steps: np.ndarray) -> dict[str, np.ndarray]:
        """The transitions of ``steps`` [K]: observations before and after ``[K, I]``, actions, rewards, terminals."""
        data = self.transitions
        return {
            Columns.OBS: self._normalised(data.observations[steps]),
            Columns.NEXT_OBS: self._normalised(data.next_observations(steps)),
            Columns.ACTIONS: data.actions[steps],
            Columns.REWARDS: self.rewards(data.rewards[steps]) / np.float32(self.value_scale),
            Columns.TERMINATEDS: data.terminals[steps],
        }

    def _normalised(self, observations: np.ndarray) -> np.ndarray:
        observations = observations.astype(np.float32, copy=False)
        if self.obs_moments is None:
            return observations
        return ObservationNormalizer.of(self.obs_moments)(observations)
