"""The benchmark of sampling runs, and its parts make up the whole."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest
from benchmark_runs import run_benchmark
from cli_helpers import ROOT

sys.path.append(str(ROOT / "benchmarks"))
from sampling import ENVIRONMENT, PARTS, ROLLOUT, TO_MODULE, TimedRunner, Watches, share

from rllib_multienv import EnvSpec, MLPNetConfig


def test_a_watch_leaves_out_what_another_one_counts() -> None:
    watches = Watches()
    inner = watches.around(TO_MODULE, lambda: time.sleep(0.05))
    outer = watches.around(ROLLOUT, lambda: (time.sleep(0.01), inner(), inner()))
    start = time.perf_counter()
    outer()
    whole = time.perf_counter() - start
    seconds = watches.take()
    assert seconds[TO_MODULE] >= 0.1
    assert seconds[ROLLOUT] >= 0.01
    assert sum(seconds.values()) <= whole
    assert not any(watches.take().values())


def test_time_is_counted_for_the_part_that_took_it() -> None:
    timed = TimedRunner(EnvSpec("CartPole-v1", backend="sync"), MLPNetConfig(hidden=(8,)), copies=2, length=8)
    (owned,) = timed.runner.environments.values()
    quick = owned.copies.env.envs[0].step

    def slow(action):
        time.sleep(0.02)
        return quick(action)

    owned.copies.env.envs[0].step = slow
    assert timed.sample() == 16
    (fragment,) = timed.fragments
    assert fragment[ENVIRONMENT] >= 8 * 0.02
    assert all(fragment[part] > 0 for part in PARTS)
    assert sum(fragment[part] for part in PARTS) <= fragment["whole"]
    assert 0 < share(timed.fragments) <= 1 - fragment[ENVIRONMENT] / fragment["whole"]
    timed.runner.stop()


def test_the_share_is_what_is_neither_environment_nor_network() -> None:
    fragment = dict(zip(PARTS, (4.0, 2.0, 1.0, 0.5, 0.5), strict=True), whole=10.0)
    assert share([fragment, fragment]) == pytest.approx(0.3)


def test_the_tables_have_every_row(tmp_path: Path) -> None:
    output = tmp_path / "table.md"
    run_benchmark("sampling", "--envs", "CartPole-v1", "--output", output, cwd=tmp_path)
    rows = [line.strip("| ").split("|") for line in output.read_text().splitlines() if line.startswith("| CartPole-v1")]
    *parts, backends = rows
    assert {(row[1].strip(), row[2].strip()) for row in parts} >= {
        ("agnostic, d_model 32", "sync"),
        ("MLP 64x64", "sync"),
    }
    assert len(backends) == 5
    for cell in backends[1:3]:
        median, spread = cell.replace(",", "").replace(")", "").split("(")
        low, high = map(float, spread.split(" to "))
        assert 0 < low <= float(median) <= high
    assert backends[-1].strip() in ("sync", "envpool")
