"""Any number of learners with any number of unlike environments: the same parameters everywhere, the same gradient."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
from tiny_runs import assert_same, running, tiny_config, weights

from rllib_multienv import EnvSpec, MultiEnvPPO
from rllib_multienv.algorithms.ppo.learner import MultiEnvPPOLearner

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


class Recording(MultiEnvPPOLearner):
    """Keeps the first reduced gradient, which is not clipped in these tests."""

    first_gradient: np.ndarray | None = None

    def postprocess_gradients(self, gradients_dict: dict[Any, torch.Tensor]) -> dict[Any, torch.Tensor]:
        result = super().postprocess_gradients(gradients_dict)
        if self.first_gradient is None:
            self.first_gradient = torch.cat([g.flatten() for g in result.values()]).numpy().copy()
        return result


def config(envs: Any, num_learners: int) -> Any:
    made = tiny_config(envs, grad_clip=None, num_epochs=1).env_runners(rollout_fragment_length=7)
    return made.learners(num_learners=num_learners, learner_class=Recording)


def of_learners(algo: MultiEnvPPO, what: Any) -> list[Any]:
    return [result.get() for result in algo.learner_group.foreach_learner(what)]


def parameters(learner: Any) -> Mapping[str, np.ndarray]:
    return {name: p.detach().numpy().copy() for name, p in learner.network.named_parameters()}


def start_from(algo: MultiEnvPPO, initial: Mapping[str, np.ndarray]) -> None:
    algo.learner_group.set_weights({"shared": {name.removeprefix("shared/"): a for name, a in initial.items()}})
    algo._send_to_runners()


@pytest.mark.parametrize("num_envs", [1, 2, 3, 5, 7])
def test_gradient_and_parameters_do_not_depend_on_the_number_of_learners(num_envs: int) -> None:
    envs = SEVEN[:num_envs]
    with running(config(envs, 0)) as algo:
        initial = weights(algo)
        algo.train()
        (expected,) = of_learners(algo, lambda learner: learner.first_gradient)
        ids = [spec.id for spec in algo.config.env_specs]
    for num_learners in (1, 2, 3):
        with running(config(envs, num_learners)) as algo:
            start_from(algo, initial)
            for _ in range(10):
                result = algo.train()
            assert len(of_learners(algo, lambda _: 0)) == num_learners
            first, *others = of_learners(algo, parameters)
            for other in others:
                assert_same(other, first)
            for found in of_learners(algo, lambda learner: learner.first_gradient):
                assert np.linalg.norm(found - expected) < 1e-5 * np.linalg.norm(expected)
            for env_id in ids:
                steps = result["env_runners"]["num_module_steps_sampled_lifetime"][env_id]
                assert steps > 0 and result["learners"][env_id]["num_module_steps_trained_lifetime"] == steps
            total = result["env_runners"]["num_env_steps_sampled_lifetime"]
            assert result["learners"]["__all_modules__"]["num_env_steps_trained_lifetime"] == total
