"""PEARL: tasks and contexts from trials, latents in Q alone, any number of learners, resumed runs, several families."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray
import torch
from first_gradient import RecordsFirstGradient, assert_same_parameters, of_learners
from tiny_runs import TINY_NET, assert_goes_on_when_restored, running
from toy_family import Guess

from rllib_multienv import EnvSpec, GeneratedNetConfig, MultiEnvAgent, MultiEnvPEARLConfig, MultiEnvSACConfig
from rllib_multienv.algorithms.pearl import MultiEnvPEARLLearner
from rllib_multienv.algorithms.pearl.replay import TASK, PEARLData, TaskReplay, by_row
from rllib_multienv.algorithms.pearl.runner import PEARLRunner
from rllib_multienv.env_runners.assignment import environment_costs
from rllib_multienv.nets import NetConfig

GUESS = EnvSpec("guess", make=Guess, trial_episodes=3)
POINT = EnvSpec(
    "point", make="multienv/PointNavigation-v0", kwargs={"setting": "pearl", "horizon": 4}, trial_episodes=2
)
SMALL = GeneratedNetConfig(width=16, depth=1, generator_width=16, code_size=8, belief_size=2)


#: Two numbers of the latent, and two draws of two numbers for each of three transitions where actions are continuous.
NOISE = {"guess": 2, "point": 2 + 3 * 4}


class RecordingPEARLLearner(RecordsFirstGradient, MultiEnvPEARLLearner):
    """PEARL's learner that keeps its first gradient."""


def config(envs: Any = (GUESS, POINT), net: NetConfig = SMALL, **training: Any) -> MultiEnvPEARLConfig:
    """Four copies, 10 time steps, minibatches of 4 tasks with 3 transitions each, seed 0, all in this process."""
    defaults = {
        "batch_size": 12,
        "meta_batch_size": 4,
        "context_size": 5,
        "min_replay_size": 20,
        "num_random_steps": 0,
        "update_to_data_ratio": 0.1,
    }
    return (
        MultiEnvPEARLConfig()
        .environment(envs=list(envs))
        .env_runners(num_envs_per_env_runner=4, rollout_fragment_length=10)
        .rl_module(model_config=net)
        .training(**{**defaults, **training})
        .debugging(seed=0)
    )


def sampled(made: MultiEnvPEARLConfig, rounds: int) -> list[dict[str, Any]]:
    made.validate()
    runner = PEARLRunner(config=made, worker_index=0)
    found = [runner.sample_rollouts() for _ in range(rounds)]
    runner.stop()
    return found


