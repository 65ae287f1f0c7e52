"""A data set that cannot be used is refused with its source, the key and the index."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import gymnasium as gym
import h5py
import numpy as np
import pytest
from offline_files import SPEC, toy_arrays, write_hdf5

from rllib_multienv.offline import DatasetError, build_transitions
from rllib_multienv.offline.sources import check_source, read_source
from rllib_multienv.spaces.space_spec import SpaceSpec


def refusal(path: Path, spec: SpaceSpec = SPEC) -> DatasetError:
    """The error for a file, whose message names what its attributes say."""
    with pytest.raises(DatasetError) as caught:
        build_transitions(read_source(path), spec)
    error = caught.value
    assert repr(str(path)) in str(error)
    if error.key is not None:
        assert f"key {error.key!r}" in str(error)
    if error.index is not None:
        assert f"index {error.index}" in str(error)
    return error


def changed(tmp_path: Path, **changes: Any) -> Path:
    """The toy data set with some arrays changed, or left out where None."""
    arrays = {key: value for key, value in (toy_arrays() | changes).items() if value is not None}
    return write_hdf5(tmp_path / "toy.hdf5", arrays)


def test_the_toy_data_set_itself_is_accepted(tmp_path: Path) -> None:
    assert len(build_transitions(read_source(changed(tmp_path)), SPEC)) == 12


def test_empty_file(tmp_path: Path) -> None:
    path = tmp_path / "toy.hdf5"
    path.touch()
    assert "empty" in str(refusal(path))


def test_truncated_file(tmp_path: Path) -> None:
    path = changed(tmp_path)
    path.write_bytes(path.read_bytes()[:-500])
    assert "cut off" in str(refusal(path))
    with pytest.raises(DatasetError, match="cut off"):
        check_source(path)


def test_file_of_another_format(tmp_path: Path) -> None:
    path = tmp_path / "toy.hdf5"
    path.write_text("observations,actions\n1,2\n")
    assert "another format" in str(refusal(path))


@pytest.mark.parametrize("key", ["observations", "actions", "rewards", "terminals", "timeouts", "next_observations"])
def test_damaged_chunk(tmp_path: Path, key: str) -> None:
    path = changed(tmp_path)
    with h5py.File(path) as file:
        chunk = file[key].id.get_chunk_info(0)
    content = bytearray(path.read_bytes())
    for place in range(chunk.byte_offset + chunk.size // 2, chunk.byte_offset + chunk.size):
        content[place] ^= 0xFF
    path.write_bytes(content)
    error = refusal(path)
    assert error.key == key and "damaged" in str(error)


@pytest.mark.parametrize("key", ["observations", "actions", "rewards", "terminals"])
def test_missing_key(tmp_path: Path, key: str) -> None:
    error = refusal(changed(tmp_path, **{key: None}))
    assert error.key == key and "missing" in str(error) and "next_observations" in str(error)


@pytest.mark.parametrize(
    ("key", "array"),
    [
        ("rewards", np.zeros((12, 2), np.float32)),
        ("terminals", np.zeros((12, 2), bool)),
        ("timeouts", np.zeros((12, 3), bool)),
        ("observations", np.zeros(12, np.float32)),
        ("rewards", np.float32(1)),
        ("next_observations", np.zeros((12, 4), np.float32)),
    ],
)
def test_wrong_rank(tmp_path: Path, key: str, array: np.ndarray) -> None:
    error = refusal(changed(tmp_path, **{key: array}))
    assert error.key == key and str(array.shape) in str(error)


@pytest.mark.parametrize("key", ["observations", "actions", "terminals", "timeouts", "next_observations"])
def test_lengths_that_differ(tmp_path: Path, key: str) -> None:
    error = refusal(changed(tmp_path, **{key: toy_arrays()[key][:-1]}))
    assert error.key == key and re.search(r"11 rows.* 12", str(error))


def test_action_outside_the_bounds(tmp_path: Path) -> None:
    actions = toy_arrays()["actions"]
    actions[7, 1] = 2.5
    error = refusal(changed(tmp_path, actions=actions))
    assert (error.key, error.index) == ("actions", 7)
    assert "2.5" in str(error) and "'Toy-v0'" in str(error) and "2.0" in str(error)


def test_discrete_action_that_there_is_not(tmp_path: Path) -> None:
    spec = SpaceSpec.from_spaces("Toy-v0", SPEC.observation_space, gym.spaces.Discrete(3, start=5))
    actions = np.full(12, 5)
    actions[9] = 8
    error = refusal(changed(tmp_path, actions=actions), spec)
    assert (error.key, error.index) == ("actions", 9)
    assert "5 to 7" in str(error)


@pytest.mark.parametrize("key", ["observations", "actions", "rewards", "next_observations"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_not_a_finite_number(tmp_path: Path, key: str, value: float) -> None:
    array = toy_arrays()[key]
    array[6] = value
    error = refusal(changed(tmp_path, **{key: array}))
    assert (error.key, error.index) == (key, 6)


@pytest.mark.parametrize(
    ("key", "size", "environment_size"),
    [("observations", 3, 4), ("actions", 2, 1)],
)
def test_size_that_differs_from_the_environments(tmp_path: Path, key: str, size: int, environment_size: int) -> None:
    spaces = {"observations": SPEC.observation_space, "actions": SPEC.action_space}
    spaces[key] = gym.spaces.Box(-9, 9, (environment_size,), np.float32)
    spec = SpaceSpec.from_spaces("Toy-v0", spaces["observations"], spaces["actions"])
    error = refusal(changed(tmp_path), spec)
    assert error.key == key
    assert f"{size} numbers" in str(error) and f"of {environment_size}" in str(error) and "'Toy-v0'" in str(error)


def test_no_rows(tmp_path: Path) -> None:
    error = refusal(write_hdf5(tmp_path / "toy.hdf5", {key: value[:0] for key, value in toy_arrays().items()}))
    assert error.key == "rewards" and "empty" in str(error)


def test_one_episode_without_an_end(tmp_path: Path) -> None:
    error = refusal(changed(tmp_path, terminals=np.zeros(12, bool), timeouts=None))
    assert error.key == "terminals" and "without an end" in str(error) and "max_episode_steps" in str(error)


def test_text_instead_of_numbers(tmp_path: Path) -> None:
    error = refusal(changed(tmp_path, actions=np.array(["left"] * 12)))
    assert error.key == "actions" and "numbers are expected" in str(error)


def test_group_instead_of_an_array(tmp_path: Path) -> None:
    error = refusal(changed(tmp_path, observations={}))
    assert error.key == "observations" and "group" in str(error)
