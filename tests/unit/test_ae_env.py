"""AEEnv: the examples of its specification, and what changes between steps do."""

from __future__ import annotations

import random
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from rllib_multienv import AEEnv, DatasetEnv, EnvSpec
from rllib_multienv.experience import ae_env

X, Y = np.eye(6, dtype=np.float32), np.arange(6) % 2


def rows(**kwargs: Any) -> DatasetEnv:
    options = {"classes": 2, "test_fraction": 0.0, "shuffle": False, "standardize": False, **kwargs}
    return DatasetEnv((X, Y), **options)


def cart_pole() -> gym.Env:
    return gym.make("CartPole-v1")


def turns() -> Any:
    return pytest.importorskip("pettingzoo.classic.tictactoe_v3").env()


def parallel() -> Any:
    return pytest.importorskip("pettingzoo.classic.rps_v2").parallel_env(max_cycles=3)


class Random:
    """An agent that acts at random."""

    def __init__(self, env: AEEnv, name: str) -> None:
        self.env, self.name = env, name

    def act(self, observation: Any) -> Any:
        space = self.env.env.action_space
        if not callable(space):
            return space.sample()
        mask = observation["action_mask"] if isinstance(observation, dict) else None
        return space(self.name).sample(mask if mask is None or mask.any() else None)


def evaluate(env: AEEnv, limit: int = 1000) -> list[dict[str, ae_env.Step]]:
    """The evaluation loop of the specification."""
    step = env.reset()
    seen = [step]
    while not all(step[agent].done for agent in env.agents) and len(seen) < limit:
        actions = {name: Random(env, name).act(step[name].observation) for name in env.agent_names}
        step = env.step(actions)
        seen.append(step)
    return seen


def test_a_data_set_shows_pairs_without_reward_until_its_epochs_are_over() -> None:
    env = AEEnv([rows(epochs=2)])
    assert env.is_supervised and env.agents == env.agent_names == ("agent",)
    seen = [step["agent"] for step in evaluate(AEEnv([rows(epochs=2)], seed=0), 12 + 1)]
    shown = [np.argmax(step.observation[0]) for step in seen[:12]]
    assert shown == [0, 1, 2, 3, 4, 5] * 2
    assert [step.observation[1] for step in seen[:6]] == Y.tolist()
    assert {step.reward for step in seen} == {None}
    assert [step.done for step in seen] == [False] * 12 + [True]
    assert {"target", "score", "epoch", "rows"} <= seen[1].information.keys()


def test_batches_have_a_last_partial_one() -> None:
    env = AEEnv([rows(batch_size=4)])
    sizes = [len(env.reset()["agent"].observation[0]), len(env.step({})["agent"].observation[0])]
    assert sizes == [4, 2] and env.step({})["agent"].done


def test_unlabelled_data_shows_x_alone() -> None:
    env = AEEnv([DatasetEnv(X, test_fraction=0.0)])
    assert not env.is_supervised and env.reset()["agent"].observation.shape == (6,)
    assert env.step({})["agent"].reward is None


def test_a_bandit_has_rewards() -> None:
    env = AEEnv([rows(objective="bandit")])
    assert env.reset()["agent"].observation.shape == (6,)
    assert [env.step({"agent": 0})["agent"].reward for _ in range(3)] == [1.0, 0.0, 1.0]


@pytest.mark.parametrize("make", [cart_pole, turns, parallel])
def test_environments_and_games_end(make: Any) -> None:
    env = AEEnv([make()], seed=0)
    seen = evaluate(env)
    assert all(seen[-1][agent].done for agent in env.agent_names) and not env.is_supervised
    assert seen[0][env.agent_names[0]].reward is None and seen[-1][env.agent_names[0]].reward is not None


def test_turns_are_cycles_in_which_one_agents_action_counts() -> None:
    env = AEEnv([turns()], seed=0)
    step = env.reset()
    assert [step[agent].information["active"] for agent in env.agent_names] == [True, False]
    step = env.step({"player_1": 4, "player_2": 4})
    assert [step[agent].information["active"] for agent in env.agent_names] == [False, True]
    assert not step["player_2"].observation["action_mask"][4]
    for place in (0, 3, 1, 5):
        step = env.step({"player_1": place, "player_2": place})
    assert step["player_1"].done and (step["player_1"].reward, step["player_2"].reward) == (1, -1)


