"""Observations and actions of any space as rows, and back."""

from __future__ import annotations

import json
import pickle
import warnings
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, Discrete, Graph, MultiBinary, MultiDiscrete, OneOf, Sequence, Text, Tuple
from hypothesis import given, settings
from random_spaces import RandomSpaces, action_spaces, observation_spaces, seeds

from rllib_multienv import EnvSpec
from rllib_multienv.envs.errors import EnvFailure
from rllib_multienv.envs.probe import probe_spaces
from rllib_multienv.envs.vector import EnvCopies
from rllib_multienv.spaces.rows import ActionPart, ImageShape
from rllib_multienv.spec import SpaceSpec, UnsupportedSpaceError

IMAGE = Box(0, 255, (20, 24, 3), np.uint8)
pytestmark = pytest.mark.filterwarnings("ignore:.*without bounds", "ignore:.*precision lowered")


def spec_of(observation: gym.Space, action: gym.Space | None = None, **options: Any) -> SpaceSpec:
    return SpaceSpec.from_spaces("toy", observation, Discrete(2) if action is None else action, **options)


def same(left: Any, right: Any) -> bool:
    """Whether two values of a space are equal, dtypes included."""
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(same(left[key], right[key]) for key in left)
    if isinstance(left, tuple):
        return isinstance(right, tuple) and all(map(same, left, right))
    return np.asarray(left).dtype == np.asarray(right).dtype and np.array_equal(left, right)


# --- Any space


@given(space=observation_spaces, seed=seeds)
@settings(max_examples=150, deadline=None)
def test_observations_come_back_from_their_rows(space: gym.Space, seed: int) -> None:
    space.seed(seed)
    values = [space.sample() for _ in range(3)]
    reader = spec_of(space).reader
    raw = reader.empty(3)
    for row, value in enumerate(values):
        reader.read(raw, row, value)
    for value, back in zip(values, reader.values(raw), strict=True):
        assert space.contains(back)
        assert same(value, back)


@given(space=observation_spaces, seed=seeds)
@settings(max_examples=100, deadline=None)
def test_rows_have_the_layout_that_is_said_and_unpack_by_path(space: gym.Space, seed: int) -> None:
    space.seed(seed)
    spec = spec_of(space)
    raw, single = spec.reader.given(space.sample())
    rows = spec.flatten_obs(raw)
    layout = spec.observation
    assert single
    assert rows.shape == (1, layout.width)
    assert rows.dtype == np.uint8 if layout.packed else rows.dtype.kind == "f"
    numbers, _ = layout.split(rows)
    parts, raw_parts = spec.unpack(rows), spec.reader.split(raw)[0]
    np.testing.assert_array_equal(numbers, raw_parts.astype(numbers.dtype))
    images = [part for part in parts.values() if part.dtype == np.uint8 and part.ndim > 2]
    assert sum(part.size for part in images) == sum(image.size for image in layout.images)
    assert not spec.obs_names or len(spec.obs_names) == spec.obs_size


@given(space=action_spaces, seed=seeds)
@settings(max_examples=150, deadline=None)
def test_actions_go_to_the_environment_and_back(space: gym.Space, seed: int) -> None:
    spec = spec_of(Discrete(2), space)
    rng = np.random.default_rng(seed)
    rows = spec.writer.random_rows(4, rng)
    actions = spec.action_to_env(rows)
    assert all(space.contains(action) for action in actions)
    back = spec.action_from_env(actions)
    np.testing.assert_allclose(spec.action_from_env(spec.action_to_env(back)), back, atol=1e-5)
    layout = spec.action
    assert rows.shape == ((4,) if layout.discrete else (4, layout.width))
    assert len(spec.action_names) in (0, spec.action_size)
    assert len(spec.action_low) == len(spec.action_high) == layout.num_continuous


@given(space=action_spaces, seed=seeds)
@settings(max_examples=100, deadline=None)
def test_rows_of_actions_are_bounded(space: gym.Space, seed: int) -> None:
    spec = spec_of(Discrete(2), space)
    rng = np.random.default_rng(seed)
    if spec.discrete:
        return
    wild = spec.writer.random_rows(3, rng)
    wild[:, spec.action.width - spec.action.num_continuous :] *= 5.0
    for action in spec.action_to_env(wild):
        assert space.contains(action)


