"""Networks of the multi-task literature train, take another environment while they do, and act without Ray."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tiny_runs import running, tiny_config

from rllib_multienv import (
    CARENetConfig,
    MultiEnvAgent,
    SoftModularNetConfig,
    TaskEncoderNetConfig,
    TaskHeadsNetConfig,
)
from rllib_multienv.nets import NetConfig

pytestmark = pytest.mark.usefixtures("ray_cluster")


@pytest.mark.parametrize(
    "network",
    [
        TaskHeadsNetConfig(width=8),
        TaskEncoderNetConfig(width=8, context="embedding"),
        SoftModularNetConfig(width=8, context_size=8, num_modules=2),
        CARENetConfig(width=8, context_size=8, encoder_width=8),
    ],
    ids=lambda network: network.type,
)
def test_environments_come_while_it_trains(network: NetConfig, tmp_path: Path) -> None:
    with running(tiny_config(gradient_combiner="pcgrad").rl_module(model_config=network)) as algo:
        algo.train()
        algo.add_env("Reacher-v4")
        learners = algo.train()["learners"]
        assert all(np.isfinite(learners[env_id]["total_loss"]) for env_id in ("CartPole-v1", "Reacher-v4"))
        agent = MultiEnvAgent.from_checkpoint(algo.save_to_path(tmp_path))
    assert agent.act("Reacher-v4", np.zeros(11, np.float32)).shape == (2,)
