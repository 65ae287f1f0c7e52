"""Backend "vector": copies of a task family in `EnvCopies`, next to copies that are stepped one by one."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from rllib_multienv.envs.errors import EnvFailure
from rllib_multienv.envs.make import episode_limit
from rllib_multienv.envs.vector import EnvCopies, resolve_backend
from rllib_multienv.spec import EnvSpec
from rllib_multienv.tasks import family_of

ID, B = "multienv/GridNavi-v0", 3
RIGHT = np.full(B, 2)


def copies(backend: str, evaluation: bool = False, **arguments: Any) -> EnvCopies:
    return EnvCopies(EnvSpec(ID, backend=backend, **arguments), B, seed=0, evaluation=evaluation)  # type: ignore[arg-type]


def tasks_of(env: EnvCopies) -> list[tuple[float, ...]]:
    found = env.env.tasks if env.backend == "vector" else [family_of(one).task for one in env.env.envs]
    return [tuple(task) for task in found]


def test_auto_takes_it_for_families_stepped_as_arrays_with_and_without_trials() -> None:
    assert resolve_backend(EnvSpec(ID)) == "vector"
    assert resolve_backend(EnvSpec(ID, trial_episodes=4)) == "vector"
    assert resolve_backend(EnvSpec(ID, backend="sync")) == "sync"


def test_other_environments_have_no_such_backend() -> None:
    with pytest.raises(ValueError, match="'CartPole-v1': backend='vector' is for task families"):
        resolve_backend(EnvSpec("CartPole-v1", backend="vector"))


def test_a_family_that_was_made_is_the_same_environment_as_its_id() -> None:
    assert EnvSpec.of(gym.make(ID)) == EnvSpec(ID)
    assert EnvSpec.of(gym.make(ID, size=7, render_mode="rgb_array")) == EnvSpec(ID, kwargs={"size": 7})


def test_wrong_arguments_are_named() -> None:
    with pytest.raises(EnvFailure, match="size=1 must be a whole number of at least 3"):
        copies("vector", kwargs={"size": 1})
    with pytest.raises(EnvFailure, match=r"GridNavi: there is no argument 'siz'. Did you mean 'size'"):
        copies("vector", kwargs={"siz": 5})


def test_both_backends_give_the_same_experience() -> None:
    one, other = copies("vector"), copies("sync")
    np.testing.assert_array_equal(one.reset(), other.reset())
    for t in range(40):
        actions = np.arange(B) % 3 + t % 2
        a, b = one.step(actions), other.step(actions)
        for name in ("obs", "rewards", "terminated", "truncated", "is_reset"):
            np.testing.assert_array_equal(getattr(a, name), getattr(b, name))
            assert getattr(a, name).dtype == getattr(b, name).dtype
        assert {key: obs.tolist() for key, obs in a.final_obs.items()} == {
            key: obs.tolist() for key, obs in b.final_obs.items()
        }
        assert len(a.infos) == B and a.episode_ends is None


@pytest.mark.parametrize("backend", ["vector", "sync", "async"])
def test_a_trial_keeps_its_task_and_shows_where_episodes_end(backend: str) -> None:
    env = copies(backend, trial_episodes=2, max_episode_steps=3)
    env.set_tasks(np.array([[2, 0]] * B))
    env.reset()
    steps = [env.step(RIGHT) for _ in range(12)]
    env.close()
    assert [s.rewards[0] for s in steps] == [-0.1, 1.0, -0.1] * 4
    assert [bool(s.episode_ends[0]) for s in steps] == [False, False, True] * 4  # type: ignore[index]
    assert [bool(s.truncated[0]) for s in steps] == ([False] * 5 + [True]) * 2
    assert steps[2].obs.tolist() == [[0, 0]] * B and not steps[2].final_obs
    assert [obs.tolist() for obs in steps[5].final_obs.values()] == [[3, 0]] * B


def test_a_family_says_when_it_cuts_an_episode() -> None:
    assert episode_limit(EnvSpec("multienv/GridNavi-v0")) == 15
    assert episode_limit(EnvSpec("multienv/TwoGoalMaze-v0", kwargs={"horizon": 20}, trial_episodes=4)) == 20
    assert episode_limit(EnvSpec("multienv/Search-v0", max_episode_steps=3)) == 3


@pytest.mark.parametrize("backend", ["vector", "sync"])
def test_an_evaluation_shows_test_tasks(backend: str) -> None:
    seen: dict[bool, set[tuple[float, ...]]] = {False: set(), True: set()}
    for evaluation, tasks in seen.items():
        env = copies(backend, evaluation)
        for _ in range(30):
            env.reset()
            tasks.update(tasks_of(env))
    assert len(seen[True]) == 5 and len(seen[False]) > 10
    assert not seen[True] & seen[False]


def test_an_evaluation_in_processes_shows_test_tasks() -> None:
    env = copies("async", evaluation=True)
    assert env.env.call("get_wrapper_attr", "split") == ("test",) * B
    env.close()


def test_only_families_have_tasks_to_set() -> None:
    with pytest.raises(ValueError, match="'CartPole-v1' is no task family"):
        EnvCopies(EnvSpec("CartPole-v1"), 1).set_tasks(np.zeros((1, 2)))


@pytest.mark.parametrize("trial_episodes", [None, 3])
def test_a_restored_snapshot_continues_exactly(trial_episodes: int | None) -> None:
    env, other = (copies("vector", trial_episodes=trial_episodes) for _ in range(2))
    env.reset()
    for _ in range(20):
        env.step(RIGHT)
    state = env.snapshot()
    assert other.restore(state) is not None
    for t in range(60):
        a, b = (copies_.step(np.full(B, t % 5)) for copies_ in (env, other))
        np.testing.assert_array_equal(a.obs, b.obs)
        np.testing.assert_array_equal(a.rewards, b.rewards)
        assert tasks_of(env) == tasks_of(other)


def test_a_snapshot_of_another_backend_begins_new_episodes() -> None:
    stepped_singly, env = copies("sync"), copies("vector")
    stepped_singly.reset()
    with pytest.warns(UserWarning, match="begins new episodes"):
        assert env.restore(stepped_singly.snapshot()) is None
