"""What was recorded and written is read again as the same transitions, in both formats."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest

from rllib_multienv import EnvSpec, SpaceSpec
from rllib_multienv.envs.probe import probe_spaces
from rllib_multienv.offline import DatasetError, RawDataset, build_transitions
from rllib_multienv.offline.behaviours import Behaviour
from rllib_multienv.offline.formats import d4rl, minari
from rllib_multienv.offline.recording import record_steps

ENVS = {
    "discrete": EnvSpec("CartPole-v1", max_episode_steps=15),
    "continuous": EnvSpec("InvertedPendulum-v4", max_episode_steps=6),
    "no limit of Gymnasium's": EnvSpec("counter", make="toy_envs:Counter"),
    "discrete observations": EnvSpec("grid", make="toy_envs:Grid", max_episode_steps=7),
    "any spaces": EnvSpec("anything", make="toy_envs:Anything"),
    "choices and an image": EnvSpec("choices", make="toy_envs:Choices"),
}


def recorded(env: EnvSpec) -> tuple[RawDataset, SpaceSpec]:
    spaces = probe_spaces(env)
    raw = record_steps(env, [Behaviour(policy="random")], num_steps=300, seed=1, ref_min_score=2.0, ref_max_score=9.0)
    return raw, spaces


def assert_same_transitions(raw: RawDataset, read: RawDataset, spaces: SpaceSpec) -> None:
    expected, found = build_transitions(raw, spaces), build_transitions(read, spaces)
    for field in dataclasses.fields(expected):
        array, other = getattr(expected, field.name), getattr(found, field.name)
        assert array.dtype == other.dtype, field.name
        np.testing.assert_array_equal(array, other, err_msg=field.name)
    steps = np.arange(len(raw))
    np.testing.assert_array_equal(found.next_observations(steps), spaces.flatten_obs(raw.next_observations))


@pytest.mark.parametrize("name", ENVS)
def test_d4rl_layout(name: str, tmp_path: Path) -> None:
    raw, spaces = recorded(ENVS[name])
    assert raw.timeouts is not None and (raw.terminals | raw.timeouts)[:-1].any()
    d4rl.write(tmp_path / "deep" / "er" / "data.hdf5", raw)
    read = d4rl.read(tmp_path / "deep" / "er" / "data.hdf5")
    assert_same_transitions(raw, read, spaces)
    assert read.metadata == raw.metadata
    assert [*(tmp_path / "deep" / "er").iterdir()] == [tmp_path / "deep" / "er" / "data.hdf5"]


@pytest.mark.parametrize("name", ENVS)
def test_minari(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    minari_package = pytest.importorskip("minari")
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    raw, spaces = recorded(ENVS[name])
    minari.write("mine/recorded-v0", raw, ENVS[name])
    assert_same_transitions(raw, minari.read("mine/recorded-v0"), spaces)
    assert list(minari_package.list_local_datasets()) == ["mine/recorded-v0"]
    assert not [*tmp_path.rglob(".*")]  # nothing is left of the writing
    dataset = minari_package.load_dataset("mine/recorded-v0")
    assert dataset.storage.metadata["behaviours"] == raw.metadata["behaviours"]
    assert dataset.storage.metadata["ref_max_score"] == 9.0
    if name == "discrete":
        assert isinstance(dataset.recover_environment(), gym.Env)


def test_actions_keep_to_a_mask_in_infos_and_the_mask_is_recorded(tmp_path: Path) -> None:
    raw, spaces = recorded(EnvSpec("masked", make="toy_envs:Anything", kwargs={"mask": True}))
    masks = spaces.unpack(raw.observations)["action_mask"]
    assert masks[:, :2].all() and (masks[:, 2:].sum(1) == 2).all()
    pushed = raw.actions[:, 2].astype(int)
    assert masks[np.arange(len(raw)), 2 + pushed].all()
    d4rl.write(tmp_path / "masked.hdf5", raw)
    assert_same_transitions(raw, d4rl.read(tmp_path / "masked.hdf5"), spaces)


def test_policies_see_the_parts_of_an_observation_and_give_actions_of_the_environment() -> None:
    spaces = probe_spaces(ENVS["any spaces"])

    def act(observations: dict[str, np.ndarray]) -> list[dict]:
        steps = observations["robot/where"][:, 0]
        assert observations["camera"].shape == (len(steps), 16, 18, 3)
        return [{"move": np.full(2, t / 5, np.float32), "push": 2, "lights": np.array([1, 0], np.int8)} for t in steps]

    raw = record_steps(ENVS["any spaces"], [Behaviour(policy=act)], num_steps=25, seed=0)
    np.testing.assert_allclose(raw.actions, [[1, 0, 2, t / 10, t / 10] for t in [0, 1, 2, 3, 4] * 5], atol=1e-6)
    np.testing.assert_allclose(raw.rewards, [t / 2.5 for t in [0, 1, 2, 3, 4] * 5], atol=1e-6)
    assert [v["note"] for v in spaces.reader.values(raw.observations[:3])] == ["", "a", "aa"]


def test_the_last_file_stays_until_the_new_one_is_whole(tmp_path: Path) -> None:
    raw, _ = recorded(ENVS["discrete"])
    path = tmp_path / "data.hdf5"
    d4rl.write(path, raw)
    before = path.read_bytes()
    with pytest.raises(FileExistsError, match=r"data\.hdf5"):
        d4rl.write(path, raw)
    broken = dataclasses.replace(raw, metadata={"note": "a\0b"})  # HDF5's text has no zero in it
    with pytest.raises(ValueError, match="NULL"):
        d4rl.write(path, broken, overwrite=True)
    assert path.read_bytes() == before
    assert [*tmp_path.iterdir()] == [path]
    d4rl.write(path, dataclasses.replace(raw, metadata={"seed": 5}), overwrite=True)
    assert d4rl.read(path).metadata == {"seed": 5}


def test_a_minari_data_set_is_kept_or_replaced_as_a_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    minari_package = pytest.importorskip("minari")
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    raw, _ = recorded(ENVS["continuous"])
    minari.write("recorded-v0", raw)
    with pytest.raises(FileExistsError, match="'recorded-v0'"):
        minari.write("recorded-v0", raw)
    with pytest.raises(ValueError, match="name-v0"):
        minari.write("recorded", raw)
    with pytest.raises(DatasetError, match="next_observations"):
        minari.write("other-v0", dataclasses.replace(raw, next_observations=None))
    assert [path.name for path in tmp_path.iterdir()] == ["recorded-v0"]
    shorter = {key: getattr(raw, key)[:50] for key in ("observations", "actions", "rewards", "terminals", "timeouts")}
    part = dataclasses.replace(raw, next_observations=raw.next_observations[:50], **shorter)  # type: ignore[index]
    minari.write("recorded-v0", part, overwrite=True)
    assert minari_package.load_dataset("recorded-v0").total_steps == 50
    assert [path.name for path in tmp_path.iterdir()] == ["recorded-v0"]
