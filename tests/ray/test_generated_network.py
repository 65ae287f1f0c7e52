"""Runs with the generated network and measured descriptions: learners, resume, other environments."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from first_gradient import assert_two_learners_have_the_gradient_of_one
from tiny_runs import assert_goes_on_when_restored, assert_same, running, tiny_config, weights
from toy_envs import Moody

from rllib_multienv import EnvSpec, GeneratedNetConfig, MultiEnvAgent

NETWORK = GeneratedNetConfig(width=8, generator_width=8, code_size=16, descriptions="auto+measured")
ENVS = ("CartPole-v1", EnvSpec("Reacher-v4", num_envs=3), "Acrobot-v1", "Pendulum-v1")

pytestmark = pytest.mark.usefixtures("ray_cluster")


def config(envs: Any = ENVS, **training: Any) -> Any:
    return tiny_config(envs, **training).rl_module(model_config=NETWORK)


def test_two_learners_give_the_gradient_of_one() -> None:
    assert_two_learners_have_the_gradient_of_one(config())


def test_a_resumed_run_goes_on_as_it_would_have(tmp_path: Path) -> None:
    assert_goes_on_when_restored(config(), tmp_path)


def test_other_environments_take_over_all_parameters(tmp_path: Path) -> None:
    with running(config()) as algo:
        algo.train()
        path = algo.save_to_path(str(tmp_path / "checkpoint"))
        trained = weights(algo)
        algo.add_env("MountainCarContinuous-v0")
        algo.remove_env("CartPole-v1")
        assert_same(weights(algo), trained)
        assert np.isfinite(algo.train()["learners"]["MountainCarContinuous-v0"]["total_loss"])
    others = config(["LunarLander-v3", "Hopper-v4"]).initialize_from(path)
    with running(others) as algo:
        assert_same(weights(algo), trained)
    agent = MultiEnvAgent.from_checkpoint(path)
    assert agent.act("Hopper-v4", np.zeros(11)).shape == (3,)


def test_a_restored_run_has_the_descriptions_that_were_measured_then(tmp_path: Path) -> None:
    moody = EnvSpec("moody", make=Moody)
    with running(config([moody])) as algo:
        algo.train()
        path = algo.save_to_path(str(tmp_path / "checkpoint"))
        measured = algo.config.space_specs
    with running(config([moody])) as algo:
        assert algo.config.space_specs != measured
        algo.restore_from_path(path)
        assert algo.config.space_specs == measured
        learner = algo.learner_group._learner
        for module in (algo.env_runner.module, learner.module):
            assert module.shared.network.interfaces == measured
        algo.train()
    assert MultiEnvAgent.from_checkpoint(path).space_specs == measured
