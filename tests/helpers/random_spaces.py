"""Random nested spaces for property tests."""

from __future__ import annotations

import string
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

FLOATS, INTEGERS = (np.float32, np.float64), (np.int8, np.uint8, np.int32, np.int64)
sizes = st.integers(1, 3)
shapes = st.lists(sizes, max_size=3).map(tuple)
seeds = st.integers(0, 2**31 - 1)


@st.composite
def boxes(draw: Any) -> spaces.Box:
    dtype = draw(st.sampled_from(FLOATS + INTEGERS))
    low = draw(st.integers(0 if dtype is np.uint8 else -100, 20))
    return spaces.Box(low, low + draw(st.integers(1, 100)), draw(shapes), dtype)


@st.composite
def unbounded(draw: Any) -> spaces.Box:
    return spaces.Box(-np.inf, np.inf, draw(shapes), draw(st.sampled_from(FLOATS)))


@st.composite
def images(draw: Any) -> spaces.Box:
    height, width, channels = draw(st.integers(16, 20)), draw(st.integers(16, 20)), draw(st.integers(1, 4))
    shape = draw(st.sampled_from([(height, width), (height, width, channels), (channels, height, width)]))
    return spaces.Box(0, 255, shape, np.uint8)


@st.composite
def discretes(draw: Any) -> spaces.Discrete:
    return spaces.Discrete(draw(st.integers(1, 5)), start=draw(st.integers(-3, 3)))


@st.composite
def multi_discretes(draw: Any) -> spaces.MultiDiscrete:
    counts = np.array(draw(st.lists(st.integers(1, 4), min_size=1, max_size=4)))
    start = draw(st.sampled_from([None, np.full(counts.shape, -2)]))
    if len(counts) == 4:
        counts, start = counts.reshape(2, 2), None if start is None else start.reshape(2, 2)
    return spaces.MultiDiscrete(counts, start=start)


multi_binaries = st.one_of(sizes, st.lists(sizes, min_size=1, max_size=2)).map(spaces.MultiBinary)


@st.composite
def texts(draw: Any) -> spaces.Text:
    charset = draw(st.sampled_from([string.ascii_letters, "aé€😀"]))
    return spaces.Text(draw(st.integers(1, 9)), min_length=0, charset=charset)


def nested(leaves: st.SearchStrategy[gym.Space]) -> st.SearchStrategy[gym.Space]:
    def containers(inner: st.SearchStrategy[gym.Space]) -> st.SearchStrategy[gym.Space]:
        names = st.text(string.ascii_lowercase, min_size=1, max_size=3)
        items = st.lists(st.tuples(names, inner), min_size=1, max_size=3, unique_by=lambda item: item[0])
        return items.map(spaces.Dict) | st.lists(inner, min_size=1, max_size=3).map(spaces.Tuple)

    return st.recursive(leaves, containers, max_leaves=5)


observation_spaces = nested(
    st.one_of(boxes(), unbounded(), images(), discretes(), multi_discretes(), multi_binaries, texts())
)
action_spaces = nested(st.one_of(boxes(), discretes(), multi_discretes(), multi_binaries))


class RandomSpaces(gym.Env):
    """Observes and expects random values of its spaces; the reward is 1, and episodes last five steps."""

    def __init__(self, observation_space: gym.Space, action_space: gym.Space) -> None:
        self.observation_space, self.action_space = observation_space, action_space
        self.steps = 0

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[Any, dict]:
        super().reset(seed=seed)
        if seed is not None:
            self.observation_space.seed(seed)
        self.steps = 0
        return self.observation_space.sample(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict]:
        assert self.action_space.contains(action), f"{action!r} is outside {self.action_space}"
        self.steps += 1
        return self.observation_space.sample(), 1.0, self.steps == 5, False, {}


def random_pairs(count: int) -> list[tuple[gym.Space, gym.Space]]:
    """Pairs of an observation and an action space, always the same."""
    pairs: list[tuple[gym.Space, gym.Space]] = []

    @settings(max_examples=count, derandomize=True, database=None, deadline=None, phases=[Phase.generate])
    @given(observation_spaces, action_spaces)
    def collect(observation: gym.Space, action: gym.Space) -> None:
        pairs.append((observation, action))

    collect()
    return pairs
