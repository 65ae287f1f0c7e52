"""The benchmark of Atari runs, and compares like with like."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from benchmark_runs import run_benchmark


def test_the_runner_stands_beside_the_vector_environment(tmp_path: Path) -> None:
    pytest.importorskip("ale_py")
    text = run_benchmark("atari", cwd=tmp_path)
    rows = re.findall(r"^\| ([^|]+) \| ([\d,]+) \|$", text, re.MULTILINE)
    speeds = {name: float(value.replace(",", "")) for name, value in rows}
    assert speeds.keys() == {"ale-py", "runner", "own encoder"} and min(speeds.values()) > 0
    assert re.search(r"by CPU time: [\d.]+ \([\d.]+ to [\d.]+\)", text)
    share = float(text.rstrip(".\n").rpartition(" ")[2])
    assert 1.0 <= share < 1.3  # frames are stored once, as bytes
