"""`multienv train` leaves a folder with everything, and `evaluate` and `transfer` use it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
import yaml
from cli_helpers import TINY, run_cli
from matplotlib.image import imread

from rllib_multienv.config_files import load_config_file
from rllib_multienv.evaluation.progress import read_progress


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The current folder of the commands."""
    folder = tmp_path_factory.mktemp("user")
    (folder / "tiny.yaml").write_text(TINY)
    return folder


@pytest.fixture(scope="module")
def trained(folder: Path) -> subprocess.CompletedProcess[str]:
    """A run that came to its end."""
    done = run_cli("train", "tiny.yaml", "--seed", 3, "--episodes", 2, "--set", "training.gamma=0.97", cwd=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return done


@pytest.fixture(scope="module")
def results(folder: Path, trained: subprocess.CompletedProcess[str]) -> Path:
    return folder / "results" / "tiny"


def test_the_screen_shows_progress_evaluation_and_paths(trained: subprocess.CompletedProcess[str]) -> None:
    assert "iteration 4" in trained.stdout
    assert "Evaluation: return per episode" in trained.stdout
    for text in ("CartPole-v1", "Pendulum-v1", "results/tiny/learning_curves.png", "results/tiny/run.log"):
        assert text in trained.stdout


def test_ray_and_rllib_write_to_the_log_and_not_to_the_screen(
    trained: subprocess.CompletedProcess[str], results: Path
) -> None:
    assert "Started a local Ray instance" in (results / "run.log").read_text()
    screen = trained.stdout + trained.stderr
    assert not any(word in screen for word in ("WARNING", "INFO", "Warning", "pid=", "Ray instance"))


def test_the_resolved_config_holds_what_the_command_line_changed(results: Path) -> None:
    file = load_config_file(results / "config.yaml")
    assert (file.algorithm, file.name) == ("MultiEnvPPO", "tiny")
    assert file.methods["debugging"]["seed"] == 3
    assert file.methods["training"] == {**yaml.safe_load(TINY)["training"], "gamma": 0.97}


def test_the_metrics_are_there_for_every_environment(results: Path) -> None:
    rows = read_progress(results / "progress.csv")
    assert [row["training_iteration"] for row in rows] == [1, 2, 3, 4]
    for env_id in ("CartPole-v1", "Pendulum-v1"):
        assert rows[-1][f"env_runners/num_module_steps_sampled_lifetime/{env_id}"] == 4 * 2 * 64
        assert f"learners/{env_id}/policy_loss" in rows[-1]
    assert "env_runners/module_episode_return_mean/CartPole-v1" in rows[-1]


def test_tensorboard_has_the_same_metrics(results: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(results))
    events.Reload()
    key = "env_runners/module_episode_return_mean/CartPole-v1"
    column = [row[key] for row in read_progress(results / "progress.csv") if key in row]
    assert [event.value for event in events.Scalars(key)] == pytest.approx(column)


def test_the_learning_curves_have_been_drawn(results: Path) -> None:
    assert imread(results / "learning_curves.png")[..., :3].std() > 0.01


def test_the_printed_checkpoint_can_be_evaluated(trained: subprocess.CompletedProcess[str], folder: Path) -> None:
    path = next(line.split()[1] for line in trained.stdout.splitlines() if line.startswith("checkpoint "))
    done = run_cli("evaluate", path, "--env", "Pendulum-v1", "--episodes", 3, cwd=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    line = next(line for line in done.stdout.splitlines() if "Pendulum-v1" in line)
    _, episodes, mean, std, low, high, length = line.split()
    assert (episodes, length) == ("3", "200.0")
    assert float(low) <= float(mean) <= float(high) < 0 and float(std) >= 0
    assert "CartPole" not in done.stdout


def test_the_agent_is_evaluated_in_an_environment_that_it_never_saw(folder: Path, results: Path) -> None:
    done = run_cli("evaluate", results, "--env", "Acrobot-v1", "--episodes", 1, cwd=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Acrobot-v1" in done.stdout


def test_a_second_run_gets_a_folder_of_its_own_and_transfer_begins_with_the_first(folder: Path, results: Path) -> None:
    text = TINY.replace("[CartPole-v1, Pendulum-v1]", "[Acrobot-v1]")
    (folder / "other.yaml").write_text(text.replace("rl_module: {model_config: {type: agnostic, d_model: 16}}\n", ""))
    options = ("--reset", "decoders", "--shrink", 0.5, "--freeze", "actor.encoder")
    done = run_cli("transfer", results, "other.yaml", *options, "--name", "tiny", "--episodes", 0, cwd=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    file = load_config_file(folder / "results" / "tiny-2" / "config.yaml")
    assert file.methods["initialize_from"] == {
        "path": str((results / "checkpoint").resolve()),
        "freeze": ["actor.encoder"],
        "reset": ["decoders"],
        "shrink": 0.5,
    }
    assert file.methods["rl_module"]["model_config"]["d_model"] == 16  # the checkpoint's network
    rows = read_progress(folder / "results" / "tiny-2" / "progress.csv")
    assert "learners/Acrobot-v1/policy_loss" in rows[-1]
