"""Task families with physics: rewards by hand, ends, scripted policies, saved states, hidden parameters."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from rllib_multienv.envs.make import make_env
from rllib_multienv.envs.snapshot import capture_env, restore_env
from rllib_multienv.spec import EnvSpec
from rllib_multienv.tasks import PHYSICS_FAMILIES, family_of
from rllib_multienv.tasks.family import Split, vector_family

pytestmark = pytest.mark.filterwarnings("ignore:.*out of date:DeprecationWarning")
HIDDEN = ("HalfCheetahTorso", "Walker2dFriction", "Walker2dFoot")


def family(name: str, task: Any = None, **kwargs: Any) -> Any:
    """A family's environment without wrappers, reset with a task."""
    env = family_of(make_env(EnvSpec(f"multienv/{name}-v0", kwargs=kwargs)))
    env.set_task(task)
    env.reset(seed=0)
    return env


def step(env: Any, value: float = 0.5) -> tuple[float, np.ndarray, np.ndarray, bool]:
    """Reward, speed of x and y, contact forces up to 1 and end of a step with this action in every motor."""
    before = env.data.qpos[:2].copy()
    body = env.data.body("torso").xpos[:2].copy() if env.data.qpos.size == 15 else before
    _, reward, terminated, _, _ = env.step(np.full(env.action_space.shape, value, np.float32))
    after = env.data.body("torso").xpos[:2] if env.data.qpos.size == 15 else env.data.qpos[:2]
    return reward, (after - body) / env.dt, np.clip(env.data.cfrc_ext, -1, 1), terminated


def test_cheetahs_are_paid_for_their_direction_or_speed() -> None:
    for direction in (1.0, -1.0):
        reward, speed, *_ = step(family("HalfCheetahDirection", [direction]))
        assert reward == pytest.approx(direction * speed[0] - 0.05 * 6 * 0.25)
    reward, speed, *_ = step(family("HalfCheetahVelocity", [2.0]))
    assert reward == pytest.approx(-abs(speed[0] - 2) - 0.05 * 6 * 0.25)
    slow = family("HalfCheetahVelocity", max_speed=2.0)
    assert slow.sample_tasks(100, "train", np.random.default_rng(0)).max() < 2


def test_a_task_of_its_own_makes_a_plain_environment() -> None:
    env = family_of(make_env(EnvSpec("fast", make="multienv/HalfCheetahVelocity-v0", kwargs={"task": [2.5]})))
    for seed in range(3):
        env.reset(seed=seed)
        assert env.task == [2.5]
    with pytest.raises(Exception, match=r"task=\[1, 2\] must be a list of 1 numbers"):
        make_env(EnvSpec("fast", make="multienv/HalfCheetahVelocity-v0", kwargs={"task": [1, 2]}))


def test_ants_are_paid_for_their_direction_speed_or_place() -> None:
    reward, speed, *_ = step(family("AntDirection2D", [0.6, 0.8]))
    assert reward == pytest.approx(0.6 * speed[0] + 0.8 * speed[1] - 0.5 * 8 * 0.25 + 1)
    reward, speed, *_ = step(family("AntDirection", [-1, 0]))
    assert reward == pytest.approx(-speed[0] - 0.5 * 8 * 0.25 + 1)
    reward, speed, forces, _ = step(family("AntVelocity", [2.0]))
    assert reward == pytest.approx(-abs(speed[0] - 2) + 1.05 - 0.005 * 8 * 0.25 - 5e-4 * (forces**2).sum())
    env = family("AntGoal", [1.0, -2.0])
    reward, _, forces, _ = step(env)
    distance = abs(env.data.qpos[0] - 1) + abs(env.data.qpos[1] + 2)
    assert reward == pytest.approx(-distance - 0.1 * 8 * 0.25 - 5e-4 * (forces**2).sum())


@pytest.mark.parametrize(("name", "ends"), [("AntDirection", True), ("AntRing", True), ("AntGoal", False)])
def test_an_ant_that_jumps_ends_the_episode_where_the_family_says_so(name: str, ends: bool) -> None:
    env = family(name)
    env.set_state(env.init_qpos + np.eye(15)[2], env.init_qvel)  # one metre higher
    assert step(env)[3] is ends


