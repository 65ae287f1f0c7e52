"""Several learners of data sets: the gradient of one learner, the same parameters everywhere."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from first_gradient import RecordsFirstGradient, of_learners
from iql_runs import SEVEN, iql_config, running_iql
from tiny_runs import assert_same, weights

from rllib_multienv.algorithms.iql import MultiEnvIQLLearner

pytestmark = pytest.mark.usefixtures("ray_cluster")


class Recording(RecordsFirstGradient, MultiEnvIQLLearner):
    """Keeps its first gradient."""


def config(datasets: Any, num_learners: int, combiner: str = "weighted_sum") -> Any:
    # The weights exp(beta * advantage) multiply what rounding does to advantages, and learners round different batches.
    made = iql_config(datasets, beta=0.3, gradient_combiner=combiner)
    return made.learners(num_learners=num_learners, learner_class=Recording)


def module_state(learner: Any) -> dict[str, np.ndarray]:
    return {name: p.detach().numpy().copy() for name, p in learner.module.shared.state_dict().items()}


@pytest.mark.parametrize(
    ("num_learners", "num_datasets", "combiner"),
    [(1, 7, "weighted_sum"), (2, 7, "grad_norm"), (3, 7, "weighted_sum"), (3, 1, "weighted_sum")],
)
def test_gradient_and_parameters_do_not_depend_on_the_number_of_learners(
    num_learners: int, num_datasets: int, combiner: str
) -> None:
    datasets = dict(list(SEVEN.items())[:num_datasets])
    with running_iql(config(datasets, 0, combiner)) as algo:
        initial = weights(algo)
        algo.train()
        (expected,) = of_learners(algo.learner_group, lambda learner: learner.first_gradient)
    with running_iql(config(datasets, num_learners, combiner)) as algo:
        start = {"shared": {name.removeprefix("shared/"): array for name, array in initial.items()}}
        algo.learner_group.set_weights(start)
        for iteration in (1, 2, 3):
            result = algo.train()
            assert result["num_steps_lifetime"] == 4 * iteration
        first, *others = of_learners(algo.learner_group, module_state)
        assert len(others) == num_learners - 1
        for other in others:
            assert_same(other, first)
        for found in of_learners(algo.learner_group, lambda learner: learner.first_gradient):
            assert np.linalg.norm(found - expected) < 1e-5 * np.linalg.norm(expected)
        for env_id in datasets:
            assert result["learners"][env_id]["num_module_steps_trained_lifetime"] == 3 * 4 * 6


def test_learners_agree_on_action_values_without_being_told() -> None:
    with running_iql(config(dict(list(SEVEN.items())[:2]), 2).debugging(seed=None)) as algo:
        first, second = of_learners(algo.learner_group, module_state)
        assert_same(first, second)
        for name, array in first.items():
            if name.startswith("targets."):
                np.testing.assert_array_equal(array, first[name.replace("targets.", "action_values.", 1)])
