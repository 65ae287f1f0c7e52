"""Minari's data sets are read with the right observation at every end."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import gymnasium as gym
import h5py
import numpy as np
import pytest
from gymnasium.spaces.utils import flatten

from rllib_multienv.offline import DatasetError, build_transitions
from rllib_multienv.offline.raw import ArrayStore
from rllib_multienv.offline.sources import check_source, peek_spaces, read_source
from rllib_multienv.spaces.space_spec import SpaceSpec

minari = pytest.importorskip("minari")

# Of writing: no author, no code, no algorithm.
pytestmark = pytest.mark.filterwarnings("ignore")

BOX = gym.spaces.Box(-100, 100, (2,), np.float64)
LENGTHS, ENDED = (3, 4, 2), (True, False, None)  # the last episode is simply not over
STEPS = [(e, t) for e, length in enumerate(LENGTHS) for t in range(length)]
AFTER = [(e, t + 1) for e, t in STEPS]
LAST = [2, 6, 8]


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    return tmp_path / "minari"


def number(e: int, t: int) -> np.ndarray:
    return np.array([e, t], np.float64)


def stacked(items: list[Any]) -> Any:
    """Structures of arrays instead of a list of structures, as Minari's buffers are."""
    if isinstance(items[0], dict):
        return {key: stacked([item[key] for item in items]) for key in items[0]}
    if isinstance(items[0], tuple):
        return tuple(stacked(list(parts)) for parts in zip(*items, strict=True))
    return items


def make(
    name: str = "toy/counter-v0",
    *,
    observation_space: gym.Space = BOX,
    action_space: gym.Space = BOX,
    observe: Any = number,
    act: Any = number,
    **options: Any,
) -> str:
    """Write a data set whose observation and action at step t of episode e are ``observe(e, t)`` and ``act(e, t)``."""
    from minari.data_collector import EpisodeBuffer

    buffers = [
        EpisodeBuffer(
            id=e,
            observations=stacked([observe(e, t) for t in range(length + 1)]),
            actions=[act(e, t) for t in range(length)],
            rewards=[float(10 * e + t) for t in range(length)],
            terminations=[t == length - 1 and ENDED[e] is True for t in range(length)],
            truncations=[t == length - 1 and ENDED[e] is False for t in range(length)],
            infos={},
        )
        for e, length in enumerate(LENGTHS)
    ]
    minari.create_dataset_from_buffers(
        name,
        buffers,
        observation_space=observation_space,
        action_space=action_space,
        **{"data_format": "hdf5"} | options,
    )
    return f"minari:{name}"


@pytest.mark.parametrize("data_format", ["hdf5", "arrow"])
def test_vectors(data_format: str) -> None:
    source = make(data_format=data_format)
    check_source(source)
    raw = read_source(source)
    np.testing.assert_array_equal(raw.observations, STEPS)
    np.testing.assert_array_equal(raw.next_observations, AFTER)
    np.testing.assert_array_equal(raw.actions, STEPS)
    np.testing.assert_array_equal(raw.rewards, [10 * e + t for e, t in STEPS])
    np.testing.assert_array_equal(np.flatnonzero(raw.terminals), [2])
    np.testing.assert_array_equal(np.flatnonzero(raw.timeouts), [6, 8])
    assert raw.observations.dtype == np.float32
    assert raw.observation_space == BOX and raw.action_space == BOX


def test_transitions_are_right_at_every_end(tmp_path: Path) -> None:
    spec = peek_spaces("Counter-v0", make())
    for store in (ArrayStore(), ArrayStore(folder=tmp_path / "store")):
        made = build_transitions(read_source("minari:toy/counter-v0", store=store), spec, store=store)
        np.testing.assert_array_equal(np.flatnonzero(made.ends), LAST)
        np.testing.assert_array_equal(made.next_observations(made.usable), AFTER)
        assert isinstance(made.observations, np.memmap) is (store.folder is not None)


