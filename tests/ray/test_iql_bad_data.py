"""With one bad data set of several the run does not start; the error names it, the place and the reason."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from iql_runs import iql_config, noise
from offline_files import toy_arrays, write_hdf5

from rllib_multienv.offline import DatasetError

pytestmark = pytest.mark.usefixtures("ray_cluster")


def test_a_value_that_is_no_number_stops_the_run_before_it_begins(tmp_path: Path) -> None:
    arrays = toy_arrays()
    arrays["actions"][4, 1] = np.nan
    file = write_hdf5(tmp_path / "bad.hdf5", arrays)
    good = write_hdf5(tmp_path / "good.hdf5", toy_arrays() | {"actions": np.zeros((12, 2), np.float32)})
    contents = good.read_bytes()
    mapped = tmp_path / "mapped"
    config = iql_config({"good": str(good), "bad": str(file)}).offline_data(memory_map_dir=mapped)
    with pytest.raises(DatasetError, match=r"bad\.hdf5.*'actions'.*index 4.*finite"):
        config.build_algo()
    assert good.read_bytes() == contents
    # And without the bad one it runs.
    algo = config.copy(copy_frozen=False).offline_data(datasets={"good": str(good)}).build_algo()
    algo.train()
    algo.stop()


def test_data_of_another_environment_is_refused() -> None:
    config = iql_config({"CartPole-v1": noise(5, 2, discrete=True)}).environment(envs=["CartPole-v1"])
    with pytest.raises(DatasetError, match=r"'observations'.*5 numbers.*'CartPole-v1'.*of 4"):
        config.build_algo()


def test_returns_that_are_all_the_same_cannot_be_scaled_by_their_range() -> None:
    arrays = {**noise(4, 2)(), "rewards": np.ones(200, np.float32)}
    with pytest.raises(DatasetError, match=r"return_range.*returns.*the same.*'none'"):
        iql_config({"flat": lambda: arrays}).build_algo()
