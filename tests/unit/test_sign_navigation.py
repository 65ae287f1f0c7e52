"""3D sign navigation: tasks, rewards, exploration episodes, seeds."""

from __future__ import annotations

import importlib.util
import sys
from typing import Any

import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from rllib_multienv.envs import probe_spaces
from rllib_multienv.envs.make import make_env
from rllib_multienv.spec import EnvSpec
from rllib_multienv.tasks import family_of

needs_miniworld = pytest.mark.skipif(importlib.util.find_spec("miniworld") is None, reason="needs the extra miniworld")


def sign(**kwargs: Any) -> Any:
    return make_env(EnvSpec("s", make="multienv/SignNavigation-v0", kwargs=kwargs))


def touch(env: Any, kind: int, colour: int) -> tuple[float, bool]:
    """Reward and end of a step right before an object."""
    env.reset(seed=0)
    inner = env.unwrapped
    inner.agent.pos = np.add(inner._objects[kind][colour].pos, [0.3, 0, 0])
    _, reward, terminated, *_ = env.step(inner.actions.turn_left)
    return reward, terminated


def test_without_the_package_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("miniworld", "miniworld.envs.sign"):
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delitem(sys.modules, "rllib_multienv.tasks.sign", raising=False)
    with pytest.raises(Exception, match=r"pip install 'rllib-multienv\[miniworld\]'"):
        sign()


@needs_miniworld
def test_gymnasium_finds_no_fault() -> None:
    for visible in (False, True):
        check_env(sign(task_visible=visible).unwrapped, skip_render_check=True)
    spaces = probe_spaces(EnvSpec("s", make="multienv/SignNavigation-v0", kwargs={"task_visible": True}))
    assert len(spaces.observation.images) == 1 and spaces.observation.numbers == 2 + 2


@needs_miniworld
def test_the_object_of_the_signs_colour_is_the_right_one() -> None:
    env = sign()
    family_of(env).set_task([1, 0])  # a red box
    assert touch(env, 0, 1) == (1.0, True)
    assert touch(env, 1, 1) == touch(env, 0, 2) == (-1.0, True)
    obs, _ = env.reset()
    assert obs["goal"] == 0
    assert env.step(3)[1:3] == (0.0, True)  # the action that ends the episode
    env.reset()
    ends = [env.step(0)[2:4] for _ in range(20)]
    assert ends == [(False, False)] * 19 + [(False, True)]


@needs_miniworld
def test_an_exploration_episode_has_no_reward() -> None:
    env = sign(exploration_episodes=1)
    family_of(env).set_task([1, 0])
    assert [touch(env, 0, 1) for _ in range(3)] == [(0.0, True), (1.0, True), (1.0, True)]
    family_of(env).set_task([2, 1])
    assert touch(env, 1, 2) == (0.0, True)


@needs_miniworld
def test_a_seed_gives_the_task_and_the_first_picture() -> None:
    env, other = sign(), sign()
    for seed in (1, 2):
        obs, expected = env.reset(seed=seed)[0], other.reset(seed=seed)[0]
        np.testing.assert_array_equal(obs["obs"], expected["obs"])
        np.testing.assert_array_equal(family_of(env).task, family_of(other).task)
    tasks = {tuple(family_of(env).task) for _ in range(40) if env.reset()}
    assert tasks == {(colour, goal) for colour in range(3) for goal in range(2)}
