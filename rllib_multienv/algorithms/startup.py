"""Starting workers: waiting for the cluster's resources, and the reason where no runner starts."""

from __future__ import annotations

import time
from collections import Counter
from typing import Any

import ray
from ray.rllib.algorithms.utils import _get_env_runner_bundles, _get_learner_bundles

#: How long a runner may take to start that is to show why others did not.
RUNNER_START_S = 60.0


def wait_for_workers(config: Any) -> None:
    """Wait until the cluster has the resources of a configuration's workers free; see `wait_for_resources`."""
    needed = Counter[str]()
    for bundle in [*_get_env_runner_bundles(config), *_get_learner_bundles(config)]:
        needed.update(bundle)
    wait_for_resources(
        {name: amount for name, amount in needed.items() if amount},
        timeout_s=config.worker_startup_timeout_s,
        what=f"{config.num_env_runners} env runners and {config.num_learners} learners",
    )


def wait_for_resources(needed: dict[str, float], *, timeout_s: float, what: str) -> None:
    """Wait until the cluster has these resources free.

    Without them Ray would let the workers wait forever, and the driver with them. In a placement group (a Tune
    trial has one) they are reserved already.

    Args:
        needed: By name, such as ``{"CPU": 3}``.
        timeout_s: How long to wait for an earlier run to release them, or for the cluster to grow.
        what: For whom, in words.

    Raises:
        RuntimeError: They did not come free in time.
    """
    if not ray.is_initialized() or ray.util.get_current_placement_group() is not None:
        return
    deadline = time.monotonic() + timeout_s
    while missing := _missing(needed):
        if time.monotonic() > deadline:
            total = ray.cluster_resources()
            raise RuntimeError(
                f"Waited {timeout_s:g} s for the resources of {what}, but "
                + "; ".join(
                    f"{needed[name]:g} {name} are needed and {free:g} of {total.get(name, 0.0):g} are free"
                    for name, free in missing.items()
                )
                + ". Ask for fewer workers, or give Ray more (ray.init(num_cpus=...), a larger cluster)."
            )
        time.sleep(0.1)


def _missing(needed: dict[str, float]) -> dict[str, float]:
    """What is free of those resources of which too little is."""
    free: dict[str, Any] = ray.available_resources()
    return {name: free.get(name, 0.0) for name, n in needed.items() if free.get(name, 0.0) < n - 1e-6}


def runner_failure(config: Any) -> str:
    """Why no env runner could be started, learned by starting one more."""
    actor: Any = ray.remote(num_cpus=0)(config.env_runner_cls)
    try:
        runner = actor.remote(config=config, worker_index=1, num_workers=config.num_env_runners)
        ray.get(runner.assert_healthy.remote(), timeout=RUNNER_START_S)
    except Exception as error:
        return str(error)
    return "One that was started afterwards works; the log has what went wrong before."
