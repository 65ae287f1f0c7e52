"""HiP-BMDP: the distance loss, one gradient whatever the number of learners, exact resume, unseen tasks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from first_gradient import RecordsFirstGradient, assert_same_parameters, of_learners
from tiny_runs import assert_goes_on_when_restored, changed, running, weights

from rllib_multienv import EnvSpec, GeneratedNetConfig, HiPNetConfig, MultiEnvAgent, MultiEnvHiPBMDPConfig
from rllib_multienv.algorithms.hip_bmdp import MultiEnvHiPBMDPLearner
from rllib_multienv.algorithms.hip_bmdp.loss import bisimulation_loss

POLES = [
    EnvSpec(f"pole{number}", make="multienv/CartPoleHidden-v0", kwargs={"task": [0, 0, 0, 0, force]})
    for number, force in enumerate((0.6, -0.6, 0.3))
]


def config(envs: Any = (*POLES, "Pendulum-v1"), **training: Any) -> MultiEnvHiPBMDPConfig:
    """Two copies, 16 time steps, minibatches of 9, three steps an iteration, seed 0, all in this process."""
    defaults = {"batch_size": 9, "min_replay_size": 32, "num_random_steps": 16, "update_to_data_ratio": 3 / 32}
    return (
        MultiEnvHiPBMDPConfig()
        .environment(envs=list(envs))
        .env_runners(num_envs_per_env_runner=2, rollout_fragment_length=16)
        .rl_module(model_config=HiPNetConfig(width=8, depth=1, context_size=4))
        .training(**{**defaults, **training})
        .debugging(seed=0)
    )


def test_embeddings_move_until_they_are_as_far_apart_as_the_predictions() -> None:
    own, other = (torch.tensor([x, 0.0], requires_grad=True) for x in (0.0, 3.0))
    change = torch.tensor([[1.0, 0.0], [0.0, 4.0]], requires_grad=True)
    loss = bisimulation_loss(own, other, change, torch.tensor([[1.0, 2.0], [0.0, 0.0]]))
    assert loss.item() == pytest.approx(((3 - 2) ** 2 + (3 - 4) ** 2) / 2)
    loss.backward()
    assert change.grad is None and torch.equal(own.grad, -other.grad)  # type: ignore[operator,arg-type]
    optimizer = torch.optim.SGD([own, other], lr=0.05)
    for _ in range(100):
        optimizer.zero_grad()
        bisimulation_loss(own, other, torch.ones(1, 1), torch.zeros(1, 1)).backward()
        optimizer.step()
    assert (own - other).norm().item() == pytest.approx(1.0, abs=1e-3)


class RecordingLearner(RecordsFirstGradient, MultiEnvHiPBMDPLearner):
    """HiP-BMDP's learner that keeps its first gradient."""


@pytest.mark.usefixtures("ray_cluster")
def test_two_learners_have_the_gradient_of_one() -> None:
    found = []
    for num_learners in (0, 2):
        with running(config().learners(num_learners=num_learners, learner_class=RecordingLearner)) as algo:
            algo.train()
            found += of_learners(algo.learner_group, lambda learner: learner.first_gradient)
            if num_learners:
                assert_same_parameters(algo.learner_group)
    expected, *others = found
    assert len(others) == 2
    for other in others:
        assert np.linalg.norm(other - expected) < 1e-5 * np.linalg.norm(expected)


@pytest.mark.usefixtures("ray_cluster")
def test_all_but_the_unused_values_is_trained_and_the_agent_acts_in_unseen_tasks(tmp_path: Path) -> None:
    with running(config()) as algo:
        before = weights(algo)
        results = [algo.train() for _ in range(3)]
        after = weights(algo)
        adapted = algo.adapt(EnvSpec("unseen", make="multienv/CartPoleHidden-v0"), num_tasks=2, episodes=2)
        agent = MultiEnvAgent.from_checkpoint(algo.save_to_path(tmp_path / "checkpoint"))
    untrained = set(after) - changed(before, after)
    assert all(name.startswith("shared/network.critic") for name in untrained)
    learned = results[-1]["learners"]
    assert all(np.isfinite(learned[e]["transition_loss"]) for e in ("pole0", "Pendulum-v1"))
    assert learned["pole0"]["bisimulation_loss"] > 0 and "bisimulation_loss" not in learned["Pendulum-v1"]
    assert adapted["unseen"].returns.shape == (2, 2)
    assert len(agent.evaluate(EnvSpec("other", make="multienv/CartPoleHidden-v0"), episodes=2)) == 2


@pytest.mark.usefixtures("ray_cluster")
def test_a_restored_run_continues_as_it_would_have(tmp_path: Path) -> None:
    assert_goes_on_when_restored(config(), tmp_path)


@pytest.mark.usefixtures("ray_cluster")
def test_a_task_that_is_added_starts_at_the_mean_embedding_and_is_trained() -> None:
    with running(config(POLES[:2])) as algo:
        algo.train()
        algo.add_env(POLES[2])
        rows = {name: array for name, array in weights(algo).items() if "network.actor.middle.context.rows" in name}
        first, second, new = (rows[f"shared/network.actor.middle.context.rows.env:pole{number}"] for number in range(3))
        np.testing.assert_allclose(new, (first + second) / 2, rtol=1e-6)
        algo.train()
        algo.remove_env("pole0")
        algo.train()
        after = weights(algo)
    assert not np.array_equal(after["shared/network.actor.middle.context.rows.env:pole2"], new)


def test_tasks_that_cannot_be_compared_are_warned_about() -> None:
    with pytest.warns(UserWarning, match="No two environments have the same spaces"):
        MultiEnvHiPBMDPConfig().environment(envs=["CartPole-v1", "Acrobot-v1"]).validate()


def test_other_networks_and_returns_of_several_steps_are_refused() -> None:
    with pytest.raises(ValueError, match="type 'generated'; HiP-BMDP's is 'hip'"):
        config().rl_module(model_config=GeneratedNetConfig()).validate()
    with pytest.raises(ValueError, match="n_step must be 1"):
        config(n_step=3).validate()
    assert isinstance(MultiEnvHiPBMDPConfig().environment(envs=["CartPole-v1"]).network_config, HiPNetConfig)
