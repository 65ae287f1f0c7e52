"""Worlds in PPO: shared tasks, whole worlds in minibatches and shares, values, credit, several learners, learning."""

from __future__ import annotations

import runpy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from cli_helpers import ROOT
from first_gradient import assert_two_learners_have_the_gradient_of_one
from tiny_runs import (
    TINY_NET,
    assert_goes_on_when_restored,
    assert_same,
    learner_batch,
    make_runner,
    running,
    tiny_config,
    weights,
)

from rllib_multienv import (
    EnvSpec,
    GeneratedNetConfig,
    MultiEnvAgent,
    MultiEnvPPOConfig,
    MultiEnvSACConfig,
    WorldSpec,
)
from rllib_multienv.env_runners import assign_environments
from rllib_multienv.learners.shares import share_environments

pytestmark = pytest.mark.usefixtures("ray_cluster")

ORACLE = EnvSpec("oracle", make="multienv/Oracle-v0", kwargs={"horizon": 3})
GUESS = EnvSpec("guess", make="multienv/Guess-v0", kwargs={"horizon": 3})
QUIZ = WorldSpec([ORACLE, GUESS], share_task=True)


def config(worlds: Any, *, envs: Any = (), **network: Any) -> MultiEnvPPOConfig:
    fields = {"width": 8, "depth": 1, "generator_width": 8, "code_size": 8, "max_seq_len": 6, "world_attention": True}
    made = tiny_config(envs).environment(worlds=worlds).rl_module(model_config=GeneratedNetConfig(**fields | network))
    return made.training(normalize_obs=False)


COMING_AND_GOING = {
    "starts": {"CartPole-v1": [0, 5], "Pendulum-v1": 3},
    "stops": {"CartPole-v1": [13, 9], "Pendulum-v1": 11},
}


def mixed(times: Any = None, **network: Any) -> MultiEnvPPOConfig:
    """A world with two copies of CartPole and one Pendulum of short episodes, and an environment in none."""
    pendulum = EnvSpec("Pendulum-v1", max_episode_steps=7)
    world = WorldSpec(["CartPole-v1", pendulum], copies={"CartPole-v1": 2}, **(times or {}))
    return config({"pair": world}, envs=[GUESS], **network)


def trained(module: Any) -> Any:
    """A module whose output maps of attention are not zero."""
    generator = torch.Generator().manual_seed(0)
    for name, parameter in module.shared.network.named_parameters():
        if name.startswith("world_attention") and name.endswith("out.weight"):
            parameter.data.copy_(0.3 * torch.randn(parameter.shape, generator=generator))
    return module


@pytest.mark.parametrize(
    ("memory", "times"), [(None, None), ("gru", None), (None, COMING_AND_GOING), ("gru", COMING_AND_GOING)]
)
def test_learners_compute_for_whole_worlds_what_runners_computed_step_by_step(memory: str | None, times: Any) -> None:
    with running(mixed(times, memory=memory)) as algo:
        module = trained(algo.learner_group._learner.module)
        algo.env_runner.module.shared.network.load_state_dict(
            {k: v for k, v in module.shared.network.state_dict().items() if "critic" not in k}
        )
        for _ in range(2):
            rollouts = algo.env_runner.sample_rollouts()
        assert rollouts["CartPole-v1"].valid.shape == (16, 4) and rollouts["Pendulum-v1"].valid.shape == (16, 2)
        batch = learner_batch(algo.config, module, rollouts)
        with torch.no_grad():
            found = module.forward_train(batch)
        for env_id, columns in batch.items():
            distribution = module[env_id].get_train_action_dist_cls().from_logits(found[env_id]["action_dist_inputs"])
            torch.testing.assert_close(distribution.logp(columns["actions"]), columns["action_logp"])
            torch.testing.assert_close(found[env_id]["vf_preds"], columns["vf_preds"])


