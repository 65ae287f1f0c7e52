"""Every kind of source is found, checked and read."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from offline_files import SPEC, toy_arrays, write_hdf5

from rllib_multienv.offline import DatasetError, RawDataset, build_transitions
from rllib_multienv.offline.formats.d4rl import reference_scores
from rllib_multienv.offline.raw import ArrayStore
from rllib_multienv.offline.sources import check_source, peek_spaces, read_source

INFOS = """
DATASET_URLS = {"toy-medium-replay-v2": "http://example.org/toys/toy_mixed_v2.hdf5"}
REF_MIN_SCORE = {"toy-medium-replay-v2": -20.0}
REF_MAX_SCORE = {"toy-medium-replay-v2": 3000.0}
for level in ("medium", "expert"):
    REF_MIN_SCORE[f"toy-{level}-v2"] = 1.5
REF_MAX_SCORE["toy-medium-v2"] = 2.5
"""


@pytest.fixture
def d4rl_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An installed package of this name whose modules cannot be imported, as where its old Gym is missing."""
    site = tmp_path / "site"
    (site / "d4rl").mkdir(parents=True)
    (site / "d4rl" / "__init__.py").write_text("raise ImportError('gym')")
    (site / "d4rl" / "infos.py").write_text(INFOS)
    (site / "d4rl-1.1.dist-info").mkdir()
    (site / "d4rl-1.1.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: d4rl\nVersion: 1.1\n")
    monkeypatch.syspath_prepend(str(site))


