"""Settings of one environment, through RLlib's own overrides, and the environments' weights in the loss."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from tiny_runs import assert_same, changed, running, tiny_config, weights

from rllib_multienv.learners import Minibatch, Step

ENVS = ("CartPole-v1", "Pendulum-v1")

pytestmark = pytest.mark.usefixtures("ray_cluster")


def first_losses(overrides: dict[str, Any], updates: int = 0) -> tuple[dict[str, Any], dict[str, Any]]:
    """Batch and losses of the first fragment, after some updates on it at a high rate without overrides."""
    config = tiny_config(ENVS, actor_lr=0.01, critic_lr=0.01)
    config.multi_agent(algorithm_config_overrides_per_module={"CartPole-v1": overrides})
    with running(config) as algo:
        learner = algo.learner_group._learner
        batch = learner.batch_of({e: [rollout] for e, rollout in algo.env_runner.sample_rollouts().items()})
        generator = torch.Generator().manual_seed(1)  # some values come nearer to their targets
        with torch.no_grad():
            for parameter in learner.network.parameters() if updates else ():
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
        step = Step(minibatch=Minibatch(columns=batch, weights={}))
        losses = learner.compute_losses(fwd_out=learner.module.forward_train(batch), step=step)
        columns = {env_id: {k: t.numpy() for k, t in c.items()} for env_id, c in batch.items()}
        means = {(env_id, key): float(mean) for env_id, key, mean in step.means}
        return columns, {"total": {env_id: float(loss.detach()) for env_id, loss in losses.items()}, **means}


def test_entropy_coeff_of_one_environment() -> None:
    _, plain = first_losses({})
    _, bonus = first_losses({"entropy_coeff": 0.1})
    entropy = plain["CartPole-v1", "entropy"]
    assert entropy > 0.1
    assert bonus["total"]["CartPole-v1"] == pytest.approx(plain["total"]["CartPole-v1"] - 0.1 * entropy, rel=1e-5)
    assert bonus["total"]["Pendulum-v1"] == plain["total"]["Pendulum-v1"]


@pytest.mark.parametrize("setting", [{"gamma": 0.5}, {"lambda_": 0.1}])
def test_discount_and_trace_of_one_environment(setting: dict[str, float]) -> None:
    plain, _ = first_losses({})
    other, _ = first_losses(setting)
    assert not np.allclose(other["CartPole-v1"]["value_targets"], plain["CartPole-v1"]["value_targets"])
    assert_same(other["Pendulum-v1"], plain["Pendulum-v1"])


@pytest.mark.parametrize("setting, term", [({"clip_param": 1e-4}, "policy_loss"), ({"vf_clip_param": 1e-4}, "vf_loss")])
def test_clipping_of_one_environment(setting: dict[str, float], term: str) -> None:
    _, plain = first_losses({}, updates=1)
    _, clipped = first_losses(setting, updates=1)
    assert clipped["CartPole-v1", term] > plain["CartPole-v1", term] + 1e-6  # clipping is the pessimistic bound
    assert clipped["total"]["Pendulum-v1"] == plain["total"]["Pendulum-v1"]


def test_value_loss_coefficient_of_one_environment() -> None:
    _, plain = first_losses({})
    _, none = first_losses({"vf_loss_coeff": 0.0})
    assert none["total"]["CartPole-v1"] == pytest.approx(plain["CartPole-v1", "policy_loss"], abs=1e-6)
    assert none["total"]["Pendulum-v1"] == plain["total"]["Pendulum-v1"]


def test_an_environment_without_weight_does_not_move_the_network() -> None:
    """Whatever its settings: two runs that differ in them alone end with the same weights, bit for bit."""
    results = []
    for settings in ({}, {"gamma": 0.2, "entropy_coeff": 0.3, "clip_param": 0.01}):
        config = tiny_config(ENVS, env_loss_weights={"CartPole-v1": 0.0}, normalize_rewards=False)
        config.multi_agent(algorithm_config_overrides_per_module={"CartPole-v1": settings})
        with running(config) as algo:
            before = weights(algo)
            algo.train()
            results.append(weights(algo))
    assert_same(results[0], results[1])
    # What only discrete actions use gets no gradient at all.
    assert {name for name in before if ".logits." in name} == set(before) - changed(before, results[0])
