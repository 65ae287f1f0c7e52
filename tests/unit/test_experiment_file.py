"""What an experiment file may hold, and what it is told where it is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest
from experiment_files import TINY, loaded

from rllib_multienv.config_files.errors import ConfigFileError
from rllib_multienv.experiments.file import load_experiment_file


def test_variants_take_over_what_they_are_an_ablation_of(tmp_path: Path) -> None:
    experiment = loaded(tmp_path)
    assert (experiment.name, experiment.title, experiment.seeds) == ("tiny", "A tiny experiment", (0, 1))
    settings = experiment.settings_of(experiment.variants["plain"])
    network = {"type": "agnostic", "d_model": 8, "d_state": 4, "num_transformer_layers": 1}
    assert settings == {"rl_module": {"model_config": network}}
    assert "num_transformer_layers" not in str(experiment.settings_of(experiment.variants["agnostic"]))
    assert [v.title for v in experiment.variants.values()] == ["Agnostic", "plain", "single"]


def test_variants_take_part_in_their_phases(tmp_path: Path) -> None:
    experiment = loaded(tmp_path)
    taking_part = {name: [v.name for v in experiment.variants_of(p)] for name, p in experiment.phases.items()}
    assert taking_part == {"pretrain": ["agnostic", "plain"], "transfer": ["agnostic"], "alone": ["single"]}


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
        ("  plain:\n", "  pl ain:\n", r"'pl ain' cannot be the name of a folder"),
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
