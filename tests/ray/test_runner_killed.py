"""Runners that are killed while they sample, again and again: training reaches its end and counts every step."""

from __future__ import annotations

from itertools import count
from typing import Any

import pytest
from fault_helpers import (
    assert_steps_counted_are_steps_trained,
    kill_in,
    lost_fragments,
    rllib_log,
    runner_pids,
    sampled_steps,
)
from tiny_runs import assert_same, running, tiny_config
from toy_envs import Paced

from rllib_multienv import EnvSpec

ENVS = ("a", "b", "c", "d")
# Which runners are killed and how many seconds after the begin of an iteration; sampling takes at least 0.3 s.
KILLS = (((1,), 0.1), ((2,), 0.15), ((1, 2), 0.02), ((1,), 0.25))

pytestmark = pytest.mark.usefixtures("ray_cluster")


def network_and_counts(runner: Any) -> tuple[dict[str, Any], dict[str, float]]:
    network = {n: t.numpy().copy() for n, t in runner.module.shared.network.state_dict().items()}
    return network, {env_id: n.moments.total().count for env_id, n in runner.statistics[0].normalizers.items()}


@pytest.mark.parametrize(
    ("kills", "stop"), [(KILLS[:1], 1000), pytest.param(KILLS, 3000, marks=pytest.mark.long)], ids=["once", "often"]
)
def test_runners_killed_while_sampling(kills: tuple[tuple[tuple[int, ...], float], ...], stop: int) -> None:
    """The run goes on to `stop` env steps."""
    envs = [EnvSpec(env_id, make=Paced, kwargs={"pause": 0.005}) for env_id in ENVS]
    config = tiny_config(envs).env_runners(num_env_runners=2)
    config.fault_tolerance(delay_between_env_runner_restarts_s=0.0)
    with running(config) as algo, rllib_log() as log:
        result = algo.train()
        owned = algo._sampling._ownership.owned([1, 2])
        for workers, moment in kills:
            before, lost_before = sampled_steps(result), lost_fragments(result)
            pids = runner_pids(algo)
            log.clear()
            kill_in(moment, *(pids[worker] for worker in workers))
            for _ in range(200):
                result = algo.train()
                if all(steps > before[env_id] for env_id, steps in sampled_steps(result).items()) and log:
                    break
            # Every environment is sampled again, by new processes.
            assert all(steps > before[env_id] for env_id, steps in sampled_steps(result).items())
            now = runner_pids(algo)
            assert all((now[worker] != pids[worker]) == (worker in workers) for worker in pids)
            assert_steps_counted_are_steps_trained(result)
            for worker in workers:
                named = f"env runner {worker} ({', '.join(owned[worker])})"
                assert any(f"The fragments of {named} are lost" in line for line in log), log
                assert any("are back" in line and str(worker) in line for line in log), log
            lost = lost_fragments(result)
            for env_id in ENVS:
                hit = any(env_id in owned[worker] for worker in workers)
                assert (lost.get(env_id, 0) > lost_before.get(env_id, 0)) == hit
            local, *remote = algo.env_runner_group.foreach_env_runner(network_and_counts)
            assert len(remote) == 2 and local[1] == sampled_steps(result)
            for found in remote:
                assert_same(found, local)
        for iteration in count():
            if result["env_runners"]["num_env_steps_sampled_lifetime"] >= stop:
                break
            assert iteration < stop / 128
            result = algo.train()
        assert_steps_counted_are_steps_trained(result)
