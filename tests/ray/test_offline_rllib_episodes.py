"""RLlib's recordings are read, whole episodes and single steps, in whatever parts they were written."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gymnasium as gym
import msgpack
import msgpack_numpy
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from gymnasium.spaces.utils import flatten
from ray.data.block import BlockAccessor
from ray.rllib.env.single_agent_episode import SingleAgentEpisode
from ray.rllib.offline.offline_env_runner import OfflineSingleAgentEnvRunner

from rllib_multienv.offline import DatasetError, RawDataset, build_transitions
from rllib_multienv.offline.formats import rllib
from rllib_multienv.offline.raw import ArrayStore
from rllib_multienv.offline.sources import check_source, peek_spaces, read_source
from rllib_multienv.spaces.space_spec import SpaceSpec

OBS = gym.spaces.Box(-100, 100, (2,), np.float32)
ACTIONS = gym.spaces.Box(-3.0, 1.0, (1,), np.float32)
LENGTHS, ENDED = (4, 3, 5), (True, False, None)  # the recording stopped in the last
STEPS = [(e, t) for e, length in enumerate(LENGTHS) for t in range(length)]
LAST = [3, 6, 11]


def observe(e: int, t: int) -> np.ndarray:
    return np.array([e, t], np.float32)


def act(e: int, t: int) -> np.ndarray:
    return np.array([t / 8 - e / 4], np.float32)


def recorded(
    cut_after: int = 0, *, lookback: int = 0, observe: Any = observe, act: Any = act, spaces: Any = (OBS, ACTIONS)
) -> list[SingleAgentEpisode]:
    """Episodes as an environment runner returns them, in parts of so many steps (0 for whole ones)."""
    parts = []
    for e, length in enumerate(LENGTHS):
        episode = SingleAgentEpisode(
            id_=f"episode {e}", observation_space=spaces and spaces[0], action_space=spaces and spaces[1]
        )
        episode.add_env_reset(observation=observe(e, 0), infos={"seed": 7})
        for t in range(length):
            last = t == length - 1
            episode.add_env_step(
                observation=observe(e, t + 1),
                action=act(e, t),
                reward=float(10 * e + t),
                infos={},
                terminated=last and ENDED[e] is True,
                truncated=last and ENDED[e] is False,
                extra_model_outputs={"action_logp": np.float32(-1)},
            )
            if cut_after and (t + 1) % cut_after == 0 and not last:
                parts.append(episode)
                episode = episode.cut(len_lookback_buffer=lookback)
        parts.append(episode)
    return parts


def write_episodes(path: Path, episodes: list[SingleAgentEpisode]) -> Path:
    """As RLlib does with ``output_write_episodes=True``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    items = [msgpack.packb(episode.get_state(), default=msgpack_numpy.encode) for episode in episodes]
    pq.write_table(BlockAccessor.batch_to_arrow_block({"item": items}), path)
    return path


def steps_of(episodes: list[SingleAgentEpisode], compressed: tuple[str, ...] = ()) -> dict[str, Any]:
    """The columns of RLlib's own mapping of episodes to rows."""
    runner: Any = SimpleNamespace(output_compress_columns=compressed, _samples=[])
    OfflineSingleAgentEnvRunner._map_episodes_to_data(runner, episodes)
    return {key: [row[key] for row in runner._samples] for key in runner._samples[0]}


def write_steps(path: Path, columns: dict[str, Any]) -> Path:
    """As RLlib does with ``output_write_episodes=False``: vectors become Ray's tensors."""
    path.parent.mkdir(parents=True, exist_ok=True)
    arrays = {key: np.stack(values) if isinstance(values[0], np.ndarray) else values for key, values in columns.items()}
    pq.write_table(BlockAccessor.batch_to_arrow_block(arrays), path)
    return path


