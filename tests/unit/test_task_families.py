"""Task families: tasks and splits, oracles, seeds, copies stepped as arrays and one by one, saved states."""

from __future__ import annotations

from typing import Any, cast

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from rllib_multienv.envs import probe_spaces
from rllib_multienv.envs.errors import EnvFailure
from rllib_multienv.envs.make import make_env
from rllib_multienv.spec import EnvSpec
from rllib_multienv.tasks import PHYSICS_FAMILIES, VECTOR_FAMILIES, VectorFamily, family_of
from rllib_multienv.tasks.bandit import bayes_greedy_return
from rllib_multienv.tasks.family import FamilyStep

SETTINGS: list[tuple[str, dict[str, Any]]] = [
    ("multienv/GridNavi-v0", {"size": 7}),
    ("multienv/PointNavigation-v0", {"setting": "pearl"}),
    ("multienv/PointNavigation-v0", {"num_train_tasks": 80}),
    ("multienv/PointSemicircle-v0", {"dense": True}),
    ("multienv/PointSemicircle-v0", {"dense": None}),
    ("multienv/TwoGoalMaze-v0", {"observation": "image"}),
    ("multienv/TwoGoalMaze-v0", {"step": 1.0, "horizon": 20}),
]
VECTOR = [
    *(pytest.param(f"multienv/{name}-v0", {}, id=name) for name in VECTOR_FAMILIES),
    *(pytest.param(env_id, kwargs, id=f"{env_id[9:-3]} {kwargs}") for env_id, kwargs in SETTINGS),
]
PHYSICS = [f"multienv/{name}-v0" for name in PHYSICS_FAMILIES]
FAMILIES = [*VECTOR, *(pytest.param(env_id, {}, id=env_id[9:-3]) for env_id in PHYSICS)]
WITH_BOTH_TASKS_IN_BOTH = (
    *("multienv/HalfCheetahDirection-v0", "multienv/AntDirection-v0"),
    *("multienv/Oracle-v0", "multienv/Guess-v0", "multienv/Question-v0", "multienv/Search-v0"),
)
RANDOM = ["multienv/Bandit-v0", "multienv/TabularMDP-v0"]  # rewards are random
B = 5


def family(env_id: str, **kwargs: Any) -> Any:
    found = family_of(make_env(EnvSpec(env_id, kwargs=kwargs)))
    assert found is not None, f"{env_id} is no task family"
    return found


def copies(env_id: str, **kwargs: Any) -> VectorFamily:
    return cast(VectorFamily, gym.make_vec(env_id, B, vectorization_mode="vector_entry_point", **kwargs))


def roll(env: VectorFamily, steps: int, seed: int = 3) -> list[FamilyStep]:
    rng = np.random.default_rng(seed)
    env.single_action_space.seed(seed)
    found = []
    for _ in range(steps):
        actions = [env.single_action_space.sample() for _ in range(B)]
        found.append(env.step_all(env.oracle_actions() if rng.random() < 0.5 else np.array(actions)))
    return found


def assert_same(one: FamilyStep, other: FamilyStep) -> None:
    for a, b in zip(one, other, strict=True):
        np.testing.assert_array_equal(a, b)


def episode_return(env: Any) -> float:
    """The oracle's return from here to the end of the episode."""
    total, done = 0.0, False
    while not done:
        _, reward, terminated, truncated, _ = env.step(env.oracle_action())
        total += reward
        done = terminated or truncated
    return total


@pytest.mark.parametrize(("env_id", "kwargs"), FAMILIES)
@pytest.mark.filterwarnings("ignore:.*(infinity|precision|not normalized|unbounded).*")
def test_gymnasium_finds_no_fault(env_id: str, kwargs: dict[str, Any]) -> None:
    for task_visible in (False, True):
        env = gym.make(env_id, **kwargs, task_visible=task_visible, disable_env_checker=True).unwrapped
        check_env(env, skip_render_check=env_id in PHYSICS)  # it would open a window


@pytest.mark.parametrize(("env_id", "kwargs"), FAMILIES)
def test_splits_are_disjoint_and_the_same_for_everyone(env_id: str, kwargs: dict[str, Any]) -> None:
    env, again = family(env_id, **kwargs), family(env_id, **kwargs, split="test")
    train, test = (env.sample_tasks(100, split, np.random.default_rng(0)) for split in ("train", "test"))
    assert train.shape == test.shape == (100, *env.unwrapped.task.shape)
    if env_id not in WITH_BOTH_TASKS_IN_BOTH:
        assert not {tuple(task) for task in train} & {tuple(task) for task in test}
    np.testing.assert_array_equal(test, again.sample_tasks(100, "test", np.random.default_rng(0)))
    listed = {tuple(task) for task in env.sample_tasks(2000, "test", np.random.default_rng(0))}
    for seed in range(10):
        again.reset(seed=seed)
        assert tuple(again.task) in listed