@given(observation=observation_spaces, action=action_spaces)
@settings(max_examples=100, deadline=None)
def test_any_spec_survives_json_and_pickle(observation: gym.Space, action: gym.Space) -> None:
    spec = spec_of(observation, action)
    assert SpaceSpec.from_dict(json.loads(json.dumps(spec.to_dict(), allow_nan=False))) == spec
    assert pickle.loads(pickle.dumps(spec)) == spec


@given(observation=observation_spaces, action=action_spaces, seed=seeds)
@settings(max_examples=40, deadline=None)
def test_copies_step_in_any_spaces(observation: gym.Space, action: gym.Space, seed: int) -> None:
    env = EnvSpec("random", make=RandomSpaces, kwargs={"observation_space": observation, "action_space": action})
    copies = EnvCopies(env, 2, seed=seed)
    spec, rng = copies.space_spec, np.random.default_rng(seed)
    obs = copies.reset()
    for _ in range(6):
        assert obs.shape == (2, *spec.reader.raw_shape)
        obs = copies.step(spec.action_to_env(spec.writer.random_rows(2, rng))).obs


# --- Layout


@pytest.mark.parametrize(
    ("shape", "image"),
    [
        ((84, 84), ImageShape(84, 84, 1)),
        ((16, 20, 3), ImageShape(16, 20, 3)),
        ((4, 84, 84), ImageShape(84, 84, 4, channels_first=True)),
        ((12, 12, 3), None),
        ((3, 3, 2), None),
        ((84, 84, 3, 2), None),
    ],
)
def test_images_are_bytes_of_two_sides_of_at_least_16(shape: tuple[int, ...], image: ImageShape | None) -> None:
    layout = spec_of(Box(0, 255, shape, np.uint8)).observation
    assert layout.images == ((image,) if image else ())
    assert layout.numbers == (1 if image else np.prod(shape))


def test_other_boxes_are_numbers() -> None:
    for space in (Box(0, 1, (20, 20, 3), np.float32), Box(0, 254, (20, 20, 3), np.uint8), Box(0, 255, (20, 20), int)):
        assert not spec_of(space).observation.images


def test_the_order_of_keys_never_matters() -> None:
    first = spec_of(Dict(b=Discrete(2), a=Box(-1, 1, (2,))), Dict(y=Discrete(3), x=Box(-1, 1, (1,))))
    second = spec_of(Dict(a=Box(-1, 1, (2,)), b=Discrete(2)), Dict(x=Box(-1, 1, (1,)), y=Discrete(3)))
    assert first == second
    assert first.obs_names == second.obs_names == ("a 0", "a 1", "b is 0", "b is 1")
    assert first.action_names == second.action_names == ("y is 0", "y is 1", "y is 2", "x")
    given = first.reader.given({"b": 1, "a": np.array([0.5, 1.0], np.float32)})[0]
    assert given.tolist() == [[0.5, 1.0, 0.0, 1.0]]


def test_names_of_a_single_vector_stay_empty() -> None:
    for space in (Box(-1, 1, (3,)), Box(-1, 1, (2, 2)), Discrete(3)):
        assert spec_of(space, Box(-1, 1, (2,))).obs_names == ()


def test_action_parts_are_choices_then_numbers() -> None:
    space = Dict(arm=Box(-1, 1, (2, 2)), grip=Discrete(3), lights=MultiBinary(2), modes=MultiDiscrete([2, 4]))
    layout = spec_of(Discrete(2), space).action
    assert layout.parts == (
        ActionPart("categorical", 3),
        ActionPart("bernoulli", 2),
        ActionPart("categorical", 2),
        ActionPart("categorical", 4),
        ActionPart("continuous", 4),
    )
    action = spec_of(Discrete(2), space).action_to_env(np.array([[2, 1, 0, 1, 3, -1, 0, 0.5, 1]], np.float32))[0]
    assert action["grip"] == 2
    assert action["lights"].tolist() == [1, 0]
    assert action["modes"].tolist() == [1, 3]
    assert action["arm"].tolist() == [[-1, 0], [0.5, 1]]


def test_numbers_beyond_float32_are_kept_until_they_are_normalised() -> None:
    spec = spec_of(Dict(camera=IMAGE, where=Box(-np.inf, np.inf, (1,), np.float64)))
    raw, _ = spec.reader.given({"camera": np.zeros((20, 24, 3), np.uint8), "where": np.array([1e9 + 0.5])})
    assert spec.reader.split(raw)[0].tolist() == [[1e9 + 0.5]]
    assert spec.flatten_obs(raw).shape == (1, spec.observation.width)


