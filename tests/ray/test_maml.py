"""MultiEnvMAML: the same gradient for any number of learners, settings, and an agent that adapts."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from interfaces import interface
from tiny_runs import TINY_NET, assert_goes_on_when_restored, running

from rllib_multienv import EnvSpec, GeneratedNetConfig, MLPNetConfig, MultiEnvAgent, MultiEnvMAMLConfig
from rllib_multienv.algorithms.maml.batches import STAGE
from rllib_multienv.algorithms.maml.learner import meta_loss
from rllib_multienv.algorithms.maml.runner import MAMLRunner
from rllib_multienv.inner_loop import InnerLoop, start_parameters
from rllib_multienv.learners import RolloutData
from rllib_multienv.learners.minibatches import Shuffle, minibatches
from rllib_multienv.learners.shares import Share
from rllib_multienv.nets import distribution_for
from rllib_multienv.rollout import EPISODE_ENDS, FIRST, VALID

POINT = EnvSpec("point", make="multienv/PointNavigation-v0", max_episode_steps=10)
GRID = EnvSpec("grid", make="multienv/GridNavi-v0")


def maml_config(envs: Any = (POINT,), **training: Any) -> MultiEnvMAMLConfig:
    return (
        MultiEnvMAMLConfig()
        .environment(envs=list(envs))
        .env_runners(num_env_runners=0, num_envs_per_env_runner=4, rollout_fragment_length=60)
        .rl_module(model_config=GeneratedNetConfig(width=8))
        .training(**{"inner_episodes": 2, "num_epochs": 2, **training})
        .debugging(seed=0)
    )


def random_batch(network: Any) -> dict[str, torch.Tensor]:
    """Five trials of different lengths, each with a stage before and after the inner step."""
    torch.manual_seed(0)
    lengths = torch.tensor([8, 6, 9, 5, 7])
    valid = torch.arange(9)[:, None] < lengths  # [L, S]
    count = int(valid.sum())
    obs = torch.randn(count, 3)
    inputs = network.policy({"env": obs})["env"].detach()
    distribution = distribution_for(network.interfaces["env"]).from_logits(inputs)
    actions = distribution.sample()
    return {
        "obs": obs, "actions": actions, "action_logp": distribution.logp(actions), "action_dist_inputs": inputs,
        "advantages": torch.randn(count), STAGE: (torch.arange(9)[:, None] * 2 // lengths)[valid],
        VALID: valid, FIRST: torch.zeros_like(valid), "state_in": torch.zeros(5, 0),
    }  # fmt: skip


@pytest.mark.parametrize("method", ["promp", "reptile"])
def test_the_gradients_of_two_learners_add_up_to_that_of_one(method: Any) -> None:
    network = MLPNetConfig(hidden=(4,)).build({"env": interface(3, 2, False)})
    batch, inner_loop = random_batch(network), InnerLoop(method=method)

    def gradients(share: Share) -> list[list[torch.Tensor]]:
        parts = minibatches(
            {"env": batch}, num_minibatches=2, num_epochs=1, shuffle=Shuffle(seed=0, update=1), keys={"env": 3},
            shares={"env": share},
        )  # fmt: skip
        found = []
        for part in parts:
            _, linear = meta_loss(network, "env", part.columns["env"], inner_loop, clip_param=0.3, kl_coeff=0.1)
            linear = linear * part.weights["env"]
            found.append(list(torch.autograd.grad(linear, list(start_parameters(network).values()))))
        return found

    whole, *halves = (gradients(share) for share in (Share(), Share(stop=0.4), Share(start=0.4)))
    for one, first, second in zip(whole, *halves, strict=True):
        torch.testing.assert_close(one, [a + b for a, b in zip(first, second, strict=True)])


def test_trials_follow_from_the_settings_and_wrong_ones_are_named() -> None:
    config = maml_config(inner_episodes=3, inner_steps=2).env_runners(rollout_fragment_length=90)
    config.validate()
    assert [spec.trial_episodes for spec in config.env_specs] == [9]
    config.training(inner_steps=1).validate()  # other settings, other trials
    assert [spec.trial_episodes for spec in config.env_specs] == [6]
    with pytest.raises(ValueError, match="order=2: the 'agnostic' network has first derivatives only"):
        maml_config().rl_module(model_config=TINY_NET).validate()
    maml_config(order=1).rl_module(model_config=TINY_NET).validate()
    with pytest.raises(ValueError, match="normalize_rewards=True has no effect"):
        maml_config(normalize_rewards=True).validate()
    with pytest.raises(ValueError, match="sample_ahead=True: inner steps start at the present parameters"):
        maml_config().env_runners(num_env_runners=1, sample_ahead=True).validate()
    with pytest.raises(ValueError, match="learn_inner_lr=True: Reptile has no gradient of step sizes"):
        maml_config(method="reptile", learn_inner_lr=True).validate()
    with pytest.raises(ValueError, match=r"'point' gives 4 trials per fragment .* num_minibatches=5"):
        maml_config(num_minibatches=5).validate()


def test_trials_of_another_length_are_refused() -> None:
    maml_config([replace(POINT, trial_episodes=4)]).validate()
    with pytest.raises(ValueError, match=r"'point' has trial_episodes=3, but .* inner_episodes=2 make trials of 4\."):
        maml_config([replace(POINT, trial_episodes=3)]).validate()


def test_a_fragment_shorter_than_the_longest_trial_is_refused() -> None:
    maml_config([POINT, GRID]).validate()
    with pytest.raises(ValueError, match=r"'grid': rollout_fragment_length=59 must be at least 60, 4 episodes of 15"):
        maml_config([POINT, GRID]).env_runners(rollout_fragment_length=59).validate()
    with pytest.raises(ValueError, match="'point': rollout_fragment_length='auto' must be at least 200"):
        maml_config(inner_episodes=10).env_runners(rollout_fragment_length="auto").validate()


def test_a_step_of_the_gradient_helps_more_and_more() -> None:
    """A runner and a learner without Ray; goals are up to five moves away in x and in y."""
    config = maml_config(lr=1e-2, inner_episodes=4, num_epochs=5, normalize_obs=False)
    config.env_runners(num_envs_per_env_runner=24, rollout_fragment_length=80)
    config.rl_module(model_config=MLPNetConfig(hidden=(32, 32))).validate()
    runner, learner = MAMLRunner(config=config, worker_index=0), config.build_learner_group()._learner
    gains = []
    for _ in range(8):
        rollout = runner.sample_rollouts()["point"]
        learner.update(training_data=RolloutData.of({"point": [(rollout, rollout.steps)]}), num_epochs=5)
        runner.module.set_state(learner.module.get_state(inference_only=True))
        ends = rollout.extra[EPISODE_ENDS]  # [T, B]
        is_adapted = (np.cumsum(ends, 0) - ends) // 4 % 2 == 1
        before, after = (rollout.rewards[own].mean() for own in (~is_adapted, is_adapted))
        gains.append(after - before)
    assert gains[-1] > 0.05 and gains[-1] > gains[0] + 0.05, gains


@pytest.mark.usefixtures("ray_cluster")
def test_an_agent_trains_in_unlike_families_is_resumed_exactly_and_adapts(tmp_path: Path) -> None:
    config = maml_config([POINT, GRID], learn_inner_lr=True)
    with running(config.copy()) as algo:
        result = algo.train()
        assert set(result["env_runners"]["trial_episode_return_mean"]["grid"]) == {"1", "2", "3", "4"}
        adaptation = algo.adapt("grid", num_tasks=3, episodes=4)["grid"]
        assert adaptation.returns.shape == (3, 4)
        path = algo.save_to_path(tmp_path / "agent")
    agent = MultiEnvAgent.from_checkpoint(path)
    assert agent.checkpoint.adapter == {"type": "inner_loop", **asdict(config.inner_loop)}
    first, again = (agent.adapt("point", num_tasks=3, episodes=4).returns for _ in range(2))
    plain = agent.adapt("point", num_tasks=3, episodes=4, inner_loop={"episodes": 5}).returns
    np.testing.assert_array_equal(first, again)
    np.testing.assert_array_equal(first[:, :2], plain[:, :2])  # before the first step
    assert (first[:, 2:] != plain[:, 2:]).all()
    assert_goes_on_when_restored(config, tmp_path)
