"""The scaling benchmark's short run: every row is there, and its ratios are those of its numbers."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LEARNERS = (
    "1 learner, 1 thread",
    "1 learner, 2 threads",
    "2 learners",
    "2 learners, all-reduce in buckets during backward",
    "2 learners, no all-reduce",
    "2 learners, no all-reduce, each with all rows",
)
ITERATIONS = ("1 learner, 1 env runner", "2 learners, 2 env runners")
STAGES = (
    "forward and losses",
    "backward",
    "waiting for the other learner",
    "all-reduce",
    "clipping and optimiser",
    "outside of steps (fetching, values, advantages, minibatches)",
    "together",
)


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """The cells of every table row, by the row's name."""
    output = tmp_path_factory.mktemp("scaling") / "new" / "scaling.md"
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    done = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks" / "scaling.py"), "--short", "--output", str(output)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    text = output.read_text()
    assert done.stdout == text
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:1] == "|"]
    return {name: values for name, *values in cells}


def test_every_rate_is_there_and_every_ratio_is_that_of_the_rates(rows: dict[str, list[str]]) -> None:
    for table in (LEARNERS, ITERATIONS):
        base = float(rows[table[0]][0])
        for name in table:
            median, spread, ratio, *_ = rows[name]
            low, high = map(float, spread.split(" to "))
            assert 0 < low <= float(median) <= high < math.inf, name
            assert abs(float(ratio) - float(median) / base) < 0.0051, name
    for name in ITERATIONS:
        assert 0 < int(rows[name][3].removesuffix("%")) < 100


def test_stages_make_up_a_step(rows: dict[str, list[str]]) -> None:
    stages = {name: [float(cell) for cell in rows[name]] for name in STAGES}
    for column, numbers in enumerate(zip(*stages.values(), strict=True)):
        *parts, together = numbers
        assert abs(sum(parts) - together) < 0.01 * len(parts)
        for name, number in zip(STAGES, numbers, strict=True):
            communicates = name in ("waiting for the other learner", "all-reduce")
            alone = column in (0, 2)
            assert number == 0 if communicates and alone else 0 <= number < math.inf, name
    assert all(stages["together"])
    assert stages["all-reduce"][1] > 0
