"""The offline files in `tune_configs/` are what they say, and the quickstart's trains from the command line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from cli_helpers import ROOT, call_cli, run_cli
from offline_files import write_hdf5

from rllib_multienv import AgnosticNetConfig, MultiEnvIQLConfig
from rllib_multienv.checkpoints import read_checkpoint
from rllib_multienv.config_files import build_config, load_config_file
from rllib_multienv.evaluation.progress import read_progress

CONFIGS = ROOT / "tune_configs"
#: Observation and action sizes of D4RL's data sets.
EIGHT = {
    "halfcheetah-medium-expert-v2": (17, 6),
    "hopper-medium-expert-v2": (11, 3),
    "walker2d-medium-expert-v2": (17, 6),
    "antmaze-umaze-v0": (29, 8),
    "pen-expert-v1": (45, 24),
    "door-expert-v1": (39, 28),
    "hammer-expert-v1": (46, 26),
    "relocate-expert-v1": (39, 30),
}


@pytest.fixture
def d4rl_folder(tmp_path: Path) -> Path:
    """Files of D4RL's names and sizes, a few steps each."""
    for name, (obs_size, action_size) in EIGHT.items():
        arrays = {
            "observations": np.zeros((6, obs_size), np.float32),
            "actions": np.zeros((6, action_size), np.float32),
            "rewards": np.arange(6, dtype=np.float32),
            "terminals": np.arange(6) % 3 == 2,
        }
        write_hdf5(tmp_path / f"{name}.hdf5", arrays)
    return tmp_path


def test_the_eight_are_the_papers(d4rl_folder: Path) -> None:
    file = load_config_file(CONFIGS / "offline_d4rl_eight.yaml").override("offline_data.data_dir", str(d4rl_folder))
    config = build_config(file)
    config.validate()
    assert isinstance(config, MultiEnvIQLConfig)
    assert list(config.datasets.values()) == [f"d4rl:{name}" for name in EIGHT]
    assert [(s.obs_size, s.action_size) for s in config.space_specs.values()] == list(EIGHT.values())
    assert config.network_config == AgnosticNetConfig.paper()
    assert (config.expectile, config.beta, config.tau, config.batch_size) == (0.7, 3.0, 0.005, 256)
    assert file.stop.any_of == {"num_steps_lifetime": 1e6}
    # D4RL's choices: locomotion by the range of returns, a cost per step in the maze.
    normalizations = {env_id: config.get_config_for_module(env_id).reward_normalization for env_id in config.datasets}
    assert [normalizations[e] for e in ("hopper", "walker2d", "halfcheetah")] == ["return_range"] * 3
    assert normalizations["antmaze"] == "minus_one"


def test_a_missing_file_of_d4rl_is_named_before_anything_starts(tmp_path: Path) -> None:
    done = call_cli("train", CONFIGS / "offline_d4rl_eight.yaml", "--data-dir", tmp_path, cwd=tmp_path)
    assert done.returncode != 0
    output = done.stdout + done.stderr
    assert "halfcheetah_medium_expert-v2.hdf5" in output and "Traceback" not in output
    assert not (tmp_path / "results").exists()


@pytest.mark.usefixtures("programs_on_the_cluster")
def test_the_quickstart_records_trains_evaluates_and_goes_on(tmp_path: Path) -> None:
    short = ("--set", "training.num_steps_per_iteration=3", "--set", "evaluation.evaluation_duration=1")
    done = run_cli(
        "train", CONFIGS / "offline_quickstart.yaml", "--stop-steps", 6, "--episodes", 1, *short, cwd=tmp_path
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(list((tmp_path / "results" / "data").glob("*.hdf5"))) == 3
    folder = tmp_path / "results" / "offline_quickstart"
    rows = read_progress(folder / "progress.csv")
    assert [row["num_steps_lifetime"] for row in rows] == [3, 6]
    envs = ("CartPole-v1", "InvertedPendulum-v4", "Reacher-v4")
    for env_id in envs:
        assert rows[-1][f"learners/{env_id}/num_module_steps_trained_lifetime"] == 6 * 128
        assert np.isfinite(rows[-1][f"evaluation/env_runners/normalized_score/{env_id}"])
        assert env_id in done.stdout
    assert "6 optimiser steps" in done.stdout
    assert (folder / "learning_curves.png").is_file() and (folder / "evaluation.csv").is_file()
    assert set(read_checkpoint(folder / "checkpoint").action_values or {})
    again = run_cli("train", "--resume", folder, "--stop-steps", 9, "--episodes", 0, cwd=tmp_path)
    assert again.returncode == 0, again.stdout + again.stderr
    assert [row["num_steps_lifetime"] for row in read_progress(folder / "progress.csv")] == [3, 6, 9]
