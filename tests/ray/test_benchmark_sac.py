"""The benchmark of SAC's updates runs and divides the right numbers."""

from __future__ import annotations

from pathlib import Path

from benchmark_runs import run_benchmark


def test_the_table_has_rates_of_the_loop_and_of_updates_alone(tmp_path: Path) -> None:
    output = tmp_path / "table.md"
    run_benchmark("sac", "--output", output, cwd=tmp_path)
    rows = [line.split("|")[1:-1] for line in output.read_text().splitlines() if line.startswith("| ours")]
    assert [row[0].strip() for row in rows] == ["ours, loop", "ours, updates"]
    for _, median, spread, cpu, ratio in rows:
        low, high = (float(part) for part in spread.split(" to "))
        assert 0 < low <= float(median) <= high and float(cpu) > 0 and ratio.strip() == "1.00 / 1.00"
