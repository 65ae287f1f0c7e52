"""Every environment has an owner and every worker has work, whatever their numbers."""

from __future__ import annotations

from collections import Counter
from itertools import product

import pytest
from tiny_runs import make_runner, running, tiny_config
from toy_envs import Breaking
from toy_envs import Counter as CounterEnv

from rllib_multienv import EnvSpec
from rllib_multienv.env_runners import MultiEnvRunner, assign_environments

COSTS = (8.0, 100.0, 20.0, 8.0, 55.0, 3.0, 30.0)


@pytest.mark.parametrize(("num_workers", "num_envs"), list(product(range(1, 7), range(1, 8))))
def test_no_environment_and_no_worker_is_left_out(num_workers: int, num_envs: int) -> None:
    costs = {f"env{i}": COSTS[i] for i in range(num_envs)}
    owned = assign_environments(costs, num_workers)
    assert len(owned) == num_workers
    owners = Counter(env_id for ids in owned for env_id in ids)
    assert owners.keys() == costs.keys()
    assert all(owned)
    if num_workers <= num_envs:
        assert set(owners.values()) == {1}
        loads = [sum(costs[e] for e in ids) for ids in owned]
        # The rule's guarantee: no worker has more than 4/3 - 1/(3W) of the best possible largest load (Graham 1969).
        best = max(max(costs.values()), sum(costs.values()) / num_workers)
        if num_workers < num_envs:
            ordered = sorted(costs.values(), reverse=True)
            best = max(best, ordered[num_workers - 1] + ordered[num_workers])
        assert max(loads) <= (4 / 3 - 1 / (3 * num_workers)) * best + 1e-9 or max(loads) == max(costs.values())
    else:
        assert all(len(ids) == 1 for ids in owned)
    for ids in owned:
        assert list(ids) == [e for e in costs if e in ids]  # in the order of the configuration


def test_extra_workers_share_the_dearest() -> None:
    assert assign_environments({"cheap": 1.0, "dear": 10.0}, 4) == [("dear",), ("cheap",), ("dear",), ("dear",)]
    assert assign_environments({"a": 5.0, "b": 5.0}, 4) == [("a",), ("b",), ("a",), ("b",)]


def test_assignment_does_not_depend_on_chance() -> None:
    costs = dict.fromkeys("abcde", 1.0)
    assert assign_environments(costs, 2) == assign_environments(dict(costs), 2) == [("a", "c", "e"), ("b", "d")]


def test_nothing_to_assign() -> None:
    with pytest.raises(ValueError, match=r"environment\(envs="):
        assign_environments({}, 1)
    with pytest.raises(ValueError, match="at least one worker"):
        assign_environments({"a": 1.0}, 0)


def test_runners_own_their_share_and_the_local_runner_all() -> None:
    config = tiny_config([EnvSpec("c", make=CounterEnv), EnvSpec("b", make=Breaking), "CartPole-v1"]).env_runners(
        num_env_runners=2
    )
    config.validate()
    runners = [MultiEnvRunner(config=config, worker_index=i, num_workers=2) for i in (1, 2)]
    assert sorted(e for r in runners for e in r.environments) == ["CartPole-v1", "b", "c"]
    assert all(r.environments for r in runners)
    local = make_runner(config)
    assert local.owned == ("c", "b", "CartPole-v1")
    assert local.environments == {}  # it only keeps the merged statistics
    for runner in (*runners, local):
        assert set(runner.get_spaces()) == {"c", "b", "CartPole-v1", "shared"}


def test_more_runners_than_environments_all_train(ray_cluster: None) -> None:
    config = tiny_config([EnvSpec("c", make=CounterEnv), "CartPole-v1"]).env_runners(num_env_runners=3)
    with running(config) as algo:
        result = algo.train()
        # CartPole, with the larger observation, is the dearer: two runners share it.
        assert result["env_runners"]["num_module_steps_sampled_lifetime"] == {"c": 32, "CartPole-v1": 64}
        for env_id, steps in (("c", 32), ("CartPole-v1", 64)):
            assert result["learners"][env_id]["num_module_steps_trained_lifetime"] == steps
