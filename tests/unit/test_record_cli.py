"""`multienv record` writes data sets."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cli_helpers import run_cli
from typer.testing import CliRunner
from untrained_agent import save_untrained

from rllib_multienv.cli import app
from rllib_multienv.offline.formats import d4rl

CONTROLLER = "rllib_multienv.offline.controllers:cartpole"


def record(*arguments: object) -> str:
    """What the command prints when all goes well."""
    done = CliRunner().invoke(app, ["record", *map(str, arguments)])
    assert done.exit_code == 0, done.output
    return done.output


def error_of(*arguments: object) -> str:
    done = CliRunner().invoke(app, ["record", *map(str, arguments)])
    assert done.exit_code in (1, 2), done.output
    assert isinstance(done.exception, SystemExit)
    return " ".join(done.output.split())


def test_random_actions_as_a_user_records_them(tmp_path: Path) -> None:
    done = run_cli("record", "data/cart.hdf5", "--env", "CartPole-v1", "--steps", "600", "--seed", "3", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "600 steps in data/cart.hdf5" in done.stdout
    (row,) = (line.split() for line in done.stdout.splitlines() if line.split()[:1] == ["random"])
    raw = d4rl.read(tmp_path / "data" / "cart.hdf5")
    (played,) = json.loads(raw.metadata["behaviours"])
    assert row[1:] == ["600", str(played["episodes"]), f"{played['mean_return']:.2f}"]
    assert raw.metadata["seed"] == 3
    assert raw.metadata["env_id"] == "CartPole-v1"


def test_a_function_with_noise_and_random_actions(tmp_path: Path) -> None:
    out = tmp_path / "cart.hdf5"
    arguments = ("--env", "CartPole-v1", "--policy", CONTROLLER, "--steps", 2000, "--random-share", 0.25)
    output = record(out, *arguments, "--noise", 0.1)
    assert CONTROLLER in output
    raw = d4rl.read(out)
    function, at_random = json.loads(raw.metadata["behaviours"])
    assert (function["steps"], at_random["steps"]) == (1500, 500)
    assert function["mean_return"] > 10 * at_random["mean_return"]
    record(out, *arguments, "--overwrite")
    assert json.loads(d4rl.read(out).metadata["behaviours"])[0]["mean_return"] == 500.0


def test_an_agent_into_minari(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    minari = pytest.importorskip("minari")
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    checkpoint = save_untrained(tmp_path / "agent", ["Pendulum-v1"])
    arguments = ("minari:swing/agent-v0", "--env", "Pendulum-v1", "--from", checkpoint, "--no-explore")
    output = record(*arguments, "--steps", 400)
    assert "400 steps in minari:swing/agent-v0" in output
    dataset = minari.load_dataset("swing/agent-v0")
    assert (dataset.total_episodes, dataset.total_steps) == (2, 400)
    assert "There is a Minari data set 'swing/agent-v0' already" in error_of(*arguments)
    record(*arguments, "--steps", 200, "--overwrite")
    assert minari.load_dataset("swing/agent-v0").total_steps == 200


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("new.hdf5", "--env", "CartPolle-v1"), "'CartPole-v1'"),
        (("new.txt", "--env", "CartPole-v1"), "ends in .hdf5"),
        (("old.hdf5", "--env", "CartPole-v1"), "There is a file 'old.hdf5' already"),
        (("old.hdf5/new.hdf5", "--env", "CartPole-v1"), "is a file, not a folder"),
        (("new.hdf5", "--env", "CartPole-v1", "--policy", CONTROLLER, "--random-share", "1.5"), "must be from 0 to 1"),
        (("new.hdf5", "--env", "CartPole-v1", "--policy", CONTROLLER, "--random-share", "-0.5"), "must be from 0 to 1"),
        (("new.hdf5", "--env", "CartPole-v1", "--random-share", "0.5"), "use --from or --policy"),
        (("new.hdf5", "--env", "CartPole-v1", "--policy", CONTROLLER, "--from", "old.hdf5"), "both given"),
        (("new.hdf5", "--env", "CartPole-v1", "--from", "nowhere"), "no checkpoint 'nowhere'"),
        (("new.hdf5", "--env", "CartPole-v1", "--from", "."), "is not a checkpoint"),
        (("new.hdf5", "--env", "CartPole-v1", "--policy", CONTROLLER[:-1]), "Did you mean 'cartpole'"),
        (("new.hdf5", "--env", "CartPole-v1", "--policy", CONTROLLER, "--noise", "1.5"), "noise=1.5"),
        (("new.hdf5", "--env", "Pendulum-v1", "--policy", CONTROLLER), "Policy '" + CONTROLLER + "' failed"),
        (("new.hdf5", "--env", "CartPole-v1", "--steps", "0"), "--steps"),
        (("minari:no-version", "--env", "CartPole-v1"), "name-v0"),
    ],
)
def test_a_wrong_command_line_makes_nothing(
    arguments: tuple[str, ...], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if arguments[0].startswith("minari:"):
        pytest.importorskip("minari")
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    monkeypatch.chdir(tmp_path)
    Path("old.hdf5").write_text("precious")
    assert words in error_of(*arguments)
    assert Path("old.hdf5").read_text() == "precious"
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and path.name != "old.hdf5"]
