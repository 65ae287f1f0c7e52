"""Any number of learners with any number of unlike environments: the same parameters everywhere, the same gradient."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import ray
import torch
from first_gradient import RecordsFirstGradient, of_learners
from tiny_runs import TINY_NET, assert_same, make_runner, running, tiny_config

from rllib_multienv import EnvSpec
from rllib_multienv.algorithms.ppo.learner import MultiEnvPPOLearner
from rllib_multienv.env_runners.assignment import environment_costs
from rllib_multienv.learners import RolloutData

# Discrete and continuous in turn; 2 to 27 observations, 1 to 8 actions, one to four copies.
SEVEN = (
    "CartPole-v1",
    EnvSpec("Reacher-v4", num_envs=4),
    "Acrobot-v1",
    EnvSpec("Ant-v4", num_envs=1),
    "Pendulum-v1",
    "MountainCarContinuous-v0",
    EnvSpec("CartPole-again", make="CartPole-v1", num_envs=3),
)

pytestmark = pytest.mark.usefixtures("ray_cluster")


class Recording(RecordsFirstGradient, MultiEnvPPOLearner):
    """Keeps its first gradient."""


def config(envs: Any, num_learners: int) -> Any:
    made = tiny_config(envs, grad_clip=None, num_epochs=1).env_runners(rollout_fragment_length=7)
    made = made.learners(num_learners=num_learners, learner_class=Recording)
    made.validate()
    return made


def parameters(learner: Any) -> Mapping[str, np.ndarray]:
    return {name: p.detach().numpy().copy() for name, p in learner.network.named_parameters()}


def first_gradient(learner: Any) -> np.ndarray:
    found, learner.first_gradient = learner.first_gradient, None
    return found


def update(group: Any, made: Any, fragments: Mapping[str, Any]) -> list[Any]:
    return group.update(
        training_data=RolloutData.of(fragments, environment_costs(made)),
        timesteps={},
        num_epochs=1,
        num_minibatches=2,
    )


@pytest.fixture(scope="module")
def cases() -> dict[int, Any]:
    """By number of environments: the configuration, a fragment of each environment, and one learner's gradient."""
    found = {}
    for num_envs in (1, 2, 3, 5, 7):
        made = config(SEVEN[:num_envs], 0)
        runner = make_runner(made)
        sampled = runner.sample_rollouts()
        runner.stop()
        fragments = {env_id: [(ray.put(rollout), rollout.steps)] for env_id, rollout in sampled.items()}
        group = made.build_learner_group()
        group.set_weights({"shared": initial_weights()})
        update(group, made, fragments)
        (gradient,) = of_learners(group, first_gradient)
        found[num_envs] = (made, fragments, gradient)
    return found


@functools.cache
def initial_weights() -> dict[str, np.ndarray]:
    """The same for any environments, for no parameter belongs to one."""
    torch.manual_seed(7)
    network = TINY_NET.build(config(SEVEN[:1], 0).space_specs)
    return {f"network.{name}": tensor.numpy() for name, tensor in network.state_dict().items()}


@pytest.mark.parametrize("num_learners", [1, 2, 3])
def test_gradient_and_parameters_do_not_depend_on_the_number_of_learners(
    num_learners: int, cases: dict[int, Any]
) -> None:
    group = config(SEVEN, num_learners).build_learner_group()
    try:
        assert len(of_learners(group, lambda _: 0)) == num_learners
        for num_envs, (made, fragments, expected) in sorted(cases.items(), reverse=True):
            of_learners(group, functools.partial(_change_environments, config=made.learners(num_learners=num_learners)))
            group.set_weights({"shared": initial_weights()})
            results = [update(group, made, fragments) for _ in range(10)]
            for found in of_learners(group, first_gradient):
                assert np.linalg.norm(found - expected) < 1e-5 * np.linalg.norm(expected), num_envs
            first, *others = of_learners(group, parameters)
            for other in others:
                assert_same(other, first)
            for metrics in results:
                for env_id, [(_, steps)] in fragments.items():
                    counts = [m[env_id]["num_module_steps_trained_lifetime"].peek() for m in metrics if env_id in m]
                    assert sum(counts) == steps, env_id
    finally:
        group.shutdown()


def _change_environments(learner: Any, config: Any) -> None:
    learner.change_environments(config)
    learner.num_updates = 0  # minibatches are those of the first update again


def test_every_environment_is_sampled_and_trained_on() -> None:
    made = tiny_config(SEVEN).learners(num_learners=3)
    with running(made) as algo:
        for _ in range(2):
            result = algo.train()
    for spec in made.env_specs:
        steps = result["env_runners"]["num_module_steps_sampled_lifetime"][spec.id]
        assert steps > 0 and result["learners"][spec.id]["num_module_steps_trained_lifetime"] == steps
    total = result["env_runners"]["num_env_steps_sampled_lifetime"]
    assert result["learners"]["__all_modules__"]["num_env_steps_trained_lifetime"] == total
