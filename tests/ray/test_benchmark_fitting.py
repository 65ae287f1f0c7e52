"""The benchmark of fitting runs, and networks do fit."""

from __future__ import annotations

import pytest
from benchmark_runs import run_benchmark


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> list[list[list[str]]]:
    """The rows of both tables."""
    folder = tmp_path_factory.mktemp("fitting")
    run_benchmark("fitting", "--output", folder / "table.md", cwd=folder)
    _, *tables = (folder / "table.md").read_text().strip().split("\n\n")
    return [[line.strip("| ").split(" | ") for line in table.splitlines()[2:]] for table in tables]


def test_both_kinds_of_network_are_in_both_tables(tables: list[list[list[str]]]) -> None:
    assert [[row[0] for row in table] for table in tables] == [["specific, width 64", "agnostic, d_model 32"]] * 2


def test_errors_fall(tables: list[list[list[str]]]) -> None:
    for row in tables[0]:
        first, *_, last = (tuple(map(float, cell.split(" / "))) for cell in row[2:5])
        assert 0.0 < last[0] < first[0]
        assert 0.0 < last[1] < first[1]


def test_networks_follow_functions_that_move(tables: list[list[list[str]]]) -> None:
    for row in tables[1]:
        first, second = map(float, row[2:4])
        assert 0.0 < first < 0.5  # of one move
        assert 0.0 < second < 1.0  # of two
