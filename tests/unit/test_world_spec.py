"""Worlds as they are written down, and the environments that need each other."""

from __future__ import annotations

import math
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from rllib_multienv import EnvSpec, WorldSpec
from rllib_multienv.spec import resolve_env_specs
from rllib_multienv.worlds import join_worlds, resolve_worlds

GUESS = EnvSpec("guess", make="multienv/Guess-v0")


def joined(worlds: Any, envs: Any = ()) -> dict[str, tuple[str, int]]:
    """World and copies of each environment."""
    specs = join_worlds(resolve_env_specs(envs) if envs else (), resolve_worlds(worlds))
    return {spec.id: (spec.world, spec.world_copies) for spec in specs}


def test_worlds_are_lists_or_have_names_and_members_are_added_to_the_environments() -> None:
    assert joined([["CartPole-v1", GUESS]], [GUESS, "Pendulum-v1"]) == {
        "guess": ("CartPole-v1+guess", 1),
        "Pendulum-v1": ("", 1),
        "CartPole-v1": ("CartPole-v1+guess", 1),
    }
    world = {"envs": ["guess"], "copies": {"guess": 4}, "share_task": True}
    assert joined({"quiz": world}, [GUESS]) == {"guess": ("quiz", 4)}


def test_joining_again_changes_nothing() -> None:
    worlds = resolve_worlds({"quiz": WorldSpec([GUESS, "CartPole-v1"], copies={"guess": 2})})
    once = join_worlds((), worlds)
    assert join_worlds(once, worlds) == once


def test_members_of_one_world_are_one_group_and_come_back_from_a_file() -> None:
    guess, cart = join_worlds((), {"quiz": WorldSpec([GUESS, "CartPole-v1"], copies={"guess": 2})})
    assert guess.group == cart.group != GUESS.group == "guess"
    assert EnvSpec.from_dict(guess.to_dict()) == guess and guess.world_copies == 2


def test_a_world_without_a_member_keeps_the_others() -> None:
    world = WorldSpec([GUESS, "CartPole-v1"], copies={"guess": 2}, credit="joint")
    assert world.without(["guess"]) == WorldSpec(["CartPole-v1"], credit="joint")
    assert world.without(["guess", "CartPole-v1"]) is None


def test_times_are_given_in_a_list_or_by_member() -> None:
    members = [GUESS, "CartPole-v1"]
    world = WorldSpec(members, copies={"guess": 2}, starts=[0, 10, 5], stops={"guess": 30})
    assert world.times == {"guess": [(0, 30), (10, 30)], "CartPole-v1": [(5, 30)]} and world.life == 30
    assert world == WorldSpec(
        members, copies={"guess": 2}, starts={"guess": [0, 10], "CartPole-v1": 5}, stops={"guess": 30}
    )
    forever = WorldSpec(members, starts={"guess": 10})
    assert forever.life is None and forever.times == {"guess": [(10, math.inf)], "CartPole-v1": [(0, math.inf)]}
    left = world.without(["CartPole-v1"])
    assert left is not None and left.times == {"guess": [(0, 30), (10, 30)]}
    assert WorldSpec(members).times is None
    assert WorldSpec(members, stops=5).times == {"guess": [(0, 5)], "CartPole-v1": [(0, 5)]}


def test_ready_worlds_are_staggered_or_parallel() -> None:
    staggered = WorldSpec.staggered([GUESS], copies={"guess": 3}, every=5, stay=20)
    assert staggered.times == {"guess": [(0, 20), (5, 25), (10, 30)]} and staggered.share_task
    assert WorldSpec.parallel_domains(GUESS, 4) == WorldSpec([GUESS], copies={"guess": 4}, share_task=True)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"envs": []}, "must be a list of environments"),
        ({"envs": "CartPole-v1"}, "must be a list of environments"),
        ({"copies": {"guess": 0}}, "must map env ids to numbers above 0"),
        ({"share_task": 1}, "must be True or False"),
        ({"starts": [0, 5]}, "must have one number for each of 1 members"),
        ({"starts": {"guess": [0, 5]}}, "or one for each of its copies, of which there are 1"),
        ({"stops": [0]}, "'guess' must have a whole number of at least 1"),
        ({"starts": [5], "stops": [5]}, "'guess' joins at .*; it must leave later"),
        ({"starts": [5], "share_task": True}, "share_task=True needs stops"),
    ],
)
def test_wrong_fields_are_named(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        WorldSpec(**{"envs": [GUESS], **fields})


def test_the_oracle_shows_in_one_step_what_is_asked_in_another() -> None:
    options = {"horizon": 4, "task": [3.0]}
    oracle, guess = gym.make("multienv/Oracle-v0", at=1, **options), gym.make("multienv/Guess-v0", at=2, **options)
    seen = [oracle.reset()[0], *(oracle.step(0)[0] for _ in range(3))]
    np.testing.assert_array_equal(seen, [np.zeros(5), np.eye(5)[3], np.zeros(5), np.zeros(5)])
    asked = [guess.reset()[0]]
    steps = [guess.step(3) for _ in range(4)]
    np.testing.assert_array_equal([*asked, *(step[0] for step in steps[:3])], [[0.0], [0.0], [1.0], [0.0]])
    assert [step[1] for step in steps] == [0.0, 0.0, 1.0, 0.0]


def test_a_question_pays_for_waiting_and_counts_one_answer() -> None:
    task = [2.0, 0.0, 1.0, 2.0, 0.0, 1.0]  # item 2 is asked for, its label is 2
    question, search = gym.make("multienv/Question-v0", task=task), gym.make("multienv/Search-v0", task=task)
    obs, _ = question.reset()
    np.testing.assert_array_equal(obs, np.eye(5)[2])
    shown, _ = search.reset()
    assert not shown.any()
    np.testing.assert_array_equal(search.step(2)[0], np.eye(3)[2])
    assert [question.step(action)[1] for action in (0, 3, 3)] == [-0.05, 1.0, 0.0]
