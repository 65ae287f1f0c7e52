"""`progress.csv` has a column for every metric, also late ones, and no iteration twice after a resume."""

from __future__ import annotations

import math
from pathlib import Path

from rllib_multienv.evaluation.progress import ProgressWriter, flatten_result, in_order, read_progress
from rllib_multienv.metrics import keys_of


def test_nested_results_become_columns() -> None:
    result = {
        "training_iteration": 1,
        "env_runners": {"module_episode_return_mean": {"CartPole-v1": 20}},
        "config": {"lr": 1},
        "date": "today",
        "done": False,
        "list": [1, 2],
    }
    assert flatten_result(result) == {
        "training_iteration": 1.0,
        "env_runners/module_episode_return_mean/CartPole-v1": 20.0,
    }


def test_environments_stand_in_the_order_that_is_asked_for() -> None:
    steps = "env_runners/num_module_steps_sampled_lifetime/"
    row = in_order({"training_iteration": 1.0, steps + "a": 2.0, steps + "b": 3.0}, ["b", "missing", "a"])
    assert keys_of(row).env_ids(row) == ["b", "a"]
    assert row == {"training_iteration": 1.0, steps + "a": 2.0, steps + "b": 3.0}


def test_a_metric_that_comes_late_gets_its_column(tmp_path: Path) -> None:
    writer = ProgressWriter(tmp_path / "progress.csv")
    writer.write({"training_iteration": 1, "a": 1.0})
    writer.write({"training_iteration": 2, "a": 2.0, "late": 5.0})
    writer.write({"training_iteration": 3, "late": 6.0})
    assert read_progress(tmp_path / "progress.csv") == [
        {"training_iteration": 1, "a": 1.0},
        {"training_iteration": 2, "a": 2.0, "late": 5.0},
        {"training_iteration": 3, "late": 6.0},
    ]


def test_values_keep_their_precision(tmp_path: Path) -> None:
    ProgressWriter(tmp_path / "progress.csv").write({"training_iteration": 1, "x": math.pi * 1e-9})
    assert read_progress(tmp_path / "progress.csv")[0]["x"] == math.pi * 1e-9


def test_nan_is_read_as_missing(tmp_path: Path) -> None:
    ProgressWriter(tmp_path / "progress.csv").write({"training_iteration": 1, "x": math.nan})
    assert read_progress(tmp_path / "progress.csv") == [{"training_iteration": 1}]


def test_iterations_done_again_after_a_resume_replace_the_old_ones(tmp_path: Path) -> None:
    path = tmp_path / "progress.csv"
    first = ProgressWriter(path)
    for iteration in (1, 2, 3, 4):
        first.write({"training_iteration": iteration, "x": 0.0})
    resumed = ProgressWriter(path)
    for iteration in (3, 4, 5):
        resumed.write({"training_iteration": iteration, "x": 1.0})
    rows = read_progress(path)
    assert [row["training_iteration"] for row in rows] == [1, 2, 3, 4, 5]
    assert [row["x"] for row in rows] == [0, 0, 1, 1, 1]


def test_iterations_done_again_after_a_failure_replace_the_old_ones(tmp_path: Path) -> None:
    writer = ProgressWriter(tmp_path / "progress.csv")
    for x, iteration in enumerate((1, 2, 3, 4, 3, 4, 5)):
        writer.write({"training_iteration": iteration, "x": float(x)})
    assert [(row["training_iteration"], row["x"]) for row in read_progress(tmp_path / "progress.csv")] == [
        (1, 0), (2, 1), (3, 4), (4, 5), (5, 6)
    ]  # fmt: skip
