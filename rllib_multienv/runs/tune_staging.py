"""A staging folder of its own for each Tune run.

Tune names the folder in which a run's driver gathers its state after the second and the run's name. Runs of one
name that begin within one second on one Ray cluster, as the parts ``a/seed0`` and ``b/seed0`` of an experiment do,
would share it, and each would save the other's trials with its own.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from ray.tune import utils


@contextmanager
def own_staging_folder() -> Iterator[None]:
    """Adds this process's number to the second, for all Tune runs that begin inside."""
    second = utils.date_str
    utils.date_str = lambda: f"{second()}_{os.getpid()}"
    try:
        yield
    finally:
        utils.date_str = second
