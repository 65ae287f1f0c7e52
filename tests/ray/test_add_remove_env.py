"""Environments come and go while training, and nothing else is disturbed."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from tiny_runs import TINY_NET, assert_same, running, tiny_config, weights

from rllib_multienv import EnvSpec, MultiEnvAgent, MultiEnvPPO

ENVS = ("CartPole-v1", "Pendulum-v1")
REACHER = EnvSpec("Reacher-v4", num_envs=3)

pytestmark = pytest.mark.usefixtures("ray_cluster")


def sampled(result: Any) -> dict[str, int]:
    return {e: int(n) for e, n in result["env_runners"]["num_module_steps_sampled_lifetime"].items()}


def counts(algo: MultiEnvPPO) -> dict[str, float]:
    return {env_id: moments.count for env_id, moments in algo.agent_checkpoint().obs_moments.items()}


@pytest.mark.parametrize("runners, learners", [(0, 0), (2, 2)])
def test_environments_come_and_go(runners: int, learners: int) -> None:
    config = tiny_config(ENVS, env_loss_weights={"Pendulum-v1": 0.5})
    config.env_runners(num_env_runners=runners).learners(num_learners=learners)
    with running(config) as algo:
        algo.train()
        before = weights(algo)
        assert algo.add_env(REACHER) == "Reacher-v4"
        assert_same(weights(algo), before)  # a new environment has no parameters of its own
        result = algo.train()
        assert sampled(result) == {"CartPole-v1": 64, "Pendulum-v1": 64, "Reacher-v4": 48}
        assert result["learners"]["Reacher-v4"]["num_module_steps_trained_lifetime"] == 48
        assert counts(algo) == {"CartPole-v1": 64, "Pendulum-v1": 64, "Reacher-v4": 48}
        algo.remove_env("Pendulum-v1")
        assert algo.config.env_loss_weights == {}
        result = algo.train()
        assert sampled(result) == {"CartPole-v1": 96, "Reacher-v4": 96}
        assert set(result["env_runners"]["module_episode_return_mean"]) <= {"CartPole-v1", "Reacher-v4"}
        assert "'Pendulum-v1'" not in str({**result, "config": None})
        assert counts(algo) == {"CartPole-v1": 96, "Reacher-v4": 96}
        first, *others = [r.get() for r in algo.learner_group.foreach_learner(parameters)]
        for other in others:
            assert_same(other, first)


def parameters(learner: Any) -> dict[str, np.ndarray]:
    return {name: p.detach().numpy().copy() for name, p in learner.network.named_parameters()}


def test_environments_that_stay_go_on_as_if_nothing_had_happened() -> None:
    """The same episodes, statistics and optimiser moments; here the newcomer is gone before it has been trained on."""
    ends = []
    for visit in (True, False):
        with running(tiny_config(ENVS)) as algo:
            algo.train()
            if visit:
                algo.add_env(REACHER)
                algo.remove_env("Reacher-v4")
            algo.train()
            episodes = {e: [(r.length, r.return_) for r in o.running] for e, o in algo.env_runner.environments.items()}
            ends.append((weights(algo), counts(algo), episodes, algo.learner_group._learner.get_state()["optimizer"]))
    assert_same(*(end[:3] for end in ends))
    assert_same(ends[0][3], ends[1][3])


def test_a_table_of_contexts_grows_and_shrinks() -> None:
    net = dataclasses.replace(TINY_NET, context="embedding")
    config = tiny_config(ENVS).rl_module(model_config=net).env_runners(num_env_runners=1).learners(num_learners=2)
    with running(config) as algo:
        algo.train()
        before = weights(algo)
        algo.add_env(REACHER)
        added = weights(algo)
        new = added.keys() - before.keys()
        assert len(new) == 2  # a row for the actor, one for the critic
        algo.train()
        after = weights(algo)
        assert all(not np.array_equal(added[name], after[name]) for name in new)  # they are trained
        first, second = [r.get() for r in algo.learner_group.foreach_learner(parameters)]
        assert_same(first, second)
        algo.remove_env("CartPole-v1")
        assert len(weights(algo)) == len(before)
        assert np.isfinite(algo.train()["learners"]["Reacher-v4"]["total_loss"])


def test_a_checkpoint_has_the_environments_of_its_time(tmp_path: Any) -> None:
    config = tiny_config(ENVS).env_runners(num_env_runners=1)
    with running(config.copy(copy_frozen=False)) as algo:
        algo.train()
        algo.add_env(REACHER)
        algo.remove_env("CartPole-v1")
        algo.train()
        path = algo.save_to_path(tmp_path / "saved")
        saved, statistics = weights(algo), counts(algo)
    assert list(MultiEnvAgent.from_checkpoint(path).env_specs) == ["Pendulum-v1", "Reacher-v4"]
    with running(MultiEnvPPO.from_checkpoint(path)) as algo:
        assert [spec.id for spec in algo.config.env_specs] == ["Pendulum-v1", "Reacher-v4"]
        assert_same(weights(algo), saved)
        assert set(sampled(algo.train())) == {"Pendulum-v1", "Reacher-v4"}
    # Tune builds what the trial was begun with, and then restores.
    with running(config.copy(copy_frozen=False)) as algo:
        algo.restore_from_path(path)
        assert [spec.id for spec in algo.config.env_specs] == ["Pendulum-v1", "Reacher-v4"]
        assert_same(weights(algo), saved)
        assert counts(algo) == statistics
        assert algo.train()["learners"]["Reacher-v4"]["num_module_steps_trained_lifetime"] == 96


def test_evaluation_knows_the_new_environment() -> None:
    config = tiny_config(ENVS).evaluation(evaluation_duration=2, evaluation_interval=1)
    with running(config) as algo:
        algo.train()
        algo.add_env("MountainCarContinuous-v0")
        algo.remove_env("CartPole-v1")
        returns = algo.train()["evaluation"]["env_runners"]["module_episode_return_mean"]
        assert set(returns) == {"Pendulum-v1", "MountainCarContinuous-v0"}


def test_a_restarted_runner_has_the_environments_of_its_time() -> None:
    with running(tiny_config(ENVS).env_runners(num_env_runners=1)) as algo:
        algo.train()
        algo.add_env(REACHER)
        (runner,) = algo.env_runner_group._worker_manager.actors().values()
        import ray

        ray.kill(runner, no_restart=False)
        for _ in range(60):
            steps = sampled(algo.train())
            if "Reacher-v4" in steps:
                break
        assert steps["Reacher-v4"] == 48


@pytest.mark.parametrize(
    "change, match",
    [
        (lambda a: a.add_env("CartPole-v1"), "CartPole-v1"),
        (lambda a: a.add_env("CartPole-v9"), "CartPole-v1"),
        (lambda a: a.add_env(EnvSpec("Blank", make=lambda: 1)), "Blank"),
        (lambda a: a.remove_env("Pendulum"), "no environment 'Pendulum'; there are CartPole-v1, Pendulum-v1"),
    ],
)
def test_a_change_that_cannot_be_made_changes_nothing(change: Any, match: str) -> None:
    with running(tiny_config(ENVS)) as algo:
        algo.train()
        with pytest.raises(Exception, match=match):
            change(algo)
        assert sampled(algo.train()) == {"CartPole-v1": 64, "Pendulum-v1": 64}


def test_the_last_environment_stays() -> None:
    with running(tiny_config(ENVS[:1])) as algo, pytest.raises(ValueError, match="only environment"):
        algo.remove_env("CartPole-v1")


def test_an_mlp_has_one_environment() -> None:
    from rllib_multienv import MLPNetConfig

    config = tiny_config(ENVS[:1]).rl_module(model_config=MLPNetConfig(hidden=(8,)))
    with running(config) as algo:
        algo.train()
        with pytest.raises(ValueError, match="MLP"):
            algo.add_env("Pendulum-v1")
        assert sampled(algo.train()) == {"CartPole-v1": 64}


def test_no_gradient_is_lost_on_the_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """Moments of parameters that were there before go on after a change of the context table."""
    net = dataclasses.replace(TINY_NET, context="embedding")
    with running(tiny_config(ENVS).rl_module(model_config=net)) as algo:
        algo.train()
        learner = algo.learner_group._learner
        (old,) = learner._optimizer_parameters
        moments = {p: old.state[p]["exp_avg"].clone() for group in old.param_groups for p in group["params"]}
        algo.add_env(REACHER)
        (new,) = learner._optimizer_parameters
        for parameter, moment in moments.items():
            assert torch.equal(new.state[parameter]["exp_avg"], moment)
        assert {id(p) for g in new.param_groups for p in g["params"]} == {id(p) for p in learner.network.parameters()}
