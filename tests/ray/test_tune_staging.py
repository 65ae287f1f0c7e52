"""Runs of one name that begin within one second on one Ray cluster have each its own staging folder."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from ray.train._internal.storage import StorageContext
from ray.tune import utils

from rllib_multienv.runs.resume import own_staging_folder

SECOND = "2026-11-22_21-13-53"


def staging(results: Path) -> str:
    results.mkdir(exist_ok=True)
    return StorageContext(str(results), "seed0").experiment_driver_staging_path


@pytest.mark.usefixtures("ray_cluster")
def test_processes_do_not_share_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(utils, "date_str", lambda: SECOND)
    # As Tune has it: where the results go makes no difference. When this fails, own_staging_folder may go.
    assert staging(tmp_path / "a") == staging(tmp_path / "b")
    with own_staging_folder():
        ours = staging(tmp_path / "a")
        monkeypatch.setattr(os, "getpid", lambda: 1)
        other = staging(tmp_path / "b")
    assert ours != other
    assert SECOND in ours
    assert utils.date_str() == SECOND