@pytest.fixture
def module_of_functions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "toy_source.py").write_text(
        "from offline_files import toy_arrays\n\n\ndef arrays():\n    return toy_arrays()\n\n\nanswer = 42\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path / "code"))
    monkeypatch.delitem(sys.modules, "toy_source", raising=False)
    return "toy_source"


def check_is_toy(raw: RawDataset) -> None:
    for key, array in toy_arrays().items():
        np.testing.assert_array_equal(getattr(raw, key), array, err_msg=key)


@pytest.mark.parametrize("suffix", ["hdf5", "h5"])
@pytest.mark.parametrize("kind", [str, Path])
def test_hdf5_file(tmp_path: Path, suffix: str, kind: Any) -> None:
    source = kind(write_hdf5(tmp_path / f"toy.{suffix}", toy_arrays(), ref_min_score=1.0, env_id="Toy-v0"))
    check_source(source)
    raw = read_source(source)
    check_is_toy(raw)
    assert raw.metadata == {"ref_min_score": 1.0, "env_id": "Toy-v0"}
    assert type(raw.metadata["ref_min_score"]) is float


def test_spaces_of_an_hdf5_file(tmp_path: Path) -> None:
    spec = peek_spaces("Toy-v0", write_hdf5(tmp_path / "toy.hdf5", toy_arrays()))
    assert (spec.env_id, spec.obs_size, spec.action_size, spec.discrete) == ("Toy-v0", 3, 2, False)
    assert spec.action_space == gym.spaces.Box(-1, 1, (2,), np.float32)
    discrete = toy_arrays() | {"actions": np.arange(12) % 5, "observations": np.zeros((12, 2, 4), np.uint8)}
    spec = peek_spaces("Toy-v0", write_hdf5(tmp_path / "bytes.hdf5", discrete))
    assert spec.action_space == gym.spaces.Discrete(5)
    assert spec.observation_space == gym.spaces.Box(0, 255, (2, 4), np.uint8)


def test_relative_path_in_the_data_folder(tmp_path: Path) -> None:
    (tmp_path / "sets").mkdir()
    write_hdf5(tmp_path / "sets" / "toy.hdf5", toy_arrays())
    check_is_toy(read_source("sets/toy.hdf5", data_dir=tmp_path))


@pytest.mark.parametrize("on_disk", [False, True])
def test_folder_of_hdf5_files(tmp_path: Path, on_disk: bool) -> None:
    """In sorted order, each file's last row an end, whether it says so or not."""
    folder = tmp_path / "toys"
    (folder / "b").mkdir(parents=True)
    first, second = toy_arrays((4, 3), (True, False)), toy_arrays((2, 2), (True, True))
    first["timeouts"][-1] = False
    write_hdf5(folder / "a.hdf5", first, env_id="Toy-v0", seed=1)
    write_hdf5(folder / "b" / "c.h5", second, env_id="Toy-v0", seed=2)
    (folder / "notes.txt").write_text("not data")
    check_source(folder)
    store = ArrayStore(folder=tmp_path / "store") if on_disk else ArrayStore()
    raw = read_source(folder, store=store)
    for key in ("observations", "next_observations", "actions", "rewards", "terminals"):
        np.testing.assert_array_equal(getattr(raw, key), np.concatenate([first[key], second[key]]))
        assert isinstance(getattr(raw, key), np.memmap) is on_disk
    assert raw.metadata == {"env_id": "Toy-v0"}
    assert not (tmp_path / "store" / "parts").exists()
    made = build_transitions(raw, SPEC)
    np.testing.assert_array_equal(np.flatnonzero(made.ends), [3, 6, 8, 10])
    np.testing.assert_array_equal(np.flatnonzero(made.terminals), [3, 8, 10])
    np.testing.assert_array_equal(made.next_observations(np.array([6])), [[1, 3, 0]])
    assert peek_spaces("Toy-v0", folder).action_size == 2


def test_a_time_limit_is_counted_anew_in_each_file(tmp_path: Path) -> None:
    keys = ("observations", "actions", "rewards", "terminals")
    for name in ("a", "b"):
        arrays = {key: toy_arrays((5,), (False,))[key] for key in keys}
        write_hdf5(tmp_path / f"{name}.hdf5", arrays)
    with pytest.warns(UserWarning, match="after 3 steps"):
        made = build_transitions(read_source(tmp_path), SPEC, episode_limit=3)
    np.testing.assert_array_equal(np.flatnonzero(made.ends), [2, 4, 7, 9])
    np.testing.assert_array_equal(made.usable, [0, 1, 3, 5, 6, 8])


def test_spaces_of_a_folder_have_the_largest_action_of_all_files(tmp_path: Path) -> None:
    for name, count in (("a", 4), ("b", 6), ("c", 5)):
        write_hdf5(tmp_path / f"{name}.hdf5", toy_arrays() | {"actions": np.arange(12) % count})
    assert peek_spaces("Toy-v0", tmp_path).action_size == 6


def test_folder_whose_files_do_not_fit(tmp_path: Path) -> None:
    write_hdf5(tmp_path / "a.hdf5", toy_arrays())
    wide = toy_arrays() | {"observations": np.zeros((12, 4), np.float32)}
    del wide["next_observations"]
    write_hdf5(tmp_path / "b.hdf5", wide)
    with pytest.raises(DatasetError, match=r"b\.hdf5', key 'observations'.*\(4,\).*a\.hdf5.*\(3,\)"):
        read_source(tmp_path)


def test_folder_of_which_only_some_files_say_where_episodes_were_cut(tmp_path: Path) -> None:
    write_hdf5(tmp_path / "a.hdf5", toy_arrays())
    write_hdf5(tmp_path / "b.hdf5", {key: array for key, array in toy_arrays().items() if key != "timeouts"})
    with pytest.raises(DatasetError, match=r"b\.hdf5', key 'timeouts'.*a\.hdf5"):
        read_source(tmp_path)


def test_folder_of_files_of_both_kinds(tmp_path: Path) -> None:
    write_hdf5(tmp_path / "a.hdf5", toy_arrays())
    (tmp_path / "b.parquet").touch()
    for use in (check_source, read_source, lambda source: peek_spaces("Toy-v0", source)):
        with pytest.raises(DatasetError, match="both HDF5 and Parquet"):
            use(tmp_path)


def test_empty_folder(tmp_path: Path) -> None:
    for use in (check_source, read_source, lambda source: peek_spaces("Toy-v0", source)):
        with pytest.raises(DatasetError, match=r"no file \*\.hdf5"):
            use(tmp_path)


@pytest.mark.parametrize("name", ["toy.hdf5", "toy.h5"])
def test_missing_file(tmp_path: Path, name: str) -> None:
    for use in (check_source, read_source, lambda source: peek_spaces("Toy-v0", source)):
        with pytest.raises(FileNotFoundError, match=name):
            use(str(tmp_path / name))


@pytest.mark.parametrize("source", ["toys", "data/toy.csv", "", 7, None, {"file": "toy.hdf5"}])
def test_unknown_kind(source: Any) -> None:
    for use in (check_source, read_source, lambda source: peek_spaces("Toy-v0", source)):
        with pytest.raises(ValueError, match=r"no known format.*minari:NAME, d4rl:NAME.*\*\.parquet.*module:function"):
            use(source)


def test_function() -> None:
    check_source(toy_arrays)
    check_is_toy(read_source(toy_arrays))
    assert peek_spaces("Toy-v0", toy_arrays).obs_size == 3


def test_named_function(module_of_functions: str) -> None:
    source = f"{module_of_functions}:arrays"
    check_source(source)
    check_is_toy(read_source(source))
    assert read_source(source).source == source


def test_named_function_that_there_is_not(module_of_functions: str) -> None:
    for use in (check_source, read_source):
        with pytest.raises(ValueError, match=r"'toy_source:array'.*Did you mean 'arrays'"):
            use("toy_source:array")
        with pytest.raises(ImportError, match=r"'no_such_module:arrays'.*no_such_module"):
            use("no_such_module:arrays")
        with pytest.raises(ValueError, match=r"'toy_source:answer' is a int; a function"):
            use("toy_source:answer")


def test_function_with_spaces_and_metadata() -> None:
    action_space = gym.spaces.Discrete(9, start=1)
    arrays = toy_arrays() | {"actions": np.full(12, 3), "action_space": action_space, "metadata": {"ref_max_score": 7}}
    raw = read_source(lambda: arrays)
    assert raw.metadata == {"ref_max_score": 7}
    assert peek_spaces("Toy-v0", lambda: arrays).action_space == action_space


def test_function_that_returns_lists_and_wide_numbers(tmp_path: Path) -> None:
    arrays = {key: array.tolist() for key, array in toy_arrays().items()}
    raw = read_source(lambda: arrays, store=ArrayStore(folder=tmp_path))
    check_is_toy(raw)
    assert raw.observations.dtype == np.float32 and isinstance(raw.observations, np.memmap)


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        ([1, 2], "gave a list; a mapping"),
        ({"observations": np.zeros((2, 3))}, "key 'actions': is missing.*observations"),
        (toy_arrays() | {"actions": ["left"] * 12}, "key 'actions': has values of type <U4"),
        (toy_arrays() | {"rewards": [[1], [1, 2]]}, "key 'rewards': is no array"),
    ],
)
def test_function_that_returns_something_else(returned: Any, message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        read_source(lambda: returned)


@pytest.mark.parametrize(
    "file", ["toy_medium_expert-v2.hdf5", "toy-medium-expert-v2.hdf5", "toy_medium_expert_v2.hdf5"]
)
def test_d4rl_name_without_the_package(tmp_path: Path, file: str) -> None:
    write_hdf5(tmp_path / file, toy_arrays())
    source = "d4rl:toy-medium-expert-v2"
    check_source(source, data_dir=tmp_path)
    check_is_toy(read_source(source, data_dir=tmp_path))
    assert peek_spaces("Toy-v0", source, data_dir=tmp_path).obs_size == 3
    assert reference_scores("toy-medium-expert-v2") is None


def test_d4rl_name_in_its_own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("D4RL_DATASET_DIR", raising=False)
    (tmp_path / ".d4rl" / "datasets").mkdir(parents=True)
    write_hdf5(tmp_path / ".d4rl" / "datasets" / "toy_random.hdf5", toy_arrays())
    check_is_toy(read_source("d4rl:toy-random-v0"))
    with pytest.raises(FileNotFoundError):  # a file without a version is one of version 0
        check_source("d4rl:toy-random-v2")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.setenv("D4RL_DATASET_DIR", str(tmp_path / "elsewhere"))
    with pytest.raises(FileNotFoundError, match="elsewhere"):
        check_source("d4rl:toy-random-v0")


@pytest.mark.usefixtures("d4rl_package")
def test_d4rl_name_with_the_package(tmp_path: Path) -> None:
    write_hdf5(tmp_path / "toy_mixed_v2.hdf5", toy_arrays(), ref_max_score=2000.0)
    raw = read_source("d4rl:toy-medium-replay-v2", data_dir=tmp_path)
    check_is_toy(raw)
    # What the file says of itself stands.
    assert raw.metadata == {"ref_min_score": -20.0, "ref_max_score": 2000.0}
    assert reference_scores("toy-medium-replay-v2") == (-20.0, 3000.0)
    assert reference_scores("toy-medium-v2") == (1.5, 2.5)
    assert reference_scores("toy-expert-v2") is None
    assert "d4rl" not in sys.modules and "gym" not in sys.modules


def test_missing_d4rl_file(tmp_path: Path) -> None:
    for use in (check_source, read_source):
        with pytest.raises(
            FileNotFoundError, match=r"'d4rl:toy-medium-v2': 'toy_medium-v2\.hdf5' is expected in"
        ) as caught:
            use("d4rl:toy-medium-v2", data_dir=tmp_path)
        assert str(tmp_path) in str(caught.value)


@pytest.mark.usefixtures("d4rl_package")
def test_missing_d4rl_file_whose_address_is_known(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"'toy_mixed_v2\.hdf5' is expected.*http://example\.org/toys/"):
        check_source("d4rl:toy-medium-replay-v2", data_dir=tmp_path)


def test_recorded_data_set(tmp_path: Path) -> None:
    path = tmp_path / "cartpole.hdf5"
    behaviours = [{"policy": "random"}]
    source = {"record": {"env": "CartPole-v1", "num_steps": 60, "seed": 0, "behaviours": behaviours}, "path": str(path)}
    check_source(source)
    assert peek_spaces("Pole", source).obs_size == 4
    assert not path.exists()
    raw = read_source(source)
    assert path.is_file() and raw.observations.shape == (60, 4)
