"""Transitions are right at the borders of episodes."""

from __future__ import annotations

import pickle
import warnings
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from offline_files import SPEC, toy_arrays, write_hdf5

from rllib_multienv.offline import Transitions, build_transitions
from rllib_multienv.offline.formats.arrays import from_arrays
from rllib_multienv.offline.raw import ArrayStore, DatasetError, inferred_spaces
from rllib_multienv.offline.sources import read_source
from rllib_multienv.spaces.space_spec import SpaceSpec

ENDS = [3, 6, 11]  # the second is a time limit


def toy(**changes: Any) -> dict[str, Any]:
    return {key: value for key, value in (toy_arrays() | changes).items() if value is not None}


def build(arrays: dict[str, Any], **options: Any) -> Transitions:
    return build_transitions(read_source(lambda: arrays), SPEC, **options)


def test_every_next_observation_is_of_the_same_episode() -> None:
    made = build(toy())
    steps = made.usable
    np.testing.assert_array_equal(steps, np.arange(12))
    after = made.next_observations(steps)
    np.testing.assert_array_equal(after, toy_arrays()["next_observations"])
    np.testing.assert_array_equal(after[:, 0], made.observations[:, 0])


def test_a_time_limit_is_an_end_but_no_terminal_state() -> None:
    made = build(toy())
    np.testing.assert_array_equal(np.flatnonzero(made.ends), ENDS)
    np.testing.assert_array_equal(np.flatnonzero(made.terminals), [3, 11])
    np.testing.assert_array_equal(made.episode_returns(), [6, 303, 1010])


def test_a_step_that_ended_and_was_cut_is_terminal() -> None:
    made = build(toy(timeouts=toy_arrays()["timeouts"] | toy_arrays()["terminals"]))
    np.testing.assert_array_equal(np.flatnonzero(made.terminals), [3, 11])
    np.testing.assert_array_equal(np.flatnonzero(made.ends), ENDS)


def test_without_next_observations_the_step_at_a_time_limit_is_left_out() -> None:
    made = build(toy(next_observations=None))
    np.testing.assert_array_equal(made.usable, [row for row in range(12) if row != 6])
    inner = np.setdiff1d(np.arange(12), ENDS)
    np.testing.assert_array_equal(made.next_observations(inner), toy_arrays()["next_observations"][inner])
    # Those after terminal states are not in the data set, and not the next episode's either.
    np.testing.assert_array_equal(made.next_observations(np.array([3, 11]))[:, 0], [0, 2])


@pytest.mark.parametrize("with_next", [True, False])
def test_a_last_row_without_any_flag(with_next: bool) -> None:
    terminals = toy_arrays()["terminals"]
    terminals[-1] = False
    changes = {} if with_next else {"next_observations": None}
    made = build(toy(terminals=terminals, **changes))
    assert not made.terminals[-1] and not made.ends[-1]
    assert (11 in made.usable) is with_next
    if with_next:
        np.testing.assert_array_equal(made.next_observations(np.array([11])), [[2, 5, 0]])


def test_missing_timeouts_are_inferred_from_the_limit_and_said() -> None:
    with pytest.warns(UserWarning, match=r"no 'timeouts'.* after 3 steps, at 3 places"):
        made = build(toy(timeouts=None, terminals=toy_arrays()["terminals"] & (np.arange(12) < 4)), episode_limit=3)
    # Row 3 is terminal, so counting begins anew at row 4.
    np.testing.assert_array_equal(np.flatnonzero(made.ends), [2, 3, 6, 9])
    np.testing.assert_array_equal(np.flatnonzero(made.terminals), [3])


def test_stored_timeouts_are_not_second_guessed() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        made = build(toy(), episode_limit=2)
    np.testing.assert_array_equal(np.flatnonzero(made.ends), ENDS)


@pytest.mark.parametrize("with_next", [True, False])
def test_arrays_on_disk_give_the_same_and_pickle_small(tmp_path: Path, with_next: bool) -> None:
    arrays = toy_arrays((300, 200, 500))
    if not with_next:
        del arrays["next_observations"]
    path = write_hdf5(tmp_path / "toy.hdf5", arrays)
    in_memory = build_transitions(read_source(path), SPEC)
    store = ArrayStore(folder=tmp_path / "store")
    mapped = build_transitions(read_source(path, store=store), SPEC, store=store)
    again = pickle.loads(pickle.dumps(mapped))
    assert isinstance(again.observations, np.memmap) and isinstance(again.actions, np.memmap)
    for made in (mapped, again):
        for name, array in vars(in_memory).items():
            np.testing.assert_array_equal(getattr(made, name), array, err_msg=name)
            assert getattr(made, name).dtype == array.dtype
        steps = in_memory.usable
        np.testing.assert_array_equal(made.next_observations(steps), in_memory.next_observations(steps))
    arrays_in_memory = in_memory.observations.nbytes + in_memory.actions.nbytes
    assert len(pickle.dumps(mapped)) < len(pickle.dumps(in_memory)) - 0.9 * arrays_in_memory


