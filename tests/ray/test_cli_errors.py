"""Bad input on the command line is answered with one message, exit status 1, and no traceback."""

from __future__ import annotations

from pathlib import Path

import pytest
from cli_helpers import TINY, invoke_cli, run_cli


def error_of(*arguments: object, cwd: Path) -> str:
    done = invoke_cli(*arguments, cwd=cwd)
    assert done.exit_code == 1, done.output
    assert "Traceback" not in done.output
    assert isinstance(done.exception, SystemExit)  # not one that would have been printed with its traceback
    return done.output


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("CartPole-v1", "CartPolle-v1"), ["CartPolle-v1", "CartPole-v1", "tiny.yaml:2"]),
        (("[CartPole-v1, Pendulum-v1]", "[CartPole-v1, CartPole-v1]"), ["CartPole-v1", "tiny.yaml:2"]),
        (("num_epochs", "num_epoch"), ["tiny.yaml:5", "'num_epoch'", "'num_epochs'"]),
        (("d_model", "d_modell"), ["tiny.yaml:4", "d_modell", "d_model"]),
        (("training:", "trainning:"), ["tiny.yaml:5", "'training'"]),
    ],
)
def test_a_wrong_file_is_refused_before_anything_is_made(
    change: tuple[str, str], words: list[str], tmp_path: Path
) -> None:
    (tmp_path / "tiny.yaml").write_text(TINY.replace(*change))
    message = error_of("train", "tiny.yaml", cwd=tmp_path)
    for word in words:
        assert word in message
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("train", "tiny.yaml", "--results", "s3://bucket/results"), "is a URI"),
        (("train", "nowhere.yaml"), "nowhere.yaml: cannot be read"),
        (("train",), "--resume DIR"),
        (("train", "--resume", "."), "is not the folder of a run"),
        (("train", "--resume", ".", "--seed", "1"), "only --stop-steps and --stop-time"),
        (("evaluate", "nowhere"), "There is no checkpoint 'nowhere'"),
        (("evaluate", "."), "checkpoint"),
        (("transfer", ".", "nowhere.yaml"), "nowhere.yaml: cannot be read"),
        (("transfer", "nowhere", "tiny.yaml"), "There is no checkpoint 'nowhere'"),
    ],
)
def test_a_wrong_command_line_is_explained(arguments: tuple[str, ...], words: str, tmp_path: Path) -> None:
    (tmp_path / "tiny.yaml").write_text(TINY)
    assert words in error_of(*arguments, cwd=tmp_path)


def test_an_environment_that_fails_is_named(tmp_path: Path) -> None:
    (tmp_path / "my_envs.py").write_text(FAILING)
    envs = "[CartPole-v1, {id: broken-motor, make: 'my_envs:Failing'}]"
    (tmp_path / "fails.yaml").write_text(TINY.replace("[CartPole-v1, Pendulum-v1]", envs))
    done = run_cli("train", "fails.yaml", cwd=tmp_path)
    message = done.stdout + done.stderr
    assert done.returncode == 1, message
    assert "Traceback" not in message
    assert "broken-motor" in message
    assert "the motor is broken" in message
    assert "results/fails/run.log" in message


FAILING = """
import gymnasium as gym
import numpy as np


class Failing(gym.Env):
    observation_space = gym.spaces.Box(-1, 1, (3,), np.float32)
    action_space = gym.spaces.Discrete(2)
    steps = 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros(3, np.float32), {}

    def step(self, action):
        self.steps += 1
        if self.steps > 100:
            raise ValueError("the motor is broken")
        return np.zeros(3, np.float32), 1.0, False, self.steps % 20 == 0, {}
"""


def test_results_are_where_the_user_stands_wherever_an_environment_goes(tmp_path: Path) -> None:
    (tmp_path / "my_envs.py").write_text(
        "import os, gymnasium\n\ndef make():\n    os.chdir('/')\n    return gymnasium.make('CartPole-v1')\n"
    )
    envs = "[{id: wanderer, make: 'my_envs:make'}]"
    text = TINY.replace("[CartPole-v1, Pendulum-v1]", envs).replace("iteration: 4", "iteration: 1")
    (tmp_path / "goes.yaml").write_text(text)
    done = run_cli("train", "goes.yaml", "--episodes", 1, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "log             results/goes/run.log" in done.stdout
    assert (tmp_path / "results" / "goes" / "evaluation.csv").is_file()
