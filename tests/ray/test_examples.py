"""The programs in `examples/` run as they are."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
from cli_helpers import ROOT, environment
from warm_python import run_program

pytestmark = pytest.mark.usefixtures("programs_on_the_cluster")


def run_example(name: str, *arguments: str, cwd: Path) -> list[str]:
    """Run a program of `examples/` to its end, without noise of RLlib's; returns the lines that it printed."""
    done = run_program([ROOT / "examples" / name, *arguments], cwd=cwd, env=environment(), timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert not re.search("new API stack|has been deprecated|gputil", done.stdout + done.stderr)
    return done.stdout.splitlines()


def test_the_example_trains_saves_and_acts_in_all_its_environments(tmp_path: Path) -> None:
    lines = run_example("train_heterogeneous.py", "2", cwd=tmp_path)
    assert [line.split()[0] for line in lines[:2]] == ["1", "2"]
    assert "'CartPole-v1'" in lines[1]
    checkpoint = next(line.removeprefix("saved to ") for line in lines if line.startswith("saved to"))
    assert Path(checkpoint, "multienv.json").is_file()
    shown = {line.split(":")[0]: float(line.split(":")[1]) for line in lines if line[-1].isdigit() and "-v" in line}
    assert 0 < shown["CartPole-v1"] <= 500 and -500 <= shown["Acrobot-v1"] < 0
    assert 0 < shown["InvertedPendulum-v4"] <= 1000 and -100 < shown["Reacher-v4"] < 0


def test_what_was_learned_offline_goes_on_online(tmp_path: Path) -> None:
    lines = run_example("offline_then_online.py", "150", "2", cwd=tmp_path)
    offline = next(float(line.split(": ")[1].rstrip("}")) for line in lines if line.startswith("offline"))
    score = next(float(line.split()[1]) for line in lines if line.startswith("score"))
    assert 9 <= offline <= 500 and abs(score - 100 * (offline - 22) / 478) < 0.1
    assert [line.split()[0] for line in lines[-2:]] == ["1", "2"]
    assert all("'CartPole-v1'" in line and "'InvertedPendulum-v4'" in line for line in lines[-2:])


def test_an_agent_is_carried_over_and_compared_with_a_new_one(tmp_path: Path) -> None:
    lines = run_example("transfer.py", "2", cwd=tmp_path)
    assert any(line.startswith("pretrained {") and "'CartPole-v1'" in line for line in lines)
    table = [line.split() for line in lines[-2:]]
    assert [row[0] for row in table] == ["1", "2"]
    assert all(0 < float(value) < 10_000 for row in table for value in row[1:])


def test_environments_of_ones_own_train_beside_others(tmp_path: Path) -> None:
    lines = run_example("custom_environment.py", "2", cwd=tmp_path)
    returns = ast.literal_eval(lines[-1].partition(" ")[2])
    assert returns.keys() == {"corridor", "catch", "CartPole-v1"}
    assert -200 <= returns["corridor"] <= -15 and -1 <= returns["catch"] <= 1


def test_a_network_of_ones_own_trains(tmp_path: Path) -> None:
    lines = run_example("custom_network.py", "2", cwd=tmp_path)
    returns = ast.literal_eval(lines[-1].partition(" ")[2])
    assert 9 <= returns["CartPole-v1"] <= 500 and -2000 < returns["Pendulum-v1"] < 0


def test_a_combiner_of_ones_own_trains(tmp_path: Path) -> None:
    lines = run_example("custom_combiner.py", "1", cwd=tmp_path)
    assert "CartPole-v1" in ast.literal_eval(lines[-2].partition(" ")[2])
    left_out = ast.literal_eval(lines[-1])
    assert left_out.keys() == {"actor", "critic"} and any(left_out.values())


def test_a_search_reports_every_sample_best_first(tmp_path: Path) -> None:
    lines = run_example("tune_search.py", "2", "1", cwd=tmp_path)
    scores = [float(line.split()[1].rstrip(":")) for line in lines if line.startswith("score")]
    assert len(scores) == 2 and scores == sorted(scores, reverse=True)


def test_a_game_and_control_tasks_train_in_one_agent(tmp_path: Path) -> None:
    pytest.importorskip("mpe2")
    lines = run_example("games_and_control.py", "2", cwd=tmp_path)
    returns = ast.literal_eval(next(line for line in lines if line.startswith("2 ")).partition(" ")[2])
    assert returns.keys() >= {"connect_four", "spread", "CartPole-v1"} and -1 <= returns["connect_four"] <= 1
    assert any(line.startswith("won against a random player: ") for line in lines)
    assert float(lines[-1].rsplit(" ", 1)[1]) in (-1, 0, 1)


def test_a_data_set_and_games_train_in_one_agent(tmp_path: Path) -> None:
    lines = run_example("artificial_experience.py", "--iterations", "1", cwd=tmp_path)
    assert any("X and Y, reward None" in line for line in lines)
    assert 0.0 <= float(lines[-1].removeprefix("test accuracy on digits: ")) <= 1.0


def test_a_curriculum_says_what_it_samples(tmp_path: Path) -> None:
    lines = run_example("curriculum.py", "--iterations", "1", cwd=tmp_path)
    assert "768 steps" in lines[0] and "2: " in lines[0] and lines[-1].endswith("was not mastered")


def test_an_agent_learns_to_adapt(tmp_path: Path) -> None:
    lines = run_example("meta_learning.py", "1", cwd=tmp_path)
    assert [line.partition(":")[0] for line in lines[-6:-2]] == [f"episode {k}" for k in range(1, 5)]
    assert 10 < float(lines[-2].split()[1].rstrip(",")) < 12.1 and (tmp_path / "adaptation.png").is_file()


def test_an_algorithm_of_ones_own_trains(tmp_path: Path) -> None:
    (line,) = run_example("custom_algorithm.py", "1", cwd=tmp_path)
    assert ast.literal_eval(line.partition(" ")[2]).keys() <= {"CartPole-v1", "InvertedPendulum-v4"}


def test_an_agent_with_memory_answers_later(tmp_path: Path) -> None:
    lines = run_example("memory.py", "gru", "5", cwd=tmp_path)
    assert lines[0].startswith("5 {'right': ") and re.fullmatch(r"memory gru: \d+% right", lines[-1])


def test_a_policy_sees_a_world_or_its_environments_alone(tmp_path: Path) -> None:
    lines = run_example("worlds.py", "1", cwd=tmp_path)
    shares = [float(re.fullmatch(r"world_attention=\w+: (.*) right", line)[1]) for line in lines[-2:]]  # type: ignore[index]
    assert all(0 <= share <= 1 for share in shares)