def test_far_from_the_goal_a_sparse_reward_is_that_of_the_origin() -> None:
    goal = np.array([0.0, 2.0])
    for sparse, near, far in ((False, -0.5, -1.0), (True, -0.5, -2.0)):
        env = family("WheeledRing", goal, sparse=sparse)
        for place, expected in (((0, 1.5), near), ((0, 1.0), far)):
            env.set_state(np.array([*place, 0, 0, 0, 0], float), np.zeros(6))
            assert step(env, 0.0)[0] == pytest.approx(expected, abs=1e-3)
        env = family("AntRing", goal, sparse=sparse)
        at_origin, _, forces, _ = step(env, 0.0)
        place = np.zeros(2) if sparse else env.data.qpos[:2]
        expected = 4.05 - np.abs(place - goal).sum() - 5e-4 * (forces**2).sum()
        assert at_origin == pytest.approx(expected, abs=1e-9)
    env = family("BlockPushing", split="test")  # sparse, because tests are
    goal = env.task[1:3]
    assert step(env, 0.0)[0] == pytest.approx(-5 * np.linalg.norm(goal))
    env.data.qpos[3 + 2 * int(env.task[0]) : 5 + 2 * int(env.task[0])] = goal + np.array([0.1, 0])
    assert step(env, 0.0)[0] == pytest.approx(-0.5, abs=1e-6)


@pytest.mark.parametrize(("name", "steps", "close"), [("WheeledRing", 200, 0.06), ("BlockPushing", 100, 0.05)])
def test_a_scripted_policy_reaches_the_goal(name: str, steps: int, close: float) -> None:
    env = family(name)
    for task in env.sample_tasks(6, "test", np.random.default_rng(0)):
        env.set_task(task)
        env.reset(seed=1)
        for _ in range(steps):
            info = env.step(env.oracle_action())[4]
        assert info["distance"] < close


def test_blocks_lie_in_slots_of_their_own() -> None:
    env = family("BlockPushing")
    tasks = env.sample_tasks(100, "train", np.random.default_rng(0))  # all
    assert len(np.unique(tasks, axis=0)) == 100 and len(np.unique(tasks[:, 3:], axis=0)) == 20
    places = tasks[:, 3:].reshape(100, 5, 2)
    assert (np.abs(places[..., 1] - [-0.4, -0.2, 0, 0.2, 0.4]) <= 0.05).all()
    env.set_task(tasks[0])
    obs, _ = env.reset()
    np.testing.assert_array_equal(obs[3:13], tasks[0, 3:])


@pytest.mark.parametrize("name", PHYSICS_FAMILIES)
def test_a_captured_state_continues_exactly(name: str) -> None:
    spec = EnvSpec(f"multienv/{name}-v0", kwargs={"task_visible": True})
    env, other = make_env(spec, seed=1), make_env(spec, seed=2)
    env.action_space.seed(0)
    actions = [env.action_space.sample() for _ in range(20)]
    for action in actions[:8]:
        env.step(action)
    state = capture_env(env)
    assert state is not None
    restore_env(other, state)
    for action in actions[8:]:
        one, two = env.step(action), other.step(action)
        np.testing.assert_array_equal(one[0], two[0])
        assert one[1:4] == two[1:4]
    np.testing.assert_array_equal(env.reset()[0], other.reset()[0])  # the same next task too


def test_hidden_parameters_are_those_of_the_model() -> None:
    model = family("HalfCheetahTorso", [0.9]).model
    assert model.geom("torso").size[1] == pytest.approx(0.9)
    assert (model.body("fthigh").pos[0], model.body("bthigh").pos[0]) == pytest.approx((0.9, -0.9))
    assert model.geom("head").pos[0] == pytest.approx(1.0)
    assert model.body_mass.sum() == pytest.approx(14)
    assert (family("Walker2dFriction", [1.2]).model.geom_friction[:, 0] == 1.2).all()
    foot = family("Walker2dFoot", [0.17]).model.geom("foot_left_geom")
    assert foot.size[1] == pytest.approx(0.17) and foot.pos[0] == pytest.approx(-0.03)  # the heel stays at -0.2


