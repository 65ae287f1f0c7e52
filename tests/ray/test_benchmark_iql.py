"""The benchmark of IQL's updates runs and divides the right numbers."""

from __future__ import annotations

from pathlib import Path

from benchmark_runs import run_benchmark


def test_the_table_has_rates_and_ratios(tmp_path: Path) -> None:
    output = tmp_path / "table.md"
    run_benchmark("iql", "--without-rllib", "--output", output, cwd=tmp_path)
    rows = [line.split("|")[1:-1] for line in output.read_text().splitlines() if line.startswith("| rllib_multienv")]
    ((_, median, spread, ratio),) = rows
    low, high = (float(part) for part in spread.split(" to "))
    assert 0 < low <= float(median) <= high and float(ratio) == 1.0
