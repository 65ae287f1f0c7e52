"""Observations and rewards are brought to a common scale, whatever their own."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete

from rllib_multienv import EnvSpec
from rllib_multienv.envs import probe_spaces
from rllib_multienv.normalization import Moments, ObservationNormalizer, RewardNormalizer
from rllib_multienv.spec import SpaceSpec
from rllib_multienv.transfer import random_moments


def test_normalised_observations_have_mean_zero_and_deviation_one() -> None:
    rows = np.random.default_rng(3).normal((100.0, -1.0), (0.01, 50.0), (1000, 2)).astype(np.float32)
    normalizer = ObservationNormalizer(2)
    np.testing.assert_array_equal(normalizer(rows), rows.clip(-10, 10))  # nothing was counted yet
    normalizer.moments.add(rows)
    normalised = normalizer(rows)
    assert normalised.dtype == np.float32
    np.testing.assert_allclose(normalised.mean(0), 0.0, atol=1e-3)
    np.testing.assert_allclose(normalised.std(0), 1.0, rtol=1e-3)


@pytest.mark.parametrize(
    ("dtype", "first", "step"),
    [
        (np.float64, 1.7e9, 1.0),  # seconds since 1970
        (np.float64, 5.4e6, 0.01),  # metres from the equator
        (np.int64, 1.7e18, 1e9),  # nanoseconds since 1970
        (np.int32, 2e9, 1),
        (np.float32, 0.0, 1e-6),
        (np.float64, 1e-3, 1e-9),
        (np.float64, -1e18, 1e15),
    ],
)
def test_any_origin_and_scale_is_normalised(dtype: Any, first: float, step: float) -> None:
    spec = SpaceSpec.from_spaces("far", Box(-9e18, 9e18, (1,), np.float64), Discrete(2))
    if dtype is not np.float64:
        bound = np.iinfo(dtype).max if np.issubdtype(dtype, np.integer) else 1
        spec = SpaceSpec.from_spaces("far", Box(-bound, bound, (1,), dtype), Discrete(2))
    rows = spec.flatten_obs((first + step * np.arange(200)).astype(dtype)[:, None])
    normalizer = ObservationNormalizer(1)
    for part in np.split(rows, 4):
        normalizer.moments.add(part)
    expected = (np.arange(200) - 99.5) / np.arange(200).std()
    np.testing.assert_allclose(normalizer(rows)[:, 0], expected, atol=0.02)


@pytest.mark.parametrize("value", [0.0, 0.1, 1.7e9, -1e18])
def test_a_constant_becomes_zero(value: float) -> None:
    normalizer = ObservationNormalizer(1)
    for count in (3, 100, 7):
        normalizer.moments.add(np.full((count, 1), value))
    assert abs(float(normalizer(np.full((1, 1), value))[0, 0])) < 0.1


def test_small_rewards_are_scaled_like_large_ones() -> None:
    rewards, never = np.random.default_rng(0).normal(size=(500, 2)), np.zeros((500, 2), bool)
    scales = []
    for unit in (1e-6, 1.0, 1e6):
        normalizer = RewardNormalizer(2, 0.9)
        normalizer.observe(unit * rewards, never, ~never)
        scales.append(normalizer.scale / unit)
    np.testing.assert_allclose(scales, scales[1], rtol=0.02)


def test_moments_may_weigh_less_than_their_count() -> None:
    moments = Moments.of(np.random.default_rng(0).normal(3.0, 2.0, (500, 2)))
    lighter = moments.weighing(100)
    assert lighter.count == 100
    np.testing.assert_allclose(lighter.mean, moments.mean)
    np.testing.assert_allclose(lighter.variance, moments.variance)
    assert moments.weighing(1e6).count == 500


def test_a_random_rollout_gives_the_first_statistics() -> None:
    spec = EnvSpec("Pendulum-v1")
    obs, returns = random_moments(spec, probe_spaces(spec), gamma=0.0)
    assert obs.count == returns.count == 1000
    assert np.abs(obs.mean).max() < 0.6 and np.sqrt(obs.variance)[2] > 1  # cos, sin, and a velocity of up to 8
    assert -16.3 < returns.mean[0] < 0  # with gamma 0 these are the rewards