def test_structures_are_rows_with_sorted_keys() -> None:
    space = gym.spaces.Dict(
        {
            "position": gym.spaces.Box(-100, 100, (2, 2), np.float64),
            "goal": gym.spaces.Tuple((gym.spaces.Discrete(9, start=-1), gym.spaces.Box(-100, 100, (1,), np.float32))),
        }
    )

    def observe(e: int, t: int) -> dict[str, Any]:
        return {"position": np.array([[e, t], [-e, -t]], np.float64), "goal": (e, np.array([t], np.float32))}

    source = make(observation_space=space, observe=observe)
    raw = read_source(source)
    expected = [flatten(space, observe(e, t)) for e, t in STEPS]
    np.testing.assert_array_equal(raw.observations, expected)
    np.testing.assert_array_equal(raw.next_observations, [flatten(space, observe(e, t + 1)) for e, t in STEPS])
    assert raw.observation_space == space
    assert peek_spaces("Toy-v0", source).obs_size == len(expected[0]) == 14


def test_discrete_observations_and_actions() -> None:
    states, actions = gym.spaces.Discrete(9, start=-1), gym.spaces.Discrete(4, start=2)
    source = make(
        observation_space=states, action_space=actions, observe=lambda e, t: e + t - 1, act=lambda e, t: 2 + (e + t) % 4
    )
    raw = read_source(source)
    assert raw.observations.shape == raw.actions.shape == (9,)
    spec = peek_spaces("Grid-v0", source)
    assert spec.observation_space == states and spec.action_space == actions
    made = build_transitions(raw, spec)
    np.testing.assert_array_equal(made.actions, [(e + t) % 4 for e, t in STEPS])
    np.testing.assert_array_equal(made.next_observations(made.usable).argmax(1), [e + t + 1 for e, t in STEPS])


def test_bytes_stay_bytes() -> None:
    space = gym.spaces.Box(0, 255, (2,), np.uint8)
    raw = read_source(make(observation_space=space, observe=lambda e, t: np.array([e, t], np.uint8)))
    assert raw.observations.dtype == np.uint8


def test_metadata() -> None:
    source = make(env="CartPole-v1", ref_min_score=-5.0, ref_max_score=80.0)
    metadata = read_source(source).metadata
    assert (metadata["env_id"], metadata["max_episode_steps"]) == ("CartPole-v1", 500)
    assert (metadata["ref_min_score"], metadata["ref_max_score"]) == (-5.0, 80.0)


def test_several_choices_are_columns() -> None:
    source = make(action_space=gym.spaces.MultiDiscrete([3, 3]), act=lambda e, t: np.array([e, t]) % 3)
    assert read_source(source).actions.shape[1:] == (2,)
    assert peek_spaces("Toy-v0", source).action.width == 2


def test_data_set_that_is_not_on_this_machine(root: Path) -> None:
    for use in (check_source, read_source, lambda source: peek_spaces("Toy-v0", source)):
        with pytest.raises(FileNotFoundError, match=r"minari:toy/none-v0.*minari download toy/none-v0") as caught:
            use("minari:toy/none-v0")
        assert str(root / "toy" / "none-v0") in str(caught.value)
    assert not root.exists()


def test_the_root_can_be_changed_at_any_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = make()
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "other"))
    with pytest.raises(FileNotFoundError, match="other"):
        read_source(source)
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    assert len(read_source(source)) == 9


def test_without_minari_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    source = make()
    monkeypatch.setitem(sys.modules, "minari", None)
    for use in (check_source, read_source, lambda source: peek_spaces("Toy-v0", source)):
        with pytest.raises(ImportError, match=r"minari:toy/counter-v0.*pip install 'rllib-multienv\[offline\]'"):
            use(source)


@pytest.mark.parametrize(
    ("key", "rows", "message"),
    [
        ("observations", 4, r"episode 1', key 'observations': has 4 rows; one more than the 4 rewards are expected"),
        ("actions", 3, r"episode 1', key 'actions': has 3 rows, but 'rewards' has 4"),
        ("rewards", None, r"episode 1 cannot be read"),
    ],
)
def test_damaged_episode(root: Path, key: str, rows: int | None, message: str) -> None:
    source = make()
    with h5py.File(root / "toy" / "counter-v0" / "data" / "main_data.hdf5", "r+") as file:
        stored = file["episode_1"][key][()]
        del file["episode_1"][key]
        if rows is not None:
            file["episode_1"][key] = stored[:rows]
    with pytest.raises(DatasetError, match=message):
        read_source(source)


def test_environment_of_another_size() -> None:
    spec = SpaceSpec.from_spaces("Toy-v0", gym.spaces.Box(-1, 1, (5,), np.float32), BOX)
    with pytest.raises(DatasetError, match=r"minari:toy/counter-v0', key 'observations'.*2 numbers.*'Toy-v0'.* 5"):
        build_transitions(read_source(make()), spec)
