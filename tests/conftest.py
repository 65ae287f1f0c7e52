"""Fixtures of all tests, and what processes that tests start need in their environment."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import warm_python

TESTS = Path(__file__).parent
# Programs, workers of Ray and processes of environments find the package and what tests define.
PATHS = [str(TESTS.parent), *(str(TESTS / folder) for folder in ("helpers", "unit", "ray", "long", "../examples"))]

os.environ["PYTHONPATH"] = os.pathsep.join([*PATHS, *filter(None, [os.environ.get("PYTHONPATH")])])
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
# One thread for each process: threads that wait for each other on busy cores made tests up to seven times as slow.
os.environ["OMP_NUM_THREADS"] = "1"


_open = ExitStack()


def pytest_configure(config: pytest.Config) -> None:
    """Hides Ray where only unit tests run: they work without it. Else starts the server that tests' programs share."""
    paths = [Path(config.invocation_params.dir, argument.split("::")[0]).resolve() for argument in config.args]
    if paths and all(path.is_relative_to(TESTS / "unit") for path in paths):
        sys.modules["ray"] = None  # type: ignore[assignment]
    elif warm_python.SERVER not in os.environ and not config.option.collectonly:  # xdist's processes have it
        _open.enter_context(warm_python.running_server())


def pytest_unconfigure() -> None:
    _open.close()


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[None]:
    """One Ray for all tests of this process that need it."""
    import ray
    from ray._private import ray_constants

    assert not ray.is_initialized(), "an earlier test has started Ray: it needs this fixture"
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("OMP_NUM_THREADS")  # Ray gives its workers as many threads as CPUs, unless this says how many
        patch.setattr(ray_constants, "SETUP_WORKER_FILENAME", warm_python.__file__)
        ray.init(
            num_cpus=4,
            include_dashboard=False,
            log_to_driver=False,
            _system_config={"enable_worker_prestart": False, "prestart_worker_first_driver": False},
        )
    yield
    ray.shutdown()


@pytest.fixture
def programs_on_the_cluster(ray_cluster: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Programs that a test starts use the cluster that is there: to start one takes as long as a small run."""
    import ray

    monkeypatch.setenv("RAY_ADDRESS", ray.get_runtime_context().gcs_address)