def test_one_observation_a_batch_and_a_list() -> None:
    reader = spec_of(Dict(a=Box(-1, 1, (2,)), b=Discrete(3))).reader
    one, single = reader.given({"a": [0, 0.5], "b": 2})
    assert single
    batch, single = reader.given({"a": np.array([[0, 0.5]] * 2), "b": np.array([2, 2])})
    listed, also_single = reader.given([{"a": [0, 0.5], "b": 2}] * 2)
    assert not single and not also_single
    assert batch.tolist() == listed.tolist() == one.tolist() * 2


# --- Bad input


@pytest.mark.parametrize(
    ("observation", "action", "message"),
    [
        (Dict(a=Discrete(2), b=Dict(c=Sequence(Discrete(2)))), None, "unsupported observation space at 'b/c'"),
        (Tuple([Discrete(2), Graph(Discrete(2), None)]), None, "unsupported observation space at '1'"),
        (OneOf([Discrete(2)]), None, "unsupported observation space: OneOf"),
        (Box(0, 1, (0,)), None, "unsupported observation space: Box"),
        (Discrete(2), Dict(a=Dict(b=Text(3))), "unsupported action space at 'a/b'"),
        (Discrete(2), Tuple([Sequence(Discrete(2))]), "unsupported action space at '0'"),
        (Discrete(2), Dict({}), "unsupported action space"),
        (Dict(action_mask=MultiBinary(3)), Discrete(2), "mask 'action_mask' .* has 3 entries, but .* 2 choices"),
    ],
)
def test_unsupported_spaces_are_named_by_path(observation: gym.Space, action: gym.Space | None, message: str) -> None:
    with pytest.raises(UnsupportedSpaceError, match=message) as caught:
        spec_of(observation, action)
    assert "'toy'" in str(caught.value)


class Gives(gym.Env):
    """Observes `first`, then `later`, with the infos given."""

    def __init__(
        self, space: gym.Space, first: Any, later: Any = None, info: Any = None, later_info: Any = None
    ) -> None:
        self.observation_space, self.action_space = space, MultiDiscrete([2, 3])
        self.first, self.later = first, first if later is None else later
        self.info, self.later_info = info or {}, info or {} if later_info is None else later_info

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[Any, dict]:
        return self.first, self.info

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict]:
        return self.later, 0.0, False, False, self.later_info


PAIR = Dict(a=Box(-1, 1, (2,)), b=Dict(c=Discrete(3)))
RIGHT = {"a": np.zeros(2, np.float32), "b": {"c": 1}}


@pytest.mark.parametrize("backend", ["sync", "async"])
@pytest.mark.parametrize(
    ("space", "first", "later", "message"),
    [
        (PAIR, RIGHT, {**RIGHT, "b": {"c": 3}}, "observation 'b/c' 3 is outside its space Discrete"),
        (PAIR, RIGHT, {**RIGHT, "b": {}}, "Dict at 'b' has no 'c'"),
        (PAIR, RIGHT, {**RIGHT, "d": 1}, "Dict has 'd', which its space has not"),
        (PAIR, RIGHT, {**RIGHT, "a": np.zeros(3)}, r"observation 'a' has shape \(3,\), but its space says \(2,\)"),
        (PAIR, RIGHT, np.zeros(2), "is no mapping"),
        (Tuple([Discrete(2)]), (1,), (1, 0), "is no tuple of 1"),
        (MultiDiscrete([2, 2]), [1, 1], [1, 2], r"observation \[1 2\] is outside its space MultiDiscrete"),
        (MultiBinary(2), [1, 1], [1, 2], "values other than 0 and 1"),
        (IMAGE, IMAGE.low, np.zeros((21, 24, 3), np.uint8), r"shape \(21, 24, 3\), but its space says \(20, 24, 3\)"),
        (IMAGE, IMAGE.low, np.zeros((20, 24, 3), np.float32), "dtype float32, but its space says uint8"),
        (Dict(t=Text(4)), {"t": "abc"}, {"t": "a-c"}, "observation 't', 'a-c', has the character '-'"),
        (Dict(t=Text(4)), {"t": "abc"}, {"t": 3}, "observation 't' is 3, but its space is one of texts"),
    ],
)
def test_observations_outside_their_space_are_refused(
    space: gym.Space, first: Any, later: Any, message: str, backend: str
) -> None:
    env = EnvSpec("gives", make=Gives, kwargs={"space": space, "first": first, "later": later}, backend=backend)  # type: ignore[arg-type]
    copies = EnvCopies(env, 2)
    copies.reset()
    with pytest.raises(EnvFailure, match=rf"'gives' \(copy 0\) failed in step\(\): .*{message}"):
        copies.step(np.zeros((2, 2), np.int64))
    copies.close()