def test_a_task_has_transitions_of_all_its_trials_and_a_context_of_one() -> None:
    """Observations of `Guess` are the step within the episode; an inner end shows the next episode's first one."""
    made = config([GUESS]).training(normalize_obs=False)
    store = TaskReplay(1000, rows_per_task=40, context_size=9)
    tasks = []
    for rollouts in sampled(made, 2):
        rollout = rollouts["guess"]
        tasks += [rollout.extra[TASK][t, b, 0] for b, _, stop in rollout.chunks() if rollout.done[t := stop - 1, b]]
        store.add_fragments([rollout])
    assert set(tasks) == {0.0, 1.0}
    assert len(store) == 8 * 9  # of 20 steps of each of four copies two trials of 9 are whole
    drawn = store.draw(np.random.default_rng(0), 50)
    of_rows = np.where(drawn < 0, np.nan, np.array(tasks)[drawn // 9])
    assert (np.nanmin(of_rows, 1) == np.nanmax(of_rows, 1)).all()  # all of a row are of one task
    assert set((drawn[:, :40] % 9).flatten()) == {0, 1, 3, 4, 6, 7, 8}  # not the ends of episodes within trials
    assert max(len(set(own // 9)) for own in drawn[:, :40]) == max(tasks.count(0.0), tasks.count(1.0))
    sizes = (drawn[:, 40:] >= 0).sum(1)
    assert set(sizes) == {3, 6, 9}  # the first one, two or three episodes
    for row, size in zip(drawn[:, 40:], sizes, strict=True):
        assert len(set(row[:size] // 9)) == 1 and sorted(row[:size] % 9) == list(range(size))
    found = store.columns(drawn)
    assert found["obs"].shape[:2] == (50, 40) and found["context_obs"].shape[:2] == (50, 9)
    assert ((found["new_obs"][..., 0] - found["obs"][..., 0]) == 1).all()


def test_trials_that_were_overwritten_are_not_drawn() -> None:
    store = TaskReplay(30, rows_per_task=20, context_size=2)
    for rollouts in sampled(config([GUESS]), 4):
        store.add_fragments([rollouts["guess"]])
    drawn = store.draw(np.random.default_rng(0), 200)
    assert len(np.unique(drawn[:, :20])) == 3 * 7  # three whole trials fit, without the ends within them
    with pytest.raises(ValueError, match="no whole trial"):
        TaskReplay(10, rows_per_task=1, context_size=1).draw(np.random.default_rng(0), 1)


def test_where_there_are_no_tasks_each_trial_is_one() -> None:
    made = config([EnvSpec("pendulum", make="Pendulum-v1", max_episode_steps=3, trial_episodes=1)])
    (rollouts,) = sampled(made, 1)
    store = TaskReplay(1000, rows_per_task=30, context_size=3)
    store.add_fragments([rollouts["pendulum"]])
    assert len(store) == 4 * 9
    drawn = store.draw(np.random.default_rng(0), 50)
    assert (drawn // 3 == drawn[:, :1] // 3).all() and len(np.unique(drawn[:, 0] // 3)) > 6


def first_gradients(made: MultiEnvPEARLConfig, num_learners: list[int]) -> list[np.ndarray]:
    """The first gradient of each learner of groups of these sizes, from the same weights and fragments."""
    made.training(grad_clip=None).learners(learner_class=RecordingPEARLLearner)
    (rollouts,) = sampled(made.env_runners(rollout_fragment_length=20), 1)
    fragments = {env_id: [(ray.put(own), own.steps)] for env_id, own in rollouts.items()}
    gradients, weights = [], None
    for number in num_learners:
        group = made.learners(num_learners=number).build_learner_group()
        try:
            weights = weights or group.get_weights()
            group.set_weights(weights)
            data = PEARLData.of(
                fragments,
                environment_costs(made),
                batch_sizes=dict.fromkeys(fragments, made.meta_batch_size),
                noise_sizes=NOISE,
                min_size=made.min_replay_size,
            )
            group.update(training_data=data, timesteps={}, num_steps=1)
            gradients += of_learners(group, lambda learner: learner.first_gradient)
            if number > 1:
                assert_same_parameters(group)
        finally:
            group.shutdown()
    return gradients


@pytest.mark.usefixtures("ray_cluster")
def test_two_learners_have_the_gradient_of_one() -> None:
    expected, *others = first_gradients(config(), [0, 2])
    assert len(others) == 2
    for other in others:
        assert np.linalg.norm(other - expected) < 1e-5 * np.linalg.norm(expected)


@pytest.mark.usefixtures("ray_cluster")
def test_a_run_is_resumed_with_its_trials_and_acts_on_all_families(tmp_path: Path) -> None:
    made = config(min_replay_size=9)
    assert_goes_on_when_restored(made, tmp_path)
    agent = MultiEnvAgent.from_checkpoint(tmp_path / "checkpoint")
    for env_id in ("guess", "point"):
        one, two = (agent.adapt(env_id, num_tasks=4, episodes=3, seed=1).returns for _ in range(2))
        assert one.shape == (4, 3)
        np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("net", [TINY_NET, SMALL], ids=lambda net: net.type)
def test_the_encoder_learns_from_q_and_the_kl_but_not_from_the_policy(net: NetConfig) -> None:
    made = config(net=replace(net, belief_size=2))
    batch = {}
    for env_id, rollout in sampled(made, 1)[0].items():
        store = TaskReplay(100, rows_per_task=3, context_size=5)
        store.add_fragments([rollout])
        data = PEARLData(batch_sizes={env_id: 4}, noise_sizes={env_id: NOISE[env_id]})
        (minibatch,) = data.draw({env_id: store}, num_steps=1, seed=0, first_step=0, keys={env_id: 1})
        batch[env_id] = by_row(minibatch.columns[env_id], 2)
    shared = made.get_multi_rl_module_spec().build().shared
    outputs = shared.forward_train(batch)
    encoder = list(shared.network.memory.parameters())
    for key, reaches in (("qf_preds", True), ("kl", True), ("policy_qf", False), ("logp", False), ("next_qf", False)):
        total = sum(own[key].sum() for own in outputs.values())
        if total.requires_grad:
            found = torch.autograd.grad(total, encoder, retain_graph=True, allow_unused=True)
            assert any(one is not None and bool(one.any()) for one in found) == reaches, key
        else:
            assert not reaches, key


@pytest.mark.usefixtures("ray_cluster")
def test_it_finds_out_which_action_is_right() -> None:
    """Training tasks are the actions 0 and 1: an episode tells which; without it half of the actions can be right."""
    made = config([GUESS], lr=3e-3, alpha_lr=3e-3, update_to_data_ratio=0.25, batch_size=64, gamma=0.5, kl_weight=0.01)
    made.training(meta_batch_size=16, context_size=9, target_entropy_share=0.1)
    with running(made) as algo:
        for _ in range(60):
            result = algo.train()
        adapted = algo.adapt("guess", split="train", num_tasks=100, episodes=3)["guess"]
    assert 0.0 < result["learners"]["guess"]["posterior_std"] < 1.0
    assert adapted.means[2].value > 2.5 > adapted.means[0].value + 0.5


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="batch_size=10: must be a multiple of meta_batch_size=4"):
        config(batch_size=10).validate()
    with pytest.raises(ValueError, match="No environment has trials, in which MultiEnvPEARL adapts"):
        config([replace(GUESS, trial_episodes=None)]).validate()
    with pytest.raises(ValueError, match=r"'guess': exploration_episodes=3 leave no .* trial_episodes to at least 4"):
        config(exploration_episodes=3).validate()
    with pytest.raises(ValueError, match="n_step=2 must be 1"):
        config(n_step=2).validate()
    with pytest.raises(ValueError, match=r"memory='posterior' .*: MultiEnvSAC trains no memory"):
        made = MultiEnvSACConfig().environment(envs=["Pendulum-v1"])
        made.rl_module(model_config=config().network_config).validate()
