"""Names of components: from MuJoCo models, tables and EnvSpec.descriptors, into spaces and checkpoints."""

from __future__ import annotations

import json

import gymnasium as gym
import pytest
from toy_envs import Counter

from rllib_multienv import EnvSpec
from rllib_multienv.envs import probe_spaces
from rllib_multienv.envs.components import component_names
from rllib_multienv.spec import SpaceSpec

MUJOCO = [
    *(f"{name}-v{n}" for name in ("Ant", "HalfCheetah", "Hopper", "Humanoid", "Swimmer", "Walker2d") for n in (4, 5)),
    *("InvertedPendulum-v4", "InvertedDoublePendulum-v4", "InvertedDoublePendulum-v5", "Reacher-v4", "Reacher-v5"),
]
OTHERS = [
    *("CartPole-v1", "Pendulum-v1", "Acrobot-v1", "MountainCar-v0", "MountainCarContinuous-v0", "LunarLander-v3"),
    *("LunarLanderContinuous-v3", "BipedalWalker-v3"),
]


@pytest.mark.filterwarnings("ignore:.*out of date:DeprecationWarning")
@pytest.mark.parametrize("env_id", [*MUJOCO, *OTHERS])
def test_every_component_has_a_name_of_its_own(env_id: str) -> None:
    spaces = probe_spaces(EnvSpec(env_id))  # checks that there is one for each
    for names in (spaces.obs_names, spaces.action_names):
        assert names and len(set(names)) == len(names)
    assert SpaceSpec.from_dict(json.loads(json.dumps(spaces.to_dict()))) == spaces


@pytest.mark.filterwarnings("ignore:.*out of date:DeprecationWarning")
def test_names_are_those_of_joints_and_bodies() -> None:
    cheetah = probe_spaces(EnvSpec("HalfCheetah-v4"))
    assert cheetah.obs_names[0] == "position slide root z torso"
    assert cheetah.obs_names[2] == "position hinge back thigh"
    assert cheetah.obs_names[-1] == "velocity hinge front foot"
    assert cheetah.action_names == tuple(
        f"torque {s} {p}" for s in ("back", "front") for p in ("thigh", "shin", "foot")
    )
    versions = [probe_spaces(EnvSpec(f"Hopper-v{n}")) for n in (4, 5)]
    assert versions[0].obs_names == versions[1].obs_names


def test_names_of_ones_own() -> None:
    words = {"observation": ["how often", "how many"], "action": ["down", "stay", "up"]}
    spec = EnvSpec("counter", make="toy_envs:Counter", descriptors=words)
    spaces = probe_spaces(spec)
    assert (list(spaces.obs_names), list(spaces.action_names)) == (words["observation"], words["action"])
    assert EnvSpec.from_dict(json.loads(json.dumps(spec.to_dict()))) == spec
    assert probe_spaces(EnvSpec("counter", make=Counter)).obs_names == ()
    half = probe_spaces(EnvSpec("CartPole-v1", descriptors={"action": ["left", "right"]}))
    assert half.action_names == ("left", "right") and half.obs_names[0] == "position slide cart"


def test_wrong_names_are_refused() -> None:
    with pytest.raises(ValueError, match=r"'CartPole-v1': 3 observation names for 4 components"):
        probe_spaces(EnvSpec("CartPole-v1", descriptors={"observation": ["a", "b", "c"]}))
    with pytest.raises(ValueError, match=r"'CartPole-v1': descriptors must map 'observation' and 'action'"):
        EnvSpec("CartPole-v1", descriptors={"obs": ["a"] * 4})


def test_nothing_is_known_of_other_environments() -> None:
    assert component_names(Counter()) == ((), ())
    timed = gym.wrappers.TimeAwareObservation(gym.make("CartPole-v1"), flatten=False)
    assert component_names(timed)[0] == () and len(component_names(timed)[1]) == 2
    assert component_names(gym.make("Blackjack-v1")) == ((), ())
