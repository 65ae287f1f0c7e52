"""The trained agent that comes with the package: found by name, checked, and good at what it was trained on."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from cli_helpers import invoke_cli
from PIL import Image

from rllib_multienv import MultiEnvAgent
from rllib_multienv.checkpoints import NETWORK_FILE, SHIPPED, find_checkpoint, read_checkpoint


def test_it_acts_without_training() -> None:
    agent = MultiEnvAgent.from_checkpoint("quickstart")
    assert list(agent.env_specs) == ["CartPole-v1", "Acrobot-v1", "InvertedPendulum-v4", "Reacher-v4"]
    assert agent.evaluate("CartPole-v1", episodes=2).mean == 500
    assert agent.evaluate("Acrobot-v1", episodes=2).mean > -150


def test_its_files_are_small_and_checked(tmp_path: Path) -> None:
    assert sum(file.stat().st_size for file in (SHIPPED / "quickstart").iterdir()) < 250_000
    shutil.copytree(SHIPPED / "quickstart", tmp_path / "copy")
    data = bytearray((tmp_path / "copy" / NETWORK_FILE).read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / "copy" / NETWORK_FILE).write_bytes(data)
    with pytest.raises(ValueError, match=f"{NETWORK_FILE} is not what was written"):
        read_checkpoint(tmp_path / "copy")


def test_a_folder_of_its_name_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert find_checkpoint("quickstart") == SHIPPED / "quickstart"
    shutil.copytree(SHIPPED / "quickstart", "quickstart")
    assert find_checkpoint("quickstart") == Path("quickstart")


def test_the_command_line_shows_it(tmp_path: Path) -> None:
    done = invoke_cli("evaluate", "quickstart", "--env", "CartPole-v1", "--episodes", "1", "--gif", cwd=tmp_path)
    assert done.exit_code == 0 and "500" in done.stdout
    with Image.open(tmp_path / "quickstart-videos" / "CartPole-v1.gif") as gif:
        assert gif.n_frames > 50