def test_a_part_of_a_mapped_file_is_pickled_as_it_is(tmp_path: Path) -> None:
    np.save(tmp_path / "all.npy", np.concatenate([np.full((5, 3), 7.0), toy_arrays()["observations"]]).astype("f4"))
    part = np.load(tmp_path / "all.npy", mmap_mode="r")[5:]
    again = pickle.loads(pickle.dumps(build(toy(observations=part))))
    np.testing.assert_array_equal(again.observations, toy_arrays()["observations"])


def test_bytes_are_kept_as_bytes(tmp_path: Path) -> None:
    images = np.arange(12 * 8, dtype=np.uint8).reshape(12, 2, 4)
    spec = SpaceSpec.from_spaces("Toy-v0", gym.spaces.Box(0, 255, (8,), np.uint8), SPEC.action_space)
    path = write_hdf5(tmp_path / "toy.hdf5", toy(observations=images, next_observations=images + 100))
    made = build_transitions(read_source(path), spec)
    assert made.observations.dtype == made.finals.dtype == np.uint8
    np.testing.assert_array_equal(made.observations, images.reshape(12, 8))
    np.testing.assert_array_equal(made.next_observations(np.array(ENDS)), images.reshape(12, 8)[ENDS] + 100)


def test_discrete_spaces_that_do_not_start_at_zero() -> None:
    spec = SpaceSpec.from_spaces("Toy-v0", gym.spaces.Discrete(4, start=-2), gym.spaces.Discrete(3, start=5))
    states, actions = np.arange(12) % 4 - 2, np.arange(12) % 3 + 5
    arrays = toy(
        observations=states,
        actions=actions,
        next_observations=(states + 3) % 4 - 2,
        observation_space=gym.spaces.Discrete(4, start=-2),
    )
    made = build_transitions(read_source(lambda: arrays), spec)
    np.testing.assert_array_equal(made.actions, np.arange(12) % 3)
    np.testing.assert_array_equal(made.observations, np.eye(4, dtype=np.float32)[np.arange(12) % 4])
    after = made.next_observations(np.array(ENDS))
    np.testing.assert_array_equal(after, np.eye(4, dtype=np.float32)[(states[ENDS] + 3) % 4])


def test_actions_are_scaled_to_one() -> None:
    np.testing.assert_allclose(build(toy()).actions, toy_arrays()["actions"] / 2)


def test_rows_in_another_order_than_time_keep_their_next_observations() -> None:
    rng = np.random.default_rng(0)
    observations = rng.normal(size=(50, 2)).astype(np.float32)
    arrays = {
        "observations": observations,
        "next_observations": observations + 1,
        "actions": rng.uniform(-1, 1, (50, 1)),
        "rewards": rng.normal(size=50),
        "terminals": np.arange(50) % 10 == 9,
    }
    raw = from_arrays("buffer", arrays)
    found = build_transitions(raw, inferred_spaces("e", raw))
    np.testing.assert_array_equal(found.next_observations(np.arange(50)), observations + 1)


def test_observations_of_a_discrete_space_are_taken_without_a_second_dimension() -> None:
    spec = SpaceSpec.from_spaces("lake", gym.spaces.Discrete(16), gym.spaces.Discrete(4))
    arrays = {"observations": [0, 4, 8], "actions": [1, 1, 2], "rewards": [0.0, 0.0, 1.0], "terminals": [0, 0, 1]}
    found = build_transitions(from_arrays("lake", arrays), spec)
    assert found.observations.shape == (3, 16) and found.observations.argmax(1).tolist() == [0, 4, 8]


def test_the_bounds_in_use_are_named() -> None:
    spec = SpaceSpec.from_spaces("e", gym.spaces.Box(-np.inf, np.inf, (1,)), gym.spaces.Box(-np.inf, np.inf, (1,)))
    arrays = {"observations": np.zeros((2, 1)), "actions": [[0.5], [3.0]], "rewards": [0.0, 0.0], "terminals": [1, 1]}
    with pytest.raises(DatasetError, match=r"\[3\.\] lies outside the bounds in use.*\[-1\.0\] to \[1\.0\]"):
        build_transitions(from_arrays("unbounded", arrays), spec)
