"""The numbers of an evaluation."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from rllib_multienv.evaluation.table import EvaluationRow, write_evaluation


def test_the_file_has_one_line_per_environment(tmp_path: Path) -> None:
    rows = [EvaluationRow.of("A", [(1.0, 10), (3.0, 20)]), EvaluationRow.of("B", [(-2.5, 3)])]
    with open(write_evaluation(rows, tmp_path / "evaluation.csv"), newline="") as file:
        lines = list(csv.reader(file))
    assert lines == [
        ["env_id", "episodes", "mean", "std", "min", "max", "mean_length"],
        ["A", "2", "2.0", "1.0", "1.0", "3.0", "15.0"],
        ["B", "1", "-2.5", "0.0", "-2.5", "-2.5", "3.0"],
    ]


def test_no_episode_is_an_error() -> None:
    with pytest.raises(ValueError, match="A: 0 returns"):
        EvaluationRow.of("A", [])
