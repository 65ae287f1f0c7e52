"""MultiEnvDREAM: rewards of exploring, who is told the task, and the same gradient for any number of learners."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from first_gradient import RecordsFirstGradient, assert_two_learners_have_the_gradient_of_one
from tiny_runs import assert_goes_on_when_restored, learner_batch, make_runner, running
from toy_family import Guess

from rllib_multienv import EnvSpec, GeneratedNetConfig, MultiEnvAgent, MultiEnvDREAMConfig, MultiEnvPPOConfig
from rllib_multienv.algorithms.dream import MultiEnvDREAMLearner
from rllib_multienv.algorithms.dream.loss import bottleneck_loss, exploration_rewards, inference_errors
from rllib_multienv.nets import DreamNetConfig

GUESS = EnvSpec("guess", make=Guess, trial_episodes=2)  # trials of 6 steps
GRID = EnvSpec("grid", make="multienv/GridNavi-v0", kwargs={"horizon": 4}, trial_episodes=3, num_envs=2)


class RecordingDREAMLearner(RecordsFirstGradient, MultiEnvDREAMLearner):
    """DREAM's learner that keeps its first gradient."""


def config(envs: Any = (GUESS,), **training: Any) -> MultiEnvDREAMConfig:
    network = GeneratedNetConfig(width=16, depth=1, generator_width=16, code_size=8, max_seq_len=6)
    return (
        MultiEnvDREAMConfig()
        .environment(envs=list(envs))
        .env_runners(num_env_runners=0, num_envs_per_env_runner=4, rollout_fragment_length=12)
        .rl_module(model_config=network)
        .training(**{"num_epochs": 1, "num_minibatches": 2, **training})
        .debugging(seed=0)
    )


def test_losses_are_those_of_the_paper() -> None:
    known = torch.tensor([[3.0, 0.0], [0.0, 1.0]], requires_grad=True)
    inferred = torch.tensor([[1.0, 1.0], [0.0, 0.0]], requires_grad=True)
    errors = inference_errors(inferred, known)
    assert errors.tolist() == [5.0, 1.0]  # (3 - 1)^2 + 1, 1
    errors.sum().backward()
    assert known.grad is None and inferred.grad is not None
    loss = bottleneck_loss(known, 4.0)
    assert float(loss.detach()) == (9.0 + 4.0) / 2
    loss.backward()
    assert known.grad.tolist() == [[3.0, 0.0], [0.0, 0.0]]  # within the bound there is no gradient


def test_rewards_of_exploring_are_what_a_step_tells_less_its_cost() -> None:
    errors = np.array([[8.0, 5.0], [3.0, 6.0], [2.0, 1.0]])
    rewards = exploration_rewards(errors, np.array([1.0, 4.0]), np.array([4, 5]), cost=0.5)
    np.testing.assert_allclose(rewards, [[4.5, -1.5], [0.5, 4.5], [0.5, -3.5]])


def test_rewards_of_an_exploration_episode_telescope_and_are_not_the_environments() -> None:
    made = config(bottleneck=2.0, gamma=1.0, lambda_=1.0, normalize_rewards=False)
    runner = make_runner(made)
    rollout = runner.sample_rollouts()["guess"]  # two trials of each copy
    module = made.get_multi_rl_module_spec().build()
    batch = learner_batch(made, module, {"guess": rollout})["guess"]
    _, errors = module.shared.compute_errors({"guess": batch})["guess"]
    exploring, errors, returns = (
        # [L, S] of sequences of a trial each
        column.view(6, -1)
        for column in (batch["exploring"], errors, batch["value_targets"])
    )
    assert exploring[:3].all() and not exploring[3:].any()
    torch.testing.assert_close(returns[0], (errors[0] - errors[3]) / 2.0, atol=1e-5, rtol=1e-4)
    rewards = rollout.rewards.reshape(2, 6, -1).swapaxes(0, 1).reshape(6, -1)
    np.testing.assert_allclose(returns[3], rewards[3:].sum(0), atol=1e-5)


def test_advantages_are_standardised_for_each_policy() -> None:
    made = config()
    rollouts = make_runner(made).sample_rollouts()
    batch = learner_batch(made, made.get_multi_rl_module_spec().build(), rollouts)["guess"]
    explored = batch["advantages"][batch["exploring"]]
    assert abs(float(explored.mean())) < 1e-5 and abs(float(explored.std(correction=0)) - 1.0) < 1e-3


def test_every_second_trial_is_told_its_task_and_no_evaluation_is() -> None:
    made = config()
    rollout = make_runner(made).sample_rollouts()["guess"]
    told, task = rollout.extra["task_told"], rollout.extra["task"]
    assert told[:6].all(0).tolist() == [True, False, True, False]
    np.testing.assert_array_equal(told[6:], ~told[:6])
    assert set(task.flatten()) <= {0.0, 1.0}
    # The label is that of the trial: with the right action the reward is 1.
    np.testing.assert_array_equal(rollout.rewards, rollout.actions == task[..., 0])
    evaluation = made.copy(copy_frozen=False)
    evaluation.in_evaluation = True
    assert not {"task", "task_told"} & set(make_runner(evaluation).sample_rollouts()["guess"].extra)


@pytest.mark.usefixtures("ray_cluster")
def test_the_gradient_does_not_depend_on_the_number_of_learners() -> None:
    assert_two_learners_have_the_gradient_of_one(config([GUESS, GRID]), learner_class=RecordingDREAMLearner)


@pytest.mark.usefixtures("ray_cluster")
def test_a_run_is_resumed_in_the_middle_of_trials_and_its_agent_adapts(tmp_path: Path) -> None:
    made = config([GUESS, GRID]).env_runners(rollout_fragment_length=8)
    assert_goes_on_when_restored(made, tmp_path)
    agent = MultiEnvAgent.from_checkpoint(tmp_path / "checkpoint")
    for env_id in ("guess", "grid"):
        adapted = agent.adapt(env_id, num_tasks=3, episodes=4, seed=0)
        assert adapted.returns.shape == (3, 4)
        np.testing.assert_array_equal(adapted.returns, agent.adapt(env_id, num_tasks=3, episodes=4, seed=0).returns)


@pytest.mark.usefixtures("ray_cluster")
def test_it_learns_to_be_told_what_exploring_tells() -> None:
    """In the last episode the task is known to the exploiter, though no trial of a test is told."""
    made = config(lr=5e-3, num_epochs=4, entropy_coeff=0.01, gamma=0.9).env_runners(num_envs_per_env_runner=16)
    with running(made) as algo:
        for _ in range(60):
            results = algo.train()["learners"]["guess"]
        adapted = algo.adapt("guess", split="train", num_tasks=20, episodes=2)["guess"]
    assert adapted.returns[:, 1].mean() > 2.5  # of 3; one guess for both tasks has 1.5
    assert results["inference_error"] < 1.0


def test_what_it_cannot_train_is_refused() -> None:
    with pytest.raises(ValueError, match=r"'guess' has trial_episodes=None: .* EnvSpec\(\.\.\., trial_episodes=2\)"):
        config([EnvSpec("guess", make=Guess)]).validate()
    with pytest.raises(ValueError, match="'cart' is no task family"):
        config([EnvSpec("cart", make="CartPole-v1", trial_episodes=2)]).validate()
    with pytest.raises(ValueError, match=r"memory='dream' .*: MultiEnvPPO trains 'gru', 's4'"):
        MultiEnvPPOConfig().environment(envs=["CartPole-v1"]).rl_module(model_config=DreamNetConfig()).validate()
