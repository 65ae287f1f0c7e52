"""A runner that does not come back: the others take over its environments."""

from __future__ import annotations

import pytest
from fault_helpers import assert_steps_counted_are_steps_trained, kill_in, rllib_log, runner_pids, sampled_steps
from tiny_runs import running, tiny_config
from toy_envs import Paced

from rllib_multienv import EnvSpec
from rllib_multienv.env_runners import assignment

ENVS = ("a", "b", "c", "d")


@pytest.fixture
def _soon_orphaned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(assignment, "ORPHANED_AFTER_S", 0.3)


@pytest.mark.usefixtures("ray_cluster", "_soon_orphaned")
def test_environments_of_a_runner_that_stays_away() -> None:
    envs = [EnvSpec(env_id, make=Paced, kwargs={"pause": 0.002}) for env_id in ENVS]
    config = tiny_config(envs).env_runners(num_env_runners=2)
    config.fault_tolerance(max_num_env_runner_restarts=0)
    with running(config) as algo, rllib_log() as log:
        result = algo.train()
        orphans = algo._sampling._ownership.owned([1, 2])[1]
        assert orphans == ("a", "c")
        kill_in(0.05, runner_pids(algo)[1])
        for _ in range(100):
            before, result = sampled_steps(result), algo.train()
            if any("take over" in line for line in log):
                break
        assert any("Env runners [1] have been away for 0.3 s; the others take over a, c." in line for line in log), log
        for _ in range(3):
            before, result = sampled_steps(result), algo.train()
            assert {e: n - before[e] for e, n in sampled_steps(result).items()} == dict.fromkeys(ENVS, 32)
        assert algo._sampling.describe() == "env runner 2: a, b, c, d"
        assert_steps_counted_are_steps_trained(result)
        assert {e: m.count for e, m in algo.agent_checkpoint().obs_moments.items()} == sampled_steps(result)
