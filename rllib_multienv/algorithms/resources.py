"""Whether the cluster can hold a run's workers at all."""

from __future__ import annotations

import time
from typing import Any

import ray


def wait_for_resources(needed: dict[str, float], *, timeout_s: float, what: str) -> None:
    """Wait until the cluster has these resources free.

    Without them Ray would let the workers wait without end, and the driver with them. In a placement group (a Tune
    trial has one) they are reserved already.

    Args:
        needed: By name, such as ``{"CPU": 3}``.
        timeout_s: How long to wait: what an earlier run gives back, or a cluster that grows, takes a while.
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