def test_the_value_after_a_truncated_step_sees_what_the_others_observe_then() -> None:
    with running(mixed()) as algo:
        module = trained(algo.learner_group._learner.module)
        rollouts = algo.env_runner.sample_rollouts()
        pendulum, cart = rollouts["Pendulum-v1"], rollouts["CartPole-v1"]
        (t, *_) = np.flatnonzero(pendulum.truncated[:, 1])
        assert t == 6 and not cart.done[t, 2:].any()
        seen = {
            "Pendulum-v1": pendulum.final_obs[pendulum.final_place(t, 1)][None],
            "CartPole-v1": cart.obs[t + 1, 2:],
        }
        batch = {env_id: {"obs": torch.from_numpy(obs)} for env_id, obs in seen.items()}
        value = float(module.shared.compute_values(batch)["Pendulum-v1"])
        columns = learner_batch(algo.config, module, rollouts)["Pendulum-v1"]
        # With lambda = 0, a step's value target is r + gamma V(next).
        algo.config.get_config_for_module("Pendulum-v1")
        reward = pendulum.rewards[t, 1] / pendulum.reward_scale
        place = t * 2 + 1
        assert float(columns["value_targets"][place]) == pytest.approx(
            np.clip(reward, -10, 10) + 0.99 * value, rel=1e-4
        )


def test_members_share_each_task_and_worlds_have_tasks_of_their_own() -> None:
    for backend in ("auto", "sync"):
        specs = [EnvSpec(s.id, make=s.make, kwargs=s.kwargs, backend=backend) for s in (ORACLE, GUESS)]
        runner = make_runner(config([WorldSpec(specs, copies={"guess": 2}, share_task=True)]))
        for _ in range(2):
            rollouts = runner.sample_rollouts()
            shown = rollouts["oracle"].obs.argmax(2)  # [T, worlds]
            guess = rollouts["guess"]
            is_right = (guess.actions.reshape(16, 2, 2) == shown[:, :, None]).reshape(16, 4)
            np.testing.assert_array_equal(guess.rewards, is_right)
        assert len(np.unique(shown)) > 2 and (shown[:, 0] != shown[:, 1]).any()
        runner.stop()


def test_members_join_and_leave_at_their_times_and_have_one_task_until_all_have_left() -> None:
    world = WorldSpec([ORACLE, GUESS], copies={"guess": 2}, share_task=True, starts=[0, 2, 5], stops=[8, 4, 8])
    for backend in ("auto", "sync"):
        specs = [EnvSpec(s.id, make=s.make, kwargs=s.kwargs, backend=backend) for s in (ORACLE, GUESS)]
        runner = make_runner(config([replace(world, envs=specs)], inputs=("age",)))
        runner.sample_rollouts()
        rollouts = runner.sample_rollouts()
        oracle, guess = rollouts["oracle"], rollouts["guess"]
        assert oracle.valid.all()
        times = np.arange(16) % 8
        expected = np.stack([(times >= 2) & (times < 4), times >= 5], axis=1)  # [T, copies]
        np.testing.assert_array_equal(guess.valid, np.tile(expected, 2))
        np.testing.assert_array_equal(guess.done, guess.valid & np.isin(times, [3, 7])[:, None])
        assert not guess.rewards[~guess.valid].any()
        shown = oracle.obs[:, :, :5].argmax(2)  # [T, worlds]
        lives = shown.reshape(2, 8, 2)
        assert (lives == lives[:, :1]).all() and (lives[0] != lives[1]).any()
        is_right = (guess.actions.reshape(16, 2, 2) == shown[:, :, None]).reshape(16, 4)
        np.testing.assert_array_equal(guess.rewards[guess.valid], is_right[guess.valid])
        ages = np.expm1(guess.obs[:, :, 1]).round()
        np.testing.assert_array_equal(ages[:, 1][guess.valid[:, 1]], [0, 1, 2, 0, 1, 2])
        runner.stop()


def test_joint_credit_is_the_weighted_sum_of_the_members_rewards() -> None:
    world = WorldSpec([ORACLE, GUESS], copies={"guess": 2}, share_task=True, credit="joint", weights={"guess": 0.5})
    with running(config([world]).training(normalize_rewards=False, lambda_=0.0, gamma=0.0)) as algo:
        rollouts = algo.env_runner.sample_rollouts()
        batch = learner_batch(algo.config, algo.learner_group._learner.module, rollouts)
        expected = 0.5 * rollouts["guess"].rewards.reshape(16, 2, 2).sum(2)
        assert expected.any()
        np.testing.assert_allclose(batch["oracle"]["value_targets"].reshape(16, 2), expected, atol=1e-6)
        np.testing.assert_allclose(batch["guess"]["value_targets"].reshape(16, 4), expected.repeat(2, 1), atol=1e-6)


