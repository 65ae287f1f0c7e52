"""Fixtures of all tests."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
# One thread each for the processes that test side by side and for the programs that they start: threads that wait for
# each other on cores that others use made those up to seven times as slow.
os.environ["OMP_NUM_THREADS"] = "1"

TESTS = Path(__file__).parent


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[None]:
    """One Ray for all tests that need it; its workers can import the package and the tests' own modules."""
    import ray

    if ray.is_initialized():  # RLlib starts Ray by itself where a test that needs no cluster builds an algorithm
        ray.shutdown()
    paths = [str(TESTS.parent), str(TESTS), *filter(None, [os.environ.get("PYTHONPATH")])]
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("OMP_NUM_THREADS")  # Ray gives its workers as many threads as CPUs, unless this says how many
        ray.init(
            num_cpus=4,
            include_dashboard=False,
            log_to_driver=False,
            runtime_env={"env_vars": {"PYTHONPATH": os.pathsep.join(paths)}},
        )
    yield
    ray.shutdown()


@pytest.fixture
def programs_on_the_cluster(ray_cluster: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Programs that a test starts use the cluster that is there: to start one takes as long as a small run."""
    import ray

    monkeypatch.setenv("RAY_ADDRESS", ray.get_runtime_context().gcs_address)


if str(TESTS) not in sys.path:
    sys.path.insert(0, str(TESTS))
