"""A runner goes on in the middle of episodes where the environment allows it, and else begins new ones."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from next_step import next_step_counters
from tiny_runs import assert_same, make_runner, tiny_config
from toy_envs import Counter

from rllib_multienv import EnvSpec
from rllib_multienv.connectors import RewardScale
from rllib_multienv.env_runners import MultiEnvRunner

COUNTER = EnvSpec("counter", make=Counter)


def columns(chunks: list[Any]) -> list[Any]:
    return [
        (c.t_started, c.is_terminated, c.is_truncated, c.get_observations(), c.get_actions(), c.get_rewards())
        for c in chunks
    ]


def scales(runner: MultiEnvRunner) -> RewardScale:
    (piece,) = runner._env_to_module[RewardScale]
    return piece


def test_goes_on_in_the_middle_of_episodes() -> None:
    config = tiny_config([COUNTER, "CartPole-v1"]).env_runners(rollout_fragment_length=7)
    runner = make_runner(config)
    for _ in range(3):
        runner.sample()
    state = runner.get_state()
    expected = columns(runner.sample())
    other = make_runner(config.copy().debugging(seed=5))
    other.sample()
    other.set_state(state)
    assert_same(columns(other.sample()), expected)
    assert any(t_started > 0 for t_started, *_ in expected)


@pytest.mark.parametrize("where", ["trained", "new"])
def test_environment_that_cannot_be_saved_begins_new_episodes(where: str) -> None:
    config = tiny_config(["LunarLander-v3"])
    runner = make_runner(config)
    runner.sample()
    state = runner.get_state()
    assert state["environments"]["copies"] == {"LunarLander-v3": None}
    other = make_runner(config)
    if where == "trained":
        other.sample()
    other.set_state(state)
    for chunk in other.sample():
        assert chunk.t_started == 0
    assert np.isfinite(scales(other).scale("LunarLander-v3"))


def test_other_number_of_copies_or_other_backend_begins_new_episodes() -> None:
    runner = make_runner(tiny_config([COUNTER]).env_runners(rollout_fragment_length=4))
    runner.sample()
    state = runner.get_state()
    more = make_runner(tiny_config([COUNTER]).env_runners(num_envs_per_env_runner=3, rollout_fragment_length=2))
    more.sample()
    more.set_state(state)
    assert {c.t_started for c in more.sample()} == {0}
    given = make_runner(tiny_config([COUNTER]).env_runners(rollout_fragment_length=2))
    given.environments["counter"].copies = next_step_counters(2)
    given.set_state(state)
    assert {c.t_started for c in given.sample()} == {0}
