"""The numbers of an evaluation."""

from __future__ import annotations

import csv
from pathlib import Path

from rllib_multienv.evaluation.table import EvaluationResult, write_evaluation


def test_the_row_sums_up_the_episodes() -> None:
    row = EvaluationResult("A", [(1.0, 10), (3.0, 20)])
    assert (row.mean, row.std, row.min, row.max, row.mean_length) == (2.0, 1.0, 1.0, 3.0, 15.0)
    assert row == [(1.0, 10), (3.0, 20)] and row.returns == [1.0, 3.0] and row.lengths == [10, 20]
    assert repr(row) == "EvaluationResult('A', mean=2, std=1, episodes=2)"


def test_the_file_has_one_line_per_environment(tmp_path: Path) -> None:
    rows = [EvaluationResult("A", [(1.0, 10)]), EvaluationResult("B", [(-2.5, 3), (-1.5, 3)])]
    with open(write_evaluation(rows, tmp_path / "evaluation.csv"), newline="") as file:
        a, b = csv.DictReader(file)
    assert (a["env_id"], float(a["mean"]), int(a["episodes"])) == ("A", 1.0, 1)
    assert (b["env_id"], float(b["mean"]), float(b["std"])) == ("B", -2.0, 0.5)
