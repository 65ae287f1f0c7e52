"""The runs of an experiment, and the configuration of each."""

from __future__ import annotations

from pathlib import Path

import pytest
from cli_helpers import ROOT
from experiment_files import TINY, loaded

from rllib_multienv.config_files.errors import ConfigFileError
from rllib_multienv.experiments.file import load_experiment_file
from rllib_multienv.experiments.plan import check_runs, plan, selected


def test_one_run_for_each_phase_variant_and_seed(tmp_path: Path) -> None:
    runs = plan(loaded(tmp_path))
    assert [run.name for run in runs if run.seed == 1] == [
        "pretrain/agnostic/seed1",
        "pretrain/plain/seed1",
        "transfer/agnostic/seed1",
        "alone/single/CartPole-v1/seed1",
        "alone/single/Pendulum-v1/seed1",
    ]
    assert len({run.name for run in runs}) == len(runs) == 10
    by_name = {run.name: run for run in runs}
    assert by_name["transfer/agnostic/seed1"].start is by_name["pretrain/agnostic/seed1"]


def test_configurations_are_base_then_phase_then_variant_then_seed(tmp_path: Path) -> None:
    text = TINY.replace("steps_per_environment: 256", "steps_per_environment: 256\n    training: {num_epochs: 3}", 1)
    text = text.replace("ablation_of: agnostic", "ablation_of: agnostic\n    training: {num_epochs: 5}", 1)
    trees = {run.name: run.file.tree for run in plan(loaded(tmp_path, text))}
    assert trees["pretrain/agnostic/seed1"]["training"] == {
        "num_epochs": 3,
        "num_minibatches": 1,
        "lr_anneal_steps": 512,
    }
    assert trees["pretrain/plain/seed0"]["training"]["num_epochs"] == 5
    assert trees["transfer/agnostic/seed0"]["training"]["num_epochs"] == 1
    assert trees["transfer/agnostic/seed1"]["debugging"] == {"seed": 1}


def test_steps_are_those_of_all_environments_together(tmp_path: Path) -> None:
    steps = {run.name: run.file.stop.any_of for run in plan(loaded(tmp_path))}
    key = "num_env_steps_sampled_lifetime"
    assert steps["pretrain/agnostic/seed0"] == {key: 512}
    assert steps["transfer/agnostic/seed0"] == {key: 256}
    # One copy instead of two makes half of the steps.
    assert steps["alone/single/Pendulum-v1/seed0"] == {key: 128}


def test_progress_is_a_part_of_the_steps(tmp_path: Path) -> None:
    run = plan(loaded(tmp_path))[0]
    assert run.progress({"num_env_steps_sampled_lifetime": 128.0}) == 0.25
    assert run.progress({"num_env_steps_sampled_lifetime": 5000.0}) == 1.0
    assert run.progress({}) == 0.0


def test_selected_runs_bring_those_that_they_start_from(tmp_path: Path) -> None:
    runs = plan(loaded(tmp_path))
    assert [r.name for r in selected(runs, ["transfer/agnostic/seed1"])] == [
        "pretrain/agnostic/seed1",
        "transfer/agnostic/seed1",
    ]
    assert [r.name for r in selected(runs, ["alone/*/Pendulum-v1"])] == [
        "alone/single/Pendulum-v1/seed0",
        "alone/single/Pendulum-v1/seed1",
    ]
    assert selected(runs, []) == runs
    with pytest.raises(ValueError, match="is meant by 'transfer/single'"):
        selected(runs, ["transfer/single"])


def test_anneal_needs_a_length(tmp_path: Path) -> None:
    text = TINY.replace("    steps_per_environment: 256\n", "", 1)
    with pytest.raises(ConfigFileError, match="how long the runs of 'pretrain' are"):
        plan(loaded(tmp_path, text))


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
