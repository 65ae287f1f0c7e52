"""The benchmark of torch.compile compares the same work and says when compiling is won back."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest
import torch
from benchmark_runs import benchmark_module, run_benchmark

from rllib_multienv import AgnosticNetConfig


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    return benchmark_module("compiled", monkeypatch)


@pytest.mark.long
def test_the_table_has_both_times_and_their_ratio(tmp_path: Path) -> None:
    output = tmp_path / "table.md"
    run_benchmark("compiled", "--output", output, cwd=tmp_path)
    (row,) = [line.split("|")[1:-1] for line in output.read_text().splitlines() if line.startswith("| 8 ")]
    assert [cell.strip() for cell in row[1:3]] == ["17/6", "training step"]
    low, high = (float(part) for part in row[5].split("(")[1].rstrip(") ").split(" to "))
    assert 0 < low <= float(row[5].split("(")[0]) <= high
    assert float(row[6]) > 0


def test_both_compute_the_same_gradients(compiled: ModuleType) -> None:
    environments = compiled.SETS["17/6"]
    model = compiled.build(AgnosticNetConfig(d_model=8), environments)
    obs = compiled.observations(environments, 4)
    both = compiled.tasks(model, obs, what=compiled.TRAINING, backend="eager")
    found = {}
    for name, task in both.items():
        task()
        found[name] = [parameter.grad.clone() for parameter in model.parameters() if parameter.grad is not None]
    assert len(found["plain"]) > 10
    for plain, other in zip(found["plain"], found["compiled"], strict=True):
        torch.testing.assert_close(plain, other, rtol=1e-4, atol=1e-5)


def test_when_compiling_is_won_back(compiled: ModuleType) -> None:
    slow, fast = (compiled.Timing((seconds,), (seconds,), 1) for seconds in (0.5, 0.4))
    assert compiled.won_back(60.0, slow, fast) == "600 calls, 4 min"
    assert compiled.won_back(60.0, fast, slow) == "never"
    assert compiled.won_back(60.0, slow, slow) == "never"
