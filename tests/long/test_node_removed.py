"""A node that is lost with its runner, and another one that comes: training goes on, the runner comes back."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_node_removed_and_added(tmp_path: Path) -> None:
    """In a process of its own: a driver has one Ray."""
    found = tmp_path / "rows.json"
    done = subprocess.run(
        [sys.executable, ROOT / "benchmarks/reliability/remove_nodes.py", "--removals", "1", "--json", found],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout
    (row,) = json.loads(found.read_text())
    assert row["others_went_on"]
    assert row["fragments_lost"] > 0
    assert row["sampled"] == row["trained"] + row["lost"] > 0
    assert "The fragments of env runner" in row["log"] and "are back" in row["log"]
    assert "Stop criterion of 25000 env steps reached" in done.stdout and "steps add up" in done.stdout
