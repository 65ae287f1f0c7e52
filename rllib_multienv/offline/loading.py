"""From the source of a data set to what learners draw from."""

from __future__ import annotations

import shutil
import tempfile
import weakref
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rllib_multienv.normalization import Moments
from rllib_multienv.offline.blocks import IN_MEMORY, ArrayStore, blocks
from rllib_multienv.offline.replay import Replay
from rllib_multienv.offline.reward_normalization import discounted_returns, reward_normalization
from rllib_multienv.offline.sources import read_source
from rllib_multienv.offline.transitions import Transitions, build_transitions
from rllib_multienv.space_spec import SpaceSpec


@dataclass(frozen=True, kw_only=True)
class LoadedDataset:
    """A data set, checked and ready.

    Attributes:
        replay: What learners draw from.
        obs_moments: Statistics of its observations.
        return_moments: Statistics of the discounted return of its rewards, as they are: what PPO scales by.
        metadata: What the data set says of itself.
    """

    replay: Replay
    obs_moments: Moments
    return_moments: Moments
    metadata: Mapping[str, Any]

    @property
    def reference_scores(self) -> tuple[float, float] | None:
        """Returns of a random and of an expert policy, if the data set says them."""
        low, high = self.metadata.get("ref_min_score"), self.metadata.get("ref_max_score")
        return None if low is None or high is None else (float(low), float(high))


def load_dataset(
    source: Any,
    spec: SpaceSpec,
    *,
    gamma: float,
    reward_normalization_name: str,
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
        reward_normalization_name: See :func:`~rllib_multienv.offline.reward_normalization.reward_normalization`.
        scale_values: Whether values are to be learned in units of the deviation of the discounted return.
        normalize_obs: Whether observations are to be normalised.
        obs_moments: Statistics to normalise by, instead of the data set's own.
        episode_limit: Steps after which the environment cuts an episode.
        data_dir: Where files of ``"d4rl:NAME"`` are.
        store: Where arrays are made.

    Raises:
        FileNotFoundError: There is no such data set.
        DatasetError: It cannot be used; names source, key and index.
    """
    raw = read_source(source, data_dir=data_dir, store=store)
    limit = episode_limit or raw.metadata.get("max_episode_steps")
    transitions = build_transitions(raw, spec, episode_limit=None if limit is None else int(limit), store=store)
    rewards = reward_normalization(reward_normalization_name, transitions, raw.source)
    value_scale = 1.0
    if scale_values:
        spread = float(discounted_returns(rewards(transitions.rewards), transitions.ends, gamma).std())
        value_scale = spread if spread > 0.0 else 1.0
    own_moments = _obs_moments(transitions)
    return LoadedDataset(
        replay=Replay(
            transitions=transitions,
            obs_moments=(obs_moments or own_moments) if normalize_obs else None,
            rewards=rewards,
            value_scale=value_scale,
        ),
        obs_moments=obs_moments or own_moments,
        return_moments=Moments.of(discounted_returns(transitions.rewards, transitions.ends, gamma)[:, None]),
        metadata=raw.metadata,
    )


def _obs_moments(transitions: Transitions) -> Moments:
    moments = Moments.empty(transitions.observations.shape[1])
    for block in blocks(transitions.observations):
        moments = moments.merged(Moments.of(transitions.observations[block]))
    return moments


def temporary_store(folder: str | Path, name: str, owner: Any) -> ArrayStore:
    """A store in a new folder below ``folder``, which is deleted with ``owner``."""
    Path(folder).mkdir(parents=True, exist_ok=True)
    own = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=folder))
    weakref.finalize(owner, shutil.rmtree, own, ignore_errors=True)
    return ArrayStore(folder=own)
