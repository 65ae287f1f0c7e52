"""What can be trained on here."""

from __future__ import annotations

import importlib.util
import time

import gymnasium as gym
import pytest
from toy_envs import Faulty

from rllib_multienv.envs import list_trainable, nearest_env_ids
from rllib_multienv.envs.catalogue import TrainableEnv


def test_lists_sizes_and_limits_quickly() -> None:
    began = time.monotonic()
    lines = {line.id: line for line in list_trainable()}
    assert time.monotonic() - began < 10
    assert lines["CartPole-v1"] == TrainableEnv("CartPole-v1", "4", "2 discrete", 500, ("CartPole-v0",))
    assert (lines["Reacher-v5"].observations, lines["Reacher-v5"].actions) == ("10", "2 continuous")
    assert lines["FrozenLake-v1"].observations == "16"
    assert lines["CarRacing-v3"].observations == "image 96x96x3"


def test_old_versions_stand_beside_the_newest() -> None:
    lines = {line.id: line for line in list_trainable()}
    assert lines["Ant-v5"].older == ("Ant-v4",)
    assert "Ant-v4" not in lines
    assert {line.id for line in list_trainable(all_versions=True)} > {"Ant-v4", "Ant-v5"}


def test_broken_environments_are_left_out() -> None:
    gym.register("BrokenHere-v0", entry_point=lambda: Faulty("make"))
    try:
        found = {line.id for line in list_trainable()}
    finally:
        del gym.registry["BrokenHere-v0"]
    assert "BrokenHere-v0" not in found
    assert {"CarRacing-v3", "Blackjack-v1"} <= found  # an image, and a tuple of numbers


@pytest.mark.parametrize(
    ("asked", "first"),
    [("cartpole", "CartPole-v1"), ("HalfCheeta-v4", "HalfCheetah-v5"), ("lunar_lander", "LunarLander-v3")],
)
def test_nearest_ids_offer_the_newest_first(asked: str, first: str) -> None:
    assert nearest_env_ids(asked)[0] == first


def test_nothing_is_near_nonsense() -> None:
    assert nearest_env_ids("qqqqqqqqqqqq") == []


def test_environments_of_several_agents_are_listed_with_what_they_need() -> None:
    found = {line.id: line for line in list_trainable("classic.*_v*")}
    game = found["pettingzoo.classic.tictactoe_v3"]
    assert (game.observations, game.actions, game.needs) == ("18", "9 discrete", None)
    if importlib.util.find_spec("chess") is None:
        assert found["pettingzoo.classic.chess_v6"].needs == "the extra 'classic'"
