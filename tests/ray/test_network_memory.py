"""Networks with memory in PPO: states in rollouts and learners, previous inputs, several learners, resuming, acting."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from cli_helpers import ROOT
from first_gradient import assert_two_learners_have_the_gradient_of_one
from multi_agent_envs import Countdown
from tiny_runs import assert_goes_on_when_restored, learner_batch, make_runner, running, tiny_config
from toy_family import Guess

from rllib_multienv import EnvSpec, GeneratedNetConfig, MultiEnvAgent, MultiEnvPPOConfig, MultiEnvSACConfig
from rllib_multienv.envs.make import copy_seeds
from rllib_multienv.offline.behaviours import Behaviour
from rllib_multienv.offline.recording import record_steps

pytestmark = pytest.mark.usefixtures("ray_cluster")

INPUTS = ("previous_action", "previous_reward", "previous_done")
GUESS = EnvSpec("guess", make=Guess, trial_episodes=2)
COUNTDOWN = EnvSpec("countdown", make=Countdown)
ENVS = ("CartPole-v1", EnvSpec("Pendulum-v1", num_envs=3), GUESS, COUNTDOWN)


def config(envs: Any = ENVS, *, memory: str | None = "gru", **network: Any) -> MultiEnvPPOConfig:
    fields = {"memory": memory, "max_seq_len": 6, **network}
    return tiny_config(envs).rl_module(
        model_config=GeneratedNetConfig(width=8, depth=1, generator_width=8, code_size=8, **fields)
    )


@pytest.mark.parametrize("memory", ["gru", "s4"])
def test_learners_compute_from_stored_states_what_runners_computed_step_by_step(memory: str) -> None:
    made = config(memory=memory, inputs=INPUTS).env_runners(rollout_fragment_length=17)
    with running(made) as algo:
        for _ in range(2):
            rollouts = algo.env_runner.sample_rollouts()
        module = algo.learner_group._learner.module
        batch = learner_batch(algo.config, module, rollouts)
        with torch.no_grad():
            found = module.forward_train(batch)
        for env_id, columns in batch.items():
            distribution = module[env_id].get_train_action_dist_cls().from_logits(found[env_id]["action_dist_inputs"])
            torch.testing.assert_close(distribution.logp(columns["actions"]), columns["action_logp"])
            torch.testing.assert_close(found[env_id]["vf_preds"], columns["vf_preds"])
            assert len(columns["obs"]) == rollouts[env_id].steps == int(columns["valid"].sum())


def test_states_go_over_from_one_fragment_to_the_next_and_begin_afresh_with_episodes() -> None:
    runner = make_runner(config())
    before, after = runner.sample_rollouts(), runner.sample_rollouts()
    for env_id in ("CartPole-v1", "Pendulum-v1"):
        last, num_envs = before[env_id], before[env_id].valid.shape[1]
        for b in range(num_envs):
            if last.done[-1, b]:
                assert not after[env_id].state_in[0, b].any() and after[env_id].first[0, b]
            else:
                place = last.final_place(len(last.valid) - 1, b)
                np.testing.assert_array_equal(last.final_state[place], after[env_id].state_in[0, b])
                assert last.final_state[place].any()
    guess = before["guess"]  # trials of 6 steps, as long as a sequence
    assert not guess.state_in.any() and guess.final_state.any(1).all()


def test_previous_inputs_are_those_of_the_last_step() -> None:
    made = config(["CartPole-v1", "Pendulum-v1", GUESS], inputs=INPUTS, memory=None).training(normalize_obs=False)
    rollouts = make_runner(made).sample_rollouts()
    for env_id, own in (("CartPole-v1", 4), ("Pendulum-v1", 3), ("guess", 1)):
        r = rollouts[env_id]
        action, reward, done = np.split(r.obs[..., own:], [r.obs.shape[2] - own - 2, r.obs.shape[2] - own - 1], axis=2)
        assert not r.obs[..., own:][r.first].any()
        later = ~r.first[1:]
        taken = np.eye(action.shape[2])[r.actions[:-1]] if r.actions.ndim == 2 else np.clip(r.actions[:-1], -1, 1)
        np.testing.assert_allclose(action[1:][later], taken[later], atol=1e-6)
        np.testing.assert_allclose(reward[1:, :, 0][later], r.rewards[:-1][later], rtol=1e-6)
        inner = r.extra["episode_ends"][:-1] & ~r.done[:-1] if env_id == "guess" else np.zeros_like(later)
        np.testing.assert_array_equal(done[1:, :, 0], inner)
        times, copies = np.divmod(r.final_rows, r.valid.shape[1])
        np.testing.assert_allclose(r.final_obs[:, -2], r.rewards[times, copies], rtol=1e-6)
    names = made.space_specs["CartPole-v1"].obs_names
    assert names[-3].startswith("previous action ") and names[-2:] == ("previous reward", "previous done")


def test_the_gradient_does_not_depend_on_the_number_of_learners() -> None:
    assert_two_learners_have_the_gradient_of_one(config())


@pytest.mark.parametrize("memory", ["gru", "s4"])
def test_a_run_is_resumed_in_the_middle_of_an_episode(memory: str, tmp_path: Path) -> None:
    envs = ["InvertedPendulum-v4", "Pendulum-v1", GUESS]
    assert_goes_on_when_restored(config(envs, memory=memory, inputs=INPUTS), tmp_path)


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory) -> MultiEnvAgent:
    """One that was hardly trained, with memory and previous inputs."""
    with running(config(inputs=INPUTS)) as algo:
        algo.train()
        algo.remove_env("CartPole-v1")
        algo.add_env("Acrobot-v1")
        algo.train()
        result = algo.evaluate()["env_runners"]
        assert result["module_episode_return_mean"].keys() == {"Pendulum-v1", "guess", "countdown", "Acrobot-v1"}
        return MultiEnvAgent.from_checkpoint(algo.save_to_path(str(tmp_path_factory.mktemp("agent"))))


def test_an_agent_acts_as_in_its_own_evaluation(agent: MultiEnvAgent) -> None:
    expected = agent.evaluate("Pendulum-v1", episodes=1, seed=3)[0]
    env = gym.make("Pendulum-v1")
    agent.reset_memory()
    obs, _ = env.reset(seed=copy_seeds(3, 1)[0])
    total, reward, done = 0.0, None, False
    while not done:
        obs, reward, terminated, truncated, _ = env.step(agent.act("Pendulum-v1", obs, reward=reward))
        total, done = total + float(reward), terminated or truncated
    assert total == pytest.approx(expected[0], rel=1e-6)
    assert len(agent.evaluate("countdown", episodes=1)) and len(agent.evaluate("guess", episodes=3)) == 3


def test_an_agent_remembers_until_it_is_told_to_forget(agent: MultiEnvAgent) -> None:
    obs = np.zeros((3, 3), np.float32)

    def act() -> np.ndarray:
        return agent.act("Pendulum-v1", obs, reward=np.ones(3))

    agent.reset_memory()
    first, second = act(), act()
    assert not np.allclose(first, second, atol=1e-4)
    agent.reset_memory("Pendulum-v1", rows=[1])
    third = act()
    np.testing.assert_allclose(third[1], first[1], atol=1e-6)
    assert not np.allclose(third[0], first[0], atol=1e-4)
    with pytest.raises(ValueError, match=r"act\(\.\.\., reward=\.\.\.\)"):
        agent.act("Pendulum-v1", obs)
    with pytest.raises(ValueError, match=r"2 observations, but the agent remembers 3 episodes"):
        agent.act("Pendulum-v1", obs[:2], reward=1.0)
    agent.reset_memory()
    agent.act("Pendulum-v1", obs[0])


def test_a_recording_has_the_actions_of_an_agent_that_remembers(agent: MultiEnvAgent) -> None:
    behaviour = Behaviour(checkpoint=agent, explore=False)
    found = record_steps(EnvSpec("Pendulum-v1"), [behaviour], num_steps=220, num_envs=1, seed=0)
    for first, last in ((0, 200), (200, 220)):  # an episode, and the beginning of another
        agent.reset_memory()
        for t in range(first, last):
            action = agent.act("Pendulum-v1", found.observations[t], reward=found.rewards[t - 1])
            np.testing.assert_allclose(action, found.actions[t], atol=1e-4)


def test_a_view_of_the_module_takes_and_gives_the_state() -> None:
    with running(config(["CartPole-v1"])) as algo:
        module = algo.get_module("CartPole-v1")
        first = module.forward_inference({"obs": torch.zeros(2, 4)})
        again = module.forward_inference({"obs": torch.zeros(2, 4), "state_in": first["state_out"]})
    assert first["state_out"].shape == again["state_out"].shape == (2, 8)
    assert not torch.allclose(first["action_dist_inputs"], again["action_dist_inputs"])


def test_what_cannot_be_trained_is_refused() -> None:
    network = GeneratedNetConfig(memory="gru")
    with pytest.raises(ValueError, match="memory='gru' in the network's configuration: MultiEnvSAC trains no memory"):
        MultiEnvSACConfig().environment(envs=["CartPole-v1"]).rl_module(model_config=network).validate()
    with pytest.raises(ValueError, match="gives 2 sequences of max_seq_len=64 per fragment"):
        config(["CartPole-v1"], max_seq_len=64).training(num_minibatches=4).validate()


@pytest.mark.parametrize(("memory", "iterations"), [("gru", 40), ("s4", 60), (None, 15)])
def test_a_cue_is_acted_on_twenty_steps_later_only_with_memory(memory: str | None, iterations: int) -> None:
    success = runpy.run_path(str(ROOT / "examples" / "memory.py"))["success"]
    right = success(memory, iterations)
    assert right > 0.95 if memory else 0.3 < right < 0.7
