"""Schedules and tags in training: the steps that are promised, no environment lost, statistics and state kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_runs import assert_same, running, tiny_config, weights

from rllib_multienv import AEEnv, DatasetEnv, EnvSpec, MultiEnvPPOConfig
from rllib_multienv.experience import RandomChoice, RoundRobin, Schedule, Staggered

pytestmark = pytest.mark.usefixtures("ray_cluster")

FLOWERS = EnvSpec("iris", make="multienv/Iris-v0")
ENVS = ("CartPole-v1", FLOWERS, "Pendulum-v1")


def sampled(result: Any) -> dict[str, int]:
    return {e: int(n) for e, n in result["env_runners"]["num_module_steps_sampled_lifetime"].items()}


def shares(result: Any) -> dict[str, float]:
    return {e: float(share) for e, share in result["env_runners"]["sampling_share"].items()}


class Halves(Schedule):
    """Half a fragment of one environment, and one and a half of another."""

    def next(self, report: Any) -> dict[str, float]:
        return {"CartPole-v1": 0.5, "Pendulum-v1": 1.5}


@pytest.mark.parametrize("runners, learners", [(0, 0), (2, 2)])
def test_tags_and_schedules_change_while_training(runners: int, learners: int) -> None:
    config = tiny_config(ENVS).environment(schedule=RoundRobin())
    config.env_runners(num_env_runners=runners).learners(num_learners=learners)
    with running(config) as algo:
        results = [algo.train() for _ in range(3)]
        assert [max(shares(r), key=shares(r).get) for r in results] == ["CartPole-v1", "iris", "Pendulum-v1"]  # type: ignore[arg-type]
        assert shares(results[0]) == {"CartPole-v1": 1.0, "iris": 0.0, "Pendulum-v1": 0.0}
        before = sampled(results[-1])
        one = before["iris"]  # a whole fragment
        assert before == dict.fromkeys(before, one)
        algo.set_schedule(None)
        assert algo.set_tags(include=["problem:classification", "domain:control/classic"]) == tuple(
            spec.id for spec in algo.config.env_specs
        )
        assert algo.set_tags(exclude=["problem:classification"]) == ("CartPole-v1", "Pendulum-v1")
        after = sampled(algo.train())
        assert after["iris"] == one and after["Pendulum-v1"] == 2 * one
        algo.set_tags()
        algo.set_schedule(Halves())
        last = sampled(algo.train())
        assert last["CartPole-v1"] == after["CartPole-v1"] + one // 2
        assert last["Pendulum-v1"] == after["Pendulum-v1"] + 3 * one // 2
        counts = {e: int(m.count) for e, m in algo.agent_checkpoint().obs_moments.items()}
        assert counts == last  # no step is lost from the statistics
        with pytest.raises(ValueError, match=r"there is no environment 'irs'.*iris"):
            algo.set_schedule(Staggered({"irs": 3}))
        with pytest.raises(ValueError, match="No environment is selected"):
            algo.set_tags(include=["domain:audio"])
        first, *others = [r.get() for r in algo.learner_group.foreach_learner(parameters)]
        for other in others:
            assert_same(other, first)


def parameters(learner: Any) -> dict[str, np.ndarray]:
    return {name: p.detach().numpy().copy() for name, p in learner.network.named_parameters()}


def test_the_state_of_a_schedule_is_in_checkpoints(tmp_path: Path) -> None:
    config = tiny_config(ENVS).environment(schedule=RandomChoice(seed=3))
    with running(config.copy(copy_frozen=False)) as algo:
        algo.train()
        algo.set_tags(exclude=["problem:classification"])
        path = algo.save_to_path(str(tmp_path / "checkpoint"))
        expected = [shares(algo.train()) for _ in range(3)], weights(algo)
    with running(config) as other:
        other.restore_from_path(path)
        assert [shares(other.train()) for _ in range(3)] == expected[0]
        assert_same(weights(other), expected[1])


def test_sampling_ahead_has_a_schedule_too() -> None:
    config = tiny_config(ENVS).environment(schedule="round_robin").env_runners(num_env_runners=1, sample_ahead=True)
    with running(config) as algo:
        assert [max(shares(r), key=shares(r).get) for r in (algo.train() for _ in range(4))] == [  # type: ignore[arg-type]
            "CartPole-v1", "iris", "Pendulum-v1", "CartPole-v1",
        ]  # fmt: skip


def test_an_ae_env_is_trained_on() -> None:
    env = AEEnv(
        [DatasetEnv("sklearn.datasets:load_iris", name="iris"), "CartPole-v1"],
        exclude=["domain:control"],
        next_env_fn=lambda last, current, envs: current,
    )
    config = tiny_config(env)
    assert [spec.id for spec in config.env_specs] == ["iris", "CartPole-v1"]
    with running(config) as algo:
        assert shares(algo.train()) == {"iris": 1.0, "CartPole-v1": 0.0}


def test_tags_alone_choose_registered_environments() -> None:
    config = MultiEnvPPOConfig().environment(include=["domain:tabular"], exclude=["test:true", "problem:regression"])
    assert [spec.id for spec in config.env_specs] == ["iris", "wine", "breast_cancer"]


def test_a_schedule_that_samples_nothing_is_an_error() -> None:
    config = tiny_config(["CartPole-v1"]).environment(schedule=Staggered({"CartPole-v1": 5}))
    message = "Staggered samples none of CartPole-v1 after 0 steps"
    with running(config) as algo, pytest.raises(ValueError, match=message):
        algo.train()
