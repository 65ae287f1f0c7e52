"""Learner piece: episodes become one batch of arrays per environment."""

from __future__ import annotations

from typing import Any

import numpy as np
from ray.rllib.connectors.connector_v2 import ConnectorV2
from ray.rllib.core.columns import Columns

#: Column: lengths of the episode chunks whose rows follow one another in the batch, [number of chunks].
CHUNK_LENGTHS = "chunk_lengths"
#: Column: the observation after the last step of each chunk, [number of chunks, I].
LAST_OBS = "last_obs"
#: Column: what the rewards of each chunk are to be divided by, [number of chunks].
REWARD_SCALES = "reward_scales"
#: Key in ``SingleAgentEpisode.custom_data`` of the reward scale.
REWARD_SCALE_KEY = "reward_scale"


class EpisodesToBatch(ConnectorV2):
    """Groups chunks by ``module_id`` (the env id) and concatenates their steps: N rows per environment.

    Beside RLlib's columns the batch has what advantages need of each chunk: its length, the observation after its last
    step, and whether that step was terminal.
    """

    def __call__(self, *, batch: dict[str, Any], episodes: list[Any], **kwargs: Any) -> dict[str, Any]:
        """Build the batch of every environment that has episodes."""
        by_env: dict[str, list[Any]] = {}
        for episode in episodes:
            if len(episode) > 0:
                by_env.setdefault(episode.module_id, []).append(episode)
        for env_id, chunks in by_env.items():
            observations = [chunk.get_observations() for chunk in chunks]
            columns = batch.setdefault(env_id, {})
            columns[Columns.OBS] = np.concatenate([o[:-1] for o in observations])
            columns[LAST_OBS] = np.stack([o[-1] for o in observations])
            columns[Columns.ACTIONS] = np.concatenate([chunk.get_actions() for chunk in chunks])
            columns[Columns.REWARDS] = np.concatenate([chunk.get_rewards() for chunk in chunks])
            columns[Columns.TERMINATEDS] = np.array([chunk.is_terminated for chunk in chunks])
            columns[CHUNK_LENGTHS] = np.array([len(chunk) for chunk in chunks])
            columns[REWARD_SCALES] = np.array([chunk.custom_data.get(REWARD_SCALE_KEY, 1.0) for chunk in chunks])
            for key in (Columns.ACTION_LOGP, Columns.ACTION_DIST_INPUTS):
                columns[key] = np.concatenate([chunk.get_extra_model_outputs(key) for chunk in chunks])
        return batch