@pytest.mark.parametrize("name", HIDDEN)
def test_a_hidden_parameter_changes_the_motion_and_can_be_set_back(name: str) -> None:
    env = family(name)
    low, high = np.sort(env.sample_tasks(2, "extrapolation", np.random.default_rng(0)), axis=0)

    def motion(task: np.ndarray) -> np.ndarray:
        env.set_task(task)
        env.reset(seed=3)
        env.action_space.seed(3)
        return np.array([env.step(env.action_space.sample())[0] for _ in range(60)])

    first, other, again = motion(low), motion(high), motion(low)
    np.testing.assert_array_equal(first, again)
    assert not np.allclose(first[-1], other[-1])


def test_the_shortest_torso_is_gymnasiums() -> None:
    env, original = family("HalfCheetahTorso", [0.5]), make_env(EnvSpec("HalfCheetah-v5"))
    obs, _ = original.reset(seed=3)
    np.testing.assert_array_equal(env.reset(seed=3)[0], obs)
    for value in np.random.default_rng(0).uniform(-1, 1, (20, 6)):
        (obs, reward, *_), (expected, expected_reward, *_) = env.step(value), original.step(value)
        np.testing.assert_array_equal(obs, expected)
        assert reward == expected_reward


@pytest.mark.parametrize("name", HIDDEN)
def test_values_of_interpolation_lie_between_those_of_training(name: str) -> None:
    env, rng = family(name), np.random.default_rng(0)
    values = {split: {*env.sample_tasks(20, split, rng).ravel().round(6)} for split in env.splits}
    assert min(values["train"]) < min(values["interpolation"]) < max(values["interpolation"]) < max(values["train"])
    assert min(values["extrapolation"]) < min(values["train"]) and max(values["train"]) < max(values["extrapolation"])
    assert values["test"] == values["interpolation"] | values["extrapolation"]
    assert sum(map(len, values.values())) == 6 + 2 + 2 + 4 and not values["test"] & values["train"]


def cart_poles(num_envs: int, **kwargs: Any) -> Any:
    return vector_family("rllib_multienv.tasks.hidden_parameters:CartPoleHidden", num_envs, **kwargs)


def test_a_cart_pole_with_gymnasiums_parameters_is_gymnasiums() -> None:
    env, original = cart_poles(2), make_env(EnvSpec("CartPole-v1"))
    env.set_tasks([0, 0, 0, 0, 1])
    env.reset(seed=0)
    original.reset(seed=0)
    env.state[:] = original.unwrapped.state
    for action in (1, 0, 1, 1, 0, 1, 0, 0):
        found, (obs, *_) = env.step_all(np.array([action, action])), original.step(action)
        np.testing.assert_allclose(found.obs, [obs, obs], rtol=1e-5)


def test_each_cart_pole_has_parameters_of_its_own() -> None:
    env = cart_poles(2)
    env.set_tasks([[0, 0, 0, 0, 1], [0, 0, 0, 0, -0.5]])
    env.reset(seed=0)
    env.state[:] = 0
    env.step_all(np.array([1, 1]))
    assert env.state[1, 1] == pytest.approx(-0.5 * env.state[0, 1])


def test_a_policy_that_knows_the_parameters_balances_the_pole() -> None:
    env = cart_poles(1)
    for task in env.sample_tasks(20, "test", np.random.default_rng(0)):
        if abs(task[4]) < 0.3:  # too weak a force
            continue
        env.set_tasks(task)
        env.reset(seed=0)
        assert not any(env.step_all(env.oracle_actions()).terminated[0] for _ in range(200))


def test_extrapolation_of_cart_pole_is_outside_of_the_inner_cube() -> None:
    env, rng = cart_poles(1), np.random.default_rng(0)
    largest = {split: np.abs(env.sample_tasks(40, split, rng)).max(axis=1) for split in env.splits}
    assert largest["train"].max() <= 0.7 and largest["interpolation"].max() <= 0.7 < largest["extrapolation"].min()
    splits: tuple[Split, ...] = ("interpolation", "extrapolation")
    parts = np.concatenate([env.sample_tasks(20, split, rng) for split in splits])
    assert {*map(tuple, parts)} == {*map(tuple, env.sample_tasks(40, "test", rng))}


def test_a_cart_pole_with_negative_masses_is_refused() -> None:
    with pytest.raises(ValueError, match=r"CartPoleHidden: task=.* must be in \[-1, 1\]"):
        cart_poles(1, task=[0, 0, -1.2, 0, 0])
