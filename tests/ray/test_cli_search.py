"""A search on the command line ends with its result, and a run that ended can still be evaluated."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cli_helpers import TINY, call_cli

from rllib_multienv.checkpoints import check_complete, find_checkpoint, training_progress
from rllib_multienv.config_files import build_config, load_config_file

pytestmark = pytest.mark.usefixtures("ray_cluster")


def test_a_search_names_its_best_trial_and_is_evaluated_later(tmp_path: Path) -> None:
    text = TINY.replace("d_model: 16", "d_model: !grid_search [8, 16]").replace("iteration: 4", "iteration: 2")
    (tmp_path / "search.yaml").write_text(text + "tune: {metric: learners/CartPole-v1/vf_loss, mode: min}\n")
    done = call_cli("train", "search.yaml", "--episodes", 0, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    run = tmp_path / "results" / "search"
    best = next(line for line in done.stdout.splitlines() if " * " in line).split()[0]
    assert "* best by learners/CartPole-v1/vf_loss (min)" in done.stdout
    assert "best settings   results/search/best.yaml" in done.stdout

    drawn = [json.loads((run / f"trial_0000{i}" / "params.json").read_text()) for i in range(2)]
    assert sorted(values["rl_module.model_config.d_model"] for values in drawn) == [8, 16]
    again = load_config_file(run / "best.yaml")
    assert again.single
    value = json.loads((run / best / "params.json").read_text())["rl_module.model_config.d_model"]
    assert build_config(again).rl_module_spec is not None
    assert again.methods["rl_module"]["model_config"]["d_model"] == value
    assert find_checkpoint(run).parent.name == best
    check_complete(run / "best_checkpoint")

    # Its trials have ended, the evaluation is left.
    later = call_cli("train", "--resume", run, "--episodes", 1, cwd=tmp_path)
    assert later.returncode == 0, later.stdout + later.stderr
    assert "its evaluation is missing" in later.stdout and f"{best} *" in later.stdout
    assert (run / "evaluation.csv").read_text().count("\n") == 3
    assert "is done: all trials have ended" in call_cli("train", "--resume", run, cwd=tmp_path).stderr


def test_the_best_checkpoint_is_kept_though_tune_deletes_it(tmp_path: Path) -> None:
    (tmp_path / "tiny.yaml").write_text(
        TINY.replace("iteration: 4", "iteration: 5")
        + "evaluation: {evaluation_interval: 2, evaluation_duration: 2, evaluation_num_env_runners: 0}\n"
        + "tune: {checkpoint_config: {checkpoint_frequency: 1, num_to_keep: 1}, metric: training_iteration, mode: min}"
    )
    done = call_cli("train", "tiny.yaml", "--episodes", 0, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    run = tmp_path / "results" / "tiny"
    assert "evaluated" in done.stdout
    assert training_progress(run / "best_checkpoint")["training_iteration"] == 1
    assert training_progress(run / "checkpoint")["training_iteration"] == 5
    check_complete(run / "best_checkpoint")
