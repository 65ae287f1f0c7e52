"""Draws the minibatches of many updates at once: a gather of many rows costs hardly more than one of few."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import torch

from rllib_multienv.algorithms.iql.training_data import OfflineTrainingData
from rllib_multienv.learners.minibatches import Minibatch
from rllib_multienv.offline.replay import Replay, draw_generator

#: Rows of one data set that are drawn at a time, at most: they stay in the processor's cache.
_BLOCK_ROWS = 8192


def draw_minibatches(
    replays: Mapping[str, Replay],
    data: OfflineTrainingData,
    *,
    num_updates: int,
    seed: int,
    first_update: int,
    device: torch.device | None = None,
) -> Iterator[Minibatch]:
    """One minibatch for each update, with this learner's part of every environment.

    What is drawn depends on (seed, update, env id) alone, so learners that share a data set agree without a word.

    Args:
        replays: This learner's data sets.
        data: Batch sizes and shares.
        num_updates: How many.
        seed: Of the run.
        first_update: Number of updates made before.
        device: Where tensors go.
    """
    block = max(1, _BLOCK_ROWS // max(data.batch_sizes.values()))
    for start in range(0, num_updates, block):
        length = min(block, num_updates - start)
        columns: dict[str, dict[str, tuple[torch.Tensor, ...]]] = {}
        weights: dict[str, float] = {}
        for env_id, replay in replays.items():
            size = data.batch_sizes[env_id]
            own = data.share(env_id).rows(0, size)
            if own.start == own.stop:
                continue  # a sliver of an environment, less than a row
            drawn = [replay.draw(draw_generator(seed, first_update + start + n, env_id), size) for n in range(length)]
            steps = np.stack(drawn)[:, own]  # [length, rows]
            rows = steps.shape[1]
            columns[env_id] = {
                key: torch.from_numpy(column).to(device).split(rows)
                for key, column in replay.columns(steps.reshape(-1)).items()
            }
            weights[env_id] = rows / size
        for number in range(length):
            yield Minibatch(
                columns={
                    env_id: {key: parts[number] for key, parts in by_key.items()} for env_id, by_key in columns.items()
                },
                weights=dict(weights),
            )
