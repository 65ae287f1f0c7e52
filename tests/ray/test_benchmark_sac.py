"""The benchmark of SAC's updates runs and divides the right numbers."""

from __future__ import annotations

from pathlib import Path

from benchmark_runs import run_benchmark


def test_the_table_has_rates_and_ratios(tmp_path: Path) -> None:
    output = tmp_path / "table.md"
    run_benchmark("sac", "--hidden", 8, "--output", output, cwd=tmp_path)
    rows = [line.split("|")[1:-1] for line in output.read_text().splitlines() if line.startswith("| ours")]
    ((name, median, spread, cpu, ratio),) = rows
    low, high = (float(part) for part in spread.split(" to "))
    assert name.strip() == "ours, loop" and ratio.strip() == "1.00 / 1.00"
    assert 0 < low <= float(median) <= high and float(cpu) > 0
