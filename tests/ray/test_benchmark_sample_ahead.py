"""The benchmark of sampling ahead gives both rates, their ratio, and the most that the stages leave to win."""

from __future__ import annotations

import time
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
from benchmark_runs import benchmark_module, run_benchmark


@pytest.fixture
def sample_ahead(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    return benchmark_module("sample_ahead", monkeypatch)


def numbers(text: str) -> list[str]:
    row = [line for line in text.splitlines() if line.startswith("| ")][-1]
    return [cell.strip() for cell in row.strip("| ").split("|")]


@pytest.mark.usefixtures("programs_on_the_cluster")
def test_the_table_has_both_rates_and_their_ratio(tmp_path: Path) -> None:
    output = tmp_path / "table.md"
    run_benchmark("sample_ahead", "--output", output, cwd=tmp_path)
    in_turn, ahead, gain, *stages, most = numbers(output.read_text())
    assert all(float(cell.replace(",", "")) > 0 for cell in (in_turn, ahead, *stages))
    low, high = map(float, gain.split("(")[1].rstrip(")").split(" to "))
    assert 0 < low <= float(gain.split("(")[0]) <= high
    assert 1 <= float(most) <= 2


def test_what_can_be_won_is_the_shorter_stage(sample_ahead: ModuleType) -> None:
    found = {
        name: sample_ahead.Timing((seconds,), (seconds,), 1)
        for name, seconds in ((sample_ahead.IN_TURN, 4.0), (sample_ahead.AHEAD, 3.2))
    }
    assert numbers(sample_ahead.table(found, 8000, 1.0, 3.0)) == [
        "2,000",
        "2,500",
        "1.25 (1.25 to 1.25)",
        "1",
        "3",
        "1.33",
    ]


def test_stages_are_timed_one_by_one_without_the_first_turn(sample_ahead: ModuleType) -> None:
    class Algo:
        """Samples for 0.2 seconds in the first turn, and shorter than it learns in the second."""

        def __init__(self) -> None:
            pauses = iter([0.2, 0.2, 0.01, 0.01])
            self._sampling = SimpleNamespace(round=lambda: time.sleep(next(pauses)))
            self.learner_group = SimpleNamespace(update=lambda: time.sleep(0.04))

        def train(self) -> None:
            self._sampling.round()
            self.learner_group.update()

    turns = sample_ahead.Turns(Algo(), 2)
    turns()
    turns()
    sampling, update = turns.seconds()
    assert 0.01 <= sampling < 0.04 <= update
