"""The result of a search: drawn values, scores, the best trial and a file that trains it again."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from rllib_multienv.cli.display import TrialStatus, best_trial, trial_table
from rllib_multienv.config_files import load_config_file
from rllib_multienv.config_files.file import ConfigFile
from rllib_multienv.config_files.stopping import StopCriteria
from rllib_multienv.runs.search import Metric, drawn_values, with_values

SEARCH = """\
environment: {envs: [A-v0, {id: b, make: A-v0, kwargs: {g: !choice [1, 2]}}]}
rl_module: {model_config: {type: agnostic, d_model: !choice [8, 16]}}
training: {actor_lr: !loguniform [1.0e-4, 1.0e-3], gamma: 0.9}
tune: {num_samples: 4, metric: env_runners/x, mode: max, checkpoint_config: {num_to_keep: 1}}
"""


@pytest.fixture
def file(tmp_path: Path) -> ConfigFile:
    (tmp_path / "lr.yaml").write_text(SEARCH)
    return load_config_file(tmp_path / "lr.yaml")


CONFIG = {  # as RLlib has it
    "envs": ["A-v0", {"id": "b", "make": "A-v0", "kwargs": {"g": 2}}],
    "_model_config": {"type": "agnostic", "d_model": 16},
    "actor_lr": np.float64(3e-4),
    "gamma": 0.9,
}
VALUES = {"environment.envs.1.kwargs.g": 2, "rl_module.model_config.d_model": 16, "training.actor_lr": 3e-4}


def test_drawn_values_have_the_names_of_the_file(file: ConfigFile) -> None:
    values = drawn_values(file, CONFIG)
    assert values == VALUES
    assert type(values["training.actor_lr"]) is float


def test_the_best_file_is_one_trial_with_the_drawn_values(file: ConfigFile, tmp_path: Path) -> None:
    (tmp_path / "best.yaml").write_text(with_values(file, VALUES).dump())
    best = load_config_file(tmp_path / "best.yaml")
    assert best.single and best.name == "lr-best"
    assert best.methods["training"] == {"actor_lr": 3e-4, "gamma": 0.9}
    assert best.methods["environment"]["envs"][1]["kwargs"] == {"g": 2}
    assert best.tune == {"checkpoint_config": {"num_to_keep": 1}}


def trial(name: str, *rows: dict[str, float], **params: object) -> TrialStatus:
    status = TrialStatus(name, StopCriteria(), params=params)
    for iteration, row in enumerate(rows, start=1):
        returns = {f"env_runners/module_episode_return_mean/{env_id}": value for env_id, value in row.items()}
        status.update({"training_iteration": iteration, **returns, "loss": sum(row.values())})
    return status


def test_without_a_metric_every_environment_counts_by_its_range_in_the_run() -> None:
    # Pole gains half of its range, walker loses a tenth of its own, which is more in plain numbers.
    one = trial("one", {"pole": 0, "walker": 0}, {"pole": 100, "walker": 1000})
    two = trial("two", {"pole": 200, "walker": 0}, {"pole": 200, "walker": 900})
    best, values = best_trial([one, two], Metric())
    assert best is two
    assert values == {"one": pytest.approx((0.5 + 1.0) / 2), "two": pytest.approx((1.0 + 0.9) / 2)}


@pytest.mark.parametrize(("mode", "best"), [("max", "one"), ("min", "two")])
def test_the_metric_of_the_file_decides(mode: str, best: str) -> None:
    trials = [trial("one", {"a": 5}), trial("two", {"a": 1}), trial("three")]
    found, values = best_trial(trials, Metric("loss", mode))
    assert found is not None and found.name == best
    assert values == {"one": 5, "two": 1, "three": None}


def test_returns_of_an_evaluation_take_the_place_of_those_of_training() -> None:
    status = trial("one", {"a": 5, "b": 6})
    both = {"env_runners/module_episode_return_mean/a": 7.0, "evaluation/env_runners/module_episode_return_mean/a": 2.0}
    status.update(both)
    assert status.evaluated and status.returns == {"a": 2.0}
    assert status.ranges == {"a": (2.0, 2.0)}


def test_the_table_has_the_drawn_values_and_marks_the_best() -> None:
    console = Console(file=io.StringIO(), width=120)
    params = {"training.actor_lr": 3e-4, "a.size": 8, "b.size": 16}
    console.print(trial_table([trial("two", {"a": 5}, **params), trial("one", {"a": 1}, **params)], Metric("loss")))
    heading, _, one, two, note = [line.split() for line in console.file.getvalue().splitlines() if line.strip()]  # type: ignore[attr-defined]
    assert heading == ["trial", "iteration", "actor_lr", "a.size", "b.size", "loss", "a"]
    assert one == ["one", "1", "3.0e-04", "8", "16", "1.00", "1.00"]
    assert two == ["two", "*", "1", "3.0e-04", "8", "16", "5.00", "5.00"]
    assert " ".join(note) == "* best by loss (max)"
