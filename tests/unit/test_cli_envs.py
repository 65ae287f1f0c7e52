"""`multienv envs` lists what can be trained on."""

from __future__ import annotations

from pathlib import Path

from cli_helpers import invoke_cli


def test_it_lists_sizes_and_action_kinds(tmp_path: Path) -> None:
    done = invoke_cli("envs", cwd=tmp_path)
    assert done.exit_code == 0, done.stderr
    lines = {line.split()[0]: line.split()[1:] for line in done.stdout.splitlines() if line.strip()}
    assert lines["CartPole-v1"] == ["4", "2", "discrete", "500"]
    assert lines["Pendulum-v1"] == ["3", "1", "continuous", "200"]


def test_a_pattern_chooses(tmp_path: Path) -> None:
    done = invoke_cli("envs", "cart*v1", cwd=tmp_path)
    assert "CartPole-v1" in done.stdout
    assert "1 environments" in done.stdout


def test_no_match_offers_what_is_near(tmp_path: Path) -> None:
    done = invoke_cli("envs", "CartPolle", cwd=tmp_path)
    assert done.exit_code == 1
    assert "CartPole-v1" in done.stderr
