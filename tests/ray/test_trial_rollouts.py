"""Trials in rollouts, advantages, metrics, evaluation and checkpoints."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rollouts import ends
from tiny_runs import (
    TINY_NET,
    assert_goes_on_when_restored,
    assert_same,
    make_runner,
    running,
    tiny_config,
    weights,
)
from toy_family import Guess

from rllib_multienv import EnvSpec
from rllib_multienv.connectors.advantages import generalized_advantages
from rllib_multienv.rollout import EPISODE_ENDS, RunningEpisode

GUESS = EnvSpec("guess-v0", make=Guess, trial_episodes=2)


def test_a_rollout_has_the_inner_ends_and_counts_a_trial_as_one_episode() -> None:
    runner = make_runner(tiny_config([GUESS]))  # 16 steps of trials of 6
    rollout = runner.sample_rollouts()["guess-v0"]
    runner.stop()
    assert np.flatnonzero(rollout.extra[EPISODE_ENDS][:, 0]).tolist() == [2, 5, 8, 11, 14]
    assert np.flatnonzero(rollout.done[:, 0]).tolist() == [5, 11]
    assert np.flatnonzero(rollout.first[:, 0]).tolist() == [0, 6, 12]


def test_a_trial_counts_the_return_of_each_of_its_episodes_over_fragments() -> None:
    running_trial = RunningEpisode()
    running_trial.advance(np.array([1.0, 2.0]), np.array([False, False]))
    running_trial.advance(np.array([3.0, 4.0, 5.0]), np.array([True, False, True]))
    assert running_trial.trial_returns == [6.0, 9.0, 0.0]
    assert (running_trial.return_, running_trial.length) == (15.0, 5)


@pytest.mark.parametrize(("across", "expected"), [(True, [4.0, 3.0, 2.0, 1.0]), (False, [2.0, 1.0, 2.0, 1.0])])
def test_advantages_reach_over_inner_ends_if_they_are_to(across: bool, expected: list[float]) -> None:
    inner = np.array([[False], [True], [False], [True]])
    rollout = replace(ends((4, 1), terminated=[(3, 0)]), extra={EPISODE_ENDS: inner})
    found = generalized_advantages(
        rollout,
        rewards=np.ones((4, 1)),
        values=np.zeros((4, 1)),
        final_values=np.zeros(1),
        gamma=1.0,
        lambda_=1.0,
        across_episodes=across,
    )
    assert found[:, 0].tolist() == expected


@pytest.mark.usefixtures("ray_cluster")
def test_metrics_tell_the_episodes_of_a_trial_apart_and_evaluation_counts_trials() -> None:
    config = tiny_config([GUESS, "CartPole-v1"]).evaluation(evaluation_interval=1, evaluation_duration=3)
    with running(config) as algo:
        result = algo.train()
    for sampled in (result["env_runners"], result["evaluation"]["env_runners"]):
        parts = sampled["trial_episode_return_mean"]
        assert parts.keys() == {"guess-v0"} and parts["guess-v0"].keys() == {"1", "2"}
        assert sum(parts["guess-v0"].values()) == pytest.approx(sampled["module_episode_return_mean"]["guess-v0"])
        assert sampled["module_episode_len_mean"]["guess-v0"] == 6
    assert result["evaluation"]["env_runners"]["module_episodes"]["guess-v0"] == 3


@pytest.mark.usefixtures("ray_cluster")
def test_training_is_resumed_in_the_middle_of_trials(tmp_path: Path) -> None:
    assert_goes_on_when_restored(
        tiny_config([replace(GUESS, trial_episodes=4), EnvSpec("multienv/GridNavi-v0", trial_episodes=4)]), tmp_path
    )


@pytest.mark.usefixtures("ray_cluster")
def test_an_algorithm_adapts_in_evaluation_and_when_asked_and_training_does_not_change() -> None:
    config = tiny_config([GUESS, "CartPole-v1"])
    with running(config.copy()) as algo:
        algo.train()
        algo.train()
        expected = weights(algo)
    config.evaluation(evaluation_interval=1, evaluation_duration=1, adaptation={"num_tasks": 3, "episodes": 2})
    with running(config) as algo:
        result = algo.train()
        found = algo.adapt(num_tasks=5, episodes=3, split="train")
        algo.train()
        assert_same(weights(algo), expected)
    reported = result["evaluation"]["env_runners"]["adaptation_return_mean"]
    assert reported.keys() == {"guess-v0"} and reported["guess-v0"].keys() == {"1", "2"}
    assert found.keys() == {"guess-v0"} and found["guess-v0"].returns.shape == (5, 3)
    assert set(found["guess-v0"].tasks[:, 0]) <= {0, 1}


def test_options_of_adaptation_are_checked() -> None:
    for options, message in (
        ({"num_task": 3}, "unknown key 'num_task'. Did you mean 'num_tasks'"),
        ({"episodes": 0}, "episodes=0: must be a whole number of at least 1"),
        ({"split": "val"}, "split='val'"),
        (3, "adaptation=3: must be a mapping"),
    ):
        with pytest.raises(ValueError, match=message):
            tiny_config().evaluation(adaptation=options)
    for envs, wanted, message in (
        (["CartPole-v1"], {}, "no environment is a task family"),
        ([GUESS, "CartPole-v1"], {"env": "CartPole-v1"}, "environment 'CartPole-v1' is no task family"),
        ([GUESS], {"env": "gess"}, "There is no environment 'gess'"),
        ([GUESS], {"inner_loop": {"lrr": 1}}, "unknown key 'lrr'"),
    ):
        with pytest.raises(ValueError, match=message):
            tiny_config(envs).evaluation(adaptation={"num_tasks": 2, **wanted}).validate()
    remembering = tiny_config([GUESS]).rl_module(model_config=replace(TINY_NET, memory="gru"))
    with pytest.raises(ValueError, match=r"a network with memory does not adapt by steps\. Leave inner_loop out"):
        remembering.evaluation(adaptation={"inner_loop": {"lr": 1.0}}).validate()
