"""The benchmark of fitting runs, and networks do fit."""

from __future__ import annotations

from pathlib import Path

from benchmark_runs import run_benchmark


def test_errors_fall(tmp_path: Path) -> None:
    output = tmp_path / "table.md"
    run_benchmark("fitting", "--output", output, cwd=tmp_path)
    rows = [line.strip("| ").split(" | ") for line in output.read_text().splitlines() if " / " in line]
    assert [row[0] for row in rows] == ["specific, width 64", "agnostic, d_model 32, 32 codes"]
    for row in rows:
        first, *_, last = (tuple(map(float, cell.split(" / "))) for cell in row[2:5])
        assert 0.0 < last[0] < first[0]
        assert 0.0 < last[1] < first[1]
