"""A data set that is recorded when it is first needed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import gymnasium as gym
import h5py
import numpy as np
import pytest
from cli_helpers import environment
from untrained_agent import save_untrained

from rllib_multienv.envs.errors import EnvFailure
from rllib_multienv.offline import DatasetError
from rllib_multienv.offline.formats import d4rl, recorded

CONTROLLER = "rllib_multienv.offline.controllers:cartpole"


def source(path: Path, **settings: Any) -> dict[str, Any]:
    behaviours = [{"policy": CONTROLLER, "share": 0.5, "noise": 0.2}, {"policy": "random", "share": 0.5}]
    record = {"env": "CartPole-v1", "num_steps": 400, "seed": 0, "behaviours": behaviours, **settings}
    return {"record": record, "path": str(path)}


def test_it_is_recorded_once(tmp_path: Path) -> None:
    wanted = source(tmp_path / "data" / "cart.hdf5", ref_min_score=22.0, ref_max_score=500)
    recorded.check(wanted)
    assert not (tmp_path / "data").exists()
    path = recorded.recorded_file(wanted)
    assert path == tmp_path / "data" / "cart.hdf5"
    raw = d4rl.read(path)
    assert len(raw) == 400
    assert raw.metadata["ref_max_score"] == 500.0
    played = json.loads(raw.metadata["behaviours"])
    assert [(row["name"], row["steps"]) for row in played] == [(CONTROLLER, 200), ("random", 200)]
    before = path.stat()
    assert recorded.recorded_file(wanted) == path
    assert (path.stat().st_ino, path.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_defaults_may_be_left_out(tmp_path: Path) -> None:
    short = {"record": {"env": "CartPole-v1", "num_steps": 50}, "path": str(tmp_path / "cart.hdf5")}
    full = {"env": {"id": "CartPole-v1"}, "num_steps": 50, "seed": 0, "behaviours": [{"policy": "random", "share": 1}]}
    assert recorded.recorded_file(short) == recorded.recorded_file({"record": full, "path": tmp_path / "cart.hdf5"})


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"num_steps": 500}, r"num_steps=400 in the file, 500 asked for"),
        ({"seed": 1}, r"seed=0 in the file, 1 asked for"),
        ({"behaviours": [{"policy": "random"}]}, "behaviours="),
        ({"env": {"id": "CartPole-v1", "max_episode_steps": 100}}, "env="),
    ],
)
def test_other_settings_are_refused(change: dict[str, Any], words: str, tmp_path: Path) -> None:
    path = recorded.recorded_file(source(tmp_path / "cart.hdf5"))
    before = path.read_bytes()
    with pytest.raises(DatasetError, match=rf"cart\.hdf5.*other settings: {words}"):
        recorded.recorded_file(source(path, **change))
    assert path.read_bytes() == before


def test_another_file_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "mine.hdf5"
    path.write_text("notes")
    with pytest.raises(DatasetError, match=r"mine\.hdf5.*cannot be opened as HDF5"):
        recorded.recorded_file(source(path))
    assert path.read_text() == "notes"
    path.unlink()
    with h5py.File(path, "w") as file:
        file["observations"] = np.zeros((3, 4))
    with pytest.raises(DatasetError, match=r"mine\.hdf5.*was not recorded from settings"):
        recorded.recorded_file(source(path))


def test_an_agent_of_a_checkpoint(tmp_path: Path) -> None:
    checkpoint = save_untrained(tmp_path / "agent", ["CartPole-v1"])
    wanted = source(tmp_path / "cart.hdf5", behaviours=[{"checkpoint": str(checkpoint), "explore": False}])
    (played,) = json.loads(d4rl.read(recorded.recorded_file(wanted)).metadata["behaviours"])
    assert played["name"] == str(checkpoint)
    checkpoint.rename(tmp_path / "elsewhere")
    recorded.recorded_file(wanted)  # the file is there, so that nobody needs the agent
    with pytest.raises(ValueError, match="There is no checkpoint"):
        recorded.check({**wanted, "path": str(tmp_path / "other.hdf5")})


def test_spaces_are_those_of_the_environment(tmp_path: Path) -> None:
    env = {"id": "short", "make": "Pendulum-v1", "max_episode_steps": 20}
    spaces = recorded.peek("swing", source(tmp_path / "pendulum.hdf5", env=env))
    assert spaces.env_id == "swing"
    assert spaces.action_space == gym.make("Pendulum-v1").action_space
    assert not [*tmp_path.iterdir()]


def test_processes_that_record_at_once(tmp_path: Path) -> None:
    wanted = source(tmp_path / "data" / "cart.hdf5", num_steps=3000)
    program = (
        "import json, sys; from rllib_multienv.offline.formats.recorded import recorded_file;"
        "print('ready', flush=True); sys.stdin.readline(); print(recorded_file(json.loads(sys.argv[1])))"
    )
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", program, json.dumps(wanted)],
            env=environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    for process in processes:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in processes:
        output, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors
        assert output.splitlines()[-1] == wanted["path"]
    assert [*(tmp_path / "data").iterdir()] == [Path(wanted["path"])]
    assert len(d4rl.read(wanted["path"])) == 3000


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"num_step": 5}, r"unknown key 'num_step'\. Did you mean 'num_steps'"),
        ({"num_steps": 0}, "num_steps=0: must be a whole number"),
        ({"num_steps": 2.5}, r"num_steps=2\.5"),
        ({"seed": -1}, "seed=-1"),
        ({"seed": None}, "seed=None"),
        ({"env": "CartPolle-v1"}, "'CartPole-v1'"),
        ({"env": {"id": "CartPole-v1", "max_steps": 4}}, "unknown key 'max_steps'.*'max_episode_steps'"),
        ({"env": 7}, "env=7"),
        ({"behaviours": []}, r"behaviours=\[\]"),
        ({"behaviours": ["random"]}, "behaviour 1: must be a mapping"),
        ({"behaviours": [{"policy": "random", "shares": 1}]}, "unknown key 'shares'.*'share'"),
        ({"behaviours": [{"policy": "random"}, {"share": 1}]}, "behaviour 2: give either 'policy'"),
        ({"behaviours": [{"policy": "random", "checkpoint": "x"}]}, "give either"),
        ({"behaviours": [{"policy": "random", "share": 0}]}, "share="),
        ({"behaviours": [{"policy": "random", "noise": 0.1}]}, "'noise' disturbs a policy"),
        ({"behaviours": [{"policy": "random", "explore": True}]}, "'explore' is for an agent"),
        ({"behaviours": [{"policy": CONTROLLER, "noise": -0.1}]}, r"noise=-0\.1"),
        ({"behaviours": [{"policy": CONTROLLER + "s"}]}, "Did you mean 'cartpole'"),
        ({"behaviours": [{"policy": "no_such_module:f"}]}, "cannot import 'no_such_module'"),
        ({"behaviours": [{"policy": "cartpole"}]}, "'module:function'"),
        ({"behaviours": [{"checkpoint": "nowhere"}]}, "There is no checkpoint 'nowhere'"),
        ({"behaviours": [{"checkpoint": "nowhere", "explore": 1}]}, "explore=1"),
        ({"ref_min_score": "low"}, "ref_min_score='low'"),
    ],
)
def test_wrong_settings_are_named(settings: dict[str, Any], words: str, tmp_path: Path) -> None:
    with pytest.raises((ValueError, ImportError), match=words):
        recorded.check(source(tmp_path / "cart.hdf5", **settings))
    assert not [*tmp_path.iterdir()]


def test_wrong_keys_are_named(tmp_path: Path) -> None:
    right = source(tmp_path / "cart.hdf5")
    for wrong, words in (
        ({**right, "paths": "x"}, "unknown key 'paths'.*'path'"),
        ({"record": right["record"]}, "'path' is missing"),
        ({**right, "path": "cart.txt"}, r"path='cart\.txt': must end in \.hdf5"),
        ({**right, "record": {"num_steps": 5}}, "'env' is missing"),
        ({**right, "record": "CartPole-v1"}, "must be a mapping"),
    ):
        with pytest.raises(ValueError, match=words):
            recorded.check(wrong)


def test_a_recording_that_fails_leaves_nothing(tmp_path: Path) -> None:
    broken = {"id": "broken", "make": "toy_envs:Breaking", "kwargs": {"fault": "step"}}
    with pytest.raises(EnvFailure, match="broken"):
        recorded.recorded_file(source(tmp_path / "data.hdf5", env=broken, behaviours=[{"policy": "random"}]))
    assert not [*tmp_path.iterdir()]
