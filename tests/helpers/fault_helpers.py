"""What tests of failures have in common: process ids, the log, and counts of steps."""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from rllib_multienv import MultiEnvPPO


@contextmanager
def rllib_log() -> Iterator[list[str]]:
    """Messages of warnings and errors; RLlib's logger does not hand them on to pytest's `caplog`."""
    messages: list[str] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            messages.append(record.getMessage())

    handler, logger = Keep(logging.WARNING), logging.getLogger("ray.rllib")
    logger.addHandler(handler)
    try:
        yield messages
    finally:
        logger.removeHandler(handler)


def runner_pids(algo: MultiEnvPPO) -> dict[int, int]:
    """Process id of each remote runner, by its index."""
    found = algo.env_runner_group.foreach_env_runner(lambda r: (r.worker_index, os.getpid()), local_env_runner=False)
    return dict(found)


def kill_in(seconds: float, *pids: int) -> None:
    """SIGKILL to these processes after a while, from a thread."""

    def kill() -> None:
        for pid in pids:
            os.kill(pid, signal.SIGKILL)

    threading.Timer(seconds, kill).start()


def sampled_steps(result: Mapping[str, Any]) -> dict[str, int]:
    """Steps sampled so far, by env id."""
    return {env_id: int(n) for env_id, n in result["env_runners"]["num_module_steps_sampled_lifetime"].items()}


def lost_fragments(result: Mapping[str, Any]) -> dict[str, int]:
    """Fragments lost so far, by env id."""
    return {env_id: int(n) for env_id, n in result["env_runners"].get("num_fragments_lost_lifetime", {}).items()}


def assert_steps_counted_are_steps_trained(result: Mapping[str, Any]) -> None:
    """Over all environments and for each, without what was lost on its way to a learner."""
    learners, sampled = result["learners"], sampled_steps(result)
    lost = {env_id: learners.get(env_id, {}).get("num_env_steps_lost_lifetime", 0) for env_id in sampled}
    trained = {env_id: learners.get(env_id, {}).get("num_module_steps_trained_lifetime", 0) for env_id in sampled}
    assert {env_id: trained[env_id] + lost[env_id] for env_id in sampled} == sampled
    total = learners["__all_modules__"]["num_env_steps_trained_lifetime"]
    assert (
        total + sum(lost.values()) == result["env_runners"]["num_env_steps_sampled_lifetime"] == sum(sampled.values())
    )
