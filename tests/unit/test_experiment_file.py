"""Experiment files, their runs, and errors in them."""

from __future__ import annotations

from pathlib import Path

import pytest
from experiment_files import TINY, loaded

from rllib_multienv.config_files.yaml_text import ConfigFileError
from rllib_multienv.experiments.file import load_experiment_file
from rllib_multienv.experiments.plan import plan, selected


def test_phases_have_a_kind_and_variants_their_phases(tmp_path: Path) -> None:
    text = TINY.replace(
        "  alone:", "  scratch:\n    environment: {envs: [Acrobot-v1]}\n    steps_per_environment: 256\n  alone:"
    )
    experiment = loaded(tmp_path, text)
    info = experiment.info
    assert (info.name, info.title, info.seeds) == ("tiny", "A tiny experiment", (0, 1))
    assert {phase.name: phase.kind for phase in info.phases} == {
        "pretrain": "pretrain",
        "transfer": "transfer",
        "scratch": "scratch",
        "alone": "reference",
    }
    assert [variant.title for variant in info.variants] == ["Agnostic", "plain", "single"]
    members = {phase.name: [variant.name for variant in experiment.variants_of(phase)] for phase in info.phases}
    assert members == {"pretrain": ["agnostic", "plain"], "transfer": ["agnostic"], "scratch": [], "alone": ["single"]}


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("seeds:", "seed:", r"tiny.yaml:\d+: unknown key 'seed' in an experiment file; did you mean 'seeds'"),
        (
            "from: pretrain",
            "from: pretran",
            r"unknown phase 'pretran' in the phases before it; did you mean 'pretrain'",
        ),
        ("from: pretrain", "from: alone", r"unknown phase 'alone' in the phases before it"),
        ("ablation_of: agnostic", "ablation_of: single", r"unknown variant 'single' in the variants before it"),
        ("phases: [alone]", "phases: [alon]", r"unknown phase 'alon' in 'phases'; did you mean 'alone'"),
        ("phases: [alone]", "phases: [transfer]", r"'transfer' starts from 'pretrain', which 'single' does not take"),
        ("seeds: [0, 1]", "seeds: [0, 0]", r"'seeds' has one twice"),
        ("seeds: [0, 1]", "seeds: [zero]", r"'seeds' takes whole numbers"),
        ("steps_per_environment: 256", "steps_per_environment: 0", r"takes a whole number of at least 1, not 0"),
        ("one_by_one: true", "one_by_one: 1", r"'one_by_one' takes true or false"),
        ("environment: {envs: [Acrobot-v1]}", "debugging: {}", r"the phase 'transfer' has no environment.envs"),
        ("envs: [Acrobot-v1]", "envs: [3]", r"tiny.yaml:\d+: "),
        ("  plain:\n", "  pl ain:\n", r"'pl ain' cannot be the name of a folder"),
        ("from: pretrain\n", "adaptation: {tasks: 3}\n    from: pretrain\n", r"unknown key 'tasks' in adaptation"),
        ("from: pretrain\n", "adaptation: {episodes: 0}\n    from: pretrain\n", r"tiny.yaml:\d+: episodes=0: must be"),
        ("base:\n", "base: 3\nbase_:\n", r"unknown key 'base_'"),
    ],
)
def test_mistakes_are_named_with_their_line(tmp_path: Path, before: str, after: str, message: str) -> None:
    assert before in TINY
    with pytest.raises(ConfigFileError, match=message):
        loaded(tmp_path, TINY.replace(before, after))


@pytest.mark.parametrize("missing", ["variants", "phases"])
def test_an_experiment_needs_variants_and_phases(tmp_path: Path, missing: str) -> None:
    start = TINY.index(f"\n{missing}:") + 1
    stop = TINY.index("\nphases:" if missing == "variants" else "\nseeds:")
    with pytest.raises(ConfigFileError, match=f"the experiment has no {missing}"):
        loaded(tmp_path, TINY[:start] + TINY[stop:])


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigFileError, match=r"nothing.yaml: cannot be read"):
        load_experiment_file(tmp_path / "nothing.yaml")


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
    assert by_name["pretrain/plain/seed1"].start is None


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
    # An ablation has the settings of its base, with its own changes.
    networks = {name: trees[f"pretrain/{name}/seed0"]["rl_module"]["model_config"] for name in ("agnostic", "plain")}
    assert networks["plain"] == {**networks["agnostic"], "num_transformer_layers": 1}


def test_steps_are_those_of_all_environments_together(tmp_path: Path) -> None:
    steps = {run.name: run.file.stop.any_of for run in plan(loaded(tmp_path))}
    key = "num_env_steps_sampled_lifetime"
    assert steps["pretrain/agnostic/seed0"] == {key: 512}
    assert steps["transfer/agnostic/seed0"] == {key: 256}
    # One copy instead of two makes half of the steps.
    assert steps["alone/single/Pendulum-v1/seed0"] == {key: 128}


def test_progress_is_a_part_of_the_steps(tmp_path: Path) -> None:
    run = plan(loaded(tmp_path), tmp_path)[0]
    assert run.progress == 0.0
    run.folder.path.mkdir(parents=True)
    for steps, part in ((128, 0.25), (5000, 1.0)):
        run.folder.progress.write_text(f"num_env_steps_sampled_lifetime\n{steps}\n")
        assert run.progress == part


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
    with pytest.raises(ValueError, match="'transfer/single'; its variants in transfer are agnostic"):
        selected(runs, ["transfer/single"])


def test_anneal_needs_a_length(tmp_path: Path) -> None:
    text = TINY.replace("    steps_per_environment: 256\n", "", 1)
    with pytest.raises(ConfigFileError, match="the length of the runs of 'pretrain'"):
        plan(loaded(tmp_path, text))
