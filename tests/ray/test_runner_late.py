"""A runner that hangs: training goes on without it, takes its fragment later, and replaces it in the end."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from fault_helpers import (
    assert_steps_counted_are_steps_trained,
    lost_fragments,
    rllib_log,
    runner_pids,
    sampled_steps,
)
from tiny_runs import running, tiny_config
from toy_envs import Paced

from rllib_multienv import EnvSpec
from rllib_multienv.env_runners.sampling import PATIENCE

TIMEOUT = 2.0

pytestmark = pytest.mark.usefixtures("ray_cluster")


def test_runner_that_hangs(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    envs = [EnvSpec("sound", make=Paced), EnvSpec("hangs", make=Paced, kwargs={"gate": str(gate)})]
    config = tiny_config(envs).env_runners(num_env_runners=2, sample_timeout_s=TIMEOUT)
    config.fault_tolerance(delay_between_env_runner_restarts_s=0.0)
    with running(config) as algo, rllib_log() as log:
        assert sampled_steps(algo.train()) == {"sound": 32, "hangs": 32}
        pids = runner_pids(algo)

        # Late: the others go on.
        gate.touch()
        begun = time.monotonic()
        result = algo.train()
        assert sampled_steps(result) == {"sound": 64, "hangs": 32}
        assert any("env runner 2 (hangs) has not answered within sample_timeout_s=2" in line for line in log), log
        gate.unlink()
        time.sleep(0.5)
        # What it had begun is taken now; nothing was lost.
        result = algo.train()
        assert sampled_steps(result) == {"sound": 96, "hangs": 64}
        assert lost_fragments(result) == {}
        assert_steps_counted_are_steps_trained(result)
        assert {e: m.count for e, m in algo.agent_checkpoint().obs_moments.items()} == sampled_steps(result)
        assert time.monotonic() - begun < 10.0  # as long as RLlib would wait for its statistics alone
        assert runner_pids(algo) == pids

        # Far too late: replaced, and the new one samples.
        gate.touch()
        begun = time.monotonic()
        while not any("it is replaced" in line for line in log):
            result = algo.train()
            assert time.monotonic() - begun < 10 * TIMEOUT
        assert time.monotonic() - begun >= PATIENCE * TIMEOUT
        assert sampled_steps(result)["hangs"] == 64
        assert lost_fragments(result)["hangs"] >= 1
        gate.unlink()
        for _ in range(100):
            result = algo.train()
            if sampled_steps(result)["hangs"] > 64:
                break
            time.sleep(0.1)
        assert sampled_steps(result)["hangs"] == 96
        assert_steps_counted_are_steps_trained(result)
        now = runner_pids(algo)
        assert now[1] == pids[1] and now[2] != pids[2]