def check_is_recorded(raw: RawDataset, order: list[int] | None = None) -> None:
    rows = np.array(STEPS)[slice(None) if order is None else order]
    np.testing.assert_array_equal(raw.observations, rows)
    np.testing.assert_array_equal(raw.next_observations, rows + np.array([0, 1]))
    np.testing.assert_allclose(raw.actions, [act(e, t) for e, t in rows])
    np.testing.assert_array_equal(raw.rewards, rows @ [10, 1])
    np.testing.assert_array_equal(np.flatnonzero(raw.terminals), [3])
    np.testing.assert_array_equal(np.flatnonzero(raw.timeouts), [6, 11])
    assert raw.observations.dtype == raw.actions.dtype == np.float32


def test_missing_file(tmp_path: Path) -> None:
    for use in (check_source, read_source, lambda source: peek_spaces("Toy-v0", source)):
        with pytest.raises(FileNotFoundError, match=r"toy\.parquet"):
            use(str(tmp_path / "toy.parquet"))


def test_file_of_episodes(tmp_path: Path) -> None:
    path = write_episodes(tmp_path / "episodes.parquet", recorded())
    check_source(path)
    raw = read_source(path)
    check_is_recorded(raw)
    assert raw.observation_space == OBS and raw.action_space == ACTIONS
    spec = peek_spaces("Toy-v0", path)
    assert (spec.obs_size, spec.action_low, spec.action_high) == (2, (-3.0,), (1.0,))


@pytest.mark.parametrize("compressed", [(), ("obs",), ("obs", "actions")])
def test_file_of_steps(tmp_path: Path, compressed: tuple[str, ...]) -> None:
    path = write_steps(tmp_path / "steps.parquet", steps_of(recorded(), compressed))
    check_source(path)
    check_is_recorded(read_source(path))


@pytest.mark.parametrize("kind", [pa.list_(pa.float32()), pa.large_list(pa.float64()), pa.list_(pa.float32(), 2)])
def test_file_of_steps_with_plain_lists(tmp_path: Path, kind: pa.DataType) -> None:
    columns = steps_of(recorded())
    vectors = {key: pa.array([row.tolist() for row in columns[key]], kind) for key in ("obs", "new_obs")}
    columns["actions"] = [row.tolist() for row in columns["actions"]]
    pq.write_table(pa.table(columns | vectors), tmp_path / "steps.parquet")
    check_is_recorded(read_source(tmp_path / "steps.parquet"))


@pytest.mark.parametrize("form", ["episodes", "steps"])
@pytest.mark.parametrize("lookback", [0, 2])
@pytest.mark.parametrize("cut_after", [1, 2])
def test_parts_of_episodes_in_several_files_are_put_together(
    tmp_path: Path, form: str, lookback: int, cut_after: int
) -> None:
    """Parts of different episodes take turns, as those of a vector of environments do."""
    parts = recorded(cut_after, lookback=lookback)
    parts.sort(key=lambda part: part.t_started)
    for number in range(0, len(parts), 2):
        path = tmp_path / "toy-v0" / f"run-000001-{number:05}" / "0_000000_000000.parquet"
        if form == "episodes":
            write_episodes(path, parts[number : number + 2])
        else:
            write_steps(path, steps_of(parts[number : number + 2]))
    check_source(tmp_path)
    check_is_recorded(read_source(tmp_path))


def test_a_missing_part_cuts_the_episode(tmp_path: Path) -> None:
    parts = recorded(2)
    kept = [part for part in parts if (part.id_, part.t_started) != ("episode 2", 2)]
    for write, path in ((write_episodes, "episodes"), (lambda at, made: write_steps(at, steps_of(made)), "steps")):
        raw = read_source(write(tmp_path / f"{path}.parquet", kept))
        np.testing.assert_array_equal(np.flatnonzero(raw.timeouts), [6, 8, 9])
        np.testing.assert_array_equal(raw.next_observations[6:], [[1, 3], [2, 1], [2, 2], [2, 5]])


