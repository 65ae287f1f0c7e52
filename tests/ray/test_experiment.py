"""`multienv experiment` on Ray: runs in order, a report, nothing repeated; and checks of the runs' configurations."""

from __future__ import annotations

from pathlib import Path

import pytest
from cli_helpers import ROOT, call_cli
from experiment_files import TINY, loaded, written

from rllib_multienv.config_files.yaml_text import ConfigFileError
from rllib_multienv.evaluation.raw_metrics import read_raw_metrics
from rllib_multienv.experiments.file import load_experiment_file
from rllib_multienv.experiments.plan import check_runs, plan


@pytest.mark.usefixtures("ray_cluster")
def test_phases_run_in_order_and_are_not_repeated(tmp_path: Path) -> None:
    reset = "from: pretrain\n    initialize_from: {reset: [log_std]}"
    written(tmp_path, TINY.replace("[0, 1]", "[0]").replace("from: pretrain", reset))
    first = call_cli("experiment", "tiny.yaml", "--only", "transfer", cwd=tmp_path)
    assert first.returncode == 0, first.stdout + first.stderr
    root = tmp_path / "results" / "tiny"
    done = [line.split()[1] for line in first.stdout.splitlines() if line.startswith("done ")]
    assert done == ["pretrain/agnostic/seed0", "transfer/agnostic/seed0"]
    transferred = (root / "runs/transfer/agnostic/seed0/config.yaml").read_text(encoding="utf-8")
    assert f"path: {root}/runs/pretrain/agnostic/seed0/trial_00000/checkpoint_" in transferred
    assert "reset: [log_std]" in transferred

    metrics = read_raw_metrics(root / "metrics")
    assert metrics.runs[["phase", "status", "env_steps"]].to_numpy().tolist() == [
        ["pretrain", "done", 512],
        ["transfer", "done", 256],
    ]
    assert (metrics.runs["parameters"] > 0).all()
    assert metrics.evaluations["env_id"].tolist() == ["CartPole-v1", "Pendulum-v1", "Acrobot-v1"]
    assert metrics.gradient_cosines[["env_a", "env_b"]].to_numpy().tolist() == [["CartPole-v1", "Pendulum-v1"]]
    assert "ray" in metrics.experiment.versions
    assert (root / "report.html").is_file()

    # A run whose training had ended when it failed is evaluated, and is done; the other is not repeated.
    run = root / "runs/transfer/agnostic/seed0"
    (run / "evaluation.csv").unlink()
    run.with_name("seed0.failure").write_text("the run is done")
    again = call_cli("experiment", "tiny.yaml", "--only", "transfer", cwd=tmp_path)
    assert again.returncode == 0, again.stdout + again.stderr
    assert "started   pretrain" not in again.stdout and "2 of 2 runs done" in again.stdout
    assert (run / "evaluation.csv").is_file() and not run.with_name("seed0.failure").exists()


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("num_epochs: 1", "num_epoch: 1", "pretrain/agnostic/seed1: unknown key 'num_epoch' in 'training'"),
        ("envs: [Acrobot-v1]", "envs: [Acrobt-v1]", "Acrobot-v1"),
        ("num_transformer_layers: 1", "num_transfomer_layers: 1", "pretrain/plain/seed1: .*num_transfomer_layers"),
        ("from: pretrain", "from: pretrain\n    initialize_from: {path: x}", "initialize_from.path is the checkpoint"),
        ("phases: [alone]", "phases: [alone, pretrain]", "pretrain/single/seed1: .*exactly one environment"),
    ],
)
def test_mistakes_show_before_anything_is_run(tmp_path: Path, before: str, after: str, message: str) -> None:
    with pytest.raises(ConfigFileError, match=message):
        check_runs(plan(loaded(tmp_path, TINY.replace(before, after, 1))))


@pytest.mark.parametrize("file", sorted((ROOT / "tune_configs" / "experiments").glob("*.yaml")), ids=lambda p: p.stem)
def test_the_experiments_of_this_repository_are_valid(file: Path) -> None:
    runs = plan(load_experiment_file(file))
    check_runs(runs)
    assert all(run.file.stop.any_of for run in runs)
