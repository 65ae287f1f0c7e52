"""Networks of the multi-task literature train, take another environment while they do, and act without Ray."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tiny_runs import running, tiny_config

from rllib_multienv import (
    CARENetConfig,
    DistralNetConfig,
    HiPNetConfig,
    MultiEnvAgent,
    MultiEnvPPOConfig,
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


@pytest.mark.parametrize(
    ("network", "problem"),
    [
        (DistralNetConfig(), "a network of type 'distral' is trained by MultiEnvSAC, not by MultiEnvPPO"),
        (HiPNetConfig(), "a network of type 'hip' is trained by MultiEnvHiPBMDP, not by MultiEnvPPO"),
        (TaskHeadsNetConfig(encoder="shared"), "equally many numbers, not {'CartPole-v1': 4, 'Acrobot-v1': 6}"),
        (
            CARENetConfig(context="vectors", context_vectors={"CartPole-v1": (0.0, 1.0)}),
            "there is none for 'Acrobot-v1', the description of environment 'Acrobot-v1'",
        ),
    ],
    ids=lambda value: getattr(value, "type", ""),
)
def test_networks_that_do_not_fit_are_refused_before_anything_starts(network: NetConfig, problem: str) -> None:
    config = MultiEnvPPOConfig().environment(envs=["CartPole-v1", "Acrobot-v1"]).rl_module(model_config=network)
    with pytest.raises(ValueError, match=problem):
        config.validate()