def test_the_gradient_does_not_depend_on_the_number_of_learners() -> None:
    assert_two_learners_have_the_gradient_of_one(mixed(COMING_AND_GOING, memory="gru"), num_minibatches=1)


def test_a_world_has_one_runner_and_is_cut_at_one_place() -> None:
    groups = {"a": "world:x", "b": "b", "c": "world:x"}
    for owned in assign_environments({"a": 1.0, "b": 9.0, "c": 1.0}, 3, groups):
        assert owned in (("a", "c"), ("b",))
    for mine in share_environments({"a": 1.0, "b": 9.0, "c": 1.0}, 4, groups):
        assert mine.get("a") == mine.get("c")


def test_a_run_with_a_world_is_resumed_in_the_middle_of_an_episode(tmp_path: Path) -> None:
    world = replace(QUIZ, starts={"guess": 3}, stops={"guess": 12, "oracle": 13})
    inputs = ("previous_action", "age", "seed")
    assert_goes_on_when_restored(config([world], envs=["Pendulum-v1"], memory="gru", inputs=inputs), tmp_path)


def test_a_lost_fragment_is_that_of_the_whole_world_and_members_stay_together() -> None:
    made = config([QUIZ], envs=["Pendulum-v1"]).environment(on_nonfinite="drop")
    runner = make_runner(made)
    runner.sample_rollouts()
    family = runner.environments["guess"].copies.env.env
    family.observe = lambda: np.full((2, 1), np.nan, np.float32)
    assert runner.sample_rollouts().keys() == {"Pendulum-v1"}
    rollouts = runner.sample_rollouts()
    is_right = rollouts["guess"].actions == rollouts["oracle"].obs.argmax(2)
    np.testing.assert_array_equal(rollouts["guess"].rewards, is_right)


def test_members_are_added_and_removed_between_iterations(tmp_path: Path) -> None:
    world = replace(QUIZ, starts={"guess": 3}, stops={"guess": 12, "oracle": 13})
    with running(
        config({"quiz": world, "other": ["Pendulum-v1"]}, memory="gru").evaluation(evaluation_duration=4)
    ) as algo:
        algo.train()
        with pytest.raises(ValueError, match=r"there is no world 'riddle'; there are \['quiz', 'other'\]"):
            algo.add_env("CartPole-v1", world="riddle")
        added = replace(GUESS, id="second")
        assert algo.add_env(added, world="quiz") == "second"
        algo.train()
        rollouts = algo.env_runner.sample_rollouts()
        assert algo.config.worlds["quiz"].env_ids == ["oracle", "guess", "second"]
        guess, second = rollouts["guess"], rollouts["second"]
        times = (16 + np.arange(16)) % 13
        np.testing.assert_array_equal(second.valid[:, 0], times < 13)
        np.testing.assert_array_equal(guess.valid[:, 0], (times >= 3) & (times < 12))
        shown = rollouts["oracle"].obs.argmax(2)
        np.testing.assert_array_equal(second.rewards, second.actions == shown)
        algo.remove_env("oracle")
        assert algo.config.worlds["quiz"].env_ids == ["guess", "second"]
        assert algo.config.worlds["quiz"].life == 12
        algo.train()
        episodes = algo.evaluate()["env_runners"]["module_episode_return_mean"]
        assert episodes.keys() == {"guess", "second", "Pendulum-v1"}
        path = algo.save_to_path(str(tmp_path / "checkpoint"))
        algo.train()
        expected = weights(algo)
    with running(config({"quiz": world, "other": ["Pendulum-v1"]}, memory="gru")) as other:
        other.restore_from_path(path)
        other.train()
        assert_same(weights(other), expected)


