"""The policy's weights have mean one in each data set, so that none drowns the others in the shared network."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from first_gradient import RecordsFirstGradient, of_learners
from iql_runs import iql_config, noise, running_iql
from ray.rllib.core.columns import Columns

from rllib_multienv.algorithms.iql import MultiEnvIQLLearner
from rllib_multienv.learners import Step

SEED = 1  # with which advantages of both signs are in the first minibatch

pytestmark = pytest.mark.usefixtures("ray_cluster")


class Recording(RecordsFirstGradient, MultiEnvIQLLearner):
    """Keeps its first gradient."""


class Overestimating(Recording):
    """Takes every state to be worth far more than any action."""

    def compute_losses(self, *, fwd_out: dict[str, Any], step: Step) -> dict[str, Any]:
        for columns in fwd_out.values():
            columns[Columns.VF_PREDS] = columns[Columns.VF_PREDS] + 1e6
        return super().compute_losses(fwd_out=fwd_out, step=step)


def first_update(learner_class: type = Recording, **training: Any) -> tuple[np.ndarray, dict[str, Any]]:
    """The policy's part of the first gradient, and what the learner reported."""
    config = iql_config({"ant": noise(27, 8)}, num_steps_per_iteration=1, batch_size=64, **training)
    config.debugging(seed=SEED)
    with running_iql(config.learners(learner_class=learner_class)) as algo:
        results = algo.train()["learners"]["ant"]
        (gradient,) = of_learners(algo.learner_group, lambda learner: learner.first_gradient)
        (size,) = of_learners(
            algo.learner_group, lambda learner: sum(p.numel() for p in learner.network.actor_parameters())
        )
    return gradient[:size], results


def test_a_large_beta_does_not_make_the_gradient_larger() -> None:
    plain, _ = first_update(beta=1e9, normalize_policy_weights=False)
    normalized, results = first_update(beta=1e9)
    # With such a beta all weights are at their bound of 100 or zero, so their mean is the share of the first.
    share = results["clipped_weights"]
    assert 0.0 < share < 1.0
    np.testing.assert_allclose(plain, 100.0 * share * normalized, rtol=1e-4, atol=1e-5)


def test_without_beta_nothing_changes() -> None:
    plain, before = first_update(beta=0.0, normalize_policy_weights=False)
    normalized, after = first_update(beta=0.0)
    np.testing.assert_allclose(plain, normalized, rtol=1e-5, atol=1e-7)
    assert before["policy_loss"] == pytest.approx(after["policy_loss"])


def test_weights_too_small_for_a_float_teach_nothing() -> None:
    gradient, results = first_update(Overestimating)
    assert results["policy_loss"] == 0.0
    np.testing.assert_array_equal(gradient, 0.0)
