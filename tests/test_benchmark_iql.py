"""The benchmark of IQL's updates runs and divides the right numbers."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from cli_helpers import ROOT, environment


def test_the_table_has_rates_and_ratios(tmp_path: Path) -> None:
    output = tmp_path / "table.md"
    done = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks" / "iql.py"), "--short", "--without-rllib", "--output", str(output)],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    rows = [line.split("|")[1:-1] for line in output.read_text().splitlines() if line.startswith("| rllib_multienv")]
    ((_, median, spread, ratio),) = rows
    low, high = (float(part) for part in spread.split(" to "))
    assert 0 < low <= float(median) <= high and float(ratio) == 1.0
