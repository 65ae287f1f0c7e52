"""Experiment trackers and callbacks in files: Weights & Biases, MLflow, TensorBoard, a user's own callbacks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from cli_helpers import TINY, call_cli, invoke_cli, run_cli
from ray import tune

from rllib_multienv.config_files import build_config, build_tuner, load_config_file

CALLBACKS = """
from pathlib import Path
from ray.rllib.callbacks.callbacks import RLlibCallback


class Noting(RLlibCallback):
    def on_train_result(self, *, result, **kwargs):
        result["learners"]["noted"] = 7.0


def begun(algorithm, **kwargs):
    Path(__file__).with_name("begun").touch()
"""


def written(tmp_path: Path, more: str = "", iterations: int = 1) -> Path:
    file = tmp_path / "tiny.yaml"
    file.write_text(TINY.replace("iteration: 4", f"iteration: {iterations}") + more)
    return file


class Recorder(tune.Callback):
    """Stands for the callback of a tracker that is not installed."""

    def __init__(self, **arguments: Any) -> None:
        self.arguments = arguments


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ray.air.integrations.wandb.WandbLoggerCallback", Recorder)
    monkeypatch.setattr("ray.air.integrations.mlflow.MLflowLoggerCallback", Recorder)


def callbacks(file: Path) -> list[Any]:
    return build_tuner(file)._local_tuner.get_run_config().callbacks


def test_trackers_are_callbacks_with_their_arguments(tmp_path: Path, recorded: None) -> None:
    more = "tune: {loggers: [tensorboard, {type: wandb, project: p, mode: offline}, {type: mlflow, tracking_uri: u}]}\n"
    board, wandb, mlflow = callbacks(written(tmp_path, more))
    assert type(board).__name__ == "TBXLoggerCallback"
    assert wandb.arguments == {"project": "p", "mode": "offline", "resume": "allow"}
    assert mlflow.arguments == {"experiment_name": "tiny", "tracking_uri": "u"}
    assert callbacks(written(tmp_path)) == []


def test_the_option_adds_weights_and_biases(tmp_path: Path, recorded: None, monkeypatch: pytest.MonkeyPatch) -> None:
    files = []
    monkeypatch.setattr("rllib_multienv.cli.training.run_training", lambda file, **_: files.append(file))
    written(tmp_path, "tune: {loggers: [mlflow]}\n")
    done = invoke_cli("train", "tiny.yaml", "--wandb", "walkers", cwd=tmp_path)
    assert done.exit_code == 0, done.output
    assert files[0].tune["loggers"] == ["mlflow", {"type": "wandb", "project": "walkers"}]


@pytest.mark.parametrize(
    ("loggers", "words"),
    [
        ("[wandbb]", r"tiny.yaml:8: unknown logger 'wandbb'.*'wandb'"),
        ("wandb", r"tiny.yaml:8: 'loggers' takes a list such as \[wandb, mlflow\], not 'wandb'"),
        ("[{type: tensorboard, port: 1}]", r"tiny.yaml:8: loggers: .*port"),
    ],
)
def test_a_wrong_tracker_is_an_error_with_its_line(loggers: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=words):
        build_tuner(written(tmp_path, f"tune: {{loggers: {loggers}}}\n"))


def test_a_tracker_that_is_not_installed_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ray.air.integrations.wandb.wandb", None)
    with pytest.raises(ValueError, match=r"tiny.yaml:8: loggers: .*pip install wandb"):
        build_tuner(written(tmp_path, "tune: {loggers: [wandb]}\n"))


def test_callbacks_are_named_in_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "noting_callbacks.py").write_text(CALLBACKS)
    more = "callbacks: {callbacks_class: 'noting_callbacks:Noting', on_algorithm_init: 'noting_callbacks:begun'}\n"
    written(tmp_path, more)
    done = run_cli("train", "tiny.yaml", "--episodes", 0, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "learners/noted" in (tmp_path / "results" / "tiny" / "progress.csv").read_text()
    assert (tmp_path / "begun").is_file()
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(
        ValueError, match=r"tiny.yaml:8: callbacks: .*no 'Notting' in 'noting_callbacks'. Did you mean 'Noting'"
    ):
        build_config(load_config_file(written(tmp_path, "callbacks: {callbacks_class: 'noting_callbacks:Notting'}\n")))


def test_weights_and_biases_offline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, programs_on_the_cluster: None
) -> None:
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    written(tmp_path, "tune: {loggers: [{type: wandb, project: p, mode: offline}]}\n", iterations=2)
    done = call_cli("train", "tiny.yaml", "--episodes", 0, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert [path for path in tmp_path.rglob("*.wandb") if path.stat().st_size > 0]


def test_mlflow_in_files(tmp_path: Path, programs_on_the_cluster: None) -> None:
    pytest.importorskip("mlflow")
    store = tmp_path / "store"
    written(tmp_path, f"tune: {{loggers: [{{type: mlflow, tracking_uri: 'file:{store}'}}]}}\n", iterations=2)
    done = call_cli("train", "tiny.yaml", "--episodes", 0, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    (metric,) = store.rglob("metrics/env_runners/module_episode_return_mean/CartPole-v1")
    assert len(metric.read_text().splitlines()) == 2
