"""An environment that raises on a random step, with probability 0.001, again and again."""

from __future__ import annotations

from itertools import count

import pytest
from fault_helpers import assert_steps_counted_are_steps_trained, lost_fragments, rllib_log, sampled_steps
from tiny_runs import running, tiny_config
from toy_envs import Counter, Unreliable

from rllib_multienv import EnvSpec, MultiEnvPPOConfig
from rllib_multienv.envs.errors import EnvFailure

FAILURES = 5
STOP = 20_000  # env steps


def config() -> MultiEnvPPOConfig:
    envs = [EnvSpec("sound", make=Counter), EnvSpec("unreliable", make=Unreliable, kwargs={"probability": 0.001})]
    return tiny_config(envs, num_epochs=1).env_runners(rollout_fragment_length=64)


def test_training_reaches_its_end(ray_cluster: None) -> None:
    with running(config().fault_tolerance(restart_failed_sub_environments=True)) as algo, rllib_log() as log:
        for iteration in count(1):
            assert iteration <= 300
            result = algo.train()
            lost, steps = lost_fragments(result).get("unreliable", 0), sampled_steps(result)
            # A fragment is sampled and trained whole, or lost whole; that of the other environment is not touched.
            assert steps["sound"] == 128 * iteration
            assert steps.get("unreliable", 0) == 128 * (iteration - lost)
            if sum(steps.values()) >= STOP and lost >= FAILURES:
                break
        assert_steps_counted_are_steps_trained(result)
        named = [line for line in log if "'unreliable'" in line and "ConnectionError: the simulator is gone" in line]
        assert len(named) == lost


def test_without_the_setting_the_error_names_the_environment(ray_cluster: None) -> None:
    with running(config()) as algo, pytest.raises(EnvFailure, match=r"'unreliable' \(copy \d\) failed in step\(\)"):
        for _ in range(200):
            algo.train()
