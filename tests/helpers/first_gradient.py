"""What tests of several learners look at."""

from __future__ import annotations

from typing import Any

import numpy as np
import ray
import torch
from tiny_runs import assert_same, make_runner

from rllib_multienv import MultiEnvPPOConfig
from rllib_multienv.algorithms.ppo.learner import MultiEnvPPOLearner
from rllib_multienv.env_runners.assignment import environment_costs, environment_groups
from rllib_multienv.learners import MultiEnvLearner, RolloutData, Step


class RecordsFirstGradient(MultiEnvLearner):
    """Keeps the first reduced gradient, before it is clipped."""

    first_gradient: np.ndarray | None = None

    def gradients(self, step: Step) -> list[torch.Tensor]:
        result = super().gradients(step)
        if self.first_gradient is None:
            self.first_gradient = torch.cat([g.flatten() for g in result]).numpy().copy()
        return result


class RecordingPPOLearner(RecordsFirstGradient, MultiEnvPPOLearner):
    """PPO's learner that keeps its first gradient."""


def of_learners(group: Any, what: Any) -> list[Any]:
    """What ``what`` says of each learner of a group."""
    return [result.get() for result in group.foreach_learner(what)]


def assert_same_parameters(group: Any) -> None:
    """The learners' networks are equal bit for bit."""
    first, *others = of_learners(group, lambda learner: {k: v.numpy() for k, v in learner.network.state_dict().items()})
    assert others
    for other in others:
        assert_same(other, first)


def assert_two_learners_have_the_gradient_of_one(
    config: MultiEnvPPOConfig, *, num_minibatches: int = 2, learner_class: type[MultiEnvLearner] = RecordingPPOLearner
) -> None:
    """One learner and two have the same first gradient, to rounding, and the two have equal parameters."""
    config.training(grad_clip=None, num_epochs=1).learners(learner_class=learner_class)
    runner = make_runner(config)
    fragments = {env_id: [(ray.put(own), own.steps)] for env_id, own in runner.sample_rollouts().items()}
    runner.stop()
    gradients, weights = [], None
    for num_learners in (0, 2):
        group = config.learners(num_learners=num_learners).build_learner_group()
        try:
            weights = weights or group.get_weights()
            group.set_weights(weights)
            data = RolloutData.of(fragments, environment_costs(config), groups=environment_groups(config))
            group.update(training_data=data, timesteps={}, num_epochs=1, num_minibatches=num_minibatches)
            gradients += of_learners(group, lambda learner: learner.first_gradient)
            if num_learners:
                assert_same_parameters(group)
        finally:
            group.shutdown()
    expected, *others = gradients
    assert len(others) == 2
    for other in others:
        assert np.linalg.norm(other - expected) < 1e-5 * np.linalg.norm(expected)
