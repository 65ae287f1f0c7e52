"""Every kind of network learns offline: the action values of a network are made by its config."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cli_helpers import ROOT
from iql_runs import SEVEN, iql_config, learner_state, running_iql
from tiny_runs import assert_same

from rllib_multienv.nets import GeneratedNetConfig, MLPNetConfig, NetConfig, SingleNetConfig, SpecificNetConfig

pytestmark = pytest.mark.usefixtures("ray_cluster")

TWO = ("cart", "ant")


def custom_network() -> NetConfig:
    """The network of examples/custom_network.py."""
    spec = importlib.util.spec_from_file_location("custom_network", ROOT / "examples" / "custom_network.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.SetNetConfig(width=8)  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("network", "environments"),
    [
        (SpecificNetConfig(width=8), TWO),
        (GeneratedNetConfig(width=8), TWO),
        (custom_network(), TWO),
        (SingleNetConfig(width=8), ("ant",)),
        (SingleNetConfig(width=8), ("cart",)),
        (MLPNetConfig(hidden=(8,)), ("ant",)),
    ],
    ids=lambda value: value.type if isinstance(value, NetConfig) else "-".join(value),
)
def test_iql_trains_any_network_and_restores_it(network: NetConfig, environments: Any, tmp_path: Path) -> None:
    config = iql_config({env_id: SEVEN[env_id] for env_id in environments}).rl_module(model_config=network)
    with running_iql(config) as algo:
        before = learner_state(algo)["module"]
        results = algo.train()["learners"]
        after = learner_state(algo)["module"]
        for env_id in environments:
            assert all(np.isfinite(results[env_id][f"{name}_loss"]) for name in ("policy", "vf", "qf"))
        for part in ("network.actor.", "network.critic.", "action_values.", "targets."):
            # Q has one output per discrete action, or one: decoders for continuous actions stay as they are.
            names = [name for name in after if name.startswith(part) and ".gaussian." not in name]
            assert names and all((after[name] != before[name]).any() for name in names), part
        path = algo.save_to_path(str(tmp_path / "checkpoint"))
        algo.train()
        expected = learner_state(algo)
    with running_iql(config.copy()) as other:
        other.restore_from_path(path)
        other.train()
        assert_same(learner_state(other), expected)
