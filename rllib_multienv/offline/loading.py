"""Loads a data set: from its source to a replay store with normalised rewards."""

from __future__ import annotations

import shutil
import tempfile
import weakref
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import numpy as np

from rllib_multienv.discounting import discounted_sums
from rllib_multienv.normalization import Moments
from rllib_multienv.offline.raw import IN_MEMORY, ArrayStore, DatasetError, blocks
from rllib_multienv.offline.replay import DatasetReplay, RewardScale
from rllib_multienv.offline.sources import read_source
from rllib_multienv.offline.transitions import Transitions, build_transitions
from rllib_multienv.spaces.space_spec import SpaceSpec

RewardNormalizationName = Literal["none", "standardize", "return_range", "minus_one"]
#: With "return_range", returns of the data set span this much (Kostrikov et al. 2021, their released code).
RETURN_RANGE = 1000.0


@dataclass(frozen=True, kw_only=True)
class LoadedDataset:
    """A data set, checked and ready.

    Attributes:
        replay: Learners draw from it.
        obs_moments: Statistics of its observations.
        return_moments: Statistics of the discounted return of its unscaled rewards, by which PPO scales.
        reference_scores: Returns of a random and of an expert policy, if the data set has them.
    """

    replay: DatasetReplay
    obs_moments: Moments
    return_moments: Moments
    reference_scores: tuple[float, float] | None


def load_dataset(
    source: Any,
    spec: SpaceSpec,
    *,
    gamma: float,
    reward_normalization: str,
    scale_values: bool,
    normalize_obs: bool,
    obs_moments: Moments | None = None,
    episode_limit: int | None = None,
    data_dir: str | None = None,
    store: ArrayStore = IN_MEMORY,
) -> LoadedDataset:
    """Read a data set, check it against its environment, and compute its statistics.

    Args:
        source: See :mod:`rllib_multienv.offline.sources`.
        spec: The environment's spaces.
        gamma: Discount factor.
        reward_normalization: See :func:`reward_scale`.
        scale_values: Learn values in units of the standard deviation of the discounted return.
        normalize_obs: Normalise observations.
        obs_moments: Statistics to normalise by, instead of the data set's own.
        episode_limit: Steps after which the environment cuts an episode.
        data_dir: Folder of D4RL's files.
        store: Makes the arrays.

    Raises:
        See :mod:`rllib_multienv.offline.formats`.
    """
    raw = read_source(source, data_dir=data_dir, store=store)
    limit = episode_limit or raw.metadata.get("max_episode_steps")
    transitions = build_transitions(raw, spec, episode_limit=None if limit is None else int(limit), store=store)
    rewards = reward_scale(reward_normalization, transitions, raw.source)
    value_scale = 1.0
    if scale_values:
        spread = float(discounted_returns(rewards(transitions.rewards), transitions.ends, gamma).std())
        value_scale = spread if spread > 0.0 else 1.0
    if obs_moments is None:
        obs_moments = Moments.empty(spec.obs_size)
        for block in blocks(transitions.observations):
            numbers, _ = spec.observation.split(transitions.observations[block])
            obs_moments = obs_moments.merged(Moments.of(numbers))
    low, high = raw.metadata.get("ref_min_score"), raw.metadata.get("ref_max_score")
    return LoadedDataset(
        replay=DatasetReplay(
            transitions=transitions,
            obs_moments=obs_moments if normalize_obs else None,
            rewards=rewards,
            value_scale=value_scale,
            layout=spec.observation,
        ),
        obs_moments=obs_moments,
        return_moments=Moments.of(discounted_returns(transitions.rewards, transitions.ends, gamma)[:, None]),
        reference_scores=None if low is None or high is None else (float(low), float(high)),
    )


def reward_scale(name: str, transitions: Transitions, source: str) -> RewardScale:
    """Reward normalisation of a data set.

    Args:
        name: ``"none"``; ``"standardize"`` to mean 0 and deviation 1; ``"return_range"`` so that episodes' returns span
            1000 (D4RL's locomotion); ``"minus_one"`` (AntMaze: a cost of 1 per step until the goal).
        transitions: The data set.
        source: For errors.
    """
    if name in ("none", "minus_one"):
        return RewardScale(shift=-1.0 if name == "minus_one" else 0.0)
    rewards = transitions.rewards.astype(np.float64)
    spread = float(rewards.std() if name == "standardize" else np.ptp(transitions.episode_returns()))
    if not spread > 0.0:
        alike = "rewards" if name == "standardize" else "returns of episodes"
        problem = f"reward_normalization={name!r} would divide by zero: all {alike} are the same; use 'none'"
        raise DatasetError(source, problem, key="rewards")
    if name == "standardize":
        return RewardScale(scale=1.0 / spread, shift=-float(rewards.mean()) / spread)
    return RewardScale(scale=RETURN_RANGE / spread)


def discounted_returns(rewards: np.ndarray, ends: np.ndarray, gamma: float) -> np.ndarray:
    """``g_t = gamma * g_(t-1) + r_t`` along each episode, ``[N]`` float64, by which PPO scales its rewards."""
    borders = [0, *(np.flatnonzero(ends) + 1), len(rewards)]
    episodes = (rewards[first:last] for first, last in pairwise(borders) if last > first)
    return np.concatenate([discounted_sums(episode, gamma) for episode in episodes])


def temporary_store(folder: str | Path, name: str, owner: Any) -> ArrayStore:
    """A store in a new folder below ``folder``, which is deleted with ``owner``."""
    Path(folder).mkdir(parents=True, exist_ok=True)
    own = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=folder))
    weakref.finalize(owner, shutil.rmtree, own, ignore_errors=True)
    return ArrayStore(folder=own)
