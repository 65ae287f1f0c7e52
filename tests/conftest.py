"""Fixtures of all tests, and what processes that tests start need in their environment."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
# Programs, workers of Ray and processes of environments find the package and what tests define.
PATHS = [str(TESTS.parent), *(str(TESTS / folder) for folder in ("helpers", "unit", "ray", "long"))]

os.environ["PYTHONPATH"] = os.pathsep.join([*PATHS, *filter(None, [os.environ.get("PYTHONPATH")])])
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
# One thread for each process: threads that wait for each other on busy cores made tests up to seven times as slow.
os.environ["OMP_NUM_THREADS"] = "1"


def pytest_configure(config: pytest.Config) -> None:
    """Hides Ray where only unit tests run: they work without it."""
    paths = [Path(config.invocation_params.dir, argument.split("::")[0]).resolve() for argument in config.args]
    if paths and all(path.is_relative_to(TESTS / "unit") for path in paths):
        sys.modules["ray"] = None  # type: ignore[assignment]


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[None]:
    """One Ray for all tests of this process that need it."""
    import ray

    if ray.is_initialized():  # RLlib starts Ray by itself where a test that needs no cluster builds an algorithm
        ray.shutdown()
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("OMP_NUM_THREADS")  # Ray gives its workers as many threads as CPUs, unless this says how many
        ray.init(num_cpus=4, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


@pytest.fixture
def programs_on_the_cluster(ray_cluster: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Programs that a test starts use the cluster that is there: to start one takes as long as a small run."""
    import ray

    monkeypatch.setenv("RAY_ADDRESS", ray.get_runtime_context().gcs_address)
