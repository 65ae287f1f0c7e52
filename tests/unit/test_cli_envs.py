"""`multienv envs` lists what can be trained on."""

from __future__ import annotations

from pathlib import Path

import gymnasium as gym
import pytest
from cli_helpers import invoke_cli

from rllib_multienv.gym_ids import FAMILIES, Family, find_env


@pytest.fixture
def no_extras(monkeypatch: pytest.MonkeyPatch) -> None:
    """No extra is installed, or was imported by another test."""
    own = {name: spec for name, spec in gym.registry.items() if str(spec.entry_point).startswith("gymnasium.")}
    monkeypatch.setattr(gym, "registry", own)
    monkeypatch.setattr(Family, "installed", False)


def test_it_lists_sizes_and_action_kinds(tmp_path: Path) -> None:
    done = invoke_cli("envs", cwd=tmp_path)
    assert done.exit_code == 0, done.stderr
    lines = {line.split()[0]: line.split()[1:] for line in done.stdout.splitlines() if line.strip()}
    assert lines["CartPole-v1"] == ["4", "2", "discrete", "500"]
    assert lines["Pendulum-v1"] == ["3", "1", "continuous", "200"]


def test_a_pattern_chooses(tmp_path: Path) -> None:
    done = invoke_cli("envs", "cart*v1", cwd=tmp_path)
    assert "CartPole-v1" in done.stdout
    assert done.stdout.rstrip().endswith("\n1 environment")


def test_tags_choose(tmp_path: Path) -> None:
    done = invoke_cli("envs", "--include", "domain:image", "--exclude", "test:true", cwd=tmp_path)
    first = [line.split()[0] for line in done.stdout.splitlines() if line.strip()]
    assert "digits" in first and not {"digits-test", "CartPole-v1"} & set(first)
    none = invoke_cli("envs", "--include", "domain:imag", cwd=tmp_path)
    assert none.exit_code == 1 and "Did you mean 'domain:image'" in none.stderr


@pytest.mark.usefixtures("no_extras")
def test_extras_are_listed_with_what_they_need(tmp_path: Path) -> None:
    families = invoke_cli("envs", cwd=tmp_path).stdout
    for extra in ("atari", "minigrid", "robotics", "metaworld", "envpool"):
        assert f"the extra '{extra}'" in families
    found = [line.split() for line in invoke_cli("envs", "adroit*door", cwd=tmp_path).stdout.splitlines()]
    assert ["AdroitHandDoor-v1", "needs", "the", "extra", "'robotics'"] in found
    near = invoke_cli("envs", "AdroitHandDor", cwd=tmp_path)
    assert near.exit_code == 1 and "near it: AdroitHandDoor-v1" in near.stderr


@pytest.mark.usefixtures("no_extras")
def test_an_environment_of_an_extra_says_what_to_install() -> None:
    with pytest.raises(ValueError, match=r"package 'gymnasium_robotics', .*pip install 'rllib-multienv\[robotics\]'"):
        find_env("AdroitHandDoor-v1")
    with pytest.raises(ValueError, match=r"nearest names are 'AdroitHandDoor-v1'"):
        find_env("AdroitHandDor-v1")


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.package)
def test_ids_of_families_are_those_of_the_packages(family: Family) -> None:
    pytest.importorskip(family.package)
    family.register()
    assert len(family.ids) == len(set(family.ids)) and set(family.ids) <= set(gym.registry)


def test_what_needs_arguments_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Family, "installed", True)
    monkeypatch.setattr(Family, "register", lambda family: None)
    found = [line.split() for line in invoke_cli("envs", "meta-world", cwd=tmp_path).stdout.splitlines()]
    assert ["Meta-World/MT1", "needs", "kwargs:", "{env_name:", "push-v3}"] in found


def test_no_match_offers_what_is_near(tmp_path: Path) -> None:
    done = invoke_cli("envs", "CartPolle", cwd=tmp_path)
    assert done.exit_code == 1
    assert "CartPole-v1" in done.stderr
