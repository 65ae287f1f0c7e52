"""Which checkpoint is meant by a path, and which name a new run gets."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from rllib_multienv.checkpoints import find_checkpoint
from rllib_multienv.runs.folder import RunFolder


def test_a_taken_name_gets_a_number(tmp_path: Path) -> None:
    names = [RunFolder.create(tmp_path / "results", "run").path.name for _ in range(3)]
    assert names == ["run", "run-2", "run-3"]


def test_a_run_stands_for_its_latest_checkpoint(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path, "run")
    folder.config.touch()
    for age, name in enumerate(("checkpoint_000009", "checkpoint_000010")):
        checkpoint = folder.path / "trial_00000" / name
        checkpoint.mkdir(parents=True)
        os.utime(checkpoint, (1000 + age, 1000 + age))
    assert find_checkpoint(folder.path).name == "checkpoint_000010"
    folder.link_checkpoint(folder.path / "trial_00000" / "checkpoint_000009")
    assert find_checkpoint(folder.path).name == "checkpoint_000009"


def test_a_checkpoint_is_taken_as_it_is(tmp_path: Path) -> None:
    assert find_checkpoint(tmp_path) == tmp_path


def test_a_run_without_a_checkpoint_says_so(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path, "run")
    folder.config.touch()
    with pytest.raises(FileNotFoundError, match="has no checkpoint yet"):
        find_checkpoint(folder.path)


def test_the_link_survives_moving_the_results(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path / "results", "run")
    (folder.path / "trial_00000" / "checkpoint_000000").mkdir(parents=True)
    folder.link_checkpoint(folder.path / "trial_00000" / "checkpoint_000000")
    (tmp_path / "results").rename(tmp_path / "elsewhere")
    assert (tmp_path / "elsewhere" / "run" / "checkpoint").is_dir()
