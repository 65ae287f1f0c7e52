"""Replay stores: data sets are normalised as asked, in memory or mapped; growing stores keep the last transitions."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from offline_files import noise

from rllib_multienv.normalization import Moments, ObservationNormalizer, RewardNormalizer
from rllib_multienv.offline.loading import LoadedDataset, discounted_returns, load_dataset
from rllib_multienv.offline.raw import ArrayStore, inferred_spaces
from rllib_multienv.offline.replay import GrowingReplay, draw_generator
from rllib_multienv.offline.sources import read_source
from rllib_multienv.spaces.rows import ObservationRow


def load(source: Any, **changes: Any) -> LoadedDataset:
    settings: dict[str, Any] = {
        "gamma": 0.9,
        "reward_normalization": "none",
        "scale_values": False,
        "normalize_obs": True,
    }
    return load_dataset(source, inferred_spaces("env", read_source(source)), **(settings | changes))


ALL = np.arange(200)


def test_observations_are_standardised_by_their_data_set() -> None:
    columns = load(noise(4, 2)).replay.columns(ALL)
    np.testing.assert_allclose(columns["obs"].mean(0), 0.0, atol=1e-5)
    np.testing.assert_allclose(columns["obs"].std(0), 1.0, atol=1e-4)
    raw = load(noise(4, 2), normalize_obs=False).replay.columns(ALL)
    np.testing.assert_array_equal(raw["obs"], noise(4, 2)()["observations"])


def test_reward_normalizations() -> None:
    source = noise(4, 2)
    rewards = source()["rewards"]
    returns = rewards.reshape(10, 20).sum(1)
    found = {
        name: load(source, reward_normalization=name).replay.columns(ALL)["rewards"]
        for name in ("none", "standardize", "return_range", "minus_one")
    }
    np.testing.assert_array_equal(found["none"], rewards)
    np.testing.assert_allclose(found["standardize"], (rewards - rewards.mean()) / rewards.std(), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found["return_range"], rewards * 1000 / np.ptp(returns), rtol=1e-5)
    np.testing.assert_allclose(found["minus_one"], rewards - 1, rtol=1e-5)


@pytest.mark.parametrize("name", ["none", "return_range"])
def test_values_are_learned_in_units_of_the_discounted_return(name: str) -> None:
    plain = load(noise(4, 2), reward_normalization=name).replay
    scaled = load(noise(4, 2), reward_normalization=name, scale_values=True).replay
    assert plain.value_scale == 1.0
    rewards = scaled.columns(ALL)["rewards"]
    assert discounted_returns(rewards, scaled.transitions.ends, 0.9).std() == pytest.approx(1.0, rel=1e-4)
    np.testing.assert_allclose(rewards * scaled.value_scale, plain.columns(ALL)["rewards"], rtol=1e-5)


def test_discounted_returns_are_those_that_online_training_scales_by() -> None:
    data = load(noise(4, 2))
    transitions = data.replay.transitions
    online = RewardNormalizer(1, 0.9)
    online.observe(transitions.rewards[:, None], transitions.ends[:, None], np.ones((200, 1), bool))
    np.testing.assert_allclose(data.return_moments.mean, online.moments.total().mean)
    np.testing.assert_allclose(data.return_moments.variance, online.moments.total().variance)


def test_every_usable_step_is_drawn_and_no_other() -> None:
    arrays = noise(4, 2)()
    del arrays["next_observations"]  # so that cut steps cannot be used
    replay = load(lambda: arrays).replay
    unusable = set(np.flatnonzero(arrays["timeouts"]))
    drawn = set(replay.draw(np.random.default_rng(0), 20_000).tolist())
    assert drawn == set(range(200)) - unusable


def test_mapped_arrays_give_the_same_minibatches(tmp_path: Path) -> None:
    in_memory = load(noise(4, 2)).replay
    mapped = load(noise(4, 2), store=ArrayStore(folder=tmp_path)).replay
    again = pickle.loads(pickle.dumps(mapped))
    steps = in_memory.draw(np.random.default_rng(1), 50)
    for replay in (mapped, again):
        for key, column in in_memory.columns(steps).items():
            np.testing.assert_array_equal(replay.columns(steps)[key], column)


def test_bytes_stay_bytes_until_they_are_drawn() -> None:
    arrays = {**noise(4, 2)(), "observations": np.tile(np.arange(200, dtype=np.uint8)[:, None], (1, 4))}
    arrays["next_observations"] = arrays["observations"][::-1].copy()
    data = load(lambda: arrays)
    assert data.replay.transitions.observations.dtype == np.uint8
    assert data.replay.columns(ALL)["obs"].dtype == np.float32
    assert data.obs_moments.mean[0] == pytest.approx(99.5)


def step_data(first: int, count: int) -> dict[str, np.ndarray]:
    """Transitions with the numbers ``first``, ``first + 1``, ...; bytes as observations."""
    numbers = np.arange(first, first + count)
    return {
        "obs": np.stack([numbers, numbers + 1], 1).astype(np.uint8),
        "new_obs": np.stack([numbers + 1, numbers + 2], 1).astype(np.uint8),
        "actions": numbers % 3,
        "rewards": numbers.astype(np.float32),
        "terminateds": numbers % 5 == 4,
    }


def held(replay: GrowingReplay) -> list[int]:
    return sorted(replay.columns(np.arange(len(replay)))["rewards"].astype(int).tolist())


def test_a_growing_store_keeps_the_last_transitions() -> None:
    replay = GrowingReplay(5)
    assert len(replay) == 0
    replay.add(step_data(0, 3))
    assert held(replay) == [0, 1, 2]
    replay.add(step_data(3, 4))  # wraps around: 0 and 1 are replaced
    assert len(replay) == 5 and held(replay) == [2, 3, 4, 5, 6]
    replay.add(step_data(7, 12))  # more than it holds
    assert held(replay) == [14, 15, 16, 17, 18]
    replay.add(step_data(19, 1))
    assert held(replay) == [15, 16, 17, 18, 19]
    rows = replay.columns(np.arange(5))
    numbers = rows["rewards"].astype(int)
    for key, column in rows.items():  # what belongs together stays together, in its dtype
        np.testing.assert_array_equal(column, np.concatenate([step_data(n, 1)[key] for n in numbers]))
        assert column.dtype == step_data(0, 1)[key].dtype


def test_both_stores_are_drawn_from_uniformly_and_alike() -> None:
    growing = GrowingReplay(50)
    growing.add(step_data(0, 20))
    for replay in (growing, load(noise(4, 2, steps=20)).replay):
        counts = np.bincount(replay.draw(np.random.default_rng(0), 40_000), minlength=20)
        np.testing.assert_allclose(counts, 2000, rtol=0.1)
        sample = replay.sample(draw_generator(3, 7, 7), 6)
        again = replay.sample(draw_generator(3, 7, 7), 6)
        assert all(len(column) == 6 for column in sample.values())
        for key, column in sample.items():
            np.testing.assert_array_equal(again[key], column)
        for other in (draw_generator(4, 7, 7), draw_generator(3, 8, 7), draw_generator(3, 7, 8)):
            assert not np.array_equal(replay.sample(other, 6)["rewards"], sample["rewards"])


def test_observations_are_normalised_by_the_newest_statistics_whenever_they_were_added() -> None:
    rng = np.random.default_rng(0)
    raw = rng.normal(3.0, 2.0, (40, 2)).astype(np.float32)
    layout = ObservationRow(2, texts=(3,))
    text = rng.integers(0, 99, (40, 3), dtype=np.uint8)
    moments = [Moments.of(raw[:20]), Moments.of(raw)]
    replay = GrowingReplay(100, layout)
    for rows, known in zip((slice(0, 20), slice(20, 40)), moments, strict=True):
        seen = layout.join(ObservationNormalizer.of(known)(raw[rows]), text[rows])
        replay.add(step_data(0, 20) | {"obs": seen, "new_obs": seen}, known)
        replay.obs_moments = known
    again = GrowingReplay(100, layout)
    again.set_state(pickle.loads(pickle.dumps(replay.get_state())))
    for store in (replay, again):
        for key in ("obs", "new_obs"):
            numbers, extra = layout.split(store.columns(np.arange(40))[key])
            np.testing.assert_allclose(numbers, (raw - raw.mean(0)) / raw.std(0), rtol=1e-4, atol=1e-4)
            np.testing.assert_array_equal(extra, text)


@pytest.mark.parametrize("added", [3, 7])
def test_the_state_of_a_growing_store_comes_back_exactly(added: int) -> None:
    replay = GrowingReplay(5)
    replay.add(step_data(0, added))
    state = pickle.loads(pickle.dumps(replay.get_state()))
    assert len(state["arrays"]["obs"]) == min(added, 5)
    again = GrowingReplay(5)
    again.set_state(state)
    for store in (replay, again):  # both go on alike
        store.add(step_data(added, 4))
    for key, column in replay.sample(np.random.default_rng(1), 40).items():
        np.testing.assert_array_equal(again.sample(np.random.default_rng(1), 40)[key], column)
    empty = GrowingReplay(5)
    empty.set_state(GrowingReplay(5).get_state())
    assert len(empty) == 0
    with pytest.raises(ValueError, match="5 transitions, not 6"):
        GrowingReplay(6).set_state(state)


def test_a_state_does_not_change_with_the_store() -> None:
    replay = GrowingReplay(5)
    replay.add(step_data(0, 5))
    state = replay.get_state()
    replay.add(step_data(5, 5))
    np.testing.assert_array_equal(state["arrays"]["rewards"], [0, 1, 2, 3, 4])


def test_transitions_that_do_not_fit_the_store_are_refused() -> None:
    replay = GrowingReplay(5)
    with pytest.raises(ValueError, match="empty"):
        replay.draw(np.random.default_rng(0), 1)
    replay.add(step_data(0, 2))
    right = step_data(2, 2)
    for wrong, words in (
        ({"obs": right["obs"]}, "The columns are obs; expected are obs, new_obs"),
        (right | {"rewards": right["rewards"][:1]}, r"'rewards' has shape \(1,\)"),
        (right | {"obs": right["obs"][:, :1]}, r"'obs' has shape \(2, 1\).*\(2, 2\)"),
        (right | {"obs": right["obs"].astype(np.float32)}, "dtype float32.*uint8"),
    ):
        with pytest.raises(ValueError, match=words):
            replay.add(wrong)
        assert held(replay) == [0, 1]
    with pytest.raises(ValueError, match="capacity=0"):
        GrowingReplay(0)