@pytest.mark.parametrize(("env_id", "kwargs"), FAMILIES)
def test_a_seed_gives_the_task_and_a_task_that_is_set_stays(env_id: str, kwargs: dict[str, Any]) -> None:
    env = family(env_id, **kwargs)
    seen = []
    for seed in (1, 1, 2, 3, 4, 5, 6):
        obs, _ = env.reset(seed=seed)
        seen.append((env.task.tolist(), np.asarray(obs).tolist()))
    assert seen[0] == seen[1]
    assert len({str(task) for task, _ in seen}) > 1
    task = env.sample_tasks(1, "test", np.random.default_rng(7))[0]
    env.set_task(task)
    for _ in range(3):
        env.reset()
        np.testing.assert_array_equal(env.task, task)
    env.set_task(None)
    drawn = []
    for _ in range(10):
        env.reset()
        drawn.append(tuple(env.task))
    assert len(set(drawn)) > 1


@pytest.mark.parametrize(("env_id", "kwargs"), FAMILIES)
def test_the_oracle_reaches_the_best_return(env_id: str, kwargs: dict[str, Any]) -> None:
    if env_id in RANDOM:
        return  # the next test
    env = family(env_id, **kwargs)
    if env_id in PHYSICS:
        assert env.oracle_return() is None
        return
    for task in env.sample_tasks(8, "test", np.random.default_rng(0)):
        env.set_task(task)
        env.reset()
        if (best := env.oracle_return()) is not None:
            assert episode_return(env) == pytest.approx(best, rel=1e-5, abs=1e-5)


@pytest.mark.parametrize("env_id", RANDOM)
def test_the_oracle_reaches_the_best_expected_return(env_id: str) -> None:
    many = 3000
    env = cast(VectorFamily, gym.make_vec(env_id, many, vectorization_mode="vector_entry_point"))
    env.set_tasks(env.sample_tasks(1, "test", np.random.default_rng(1)))
    env.reset(seed=0)
    expected = env.oracle_returns()
    assert expected is not None
    returns = sum(env.step_all(env.oracle_actions()).rewards for _ in range(env.horizon))
    assert np.mean(returns) == pytest.approx(expected[0], abs=4 * np.std(returns) / np.sqrt(many))


@pytest.mark.parametrize(("env_id", "kwargs"), FAMILIES)
def test_a_visible_task_ends_the_observation_and_has_names(env_id: str, kwargs: dict[str, Any]) -> None:
    env = make_env(EnvSpec(env_id, kwargs={**kwargs, "task_visible": True}))
    obs, _ = env.reset(seed=1)
    task = family_of(env).task
    seen = obs["task"] if isinstance(obs, dict) else np.asarray(obs)[-len(task) :]
    np.testing.assert_allclose(seen, task, rtol=1e-6)
    spaces = probe_spaces(EnvSpec(env_id, kwargs={**kwargs, "task_visible": True}))
    assert spaces.action_names
    if not spaces.observation.images:
        assert len(spaces.obs_names) == spaces.observation.numbers
        assert all(name.startswith("task ") for name in spaces.obs_names[-len(task) :])


@pytest.mark.parametrize(("env_id", "kwargs"), FAMILIES)
def test_a_picture_shows_the_state(env_id: str, kwargs: dict[str, Any]) -> None:
    env = make_env(EnvSpec(env_id, kwargs=kwargs), render_mode="rgb_array", seed=0)
    picture: Any = env.render()
    assert picture.dtype == np.uint8 and picture.ndim == 3 and picture.shape[2] == 3
    assert len(np.unique(picture)) > 2


def test_a_family_with_a_task_is_a_plain_environment() -> None:
    env = family("multienv/PointGoal-v0", task=[1.5, 0])
    for split in ("train", "test"):
        env.split = split
        env.reset()
        assert env.task.tolist() == [1.5, 0]
    env.set_task([0, 1])
    env.reset()
    assert env.task.tolist() == [0, 1]
    env.set_task(None)
    env.reset()
    assert env.task.tolist() == [1.5, 0]
    with pytest.raises(EnvFailure, match=r"PointGoal: task=\[1\] must be a list of 2 numbers"):
        family("multienv/PointGoal-v0", task=[1])


def test_what_is_no_family_is_none() -> None:
    assert family_of(gym.make("CartPole-v1")) is None


@pytest.mark.parametrize(("env_id", "kwargs"), FAMILIES)
def test_an_unknown_split_is_an_error(env_id: str, kwargs: dict[str, Any]) -> None:
    with pytest.raises(Exception, match=r"split='validation' must be one of 'train', .*'test'"):
        family(env_id, **kwargs, split="validation")


@pytest.mark.parametrize(("env_id", "kwargs"), VECTOR)
def test_copies_stepped_as_arrays_equal_single_ones(env_id: str, kwargs: dict[str, Any]) -> None:
    vector, singles = copies(env_id, **kwargs), [family(env_id, **kwargs) for _ in range(B)]
    seeds = list(range(10, 10 + B))
    obs = vector.reset_seeded(seeds)
    np.testing.assert_array_equal(obs, [env.reset(seed=seed)[0] for env, seed in zip(singles, seeds, strict=True)])
    for step in range(2 * vector.horizon + 3):
        actions = vector.oracle_actions() if step % 2 else np.array([vector.single_action_space.sample()] * B)
        found = vector.step_all(actions)
        for b, env in enumerate(singles):
            ob, reward, terminated, truncated, _ = env.step(actions[b])
            assert (reward, terminated, truncated) == (found.rewards[b], found.terminated[b], found.truncated[b])
            if terminated or truncated:
                np.testing.assert_array_equal(found.last[b], ob)
                ob, _ = env.reset()
            np.testing.assert_array_equal(found.obs[b], ob)


