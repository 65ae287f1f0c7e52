"""Minibatches of data sets do not depend on the number of learners."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from offline_files import noise
from ray.rllib.core.columns import Columns

from rllib_multienv.algorithms.offline import DatasetData
from rllib_multienv.learners.shares import share_environments
from rllib_multienv.offline import replay
from rllib_multienv.offline.loading import load_dataset
from rllib_multienv.offline.raw import inferred_spaces
from rllib_multienv.offline.replay import DatasetReplay
from rllib_multienv.offline.sources import read_source


def replay_of(obs_size: int) -> DatasetReplay:
    source = noise(obs_size, 2)
    settings: dict[str, Any] = {"gamma": 0.9, "reward_normalization": "none", "scale_values": False}
    return load_dataset(source, inferred_spaces("env", read_source(source)), normalize_obs=True, **settings).replay


def rows(minibatches: Any) -> list[dict[str, np.ndarray]]:
    return [{env_id: c["obs"].numpy().copy() for env_id, c in m.columns.items()} for m in minibatches]


def test_minibatches_do_not_depend_on_the_number_of_learners() -> None:
    replays = {"a": replay_of(4), "b": replay_of(7), "c": replay_of(2)}
    whole = DatasetData(datasets=replays, batch_sizes={"a": 5, "b": 6, "c": 7}, costs={"a": 1.0, "b": 2.0, "c": 1.5})
    draw = {"num_steps": 4, "seed": 3, "first_step": 10, "keys": {"a": 1, "b": 2, "c": 3}}
    expected = rows(whole.draw(replays, **draw))
    assert [m["b"].shape for m in expected] == [(6, 7)] * 4
    assert not np.array_equal(expected[0]["a"], expected[1]["a"])
    for learners in (1, 2, 3, 5):
        parts = []
        for data, _ in whole.shard(learners):
            own = {env_id: replays[env_id] for env_id in data.datasets}
            parts.append(list(data.draw(own, **draw)))
        for number, minibatch in enumerate(expected):
            for env_id, observations in minibatch.items():
                pieces = [p[number].columns[env_id]["obs"] for p in parts if env_id in p[number].columns]
                np.testing.assert_array_equal(np.concatenate(pieces), observations)
                weights = [p[number].weights[env_id] for p in parts if env_id in p[number].weights]
                assert sum(weights) == pytest.approx(1.0)
    assert len(share_environments(whole.costs, 5)) == 5


def test_columns_of_replay_stores_are_those_of_rllib() -> None:
    columns = [Columns.OBS, Columns.NEXT_OBS, Columns.ACTIONS, Columns.REWARDS, Columns.TERMINATEDS]
    assert columns == [replay.OBS, replay.NEXT_OBS, replay.ACTIONS, replay.REWARDS, replay.TERMINATEDS]
    assert list(replay_of(4).columns(np.arange(3))) == columns
