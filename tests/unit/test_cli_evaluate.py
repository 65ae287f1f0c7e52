"""`multienv evaluate` and what it writes, and the checkpoint that a path stands for."""

from __future__ import annotations

import csv
import importlib.util
import io
import json
import re
from pathlib import Path
from typing import Any

import pytest
from cli_helpers import invoke_cli
from PIL import Image
from untrained_agent import save_untrained

from rllib_multienv import EnvSpec, MultiEnvAgent
from rllib_multienv.envs.video import check_video
from rllib_multienv.runs.folder import RunFolder

ENVS = ("CartPole-v1", "Pendulum-v1")


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    """A run with two checkpoints, the older one the best."""
    folder = RunFolder.create(tmp_path / "results", "run")
    folder.write_config("environment: {envs: [CartPole-v1, Pendulum-v1]}")
    for number, envs in ((3, ENVS[:1]), (7, ENVS)):
        save_untrained(folder.path / "trial_00000" / f"checkpoint_{number:06}", envs)
    folder.keep_best(folder.path / "trial_00000" / "checkpoint_000003", {"iteration": 4})
    return folder


def test_run_trial_and_checkpoint_stand_for_a_checkpoint_everywhere(run: RunFolder) -> None:
    trial = run.path / "trial_00000"
    for path in (run.path, trial, str(trial), trial / "checkpoint_000007"):
        assert list(MultiEnvAgent.from_checkpoint(path).env_specs) == [*ENVS]
    assert list(MultiEnvAgent.from_checkpoint(trial / "checkpoint_000003").env_specs) == ["CartPole-v1"]


def test_evaluate_takes_a_trial_and_the_best_checkpoint(run: RunFolder, tmp_path: Path) -> None:
    done = invoke_cli("evaluate", "results/run/trial_00000", "--episodes", 1, cwd=tmp_path)
    assert done.exit_code == 0, done.output
    assert "CartPole-v1" in done.stdout and "Pendulum-v1" in done.stdout
    best = invoke_cli("evaluate", "results/run", "--best", "--episodes", 1, cwd=tmp_path)
    assert "CartPole-v1" in best.stdout and "Pendulum-v1" not in best.stdout
    none = invoke_cli("evaluate", "results/run/trial_00000", "--best", cwd=tmp_path)
    assert none.exit_code == 1 and "has no best_checkpoint" in none.stderr


def test_the_best_checkpoint_outlives_the_one_that_it_is_a_copy_of(run: RunFolder) -> None:
    for file in (run.path / "trial_00000" / "checkpoint_000003").rglob("*"):
        file.unlink()
    assert list(MultiEnvAgent.from_checkpoint(run.best_checkpoint).env_specs) == ["CartPole-v1"]
    assert run.best() == {"iteration": 4}
    run.keep_best(run.path / "trial_00000" / "checkpoint_000007", {"iteration": 8})
    assert list(MultiEnvAgent.from_checkpoint(run.best_checkpoint).env_specs) == [*ENVS]


def test_unseen_environments_are_marked_and_random_actions_are_measured(run: RunFolder, tmp_path: Path) -> None:
    arguments = ("--env", "CartPole-v1", "--env", "Acrobot-v1", "--env", "short=MountainCar-v0", "--random")
    done = invoke_cli("evaluate", run.path, *arguments, "--episodes", 2, cwd=tmp_path)
    assert done.exit_code == 0, done.output
    cells = [re.split(r" {2,}", line.strip()) for line in done.stdout.splitlines()]
    rows = {row[0]: row[1:] for row in cells if len(row) == 8}
    assert list(rows) == ["environment", "CartPole-v1", "Acrobot-v1 (unseen)", "short (unseen)"]
    assert rows["environment"][-1] == "random"
    assert rows["short (unseen)"][-1] == "-200.0"


def test_json_and_csv(run: RunFolder, tmp_path: Path) -> None:
    arguments = ("--episodes", 2, "--env", "CartPole-v1", "--env", "Acrobot-v1")
    done = invoke_cli("evaluate", run.path, *arguments, "--json", "a.json", "--csv", "-", cwd=tmp_path)
    assert done.exit_code == 0, done.output
    data: list[dict[str, Any]] = json.loads((tmp_path / "a.json").read_text())
    assert [(row["env_id"], row["unseen"]) for row in data] == [("CartPole-v1", False), ("Acrobot-v1", True)]
    assert data[0]["mean"] == sum(data[0]["returns"]) / 2 and data[0]["returns"] == data[0]["lengths"]
    rows = list(csv.DictReader(io.StringIO(done.stdout)))  # the table goes to the other stream
    assert [float(row["mean"]) for row in rows] == [row["mean"] for row in data]


def test_environments_from_functions_are_an_error_that_says_how_to_give_them(tmp_path: Path) -> None:
    path = save_untrained(tmp_path / "agent", ENVS)
    description = json.loads((path / "multienv.json").read_text())
    description["environments"][1]["spec"] = None  # as it is written for an environment that a lambda makes
    (path / "multienv.json").write_text(json.dumps(description))
    done = invoke_cli("evaluate", path, cwd=tmp_path)
    assert done.exit_code == 1
    for words in ("--env Pendulum-v1=your_module:function", 'EnvSpec("Pendulum-v1", make=function)', "--env CartPole"):
        assert words in done.stderr
    (tmp_path / "mine.py").write_text("import gymnasium\n\ndef make():\n    return gymnasium.make('Pendulum-v1')\n")
    given = invoke_cli("evaluate", path, "--env", "Pendulum-v1=mine:make", "--episodes", 1, cwd=tmp_path)
    assert given.exit_code == 0, given.output
    assert "unseen" not in given.stdout


def test_a_gif_needs_no_extra(run: RunFolder, tmp_path: Path) -> None:
    arguments = ("--env", "CartPole-v1", "--episodes", 1, "--gif", "--video-dir", "videos")
    done = invoke_cli("evaluate", run.path, *arguments, cwd=tmp_path)
    assert done.exit_code == 0, done.output
    assert "videos in" in done.stdout
    with Image.open(tmp_path / "videos" / "CartPole-v1.gif") as image:
        assert image.n_frames > 5 and image.width == 320  # type: ignore[attr-defined]


def test_without_moviepy_one_line_comes_before_any_episode(
    run: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: None if name == "moviepy" else find(name, *a))
    monkeypatch.setattr(MultiEnvAgent, "from_checkpoint", lambda *_: pytest.fail("the agent was loaded"))
    done = invoke_cli("evaluate", run.path, "--video", cwd=tmp_path)
    assert done.exit_code == 1
    assert "pip install 'rllib-multienv[video]'" in done.stderr and done.stderr.count("\n") == 1
    with pytest.raises(ValueError, match=r"video_format='avi': must be 'mp4' or 'gif'"):
        check_video("avi")


def test_help_names_the_extra_for_videos(tmp_path: Path) -> None:
    assert "(needs the extra 'video')" in re.sub(r"[\s│]+", " ", invoke_cli("evaluate", "--help", cwd=tmp_path).stdout)


@pytest.mark.skipif(importlib.util.find_spec("moviepy") is None, reason="MP4 videos need moviepy")
def test_video(run: RunFolder, tmp_path: Path) -> None:
    agent = MultiEnvAgent.from_checkpoint(run.path)
    agent.evaluate(EnvSpec("CartPole-v1"), episodes=1, video_dir=tmp_path / "videos")
    assert (tmp_path / "videos" / "CartPole-v1.mp4").stat().st_size > 1000