@pytest.mark.parametrize(("env_id", "kwargs"), VECTOR)
def test_a_captured_state_continues_exactly(env_id: str, kwargs: dict[str, Any]) -> None:
    env, other = copies(env_id, **kwargs), copies(env_id, **kwargs)
    env.reset(seed=1)
    roll(env, env.horizon // 2)
    states = env.capture()
    expected = roll(env, env.horizon + 5, seed=4)
    other.reset(seed=9)
    other.restore(states)
    for one, two in zip(expected, roll(other, env.horizon + 5, seed=4), strict=True):
        assert_same(one, two)


@pytest.mark.parametrize(("env_id", "kwargs"), VECTOR)
def test_a_trial_has_one_task_and_ends_with_its_last_episode(env_id: str, kwargs: dict[str, Any]) -> None:
    env = copies(env_id, **kwargs, trial_episodes=3)
    env.reset(seed=0)
    tasks, ends = [env.tasks.copy()], np.zeros(B, int)
    for _ in range(7 * env.horizon):
        step = roll(env, 1)[0]
        done = step.terminated | step.truncated
        ends += step.episode_ends
        np.testing.assert_array_equal(done, step.episode_ends & (ends % 3 == 0))
        assert (step.last is not None) == done.any()
        same = (env.tasks == tasks[-1]).all(axis=1)
        assert same[~done].all()
        tasks.append(env.tasks.copy())
    assert (ends >= 6).all()
    assert len({str(found[0]) for found in tasks}) > 1


def test_boxes_do_nothing_in_an_exploration_episode_of_the_maze() -> None:
    env = copies("multienv/TwoGoalMaze-v0", exploration_episodes=1, trial_episodes=2, horizon=30)
    env.reset(seed=0)
    for _ in range(29):
        step = env.step_all(env.oracle_actions())
        assert not step.rewards.any() and not step.episode_ends.any()
    assert env.step_all(env.oracle_actions()).episode_ends.all()
    episode, returns = np.zeros(B, int), np.zeros((B, 2))
    while (episode < 1).any():
        step = env.step_all(env.oracle_actions())
        returns[np.arange(B), np.minimum(episode, 1)] += step.rewards
        episode += step.episode_ends
    assert (returns[:, 0] == 1.0).all()


def test_the_oracle_of_grid_navigation_has_44_in_four_episodes() -> None:
    env = family("multienv/GridNavi-v0", held_out=False)
    goals = env.sample_tasks(21, "test", np.random.default_rng(0))
    assert len(np.unique(goals, axis=0)) == 21
    returns = []
    for goal in goals:
        env.set_task(goal)
        env.reset()
        returns.append(env.oracle_return())
    assert 4 * np.mean(returns) == pytest.approx(44.29, abs=0.005)


@pytest.mark.parametrize(("horizon", "expected"), [(20, 13.38), (60, 53.38), (100, 93.38)])
def test_the_oracle_of_the_semicircle_has_the_known_return(horizon: int, expected: float) -> None:
    many = 2000
    env = cast(
        VectorFamily,
        gym.make_vec("multienv/PointSemicircle-v0", many, vectorization_mode="vector_entry_point", horizon=horizon),
    )
    angles = np.linspace(0, np.pi, many)
    env.set_tasks(np.stack([np.cos(angles), np.sin(angles)], axis=1))
    env.reset(seed=0)
    returns = env.oracle_returns()
    assert returns is not None and returns.mean() == pytest.approx(expected, abs=0.01)


def test_a_half_circle_that_is_dense_in_training_shows_the_sparse_reward_of_tests() -> None:
    runs = {}
    for split in ("train", "test"):
        env = copies("multienv/PointSemicircle-v0", dense=None, horizon=30, split=split)
        env.set_tasks(np.tile([0.0, 1.0], (B, 1)))
        env.reset(seed=0)
        runs[split] = [env.step_all(env.oracle_actions()) for _ in range(29)]
    for dense, sparse in zip(runs["train"], runs["test"], strict=True):
        distances = np.linalg.norm(sparse.obs[:, :2] - [0.0, 1.0], axis=1)
        np.testing.assert_allclose(sparse.rewards, np.where(distances <= 0.2, 1 - distances, 0.0), atol=1e-6)
        np.testing.assert_allclose(dense.rewards, -distances, atol=1e-6)
        for step in (dense, sparse):
            np.testing.assert_allclose(step.obs[:, 2], sparse.rewards, atol=1e-6)
    assert runs["test"][-1].rewards.min() > 0


def test_the_bayes_greedy_policy_has_the_known_return() -> None:
    assert bayes_greedy_return(5, 20) == pytest.approx(14.1, abs=0.1)