def test_texts_are_cut_and_counted() -> None:
    env = EnvSpec("gives", make=Gives, kwargs={"space": Text(4), "first": "abcd", "later": "abcdef"}, backend="sync")
    copies = EnvCopies(env, 2)
    copies.reset()
    with pytest.warns(UserWarning, match="longer than the 4 bytes"):
        obs = copies.step(np.zeros((2, 2), np.int64)).obs
    assert copies.space_spec.reader.values(obs) == ["abcd"] * 2
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        copies.step(np.zeros((2, 2), np.int64))
    assert copies.texts_cut == 4


# --- Action masks


def with_mask(space: gym.Space, first: Any, **options: Any) -> EnvSpec:
    return EnvSpec("masked", make=Gives, kwargs={"space": space, "first": first, **options}, backend="sync")


MASK = np.array([0, 1, 1, 1, 0], np.int8)


@pytest.mark.parametrize("mask_space", [MultiBinary(5), Box(0, 1, (5,), np.float32)])
def test_a_mask_in_the_observation_is_the_end_of_the_row(mask_space: gym.Space) -> None:
    space = Dict(obs=Box(-1, 1, (2,)), action_mask=mask_space)
    first = {"obs": np.ones(2, np.float32), "action_mask": MASK.astype(mask_space.dtype)}
    spec = probe_spaces(with_mask(space, first))
    assert (spec.obs_size, spec.observation.mask, spec.mask_in_info) == (2, 5, False)
    row = spec.flatten_obs(EnvCopies(with_mask(space, first), 1).reset())[0]
    assert row[-5:].tolist() == MASK.tolist()


@pytest.mark.parametrize("mask", [MASK, MASK.astype(bool), (MASK[:2], MASK[2:]), MASK.tolist()])
def test_a_mask_in_the_info_is_the_end_of_the_row(mask: Any) -> None:
    env = with_mask(Discrete(3), 1, info={"action_mask": mask})
    spec = probe_spaces(env)
    assert (spec.obs_size, spec.observation.mask, spec.mask_in_info) == (3, 5, True)
    copies = EnvCopies(env, 2, mask_in_info=True)
    copies.reset()
    rows = spec.flatten_obs(copies.step(np.zeros((2, 2), np.int64)).obs)
    assert rows[:, -5:].tolist() == [MASK.tolist()] * 2
    assert spec.unpack(rows)["action_mask"].tolist() == [MASK.tolist()] * 2


@pytest.mark.parametrize(
    ("later", "message"),
    [
        ({"action_mask": MASK[:4]}, "has 4 entries, but the actions have 5 choices"),
        ({"action_mask": np.array([0, 0, 1, 1, 1])}, "allows no action of choice 0"),
        ({"action_mask": np.zeros(5)}, "allows no action of choice 0"),
        ({}, "its info has no 'action_mask'"),
    ],
)
def test_masks_that_change_or_allow_nothing_are_refused(later: Any, message: str) -> None:
    env = with_mask(Discrete(3), 1, info={"action_mask": MASK}, later_info=later)
    copies = EnvCopies(env, 2, mask_in_info=probe_spaces(env).mask_in_info)
    copies.reset()
    with pytest.raises(EnvFailure, match=rf"'masked' \(copy 0\) failed in step\(\): .*{message}"):
        copies.step(np.zeros((2, 2), np.int64))


def test_a_mask_of_nothing_is_refused_in_the_observation_too() -> None:
    env = with_mask(Dict(action_mask=MultiBinary(5)), {"action_mask": np.zeros(5, np.int8)})
    with pytest.raises(EnvFailure, match="allows no action"):
        EnvCopies(env, 1).reset()


def test_random_actions_keep_to_the_mask() -> None:
    writer = spec_of(Discrete(2), MultiDiscrete([2, 3])).writer
    rows = writer.random_rows(50, np.random.default_rng(0), np.repeat(MASK[None] != 0, 50, 0))
    assert set(rows[:, 0].tolist()) == {1}
    assert set(rows[:, 1].tolist()) == {0, 1}
