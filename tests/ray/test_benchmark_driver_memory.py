"""The benchmark of the driver's memory: a line for each number of environments, the same network in all."""

from __future__ import annotations

import mmap
from pathlib import Path
from types import ModuleType

import pytest
from benchmark_runs import benchmark_module, run_benchmark


@pytest.fixture
def driver_memory(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    return benchmark_module("driver_memory", monkeypatch)


def cells(lines: list[str]) -> list[list[str]]:
    return [[cell.strip() for cell in line.strip("| ").split("|")] for line in lines if line.startswith("| ")][1:]


@pytest.mark.usefixtures("programs_on_the_cluster")
def test_each_process_is_measured(tmp_path: Path) -> None:
    output = tmp_path / "table.md"
    run_benchmark("driver_memory", "--output", output, cwd=tmp_path)
    (row,) = cells(output.read_text().splitlines())
    assert row[0] == "4"
    assert all(float(row[place]) > 50 for place in (1, 3, 5))  # Python, PyTorch and Ray take so much at least
    assert [row[place] for place in (2, 4, 6)] == ["+0.0"] * 3


def test_more_is_above_the_fewest_environments(driver_memory: ModuleType) -> None:
    mib = driver_memory.MIB
    found = {
        16: {"driver": 110 * mib, "runner": 200 * mib, "learner": 290 * mib, "parameters": 1000},
        4: {"driver": 100 * mib, "runner": 200 * mib, "learner": 300 * mib, "parameters": 1000},
    }
    assert cells(driver_memory.table(found)) == [
        ["16", "110.0", "+10.0", "200.0", "+0.0", "290.0", "-10.0", "1,000"],
        ["4", "100.0", "+0.0", "200.0", "+0.0", "300.0", "+0.0", "1,000"],
    ]


def test_memory_that_a_process_takes_is_counted(driver_memory: ModuleType) -> None:
    size = 64 << 20
    before = driver_memory.own_memory()
    # Pages from the system itself: an array may lie in memory that the process kept of arrays freed before.
    with mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as taken:
        for page in range(0, size, mmap.PAGESIZE):
            taken[page] = 1
        assert driver_memory.own_memory() - before == pytest.approx(size, rel=0.05)


def test_the_environments_have_the_sizes(driver_memory: ModuleType) -> None:
    for sizes in driver_memory.synthetic(16):
        env = driver_memory.Noise(**driver_memory.spec_of(sizes).kwargs)
        obs, _ = env.reset(seed=0)
        assert obs.shape == (sizes.obs_size,) and env.observation_space.contains(obs)
        assert (env.action_space.n if sizes.discrete else env.action_space.shape[0]) == sizes.action_size
        ends = [env.step(env.action_space.sample())[2:4] for _ in range(50)]
        assert ends == [(False, False)] * 49 + [(False, True)]
