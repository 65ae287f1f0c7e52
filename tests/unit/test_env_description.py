"""Networks are told an environment's description; its id is a label."""

from __future__ import annotations

import json
import pickle
import zlib
from pathlib import Path

import gymnasium as gym
import pytest
import torch
from toy_envs import make_counter
from untrained_agent import save_untrained

from rllib_multienv import EnvSpec, MultiEnvAgent
from rllib_multienv.checkpoints import DESCRIPTION_FILE, read_checkpoint
from rllib_multienv.envs.probe import probe_spaces
from rllib_multienv.spec import SpaceSpec, environment_keys


@pytest.mark.parametrize(
    ("spec", "description"),
    [
        (EnvSpec("CartPole-v1"), "CartPole-v1"),
        (EnvSpec("long", make="CartPole-v1", max_episode_steps=1000), "CartPole-v1"),
        (EnvSpec("ALE/Pong-v5"), "ALE/Pong-v5"),
        (EnvSpec("h", make="Hopper-v4", kwargs={"z": [1, 2.5], "a": None}), "Hopper-v4(a=null, z=[1, 2.5])"),
        (EnvSpec("h", make="Hopper-v4", kwargs={"model": object()}), "h"),
        (EnvSpec("c", make=make_counter), "toy_envs:make_counter"),
        (EnvSpec("c", make=make_counter, kwargs={"n": 2}), "toy_envs:make_counter(n=2)"),
        (EnvSpec("c", make=lambda: make_counter()), "c"),
        (EnvSpec("c", make="CartPole-v1", description="a pole"), "a pole"),
    ],
)
def test_the_description_comes_from_make_and_kwargs(spec: EnvSpec, description: str) -> None:
    assert spec.description == description
    assert pickle.loads(pickle.dumps(spec)).description == description


def test_the_description_survives_json_and_reaches_the_spaces() -> None:
    for spec in (EnvSpec("c", make=make_counter), EnvSpec("c", make="CartPole-v1", description="a pole")):
        assert EnvSpec.from_dict(json.loads(json.dumps(spec.to_dict()))).description == spec.description
        spaces = probe_spaces(spec)
        assert spaces.description == spec.description
        assert SpaceSpec.from_dict(spaces.to_dict()) == spaces == pickle.loads(pickle.dumps(spaces))
    assert "description" not in EnvSpec("c", make=make_counter).to_dict()


def test_a_description_must_be_text() -> None:
    with pytest.raises(TypeError, match=r"EnvSpec 'c': description must be a string, not 3"):
        EnvSpec("c", make="CartPole-v1", description=3)  # type: ignore[arg-type]


def test_keys_depend_on_descriptions_and_their_order_alone() -> None:
    keys = environment_keys(EnvSpec(i, make=m) for i, m in (("a", "CartPole-v1"), ("b", "Acrobot-v1")))
    assert keys == {"a": zlib.crc32(b"CartPole-v1"), "b": zlib.crc32(b"Acrobot-v1")}
    twice = environment_keys([EnvSpec("x", make="CartPole-v1"), EnvSpec("y", make="CartPole-v1")])
    renamed = environment_keys([EnvSpec("y", make="CartPole-v1"), EnvSpec("x", make="CartPole-v1")])
    assert twice["x"] == keys["a"] == renamed["y"] and twice["y"] == renamed["x"] != twice["x"]
    spaces = SpaceSpec.from_spaces("s", gym.spaces.Discrete(2), gym.spaces.Discrete(2), description="CartPole-v1")
    assert environment_keys([spaces]) == {"s": keys["a"]}


def test_a_checkpoint_without_descriptions_acts_as_before(tmp_path: Path) -> None:
    path = save_untrained(tmp_path / "checkpoint", ["CartPole-v1", "Pendulum-v1"])
    obs = {"CartPole-v1": torch.randn(20, 4).numpy(), "Pendulum-v1": torch.randn(20, 3).numpy()}
    before = {env_id: MultiEnvAgent.from_checkpoint(path).act(env_id, rows) for env_id, rows in obs.items()}
    file = path / DESCRIPTION_FILE
    written = json.loads(file.read_text())
    for environment in written["environments"]:
        assert environment["spaces"].pop("description") == environment["id"]
    file.write_text(json.dumps(written))
    old = MultiEnvAgent.from_checkpoint(path)
    assert all((old.act(env_id, rows) == before[env_id]).all() for env_id, rows in obs.items())


def test_in_an_old_checkpoint_the_description_is_the_id(tmp_path: Path) -> None:
    path = save_untrained(tmp_path / "checkpoint", ["CartPole-v1"])
    file = path / DESCRIPTION_FILE
    written = json.loads(file.read_text())
    (environment,) = written["environments"]
    environment["id"] = environment["spaces"]["env_id"] = "long"
    environment["spec"] = {"id": "long", "make": "CartPole-v1"}
    del environment["spaces"]["description"]
    file.write_text(json.dumps(written))
    checkpoint = read_checkpoint(path)
    assert checkpoint.space_specs["long"].description == checkpoint.env_specs["long"].description == "long"


def test_in_old_pickles_the_description_is_the_id() -> None:
    load, (values, *_) = EnvSpec("long", make="CartPole-v1").__reduce__()
    del values["description"], values["descriptors"]
    assert load(values).description == "long"
    spaces = SpaceSpec.from_spaces("long", gym.spaces.Discrete(2), gym.spaces.Discrete(2), description="CartPole-v1")
    state = {k: v for k, v in spaces.__getstate__().items() if k not in ("description", "obs_names", "action_names")}
    old = SpaceSpec.__new__(SpaceSpec)
    old.__setstate__(state)
    assert (old.description, old.obs_names, old.action_names) == ("long", (), ())
