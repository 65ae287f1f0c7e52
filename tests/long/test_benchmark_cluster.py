"""The benchmark of what passes through the driver runs, and finds what a run on two nodes does."""

from __future__ import annotations

from pathlib import Path

from benchmark_runs import run_benchmark


def test_the_table_has_traffic_copies_and_delay(tmp_path: Path) -> None:
    output = tmp_path / "table.md"
    run_benchmark("cluster", "--output", output, cwd=tmp_path)
    (row,) = (line.strip("| ").split(" | ") for line in output.read_text().splitlines() if line.startswith("| 8"))
    experience, received, sent, delay = (float(row[place].split()[0].replace(",", "")) for place in (1, 2, 3, 5))
    weights = float(output.read_text().split("weights of ")[1].split()[0])
    # 8 time steps of 8 copies of environments with 4, 6, 3 and 17 numbers in an observation, as float32
    assert experience > 8 * 8 * (4 + 6 + 3 + 17) * 4 / 1000
    # Weights pass through the driver once, whatever the number of runners (4); with four copies it would be more.
    assert weights < received < 4 * weights
    assert weights < sent < 4 * weights
    # Two nodes have runners, and the driver is on a third one.
    assert row[4] == "3"
    assert 0 < delay < 60_000
