"""The benchmark of clipping and combining gradients runs, and divides the right numbers."""

from __future__ import annotations

from pathlib import Path

from benchmark_runs import run_benchmark

from rllib_multienv.learners.combine import COMBINERS


def test_the_table_has_times_and_their_ratio(tmp_path: Path) -> None:
    output = tmp_path / "table.md"
    run_benchmark("combiners", "--output", output, cwd=tmp_path)
    rows = [line.split("|")[1:3] for line in output.read_text().splitlines() if line.startswith("| ")][1:]
    assert [name.strip() for name, _ in rows][:2] == ["weighted_sum", "pcgrad"] and len(rows) == len(COMBINERS) + 3
    (_, plain), *others = rows
    for _, cell in others:
        time, times = cell.strip().split(", ")
        median, _, spread = times.partition(" ")
        low, high = (float(part) for part in spread.strip("()").split(" to "))
        assert 0 < low <= float(median) <= high
        assert low * 0.9 <= float(time) / float(plain) <= high * 1.1  # medians of two rounds
