"""Checkpoints in a file system that is not this machine's own."""

from __future__ import annotations

from pathlib import Path

import pyarrow.fs
import pytest
from tiny_runs import assert_same, running, tiny_config, weights

from rllib_multienv import MultiEnvPPO

pytestmark = pytest.mark.usefixtures("ray_cluster")


def test_a_checkpoint_in_another_file_system(tmp_path: Path) -> None:
    files = pyarrow.fs.SubTreeFileSystem(str(tmp_path), pyarrow.fs.LocalFileSystem())
    with running(tiny_config()) as algo:
        algo.train()
        assert algo.save_to_path("far/away", filesystem=files) == "far/away"
        saved = weights(algo)
        algo.train()
        algo.restore_from_path("far/away", filesystem=files)
        assert_same(weights(algo), saved)
        with running(MultiEnvPPO.from_checkpoint("far/away", filesystem=files)) as other:
            assert_same(weights(other), saved)
            assert other.training_iteration == 1

        algo.train()
        algo.save_to_path("far/away", filesystem=files)  # over the old one
        saved = weights(algo)
        algo.restore_from_path("far/away", filesystem=files)
        assert_same(weights(algo), saved)

        # What a kill leaves is refused before anything is restored.
        (tmp_path / "far/away/learner_group/learner/state.pkl").write_bytes(b"half")
        with pytest.raises(ValueError, match=r"incomplete: learner_group/learner/state\.pkl has 4 of \d+ bytes"):
            algo.restore_from_path("far/away", filesystem=files)
        (tmp_path / "far/away/multienv.json").unlink()
        with pytest.raises(ValueError, match=r"has no file multienv\.json"):
            MultiEnvPPO.from_checkpoint("far/away", filesystem=files)
        with pytest.raises(FileNotFoundError, match="does not exist"):
            MultiEnvPPO.from_checkpoint("nowhere", filesystem=files)
        assert_same(weights(algo), saved)
