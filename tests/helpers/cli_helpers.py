"""Running `multienv` in an empty folder: as a program of its own, as a user does, or, where that is enough, within."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from unittest import mock

from click.testing import Result
from typer.testing import CliRunner
from warm_python import run_program

ROOT = Path(__file__).parents[2]

TINY = """\
algorithm: MultiEnvPPO
environment: {envs: [CartPole-v1, Pendulum-v1]}
env_runners: {num_env_runners: 0, num_envs_per_env_runner: 2, rollout_fragment_length: 64}
rl_module: {model_config: {type: agnostic, d_model: 16}}
training: {num_epochs: 1, num_minibatches: 2}
debugging: {seed: 0}
stop: {training_iteration: 4}
"""


def command(*arguments: object) -> list[str]:
    """The command line of `multienv` with the Python that runs the tests."""
    return [sys.executable, "-m", "rllib_multienv", *map(str, arguments)]


def environment() -> dict[str, str]:
    """Environment variables in which the package is found, whatever the current folder."""
    return {**os.environ, "COLUMNS": "120"}


def run_cli(*arguments: object, cwd: Path, timeout: float = 240) -> subprocess.CompletedProcess[str]:
    """Runs a command to its end."""
    return run_program(["-m", "rllib_multienv", *arguments], cwd=cwd, env=environment(), timeout=timeout)


def invoke_cli(*arguments: object, cwd: Path) -> Result:
    """Runs a command in this process; for what ends before anything is started. A program of its own takes seconds."""
    from rllib_multienv.cli import app

    with contextlib.chdir(cwd), mock.patch.object(sys, "path", [*sys.path]), mock.patch.dict(os.environ):
        return CliRunner().invoke(app, [*map(str, arguments)], env={"COLUMNS": "120"})


def call_cli(*arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Runs a command to its end in this process, with the Ray that it has."""
    done = invoke_cli(*arguments, cwd=cwd)
    if not isinstance(done.exception, SystemExit | None):
        raise done.exception
    return subprocess.CompletedProcess([*map(str, arguments)], done.exit_code, done.stdout, done.stderr)


def interrupt_cli(*arguments: object, cwd: Path, when: str, timeout: float = 240) -> tuple[int, str]:
    """Runs a command and presses Ctrl-C (SIGINT to its process group) at the first line with `when` in it.

    Returns:
        The exit status and what was printed.
    """
    process = subprocess.Popen(
        command(*arguments),
        cwd=cwd,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    watchdog = threading.Timer(timeout, process.kill)
    watchdog.start()
    output, sent = [], False
    try:
        assert process.stdout is not None
        for line in process.stdout:
            output.append(line)
            if when in line and not sent:
                os.killpg(process.pid, signal.SIGINT)
                sent = True
        return process.wait(timeout=60), "".join(output)
    finally:
        watchdog.cancel()
        process.kill()
