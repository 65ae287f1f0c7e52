"""Offline learning from mixed data: the policy is better than the data (seeded, about a minute)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from iql_runs import running_iql

from rllib_multienv import AgnosticNetConfig, MultiEnvIQLConfig
from rllib_multienv.offline.formats import d4rl
from rllib_multienv.offline.formats.recorded import recorded_file

pytestmark = pytest.mark.usefixtures("ray_cluster")


def test_cartpole_from_mixed_data(tmp_path: Path) -> None:
    controller = "rllib_multienv.offline.controllers:cartpole"
    source = {
        "path": str(tmp_path / "mixed.hdf5"),
        "record": {
            "env": "CartPole-v1",
            "num_steps": 20_000,
            "behaviours": [
                {"policy": controller, "share": 0.3, "noise": 0.6},
                {"policy": controller, "share": 0.3, "noise": 0.8},
                {"policy": "random", "share": 0.4},
            ],
        },
    }
    raw = d4rl.read(recorded_file(source))
    ends = np.flatnonzero(raw.terminals | raw.timeouts)
    assert np.diff(ends).mean() < 100  # the data are far from what is asked for
    config = (
        MultiEnvIQLConfig()
        .environment(envs=["CartPole-v1"])
        .offline_data(datasets={"CartPole-v1": source}, reference_scores={"CartPole-v1": (22.0, 500.0)})
        .rl_module(model_config=AgnosticNetConfig(d_model=16))
        .training(num_steps_per_iteration=2000, batch_size=128, lr=1e-3, actor_lr_cosine_steps=2000)
        .evaluation(evaluation_interval=1, evaluation_duration=20)
        .debugging(seed=0)
    )
    with running_iql(config) as algo:
        results = algo.train()["evaluation"]["env_runners"]
    assert results["module_episode_return_mean"]["CartPole-v1"] >= 400
    assert results["normalized_score"]["CartPole-v1"] >= 79