def test_what_worlds_cannot_have_is_refused() -> None:
    for worlds, message in (
        ([WorldSpec(["CartPole-v1"], copies={"Cart": 2})], "has no environment 'Cart'; it has CartPole-v1"),
        ({"quiz": ["Cart"]}, "World 'quiz': There is no environment 'Cart'"),
        ([["CartPole-v1"], ["CartPole-v1", "Pendulum-v1"]], "'CartPole-v1' is also in world 'CartPole-v1'"),
        ([{"env": ["CartPole-v1"]}], "unknown key 'env'"),
        ([{"envs": ["CartPole-v1"], "credit": "both"}], "credit='both' must be 'own' or 'joint'"),
        ([["CartPole-v1", EnvSpec("Pendulum-v1", num_envs=3)]], "must be the same for all of its environments"),
        ([["CartPole-v1", "pettingzoo.classic.tictactoe_v3"]], "has several agents"),
    ):
        with pytest.raises(ValueError, match=message):
            config(worlds).validate()
    with pytest.raises(ValueError, match="environments of a world have no gradients apart"):
        config([QUIZ]).training(gradient_combiner="pcgrad").validate()
    with pytest.raises(ValueError, match="MultiEnvSAC trains none"):
        MultiEnvSACConfig().environment(worlds=[["Pendulum-v1", "Reacher-v4"]]).validate()


def test_without_worlds_training_is_the_same_bit_for_bit_with_attention_and_without() -> None:
    found = []
    for attention in (True, False):
        # Zeros of the attention would be rounded differently into the global norm.
        made = tiny_config(grad_clip=None)
        made.rl_module(model_config=replace(TINY_NET, world_attention=attention))
        with running(made) as algo:
            results = [algo.train() for _ in range(2)]
            left = {n: a for n, a in weights(algo).items() if "world_attention" not in n}
            found.append((left, results[-1]["env_runners"]["module_episode_return_mean"]))
    assert_same(*found)


@pytest.mark.parametrize(("attention", "least", "most"), [(True, 0.99, 1.0), (False, 0.1, 0.3)])
def test_a_guess_is_right_only_where_the_oracle_is_seen(attention: bool, least: float, most: float) -> None:
    success = runpy.run_path(str(ROOT / "examples" / "worlds.py"))["success"]
    right = success(world_attention=attention, iterations=12 if attention else 3)
    assert least <= right <= most


def test_a_classifier_may_ask_an_image_search() -> None:
    pytest.importorskip("sklearn")
    example = runpy.run_path(str(ROOT / "examples" / "image_search.py"))
    right, waited = example["play"](example["trained"](world_attention=True, iterations=1, seed=0), rounds=1)
    assert right.shape == waited.shape == (597,) and 0.03 < right.mean() < 0.5


def test_an_agent_sees_a_world_as_its_runner_does_and_remembers(tmp_path: Path) -> None:
    with running(config([QUIZ], memory="gru", inputs=("previous_action", "previous_reward"))) as algo:
        trained(algo.learner_group._learner.module)
        agent = MultiEnvAgent.from_checkpoint(algo.save_to_path(str(tmp_path)))
    shown = {"oracle": np.eye(5, dtype=np.float32)[:2], "guess": np.ones((2, 1), np.float32)}
    states = []
    for oracle in (shown["oracle"], shown["oracle"][::-1]):
        agent.reset_memory()
        actions = agent.act_world({**shown, "oracle": oracle})
        assert {e: a.shape for e, a in actions.items()} == {"oracle": (2,), "guess": (2,)}
        states.append(agent._acting["guess"].state)
        with pytest.raises(ValueError, match=r"guess: this agent sees the previous reward"):
            agent.act_world(shown, rewards={"oracle": 0.0})
        agent.act_world(shown, rewards={"oracle": 0.0, "guess": np.ones(2)})
    assert not torch.allclose(states[0], states[1])
    agent.reset_memory()
    agent.act_world(shown, present={"guess": [False, True]})
    assert [torch.allclose(agent._acting["guess"].state[b], states[0][b]) for b in range(2)] == [False, True]
    agent.reset_memory()
    agent.act("guess", shown["guess"])  # alone
    assert not torch.allclose(agent._acting["guess"].state, states[0])
    with pytest.raises(KeyError, match="unknown environment 'other'"):
        agent.act_world({"other": np.zeros(1)})
