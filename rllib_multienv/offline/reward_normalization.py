"""How the rewards of a data set are brought to a scale: the usual choices of offline reinforcement learning."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, get_args

import numpy as np

from rllib_multienv.discounting import discounted_sums
from rllib_multienv.offline.errors import DatasetError
from rllib_multienv.offline.transitions import Transitions

RewardNormalizationName = Literal["none", "standardize", "return_range", "minus_one"]
REWARD_NORMALIZATIONS: tuple[str, ...] = get_args(RewardNormalizationName)
#: With "return_range", returns of the data set span this much (Kostrikov et al. 2021, their released code).
RETURN_RANGE = 1000.0


@dataclass(frozen=True, kw_only=True)
class RewardNormalization:
    """The map ``r -> scale * r + shift``."""

    scale: float = 1.0
    shift: float = 0.0

    def __call__(self, rewards: np.ndarray) -> np.ndarray:
        """Normalised rewards, float32."""
        return (self.scale * rewards + self.shift).astype(np.float32)


def reward_normalization(name: str, transitions: Transitions, source: str) -> RewardNormalization:
    """The map of a data set.

    Args:
        name: ``"none"``; ``"standardize"`` to mean 0 and deviation 1; ``"return_range"`` so that episodes' returns span
            1000 (D4RL's locomotion); ``"minus_one"`` (AntMaze: a cost of 1 per step until the goal).
        transitions: The data set.
        source: For errors.

    Raises:
        DatasetError: What the rewards are to be divided by is zero.
    """
    if name == "minus_one":
        return RewardNormalization(shift=-1.0)
    if name == "standardize":
        rewards = transitions.rewards.astype(np.float64)
        deviation = _positive(float(rewards.std()), name, "all rewards are the same", source)
        return RewardNormalization(scale=1.0 / deviation, shift=-float(rewards.mean()) / deviation)
    if name == "return_range":
        returns = transitions.episode_returns()
        span = _positive(float(np.ptp(returns)), name, "all episodes have the same return", source)
        return RewardNormalization(scale=RETURN_RANGE / span)
    return RewardNormalization()


def _positive(value: float, name: str, problem: str, source: str) -> float:
    if not value > 0.0:
        raise DatasetError(
            source, f"reward_normalization={name!r} divides by zero, for {problem}; use 'none'", key="rewards"
        )
    return value


def discounted_returns(rewards: np.ndarray, ends: np.ndarray, gamma: float) -> np.ndarray:
    """``g_t = gamma * g_(t-1) + r_t`` along each episode, ``[N]`` float64: what PPO scales its rewards by."""
    borders = [0, *(np.flatnonzero(ends) + 1), len(rewards)]
    episodes = (rewards[first:last] for first, last in pairwise(borders) if last > first)
    return np.concatenate([discounted_sums(episode, gamma) for episode in episodes])
