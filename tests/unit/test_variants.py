"""Variants of Gymnasium's environments: what they change, and that without arguments they change nothing."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from rllib_multienv import EnvSpec
from rllib_multienv.envs import probe_spaces
from rllib_multienv.envs.errors import EnvFailure
from rllib_multienv.envs.make import make_env
from rllib_multienv.envs.snapshot import capture_env, restore_env
from rllib_multienv.tasks import ORIGINALS

pytestmark = pytest.mark.filterwarnings("ignore:.*out of date:DeprecationWarning")
MUJOCO = ("Hopper-v4", "HalfCheetah-v4", "Walker2d-v4")
NEUTRAL: dict[str, dict[str, Any]] = {
    "CartPole-v1": {"gravity": 1, "mass": 1, "length": 1, "gear": 1},
    "Pendulum-v1": {"gravity": 1, "mass": 1, "length": 1},
    "Acrobot-v1": {"mass": 1, "length": 1, "gear": 1},
    "LunarLander-v3": {"gravity": 1, "mass": 1, "friction": 1},
    **{name: dict.fromkeys(("gravity", "mass", "length", "friction", "damping", "gear"), 1) for name in MUJOCO},
}


def variant(original: str, **kwargs: Any) -> gym.Env:
    return make_env(EnvSpec("variant", make=f"multienv/{original.partition('-')[0]}Variant-v0", kwargs=kwargs))


def roll(env: gym.Env, actions: list[Any]) -> list[tuple[Any, ...]]:
    """Observation, reward and ends of each step; seeded, and reset where an episode ends."""
    found = [(env.reset(seed=3)[0], 0.0, False, False)]
    for action in actions:
        found.append(env.step(action)[:4])
        if found[-1][2] or found[-1][3]:
            env.reset()
    return found


def actions_of(env: gym.Env, number: int = 120) -> list[Any]:
    env.action_space.seed(5)
    return [env.action_space.sample() for _ in range(number)]


def assert_same(one: list[tuple[Any, ...]], other: list[tuple[Any, ...]]) -> None:
    for (obs_a, *rest_a), (obs_b, *rest_b) in zip(one, other, strict=True):
        np.testing.assert_array_equal(obs_a, obs_b)
        assert rest_a == rest_b


@pytest.mark.parametrize("original", ORIGINALS)
def test_a_variant_with_neutral_arguments_is_the_original(original: str) -> None:
    base, same = make_env(EnvSpec(original)), variant(original, action_delay=0, **NEUTRAL[original])
    actions = actions_of(base)
    assert_same(roll(base, actions), roll(same, actions))
    assert same.spec is not None and base.spec is not None
    assert same.spec.max_episode_steps == base.spec.max_episode_steps
    assert (same.observation_space, same.action_space) == (base.observation_space, base.action_space)


@pytest.mark.parametrize("original", MUJOCO)
def test_what_mujoco_computes_again_is_as_it_was(original: str) -> None:
    env, base = variant(original, gravity=2), make_env(EnvSpec(original))
    env.unwrapped.model.opt.gravity /= 2  # type: ignore[attr-defined]
    actions = actions_of(base, 40)
    assert_same(roll(env, actions), roll(base, actions))


@pytest.mark.parametrize(("original", "quantity"), [(name, key) for name, keys in NEUTRAL.items() for key in keys])
def test_each_quantity_changes_the_motion(original: str, quantity: str) -> None:
    base = variant(original)
    actions = actions_of(base, 150)
    observed = [
        np.array([obs for obs, *_ in roll(env, actions)]) for env in (base, variant(original, **{quantity: 1.2}))
    ]
    assert np.isfinite(observed[1]).all()
    assert not np.array_equal(*observed)


def test_a_lighter_gravity_lets_a_body_fall_slower() -> None:
    falls = []
    for gravity in (1.0, 0.25):
        env: Any = variant("Hopper-v4", gravity=gravity)
        env.reset(seed=0)
        env.unwrapped.set_state(np.array([0, 5, 0, -0.1, -0.1, 0]), np.zeros(6))  # in the air, at rest
        env.step(np.zeros(3, np.float32))
        falls.append(env.unwrapped.data.qvel[1])
    assert falls[0] == pytest.approx(-9.81 * 0.008) and falls[1] == pytest.approx(falls[0] / 4)


def test_a_smaller_body_stands_and_falls_in_proportion() -> None:
    env: Any = variant("Hopper-v4", length=0.5)
    obs, _ = env.reset(seed=0)
    assert obs[0] == pytest.approx(1.25 / 2, abs=0.01)
    assert not env.step(np.zeros(3, np.float32))[2]  # not below the height that ends an episode
    base: Any = make_env(EnvSpec("Hopper-v4"))
    np.testing.assert_allclose(env.unwrapped.model.body_mass, base.unwrapped.model.body_mass)


def test_a_permuted_variant_is_the_original_in_another_order() -> None:
    order, swap = [3, 1, 0, 2, 4, 5, 6, 7, 8, 10, 9], [2, 0, 1]
    base = make_env(EnvSpec("Hopper-v4"))
    env = variant(
        "Hopper-v4",
        permutation={"observation": order, "action": swap},
        sign_flips={"observation": [3], "action": [0]},
    )
    obs, _ = env.reset(seed=1)
    expected, _ = base.reset(seed=1)
    for action in actions_of(base, 15):
        mine = action[swap] * np.array([1, -1, 1], np.float32)  # the original's first action comes second
        obs, reward, *_ = env.step(mine)
        expected, expected_reward, *_ = base.step(action)
        assert obs[0] == -expected[3]
        np.testing.assert_array_equal(obs[1:], expected[order][1:])
        assert reward == expected_reward


def test_discrete_actions_are_permuted() -> None:
    env, base = variant("CartPole-v1", permutation={"action": [1, 0]}), make_env(EnvSpec("CartPole-v1"))
    assert_same(roll(env, [0, 1, 1, 0]), roll(base, [1, 0, 0, 1]))


def test_a_seed_draws_the_same_orders() -> None:
    names = [
        probe_spaces(EnvSpec("v", make="multienv/Walker2dVariant-v0", kwargs={"permutation_seed": seed}))
        for seed in (0, 0, 1)
    ]
    assert names[0].obs_names == names[1].obs_names != names[2].obs_names


def test_names_follow_the_components() -> None:
    original = probe_spaces(EnvSpec("Hopper-v4"))
    assert probe_spaces(EnvSpec("v", make="multienv/HopperVariant-v0")).obs_names == original.obs_names
    kwargs = {"permutation": {"observation": list(range(10, -1, -1)), "action": [1, 2, 0]}, "action_delay": 2,
              "sign_flips": {"observation": [0]}}  # fmt: skip
    spaces = probe_spaces(EnvSpec("v", make="multienv/HopperVariant-v0", kwargs=kwargs))
    assert spaces.obs_names == (*original.obs_names[:0:-1], f"{original.obs_names[0]} reversed")
    assert spaces.action_names == tuple(original.action_names[i] for i in (1, 2, 0))
    lander = probe_spaces(EnvSpec("v", make="multienv/LunarLanderVariant-v0", kwargs={"mass": 1.5}))
    assert lander.obs_names == probe_spaces(EnvSpec("LunarLander-v3")).obs_names


def test_delayed_actions_come_late() -> None:
    env, base = variant("Pendulum-v1", action_delay=2), make_env(EnvSpec("Pendulum-v1"))
    chosen = [np.array([x], np.float32) for x in (1.0, -1.0, 0.5, 2.0, 0.0)]
    executed = [chosen[i] for i in (0, 0, 0, 1, 2)]
    assert_same(roll(env, chosen), roll(base, executed))


@pytest.mark.parametrize("original", [name for name in ORIGINALS if name != "LunarLander-v3"])
def test_a_variant_is_restored_in_the_middle_of_an_episode(original: str) -> None:
    kwargs = {"mass": 1.3, "length": 0.8, "permutation_seed": 1, "action_delay": 2}
    env, other = variant(original, **kwargs), variant(original, **kwargs)
    actions = actions_of(env, 8)
    env.reset(seed=0), other.reset(seed=9)
    for action in actions[:5]:
        env.step(action)
    state = capture_env(env)
    assert state is not None
    restore_env(other, state)
    for action in actions[5:]:
        np.testing.assert_array_equal(env.step(action)[0], other.step(action)[0])


@pytest.mark.parametrize(
    ("original", "kwargs", "message"),
    [
        ("Hopper-v4", {"mas": 2}, r"no argument 'mas'.*Did you mean 'mass'"),
        ("Pendulum-v1", {"friction": 2}, r"no 'friction' to change; it has gravity, mass, length"),
        ("Hopper-v4", {"mass": 0}, r"mass=0 must be a factor above 0; 1 is the original"),
        ("Hopper-v4", {"gravity": "low"}, r"gravity='low' must be a factor of 0 or more"),
        ("Hopper-v4", {"action_delay": -1}, r"action_delay=-1 must be a whole number"),
        (
            "Hopper-v4",
            {"permutation": {"action": [0, 1]}},
            r"permutation\['action'\]=\[0, 1\] must have each of 0 to 2",
        ),
        ("Hopper-v4", {"permutation": [1, 0]}, r"permutation=\[1, 0\] must map 'observation' and 'action'"),
        ("Hopper-v4", {"permutation": {}, "permutation_seed": 1}, r"either permutation or permutation_seed"),
        ("CartPole-v1", {"sign_flips": {"action": [0]}}, r"no meaning for discrete actions"),
        ("Hopper-v4", {"sign_flips": {"observation": [11]}}, r"must be from 0 to 10"),
    ],
)
def test_wrong_arguments_are_refused(original: str, kwargs: dict[str, Any], message: str) -> None:
    with pytest.raises(EnvFailure, match=message):
        variant(original, **kwargs)


def test_gymnasium_knows_them_whichever_is_imported_first() -> None:
    make = "gymnasium.make('multienv/CartPoleVariant-v0', gravity=0.5)"
    for first in ("import rllib_multienv, gymnasium", "import gymnasium, rllib_multienv"):
        subprocess.run([sys.executable, "-c", f"{first}; {make}"], check=True, timeout=60)
