"""Meta-World: seeds, goals, spaces, scripted policies, and its benchmarks as lists of environments."""

from __future__ import annotations

import importlib.util
from typing import Any

import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from rllib_multienv import metaworld_mt10, metaworld_mt50
from rllib_multienv.envs import probe_spaces
from rllib_multienv.envs.make import make_env
from rllib_multienv.spec import EnvSpec, resolve_env_specs
from rllib_multienv.tasks import family_of

needs_meta_world = pytest.mark.skipif(importlib.util.find_spec("metaworld") is None, reason="needs the extra metaworld")


def meta_world(name: str = "reach-v3", **kwargs: Any) -> Any:
    return make_env(EnvSpec("m", make="multienv/MetaWorld-v0", kwargs={"name": name, **kwargs}))


def test_without_the_package_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    for make in (metaworld_mt10, lambda: resolve_env_specs("meta-world/MT10")):
        with pytest.raises(ValueError, match=r"pip install 'rllib-multienv\[metaworld\]'"):
            make()


@needs_meta_world
def test_a_benchmark_is_a_list_of_environments() -> None:
    specs = resolve_env_specs(["meta-world/MT10", "CartPole-v1"])
    assert specs[:10] == tuple(metaworld_mt10())
    assert [specs[i].id for i in (0, 9, 10)] == ["reach-v3", "window-close-v3", "CartPole-v1"]
    assert specs[1].description == "Meta-World push, rewards v2"
    assert metaworld_mt10(reward_version="v1")[1].description == "Meta-World push, rewards v1"
    assert len(resolve_env_specs("Meta-World/MT25")) == 25 and len({spec.id for spec in metaworld_mt50()}) == 50


@needs_meta_world
@pytest.mark.filterwarnings("ignore:.*(infinity|unbounded).*")
def test_gymnasium_finds_no_fault_and_every_number_has_a_name() -> None:
    for visible in (False, True):
        check_env(meta_world(task_visible=visible).unwrapped, skip_render_check=True)
        spec = EnvSpec("m", make="multienv/MetaWorld-v0", kwargs={"name": "push-v3", "task_visible": visible})
        spaces = probe_spaces(spec)
        assert len({*spaces.obs_names}) == spaces.observation.numbers == (45 if visible else 39)
        assert len(spaces.action_names) == 4


@needs_meta_world
def test_the_seed_gives_the_goal_and_all_copies_have_the_same_fifty() -> None:
    env, other = meta_world(), meta_world()
    first, again = env.reset(seed=1)[0], other.reset(seed=1)[0]
    np.testing.assert_array_equal(first, again)
    family = family_of(env)
    goals = family.sample_tasks(50, "train", np.random.default_rng(0))
    assert len(np.unique(goals, axis=0)) == 50
    seen = set()
    for seed in range(20):
        obs, _ = other.reset(seed=seed)
        np.testing.assert_allclose(obs[-3:], family_of(other).task[3:], atol=1e-6)
        seen.add(tuple(family_of(other).task))
    assert len(seen) > 10 and seen <= {*map(tuple, goals)}


@needs_meta_world
def test_a_hidden_goal_is_not_observed_and_has_a_test_split() -> None:
    env = family_of(meta_world(goal_visible=False))
    assert (env.reset(seed=1)[0][-3:] == 0).all()
    train, test = (env.sample_tasks(50, split, np.random.default_rng(0)) for split in ("train", "test"))
    assert not {*map(tuple, train)} & {*map(tuple, test)}


@needs_meta_world
def test_a_scripted_policy_succeeds() -> None:
    env = meta_world("drawer-close-v3", terminate_on_success=True)
    env.reset(seed=0)
    for _ in range(200):
        _, reward, terminated, _, info = env.step(family_of(env).oracle_action())
        if terminated:
            break
    assert terminated and info["success"] == 1 and 0 < reward <= 10


@needs_meta_world
def test_an_unknown_task_is_an_error() -> None:
    with pytest.raises(Exception, match=r"no task 'reach-v2'.*Did you mean 'reach-v3'"):
        meta_world("reach-v2")
