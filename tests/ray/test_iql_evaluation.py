"""Evaluation of an offline run: live environments, normalised scores, nothing of training changed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from iql_runs import iql_config, learner_state, noise, running_iql
from tiny_runs import assert_same

from rllib_multienv import EnvSpec
from rllib_multienv.evaluation.scores import normalized_score

pytestmark = pytest.mark.usefixtures("ray_cluster")


def with_scores(arrays: Any, low: float, high: float) -> Any:
    return lambda: {**arrays(), "metadata": {"ref_min_score": low, "ref_max_score": high}}


DATASETS = {
    "CartPole-v1": with_scores(noise(4, 2, discrete=True), 0.0, 500.0),
    "InvertedPendulum-v4": with_scores(noise(4, 1), 0.0, 1.0),
    "nowhere": noise(9, 2),  # no environment, no score
    "Reacher-v4": noise(11, 2),  # an environment, no reference scores
}


def test_scores_of_what_has_reference_scores() -> None:
    config = (
        iql_config(DATASETS)
        .environment(envs=["CartPole-v1", EnvSpec("InvertedPendulum-v4", num_envs=2), "Reacher-v4"])
        .offline_data(reference_scores={"InvertedPendulum-v4": (5.0, 1000.0)})
        .evaluation(evaluation_interval=2, evaluation_duration=3)
    )
    with running_iql(config) as algo:
        assert not algo.env_runner.environments  # nothing is made that training does not need
        assert "evaluation" not in algo.train()
        before = None
        results = algo.train()["evaluation"]["env_runners"]
        before = learner_state(algo)
        algo.evaluate()
        assert_same(learner_state(algo), before)
    returns = results["module_episode_return_mean"]
    assert set(returns) == {"CartPole-v1", "InvertedPendulum-v4", "Reacher-v4"}
    scores = results["normalized_score"]
    assert set(scores) == {"CartPole-v1", "InvertedPendulum-v4"}
    assert scores["CartPole-v1"] == pytest.approx(returns["CartPole-v1"] / 5)
    # What is given counts, not what the data set says.
    assert scores["InvertedPendulum-v4"] == pytest.approx(100 * (returns["InvertedPendulum-v4"] - 5) / 995)
    values = list(scores.values())
    assert results["normalized_score_average"] == pytest.approx(np.mean(values))
    assert results["normalized_score_median"] == pytest.approx(np.median(values))
    assert results["normalized_score_worst"] == pytest.approx(min(values))


def test_evaluation_sees_observations_as_training_does() -> None:
    config = iql_config(DATASETS).environment(envs=["Reacher-v4"]).evaluation(evaluation_interval=1)
    with running_iql(config) as algo:
        algo.train()
        moments = algo.training_data.datasets["Reacher-v4"].obs_moments
        (piece,) = algo.eval_env_runner.statistics
        np.testing.assert_array_equal(piece.moments()["Reacher-v4"].total().mean, moments.mean)
        seen = piece(batch={"Reacher-v4": {"obs": moments.mean[None].astype(np.float32)}}, episodes=[], rl_module=None)
        np.testing.assert_allclose(seen["Reacher-v4"]["obs"], 0.0, atol=1e-5)


def test_remote_evaluation_runners() -> None:
    config = (
        iql_config(DATASETS)
        .environment(envs=["CartPole-v1"])
        .evaluation(evaluation_interval=1, evaluation_duration=4, evaluation_num_env_runners=1)
    )
    with running_iql(config) as algo:
        results = algo.train()["evaluation"]["env_runners"]
        assert len(results["episode_returns"]["CartPole-v1"]) == 4
        assert results["normalized_score"]["CartPole-v1"] > 0


def test_score_is_linear_between_the_references() -> None:
    assert [normalized_score(value, (10.0, 30.0)) for value in (10.0, 30.0, 20.0, 40.0)] == [0.0, 100.0, 50.0, 150.0]
