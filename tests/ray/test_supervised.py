"""Labelled data sets train by likelihood beside environments, with any number of learners, and resume exactly."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from iql_runs import iql_config, running_iql
from tiny_runs import assert_goes_on_when_restored, running, tiny_config, weights

from rllib_multienv import DatasetEnv, EnvSpec, GeneratedNetConfig, MultiEnvAgent, MultiEnvPPOConfig
from rllib_multienv.algorithms.iql.loss import iql_loss, policy_weights
from rllib_multienv.nets.heads import Categorical

FLOWERS = EnvSpec("iris", make=DatasetEnv, kwargs={"source": "sklearn.datasets:load_iris"})
SUGAR = EnvSpec("diabetes", make=DatasetEnv, kwargs={"source": "sklearn.datasets:load_diabetes"})

pytestmark = pytest.mark.usefixtures("ray_cluster")


def config(**training: Any) -> MultiEnvPPOConfig:
    return tiny_config([FLOWERS, "CartPole-v1", SUGAR], **training)


def test_rows_train_by_likelihood_beside_environments(tmp_path: Path) -> None:
    settings = config(num_epochs=10, lr=3e-3).rl_module(model_config=GeneratedNetConfig())
    settings.env_runners(rollout_fragment_length=64, num_envs_per_env_runner=2)
    settings.evaluation(evaluation_interval=6, evaluation_duration=3)
    with running(settings) as algo:
        results = [algo.train() for _ in range(6)]
        path = algo.save_to_path(str(tmp_path / "checkpoint"))
    learned = [result["learners"] for result in results]
    assert learned[-1]["iris"]["accuracy"] > max(0.75, learned[0]["iris"]["accuracy"])
    assert learned[-1]["diabetes"]["total_loss"] < learned[0]["diabetes"]["total_loss"]
    assert learned[-1]["diabetes"]["r2"] < 1.0
    unwanted = {"policy_loss", "vf_loss", "vf_explained_var", "mean_kl_loss"}
    assert not unwanted & learned[-1]["iris"].keys() and unwanted <= learned[-1]["CartPole-v1"].keys()
    # Evaluation shows the test split once, and its mean return is the accuracy: a share of 30 rows.
    evaluated = results[-1]["evaluation"]["env_runners"]
    assert {env_id: int(n) for env_id, n in evaluated["module_episodes"].items()} == {
        "iris": 30, "diabetes": 88, "CartPole-v1": 3,
    }  # fmt: skip
    accuracy = evaluated["module_episode_return_mean"]["iris"]
    assert accuracy > 0.6 and abs(accuracy * 30 - round(accuracy * 30)) < 1e-6
    agent = MultiEnvAgent.from_checkpoint(path)
    assert agent.evaluate("iris", episodes=5, seed=0).mean == pytest.approx(accuracy)


def test_likelihood_does_not_depend_on_the_number_of_learners() -> None:
    ends = []
    for learners in (0, 2):
        with running(config(env_loss_weights={"iris": 2.0}).learners(num_learners=learners)) as algo:
            algo.train()
            ends.append(weights(algo))
    for name, array in ends[0].items():
        np.testing.assert_allclose(array, ends[1][name], rtol=2e-3, atol=2e-4, err_msg=name)


def test_only_data_sets_need_no_advantages() -> None:
    with running(tiny_config([FLOWERS])) as algo:
        before = weights(algo)
        algo.train()
        after = weights(algo)
    changed = {name for name in before if not np.array_equal(before[name], after[name])}
    assert changed and not any("critic" in name for name in changed)


def test_it_resumes_in_the_middle_of_an_epoch(tmp_path: Path) -> None:
    assert_goes_on_when_restored(config(), tmp_path)


def test_the_bandit_objective_has_advantages() -> None:
    bandit = EnvSpec("iris", make=DatasetEnv, kwargs={**FLOWERS.kwargs, "objective": "bandit"})
    with running(tiny_config([bandit])) as algo:
        learned = algo.train()["learners"]["iris"]
    assert "policy_loss" in learned and "accuracy" not in learned


def test_offline_losses_of_labels_are_behaviour_cloning() -> None:
    """With reward 1 at the end of every row V and Q are 1, all weights are 1, and the rest is the likelihood."""
    logits = torch.randn(8, 3, requires_grad=True)
    targets, one = torch.arange(8) % 3, torch.ones(8)
    loss = iql_loss(
        values=one, next_values=torch.zeros(8), q_values=one[None], target_q_values=one[None],
        distribution=Categorical(logits), actions=targets, rewards=one, terminals=one.bool(), gamma=0.99, expectile=0.7,
        weights=policy_weights(values=one, target_q_values=one[None], beta=3.0),
    )  # fmt: skip
    (gradient,) = torch.autograd.grad(loss.total, logits)
    (expected,) = torch.autograd.grad(torch.nn.functional.cross_entropy(logits, targets), logits)
    torch.testing.assert_close(gradient, expected)


def test_offline_learning_takes_labels_as_transitions() -> None:
    data = DatasetEnv("sklearn.datasets:load_iris")
    settings = iql_config(
        {"iris": data.transitions}, num_steps_per_iteration=100, batch_size=32, reward_normalization="none"
    )
    with running_iql(settings) as algo:
        first, last = (algo.train()["learners"]["iris"]["policy_loss"] for _ in range(2))
    assert last < first
