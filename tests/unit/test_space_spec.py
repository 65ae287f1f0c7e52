"""SpaceSpec: spaces to flat vectors and back."""

from __future__ import annotations

import json
import pickle
import warnings
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete

from rllib_multienv.spec import SpaceSpec

OBS = Box(-1, 1, (3,), np.float64)


def make(action_space: gym.Space, observation_space: gym.Space = OBS, env_id: str = "toy") -> SpaceSpec:
    return SpaceSpec.from_spaces(env_id, observation_space, action_space)


@pytest.mark.parametrize(
    ("space", "given", "flat"),
    [
        (np.float32, np.float32, np.float32),
        (np.float32, np.float64, np.float32),
        (np.float64, np.float64, np.float64),
        (np.float64, np.float32, np.float32),
        (np.int64, np.int64, np.float64),
        (np.uint8, np.uint8, np.float32),
    ],
)
def test_box_observations_become_rows_of_the_dtype_that_holds_them(space: Any, given: Any, flat: Any) -> None:
    rows = make(Discrete(2), Box(0, 9, (3,), space)).flatten_obs(np.arange(6, dtype=given).reshape(2, 3))
    assert rows.dtype == flat
    assert rows.tolist() == [[0, 1, 2], [3, 4, 5]]


def test_discrete_observations_are_one_hot_from_their_start() -> None:
    spec = make(Discrete(2), Discrete(3, start=-1))
    assert spec.flatten_obs(np.array([-1, 1, 0])).tolist() == [[1, 0, 0], [0, 0, 1], [0, 1, 0]]


def test_discrete_observation_outside_its_space_names_the_environment() -> None:
    with pytest.raises(ValueError, match="'toy'"):
        make(Discrete(2), Discrete(3)).flatten_obs(np.array([3]))


def test_discrete_actions_begin_at_the_start() -> None:
    spec = make(Discrete(3, start=5))
    actions = spec.action_to_env(np.array([0, 2]))
    assert actions.tolist() == [5, 7]
    assert all(spec.action_space.contains(action) for action in actions)
    assert spec.action_from_env(actions).tolist() == [0, 2]


def test_box_actions_span_the_bounds_and_are_clipped() -> None:
    spec = make(Box(np.array([-2, 0], np.float32), np.array([2, 10], np.float32)))
    actions = spec.action_to_env(np.array([[-1, -1], [0, 0], [1, 1], [9, -9]]))
    assert actions.tolist() == [[-2, 0], [0, 5], [2, 10], [2, 0]]
    assert actions.dtype == np.float32


def test_box_actions_never_leave_the_space_by_rounding() -> None:
    space = Box(np.array([-0.1, 0.3], np.float32), np.array([0.7, 0.30000004], np.float32))
    for action in make(space).action_to_env(np.random.default_rng(0).uniform(-1, 1, (500, 2))):
        assert space.contains(action)


def test_box_action_round_trip() -> None:
    spec = make(Box(np.array([-2, 1], np.float32), np.array([3, 4], np.float32)))
    unit = np.random.default_rng(0).uniform(-1, 1, (50, 2)).astype(np.float32)
    np.testing.assert_allclose(spec.action_from_env(spec.action_to_env(unit)), unit, atol=1e-6)


def test_dimension_of_no_width_inverts_to_zero() -> None:
    spec = make(Box(np.array([1.0], np.float32), np.array([1.0], np.float32)))
    assert spec.action_from_env(np.array([[1.0]])).tolist() == [[0.0]]


def test_integer_box_actions_are_rounded() -> None:
    spec = make(Box(0, 10, (1,), np.int64))
    actions = spec.action_to_env(np.array([[0.13]]))
    assert actions.tolist() == [[6]]
    assert actions.dtype == np.int64


def test_unbounded_actions_are_plus_minus_one_and_said_once() -> None:
    space = Box(-np.inf, np.inf, (1,), np.float32)
    with pytest.warns(UserWarning, match="'boundless'"):
        spec = make(space, env_id="boundless")
    assert spec.action_to_env(np.array([[-1.0], [1.0]])).tolist() == [[-1], [1]]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        make(space, env_id="boundless")


def test_half_bounded_actions_begin_at_the_bound() -> None:
    with pytest.warns(UserWarning):
        spec = make(Box(np.array([3], np.float32), np.array([np.inf], np.float32)), env_id="half")
    assert (spec.action_low, spec.action_high) == ((3.0,), (5.0,))


@pytest.mark.parametrize(
    "action", [Discrete(4, start=2), Box(-np.inf, np.inf, (2,), np.float32), Box(-0.4, 0.4, (3,), np.float32)]
)
@pytest.mark.filterwarnings("ignore:.*without bounds")
def test_survives_json_and_pickle(action: gym.Space) -> None:
    spec = make(action, Box(np.array([-np.inf, 0]), np.array([np.inf, 0.1]), dtype=np.float64))
    spec.flatten_obs(np.zeros((1, 2)))
    text = json.dumps(spec.to_dict(), allow_nan=False)
    assert SpaceSpec.from_dict(json.loads(text)) == spec
    assert pickle.loads(pickle.dumps(spec)) == spec


def test_different_spaces_are_different() -> None:
    assert make(Discrete(2)) != make(Discrete(2, start=1))
    assert make(Discrete(2)) != make(Discrete(2), env_id="other")


def test_float64_bounds_are_never_left() -> None:
    # In float32 0.2 lies above 0.2, so float32 bounds would be outside of the space.
    space = Box(np.array([-0.2, 0.1]), np.array([0.2, 0.3]), dtype=np.float64)
    spec = SpaceSpec.from_spaces("narrow", Box(-1, 1, (3,)), space)
    for action in spec.action_to_env(np.array([[1.0, 1.0], [-1.0, -1.0], [7.0, -7.0]])):
        assert space.contains(action), action