def test_transitions_are_those_of_the_environment(tmp_path: Path) -> None:
    spec = SpaceSpec.from_spaces("Toy-v0", OBS, ACTIONS)
    write_episodes(tmp_path / "episodes.parquet", recorded(2, lookback=1))
    write_steps(tmp_path / "steps.parquet", steps_of(recorded()))
    for name in ("episodes", "steps"):
        store = ArrayStore(folder=tmp_path / name)
        made = build_transitions(read_source(tmp_path / f"{name}.parquet", store=store), spec, store=store)
        assert isinstance(made.observations, np.memmap)
        np.testing.assert_array_equal(np.flatnonzero(made.ends), LAST)
        np.testing.assert_array_equal(np.flatnonzero(made.terminals), [3])
        np.testing.assert_array_equal(made.next_observations(made.usable), [(e, t + 1) for e, t in STEPS])
        np.testing.assert_allclose(made.actions, [(act(e, t) + 1) / 2 for e, t in STEPS])


def test_steps_without_next_observations(tmp_path: Path) -> None:
    columns = steps_of(recorded())
    del columns["new_obs"]
    raw = read_source(write_steps(tmp_path / "steps.parquet", columns))
    assert raw.next_observations is None
    np.testing.assert_array_equal(np.flatnonzero(raw.timeouts), [6, 11])


def test_steps_without_episode_ids(tmp_path: Path) -> None:
    columns = steps_of(recorded())
    del columns["eps_id"]
    check_is_recorded(read_source(write_steps(tmp_path / "steps.parquet", columns)))


def test_discrete_observations_and_actions(tmp_path: Path) -> None:
    states, actions = gym.spaces.Discrete(12), gym.spaces.Discrete(5)
    options: Any = {
        "observe": lambda e, t: np.int64(e + t),
        "act": lambda e, t: np.int64((e + t) % 4),
        "spaces": (states, actions),
    }
    write_episodes(tmp_path / "episodes.parquet", recorded(**options))
    write_steps(tmp_path / "steps.parquet", steps_of(recorded(**options)))
    spec = SpaceSpec.from_spaces("Toy-v0", states, actions)
    for name in ("episodes", "steps"):
        made = build_transitions(read_source(tmp_path / f"{name}.parquet"), spec)
        np.testing.assert_array_equal(made.actions, [(e + t) % 4 for e, t in STEPS])
        np.testing.assert_array_equal(made.next_observations(made.usable).argmax(1), [e + t + 1 for e, t in STEPS])
    assert peek_spaces("Toy-v0", tmp_path / "episodes.parquet").action_space == actions
    assert peek_spaces("Toy-v0", tmp_path / "steps.parquet").action_size == 4  # as far as the steps tell


def test_structures_in_episodes_are_flattened(tmp_path: Path) -> None:
    space = gym.spaces.Dict(
        {
            "place": OBS,
            "goal": gym.spaces.Tuple((gym.spaces.Discrete(4), gym.spaces.Box(-100, 100, (1,), np.float32))),
        }
    )

    def structure(e: int, t: int) -> dict[str, Any]:
        return {"place": observe(e, t), "goal": (np.int64(e), np.array([t], np.float32))}

    raw = read_source(write_episodes(tmp_path / "e.parquet", recorded(observe=structure, spaces=(space, ACTIONS))))
    np.testing.assert_array_equal(raw.observations, [flatten(space, structure(e, t)) for e, t in STEPS])
    assert peek_spaces("Toy-v0", tmp_path / "e.parquet").obs_size == 7


def test_normalized_actions(tmp_path: Path) -> None:
    """What RLlib records by default: [-1, 1] for the bounds -3 and 1, and more where the distribution went further."""
    episodes = recorded(act=lambda e, t: np.array([t - 2.0], np.float32))
    write_episodes(tmp_path / "episodes.parquet", episodes)
    write_steps(tmp_path / "steps.parquet", steps_of(episodes))
    expected = np.clip([[t - 2.0] for _, t in STEPS], -1, 1) * 2 - 1
    by_episodes = read_source(lambda: rllib.read(tmp_path / "episodes.parquet", normalized_actions=True))
    by_steps = rllib.read(tmp_path / "steps.parquet", normalized_actions=True, action_space=ACTIONS)
    for raw in (by_episodes, by_steps):
        np.testing.assert_allclose(raw.actions, expected)
        assert raw.action_space == ACTIONS
    with pytest.raises(DatasetError, match=r"key 'actions'.*no action_space"):
        rllib.read(tmp_path / "steps.parquet", normalized_actions=True)