def test_next_env_fn_at_every_step() -> None:
    env = AEEnv([rows(), cart_pole(), rows(name="other")], seed=0)
    random.seed(0)
    env.next_env_fn = lambda last_step_data, curr_env, available_envs: random.choice(available_envs)
    env.reset()
    shown = set()
    for _ in range(40):
        step = env.step({"agent": 0})
        shown.add(type(env.env))
        assert step["agent"].observation is not None
    assert shown == {DatasetEnv, type(cart_pole())}


def test_next_env_fn_after_every_epoch() -> None:
    def next_env_fn(last_step_data: Any, curr_env: Any, available_envs: Any) -> Any:
        if all(last_step_data[agent_name].done for agent_name in curr_env.agent_names):
            return available_envs[1]
        return curr_env

    env = AEEnv([rows(), cart_pole()], next_env_fn=next_env_fn)
    env.reset()
    kinds = []
    for _ in range(8):
        env.step({"agent": 0})
        kinds.append(isinstance(env.env, DatasetEnv))
    assert kinds == [True] * 5 + [False] * 3


def test_an_environment_waits_where_it_was_left() -> None:
    first, second = cart_pole(), cart_pole()
    env = AEEnv([first, second], next_env_fn=lambda last, current, envs: envs[1] if current is envs[0] else envs[0])
    start = env.reset()["agent"].observation
    other = env.step({"agent": 0})["agent"]
    assert other.reward == 1.0 and not np.array_equal(other.observation, start)
    left = other.information["last"].observation
    assert np.array_equal(env.step({"agent": 0})["agent"].observation, left)


def test_env_transition_fn_is_told_both() -> None:
    changes = []

    def env_transition_fn(old_env: Any, new_env: Any) -> None:
        if not (isinstance(old_env, DatasetEnv) and isinstance(new_env, DatasetEnv)):
            changes.append((old_env, new_env))

    envs = [rows(), rows(name="other"), cart_pole()]
    env = AEEnv(envs, env_transition_fn=env_transition_fn)
    env.reset()
    for _ in range(12):
        env.step({"agent": 0})
    assert changes == [(envs[1], envs[2])]
    env.env_transition_fn = None
    for _ in range(600):
        env.step({"agent": 0})
    assert len(changes) == 1


def test_tags_may_change_between_steps() -> None:
    envs = [EnvSpec("a", make="CartPole-v1", tags=("domain:control",)), rows(), EnvSpec("Acrobot-v1")]
    envs[1].tags = ("domain:image/digits", "test:true")
    env = AEEnv(envs, include=["domain:image", "domain:control"], exclude=["domain:control/classic"])
    assert [type(e) for e in env.available_envs][1] is DatasetEnv and len(env.available_envs) == 2
    env.reset()
    env.include, env.exclude = [], ["test:True"]
    env.step({"agent": 0})
    assert len(env.available_envs) == 2
    env.include = ["domain:image"]
    env.exclude = []
    env.step({"agent": 0})
    assert env.is_supervised
    with pytest.raises(ValueError, match=r"No environment is selected .*Did you mean 'domain:image'"):
        AEEnv(envs, include=["domain:images"])


def test_without_environments_there_are_all_that_are_installed() -> None:
    env = AEEnv(exclude=["agents:multiple", "domain:image", "domain:robot"])
    assert len(env.available_envs) > 10
    assert AEEnv(include=["domain:tabular"]).available_envs[0].is_supervised


def test_its_settings_are_those_of_a_run() -> None:
    env = AEEnv([rows(name="data"), cart_pole(), turns()], include=["domain:control"])
    settings = env.training_settings()
    assert [spec.id for spec in settings["envs"]] == ["data", "CartPole-v1", "tictactoe_v3"]
    assert settings["envs"][2].make == "pettingzoo.classic.tictactoe_v3"
    assert (settings["include"], settings["schedule"]) == (("domain:control",), None)


def test_what_is_no_environment_is_an_error() -> None:
    with pytest.raises(TypeError, match="neither a DatasetEnv"):
        AEEnv([3])
    with pytest.raises(RuntimeError, match="before reset"):
        AEEnv([cart_pole()]).step({"agent": 0})
    env = AEEnv([cart_pole()], next_env_fn=lambda *_: "CartPole")
    env.reset()
    with pytest.raises(ValueError, match="not one of available_envs"):
        env.step({"agent": 0})
