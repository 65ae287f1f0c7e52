"""`multienv adapt`: table, CSV and figure of an agent's adaptation."""

from __future__ import annotations

import csv
from pathlib import Path

from cli_helpers import invoke_cli
from untrained_agent import save_untrained


def test_the_families_of_the_training_are_adapted_to(tmp_path: Path) -> None:
    save_untrained(tmp_path / "agent", ["CartPole-v1", "multienv/GridNavi-v0"])
    options = ("--tasks", 3, "--episodes", 2, "--csv", "tasks.csv", "--plot", "figure.png")
    done = invoke_cli("adapt", "agent", *options, cwd=tmp_path)
    assert done.exit_code == 0, done.stderr
    assert "multienv-GridNavi" in done.stdout and "CartPole" not in done.stdout
    assert "oracle" in done.stdout and " all " in done.stdout
    assert "This agent has no memory" in done.stdout
    with open(tmp_path / "tasks.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 3 and {row["split"] for row in rows} == {"test"}
    assert (tmp_path / "figure.png").stat().st_size > 1000


def test_an_agent_without_families_is_told_how_to_name_one(tmp_path: Path) -> None:
    save_untrained(tmp_path / "agent", ["CartPole-v1"])
    done = invoke_cli("adapt", "agent", cwd=tmp_path)
    assert done.exit_code == 1 and "no task family" in done.stderr and "--env" in done.stderr


def test_a_new_family_may_be_named(tmp_path: Path) -> None:
    save_untrained(tmp_path / "agent", ["CartPole-v1"])
    done = invoke_cli(
        "adapt", "agent", "--env", "grid=multienv/GridNavi-v0", "--tasks", 2, "--split", "train", cwd=tmp_path
    )
    assert done.exit_code == 0, done.stderr
    assert "2 train tasks" in done.stdout
    done = invoke_cli("adapt", "agent", "--env", "grd", cwd=tmp_path)
    assert done.exit_code == 1 and "'grd'" in done.stderr and "This agent knows CartPole-v1." in done.stderr
