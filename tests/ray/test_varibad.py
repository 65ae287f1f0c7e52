"""VariBAD: the belief learns to tell the tasks apart, with any number of learners; runs are resumed."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray
import torch
from cli_helpers import ROOT
from first_gradient import of_learners
from tiny_runs import assert_goes_on_when_restored, make_runner, running, tiny_config
from toy_family import Guess

from rllib_multienv import EnvSpec, GeneratedNetConfig, MultiEnvAgent, MultiEnvPPOConfig, MultiEnvVariBADConfig
from rllib_multienv.algorithms.varibad.loss import Posteriors
from rllib_multienv.algorithms.varibad.trials import TrialStore
from rllib_multienv.env_runners.assignment import environment_costs
from rllib_multienv.learners import RolloutData

GUESS = EnvSpec("guess", make=Guess, trial_episodes=2)
OTHER = EnvSpec("other", make=Guess, trial_episodes=3, num_envs=1)


def config(envs: Any = (GUESS,), **training: Any) -> MultiEnvVariBADConfig:
    network = GeneratedNetConfig(width=16, depth=1, generator_width=16, code_size=8, belief_size=2, max_seq_len=6)
    settings = {"num_epochs": 1, "num_minibatches": 2, "kl_weight": 0.01, "vae_batch_num_trajs": 8, **training}
    return (
        MultiEnvVariBADConfig()
        .environment(envs=list(envs))
        .env_runners(num_env_runners=0, num_envs_per_env_runner=4, rollout_fragment_length=12)
        .rl_module(model_config=network)
        .training(**settings)
        .debugging(seed=0)
    )


@pytest.mark.usefixtures("ray_cluster")
def test_the_loss_falls_and_the_posterior_narrows_within_a_trial(tmp_path: Path) -> None:
    # The policy hardly moves, so that all tasks have the same trials from the first to the last iteration.
    made = config(lr=1e-6, vae_lr=3e-3, kl_weight=0.1, num_vae_updates=10, vae_batch_num_trajs=16)
    with running(made) as algo:
        results = [algo.train()["learners"]["guess"] for _ in range(50)]
        path = algo.save_to_path(str(tmp_path / "agent"))
    assert results[-1]["negative_elbo"] < 0.5 * results[0]["negative_elbo"]
    assert results[-1]["posterior_std_last"] < 0.75 * results[-1]["posterior_std_first"]
    adapted = MultiEnvAgent.from_checkpoint(path).adapt("guess", split="train", num_tasks=4, episodes=2)
    assert adapted.returns.shape == (4, 2)


@pytest.mark.usefixtures("ray_cluster")
def test_next_observations_are_predicted_in_all_environments() -> None:
    """An observation tells the step, so with the action it tells the next one."""
    grid = EnvSpec("grid", make="multienv/GridNavi-v0", kwargs={"horizon": 6})
    made = config([GUESS, grid], state_loss_coeff=10.0, vae_lr=3e-3, num_vae_updates=10)
    with running(made) as algo:
        results = [algo.train()["learners"] for _ in range(25)]
    for env_id in ("guess", "grid"):  # of normalised observations, whose variance is 1
        assert results[-1][env_id]["state_error"] < 0.4 < results[0][env_id]["state_error"]


@pytest.mark.usefixtures("ray_cluster")
def test_the_belief_can_be_drawn(tmp_path: Path) -> None:
    grid = EnvSpec("grid", make="multienv/GridNavi-v0", trial_episodes=2, kwargs={"horizon": 6})
    with running(config([grid])) as algo:
        algo.train()
        path = algo.save_to_path(str(tmp_path / "checkpoint"))
    draw = runpy.run_path(str(ROOT / "benchmarks" / "varibad_belief.py"))["main"]
    draw(path, str(tmp_path / "belief.png"), 1, [0, 5, 11])
    assert (tmp_path / "belief.png").stat().st_size > 5_000


@pytest.mark.usefixtures("ray_cluster")
def test_policy_and_values_leave_the_belief_alone() -> None:
    with running(config(num_vae_updates=1)) as algo:
        learner = algo.learner_group._learner
        belief = {id(parameter) for parameter in learner.module.shared.belief.encoder_parameters()}
        assert belief and not belief & {id(parameter) for parameter in learner.parameters}
        names = {name for name, _ in algo.env_runner.module.shared.named_parameters()}
        assert any("memory.core" in name for name in names) and not any("decoder.out" in name for name in names)


@pytest.mark.usefixtures("ray_cluster")
def test_a_run_is_resumed_with_its_trials_and_its_optimisers(tmp_path: Path) -> None:
    made = config([GUESS, OTHER]).env_runners(rollout_fragment_length=8)  # trials go over fragments
    made.training(state_loss_coeff=0.5)
    assert_goes_on_when_restored(made, tmp_path)


@pytest.mark.usefixtures("ray_cluster")
def test_the_belief_does_not_depend_on_the_number_of_learners() -> None:
    made = config([GUESS, OTHER])
    runner = make_runner(made)
    sampled = runner.sample_rollouts()
    data = {env_id: [(ray.put(rollout), rollout.steps)] for env_id, rollout in sampled.items()}
    found, first = [], None
    for num_learners in (0, 2):
        made.learners(num_learners=num_learners)
        group = made.build_learner_group()
        try:
            first = first or group.get_state(components="learner/rl_module")["learner"]["rl_module"]
            group.foreach_learner(lambda learner, state=first: learner.module.set_state(state))
            training_data = RolloutData.of(data, environment_costs(made))
            group.update(training_data=training_data, timesteps={}, num_epochs=1, num_minibatches=2)
            found += of_learners(group, lambda learner: learner.module.shared.state_dict())
        finally:
            group.shutdown()
    one, *others = found
    for other in others:
        for name, value in one.items():
            torch.testing.assert_close(other[name], value, atol=2e-5, rtol=1e-3, msg=name)


def test_trials_are_put_together_over_fragments_without_what_an_inner_end_hides() -> None:
    made = tiny_config([GUESS], normalize_obs=False).env_runners(rollout_fragment_length=4)
    runner = make_runner(made)  # trials of 6 steps
    store = TrialStore(10)
    for _ in range(3):
        store.add([runner.sample_rollouts()["guess"]])
    assert len(store) == 4
    batch = store.batch(range(4))
    assert batch.valid.shape == (6, 4) and batch.valid.all()
    assert np.flatnonzero(~batch.decoded[:, 0]).tolist() == [2]  # the end of the first episode
    np.testing.assert_array_equal(batch.obs[1:], batch.next_obs[:-1])


def test_the_kl_is_that_of_gaussians_from_one_step_to_the_next() -> None:
    generator = torch.Generator().manual_seed(0)
    mean, log_var = torch.randn(2, 4, 3, 2, generator=generator).unbind(0)
    found = Posteriors(mean, log_var, torch.ones(4, 3, dtype=torch.bool)).kl_to_previous()
    normal = [torch.distributions.Normal(torch.zeros(3, 2), torch.ones(3, 2))]
    normal += [torch.distributions.Normal(m, (0.5 * v).exp()) for m, v in zip(mean, log_var, strict=True)]
    for t in range(4):
        expected = torch.distributions.kl_divergence(normal[t + 1], normal[t]).sum(-1)
        torch.testing.assert_close(found[t], expected)


def test_environments_without_trials_are_refused() -> None:
    with pytest.raises(ValueError, match="No environment has trials, in which MultiEnvVariBAD adapts"):
        config([EnvSpec("guess", make=Guess)]).validate()


def test_a_belief_is_refused_where_nothing_trains_it() -> None:
    network = GeneratedNetConfig(memory="belief")
    with pytest.raises(ValueError, match=r"memory='belief' .*: MultiEnvPPO trains 'gru', 's4'"):
        MultiEnvPPOConfig().environment(envs=["CartPole-v1"]).rl_module(model_config=network).validate()
    with pytest.raises(ValueError, match=r"memory='gru' .*: MultiEnvVariBAD trains 'belief'"):
        config().rl_module(model_config=GeneratedNetConfig(memory="gru")).validate()
