"""Tags of registered environments, and what patterns select."""

from __future__ import annotations

import importlib.util

import gymnasium as gym
import pytest

from rllib_multienv import EnvSpec
from rllib_multienv.experience import registered_envs, registry, select
from rllib_multienv.gym_ids import FAMILIES

KEYS = {
    "domain", "structure", "representation", "problem", "simulated", "objective", "observability", "markovian",
    "agents", "test",
}  # fmt: skip


@pytest.fixture(autouse=True)
def fresh_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_registry", {})


def ids(include: str = "", exclude: str = "") -> set[str]:
    return {spec.id for spec in registered_envs(include.split(), exclude.split(), installed=False)}


@pytest.mark.parametrize(
    ("include", "exclude", "inside", "outside"),
    [
        ("domain:image", "", {"digits", "ALE-Pong-v5", "CarRacing-v3"}, {"iris", "CartPole-v1"}),
        ("domain:image", "domain:image/atari", {"digits", "CarRacing-v3"}, {"ALE-Pong-v5", "mario_bros_v3"}),
        ("domain:multiagent", "domain:multiagent/atari", {"connect_four_v3", "multiwalker_v9"}, {"pong_v3"}),
        ("domain:multiagent/atari", "", {"pong_v3"}, {"connect_four_v3", "ALE-Pong-v5"}),
        ("problem:classification", "test:True", {"digits", "wine"}, {"digits-test", "diabetes"}),
        ("test:true", "", {"digits-test", "diabetes-test"}, {"digits", "CartPole-v1"}),
        ("problem:regression", "", {"diabetes", "linnerud"}, {"iris"}),
        ("simulated:false", "", {"iris"}, {"Hopper-v5"}),
        ("mode", "", {"connect_four_v3", "multiwalker_v9"}, {"CartPole-v1", "iris"}),
        ("DOMAIN:Robot", "", {"Hopper-v5", "FetchReach-v4"}, {"CartPole-v1"}),
        ("observability:partial", "", {"MiniGrid-Unlock-v0"}, {"CartPole-v1"}),
        ("representation:action/continuous", "domain:robot", {"Pendulum-v1", "diabetes"}, {"Hopper-v5", "digits"}),
    ],
)
def test_patterns(include: str, exclude: str, inside: set[str], outside: set[str]) -> None:
    found = ids(include, exclude)
    assert inside <= found and not outside & found


def test_everything_that_is_built_in_has_a_tag_of_each_key() -> None:
    for spec in registered_envs(installed=False):
        assert {tag.partition(":")[0] for tag in spec.tags} >= KEYS, spec.id


def test_bundled_data_sets_are_gymnasium_environments() -> None:
    assert gym.make("multienv/BreastCancer-v0").observation_space.shape == (30,)
    assert next(spec for spec in registered_envs(["test:true"]) if spec.id == "wine-test").kwargs == {"split": "test"}


def test_what_is_not_installed_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "sklearn" else find(name))
    assert "digits" not in {spec.id for spec in registered_envs()} and "digits" in ids()
    families = {family.package: family.installed for family in FAMILIES}
    assert ("ALE-Pong-v5" in {spec.id for spec in registered_envs()}) == families["ale_py"]


def test_users_register_theirs() -> None:
    spec = registry.register_env(EnvSpec("mine", make="CartPole-v1", tags=("domain:mine",)), ["test:true"])
    assert spec.tags == ("domain:mine", "test:true")
    assert ids("domain:mine") == {"mine"}
    with pytest.raises(ValueError, match="'image' must be key:value"):
        registry.register_env("Pendulum-v1", ["image"])


def test_untagged_environments_are_kept_unless_something_is_included() -> None:
    specs = [EnvSpec("a", make="somewhere:Else"), EnvSpec("b", make="CartPole-v1")]
    assert [spec.id for spec in select(specs, [], ["domain:image"])] == ["a", "b"]
    assert [spec.id for spec in select(specs, ["domain:control"])] == ["b"]


def test_tags_do_not_depend_on_the_version() -> None:
    assert registry.tags_of(EnvSpec("Hopper-v4")) == registry.tags_of(EnvSpec("Hopper-v5")) != ()


def test_an_empty_selection_is_an_error_that_names_the_nearest_tag() -> None:
    with pytest.raises(ValueError, match=r"No environment is selected .*Did you mean 'domain:image'"):
        registered_envs(["domain:imag"])
    with pytest.raises(TypeError, match="must be a list"):
        select([EnvSpec("CartPole-v1")], "domain:image")
