"""`sample_ahead`: runners sample the next fragments while the learner learns from these."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
import torch
from fault_helpers import (
    assert_steps_counted_are_steps_trained,
    kill_in,
    lost_fragments,
    rllib_log,
    runner_pids,
    sampled_steps,
)
from tiny_runs import running, tiny_config
from toy_envs import Paced, Stamped

from rllib_multienv import EnvSpec, MultiEnvPPO, MultiEnvPPOConfig
from rllib_multienv.algorithms.ppo.proximal_policy import IMPORTANCE_WEIGHTS
from rllib_multienv.learners import LearnerHook

pytestmark = pytest.mark.usefixtures("ray_cluster")


def ahead(
    envs: list[Any], *, sample_ahead: bool = True, num_env_runners: int = 1, **env_runners: Any
) -> MultiEnvPPOConfig:
    config = tiny_config(envs).env_runners(num_env_runners=num_env_runners, sample_ahead=sample_ahead, **env_runners)
    return config.fault_tolerance(delay_between_env_runner_restarts_s=0.0)


def noting_updates(config: MultiEnvPPOConfig) -> MultiEnvPPOConfig:
    """Have results say after how many updates the policy was that sampled: ``env_runners/updates_before``."""

    def note(*, env_runner: Any, metrics_logger: Any, **_: Any) -> None:
        metrics_logger.log_value("updates_before", env_runner._weights_seq_no, window=1)

    return config.callbacks(on_sample_end=note)


def prolong_updates(algo: MultiEnvPPO, seconds: float) -> list[tuple[float, float]]:
    """Let every update take so much longer; returns the list of when they begin and end."""
    times: list[tuple[float, float]] = []
    update = type(algo.learner_group).update

    def timed(**kwargs: Any) -> Any:
        begun = time.time()
        result = update(algo.learner_group, **kwargs)
        time.sleep(seconds)
        times.append((begun, time.time()))
        return result

    algo.learner_group.update = timed  # type: ignore[method-assign]
    return times


@pytest.mark.parametrize("sample_ahead", [False, True])
def test_steps_are_made_during_updates(sample_ahead: bool, tmp_path: Path) -> None:
    stamps = tmp_path / "stamps"
    config = ahead(
        [EnvSpec("a", make=Stamped, kwargs={"stamps": str(stamps), "pause": 0.005})], sample_ahead=sample_ahead
    )
    with running(config) as algo:
        updates = prolong_updates(algo, 0.3)
        for _ in range(3):
            result = algo.train()
        assert sampled_steps(result) == {"a": 96}  # what was learned from, without what is being sampled
        assert_steps_counted_are_steps_trained(result)
        assert {e: m.count for e, m in algo.agent_checkpoint().obs_moments.items()} == sampled_steps(result)
    steps = [float(line) for line in stamps.read_text().split()]
    assert all(any(begun < step < ended for step in steps) for begun, ended in updates) == sample_ahead
    assert any(begun < step < ended for step in steps for begun, ended in updates) == sample_ahead


def test_the_policy_that_samples_is_one_update_old() -> None:
    found = {}
    for sample_ahead in (False, True):
        with running(noting_updates(ahead(["CartPole-v1"], sample_ahead=sample_ahead))) as algo:
            found[sample_ahead] = [algo.train()["env_runners"]["updates_before"] for _ in range(4)]
    first = found[False][0]
    assert found[False] == [first, first + 1, first + 2, first + 3]
    assert found[True] == [first, first, first + 1, first + 2]


def test_only_fragments_of_an_older_policy_are_corrected_for() -> None:
    weights: list[torch.Tensor] = []

    class Note(LearnerHook):
        def before_steps(self, learner: Any, batch: Any) -> None:
            weights.append(batch["CartPole-v1"][IMPORTANCE_WEIGHTS])

    with running(ahead(["CartPole-v1"]).training(lr=0.05)) as algo:
        algo.learner_group._learner.hooks.append(Note())
        for _ in range(3):
            algo.train()
    first, *later = weights
    torch.testing.assert_close(first, torch.ones(32), rtol=1e-4, atol=1e-4)
    assert all((found - 1.0).abs().max() > 0.01 for found in later)


def test_a_runner_killed_while_it_samples_ahead() -> None:
    envs = [EnvSpec(env_id, make=Paced, kwargs={"pause": 0.01}) for env_id in ("a", "b")]
    with running(ahead(envs, num_env_runners=2)) as algo, rllib_log() as log:
        before = sampled_steps(algo.train())  # and runners are in the next fragments
        pids = runner_pids(algo)
        kill_in(0.0, pids[1])
        for _ in range(200):
            result = algo.train()
            if runner_pids(algo).get(1, pids[1]) != pids[1] and sampled_steps(result)["a"] > before["a"]:
                break
        assert lost_fragments(result)["a"] >= 1
        assert sampled_steps(result)["a"] > before["a"]
        assert runner_pids(algo)[1] != pids[1]
        assert any("are back" in line for line in log), log
        assert_steps_counted_are_steps_trained(result)


def test_environments_change_while_they_are_sampled() -> None:
    with running(ahead(["CartPole-v1", "InvertedPendulum-v4"])) as algo:
        algo.train()
        algo.remove_env("InvertedPendulum-v4")
        algo.add_env("Acrobot-v1")
        results = [algo.train() for _ in range(3)]
        steps = sampled_steps(results[-1])
        assert steps["CartPole-v1"] == 128 and steps["Acrobot-v1"] >= 64
        learners = results[-1]["learners"]
        assert learners["Acrobot-v1"]["num_module_steps_trained_lifetime"] == steps["Acrobot-v1"]


def test_after_a_restore_nothing_of_the_former_agent_is_learned_from(tmp_path: Path) -> None:
    with running(noting_updates(ahead(["CartPole-v1"]))) as algo:
        first = algo.train()["env_runners"]["updates_before"]
        algo.save_to_path(tmp_path / "checkpoint")
        for _ in range(3):
            algo.train()
        algo.restore_from_path(tmp_path / "checkpoint")
        result = algo.train()
        assert result["training_iteration"] == 2
        assert result["env_runners"]["updates_before"] == first + 1  # sampled by the agent of the checkpoint
        assert sampled_steps(result) == {"CartPole-v1": 64}
        assert_steps_counted_are_steps_trained(result)


def test_a_long_update_makes_no_runner_late() -> None:
    envs = [EnvSpec(env_id, make=Paced) for env_id in ("a", "b")]
    with running(ahead(envs, num_env_runners=2, sample_timeout_s=2.0)) as algo, rllib_log() as log:
        pids = runner_pids(algo)
        prolong_updates(algo, 6.5)  # more than PATIENCE times the timeout
        algo.train()
        prolong_updates(algo, 0.0)
        assert sampled_steps(algo.train()) == {"a": 64, "b": 64}
        assert runner_pids(algo) == pids
        assert not log


def test_the_local_runner_cannot() -> None:
    config = tiny_config().env_runners(sample_ahead=True)
    with pytest.raises(ValueError, match=r"sample_ahead=True: .*num_env_runners=.* at least 1"):
        config.validate()