def test_bytes_stay_bytes(tmp_path: Path) -> None:
    def image(e: int, t: int) -> np.ndarray:
        return np.array([[e, t], [0, 255]], np.uint8)

    columns = steps_of(recorded(observe=image, spaces=None))
    raw = read_source(write_steps(tmp_path / "steps.parquet", columns))
    assert raw.observations.dtype == np.uint8
    np.testing.assert_array_equal(raw.observations, [image(e, t).reshape(-1) for e, t in STEPS])


@pytest.mark.parametrize("key", ["obs", "actions", "rewards", "terminateds"])
def test_missing_column(tmp_path: Path, key: str) -> None:
    columns = steps_of(recorded())
    del columns[key]
    path = write_steps(tmp_path / "steps.parquet", columns)
    for use in (check_source, read_source):
        with pytest.raises(DatasetError, match=rf"steps\.parquet', key '{key}': is missing.*eps_id"):
            use(path)


def test_damaged_files(tmp_path: Path) -> None:
    path = write_episodes(tmp_path / "episodes.parquet", recorded())
    path.write_bytes(path.read_bytes()[:-100])
    for use in (check_source, read_source):
        with pytest.raises(DatasetError, match=r"episodes\.parquet': cannot be opened as Parquet"):
            use(path)
    path.write_bytes(b"")
    with pytest.raises(DatasetError, match="empty"):
        read_source(path)


def test_damaged_page(tmp_path: Path) -> None:
    path = tmp_path / "steps.parquet"
    table = pq.read_table(write_steps(path, steps_of(recorded())))
    pq.write_table(table, path, compression="gzip")
    content = bytearray(path.read_bytes())
    for place in range(4, 60):
        content[place] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(DatasetError, match=r"steps\.parquet': cannot be read, the file is damaged"):
        read_source(path)


def test_item_that_is_no_episode(tmp_path: Path) -> None:
    path = tmp_path / "episodes.parquet"
    good = msgpack.packb(recorded()[0].get_state(), default=msgpack_numpy.encode)
    for bad in (good[:-9], msgpack.packb({"agents": {}}), b"\xc1"):
        pq.write_table(pa.table({"item": [good, bad]}), path)
        with pytest.raises(DatasetError, match=r"episodes\.parquet', key 'item', index 1: is no episode"):
            read_source(path)


@pytest.mark.parametrize(
    ("key", "row", "value", "message"),
    [
        ("obs", 5, [1.0, 2.0, 3.0], "has 3 numbers, but index 0 has 2"),
        ("obs", 4, None, "has no value"),
        ("rewards", 2, None, "has no value"),
    ],
)
def test_bad_row(tmp_path: Path, key: str, row: int, value: Any, message: str) -> None:
    columns = steps_of(recorded())
    columns |= {name: [item.tolist() for item in columns[name]] for name in ("obs", "new_obs", "actions")}
    columns[key][row] = value
    pq.write_table(pa.table(columns), tmp_path / "steps.parquet")
    with pytest.raises(DatasetError, match=rf"steps\.parquet', key '{key}', index {row}: {message}"):
        read_source(tmp_path / "steps.parquet")


def test_no_rows(tmp_path: Path) -> None:
    pq.write_table(pa.table({"item": pa.array([], pa.binary())}), tmp_path / "episodes.parquet")
    with pytest.raises(DatasetError, match="no steps"):
        read_source(tmp_path / "episodes.parquet")
