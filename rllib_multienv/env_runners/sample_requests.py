"""The driver's side of sampling: asks remote runners for fragments, and waits for none of them without end."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError
from ray.rllib.env.env_runner_group import EnvRunnerGroup

from rllib_multienv.env_runners.sampling_failure import SamplingFailure

logger = logging.getLogger("ray.rllib")

#: After so many times the timeout, a runner that has not answered is replaced.
PATIENCE = 3


@dataclass(frozen=True, kw_only=True)
class SampleReport:
    """What a runner tells the driver of a round; the fragments themselves are separate objects."""

    steps: dict[str, int]  # of experience, by env id; environments whose fragment was lost are missing
    metrics: Any
    connectors: Any  # state of the connectors, with the statistics of everything since they were last merged
    node_id: str


@dataclass(frozen=True, kw_only=True)
class Sampled:
    """One runner's answer.

    Attributes:
        worker: Index of the runner.
        report: What it says of the round.
        fragments: Object-store references of its chunks, by env id.
    """

    worker: int
    report: SampleReport
    fragments: dict[str, ray.ObjectRef]


@dataclass(kw_only=True)
class _Request:
    worker: int
    env_ids: tuple[str, ...]
    references: list[ray.ObjectRef]  # of the report, then of each environment's chunks
    waited_since: float = math.inf  # not yet
    is_late: bool = False

    @property
    def age(self) -> float:
        return time.monotonic() - self.waited_since

    def __str__(self) -> str:
        return f"env runner {self.worker} ({', '.join(self.env_ids)})"


class SampleRequests:
    """Requests for fragments, at most one at a time for each runner.

    A runner that dies has lost the fragments of its environments for this round. One that is late is not waited for
    beyond the timeout: training goes on without it, and its fragments are taken when they come, one or more updates
    old (PPO's ratio corrects for that). After :data:`PATIENCE` times the timeout it is replaced.

    Runners may be asked ahead of the round in which their answers are wanted: their timeout begins with that round.

    Chunks are return values, so the driver owns them: they outlive a runner that dies after it has sampled.
    """

    def __init__(self, group: EnvRunnerGroup, *, timeout_s: float, tolerate_failures: bool) -> None:
        """Set up.

        Args:
            group: The runners.
            timeout_s: How long to wait for a runner.
            tolerate_failures: Whether to go on if a runner dies; otherwise that is an error.
        """
        self._manager = group._worker_manager
        self._timeout_s = timeout_s
        self._tolerate_failures = tolerate_failures
        self._open: dict[int, _Request] = {}

    def ask(self, owned: Mapping[int, tuple[str, ...]]) -> None:
        """Ask all healthy runners that have nothing to answer yet, and wait for none of them.

        Args:
            owned: For each runner the environments to sample.
        """
        for worker in self._manager.healthy_actor_ids():
            if worker not in self._open and owned.get(worker):
                self._open[worker] = self._ask(worker, owned[worker])

    def collect(self, owned: Mapping[int, tuple[str, ...]]) -> tuple[list[Sampled], list[str]]:
        """Ask all healthy runners for fragments and wait for them.

        Args:
            owned: For each runner the environments to sample.

        Returns:
            The answers in the order of the runners, and the env ids of the fragments that were lost.

        Raises:
            RuntimeError: A runner died and that is not tolerated.
            Exception: What a runner's environment, callback or connector raised.
        """
        answers: list[Sampled] = []
        lost: list[str] = []
        self.ask(owned)
        for request in self._open.values():
            request.waited_since = min(request.waited_since, time.monotonic())
        while self._open:
            punctual = [request for request in self._open.values() if request.age < self._timeout_s]
            if not punctual and answers:
                break  # what is late may come in a later round
            patience = self._timeout_s if punctual else PATIENCE * self._timeout_s
            oldest = max(request.age for request in punctual or self._open.values())
            by_reference = {request.references[0]: request for request in self._open.values()}
            ready, _ = ray.wait(list(by_reference), timeout=max(0.0, patience - oldest))
            for reference in ready:
                request = by_reference[reference]
                del self._open[request.worker]
                answer = self._answer(request)
                if answer is None:
                    lost += request.env_ids
                else:
                    answers.append(answer)
            for request in list(self._open.values()):
                lost += self._check_age(request)
        return sorted(answers, key=lambda answer: answer.worker), lost

    def forget(self) -> None:
        """Take no answers to what was asked before."""
        self._open.clear()

    def _ask(self, worker: int, env_ids: tuple[str, ...]) -> _Request:
        sample = self._manager.actors()[worker].sample_fragments.options(num_returns=1 + len(env_ids))
        references = sample.remote(env_ids)
        return _Request(worker=worker, env_ids=env_ids, references=references)

    def _answer(self, request: _Request) -> Sampled | None:
        try:
            report = ray.get(request.references[0])
        except RayError as error:
            if not self._tolerate_failures:
                raise RuntimeError(
                    f"{request} failed while sampling. To go on without its fragments and replace it, set "
                    "fault_tolerance(restart_failed_env_runners=True)."
                ) from error
            logger.error("The fragments of %s are lost: %s: %s", request, type(error).__name__, error)
            if not isinstance(error, RayTaskError):
                self._manager.set_actor_state(request.worker, healthy=False)
            return None
        if isinstance(report, SamplingFailure):
            report.reraise()
        references = dict(zip(request.env_ids, request.references[1:], strict=True))
        return Sampled(
            worker=request.worker,
            report=report,
            fragments={env_id: references[env_id] for env_id in report.steps},
        )

    def _check_age(self, request: _Request) -> list[str]:
        """Note that a request is late, and replace a runner that is far too late; returns the fragments lost so."""
        if request.age >= self._timeout_s and not request.is_late:
            request.is_late = True
            logger.warning(
                "%s has not answered within sample_timeout_s=%g; going on without it until it does.",
                request,
                self._timeout_s,
            )
        if request.age < PATIENCE * self._timeout_s:
            return []
        logger.error("%s has not answered within %g s; it is replaced.", request, PATIENCE * self._timeout_s)
        del self._open[request.worker]
        ray.kill(self._manager.actors()[request.worker], no_restart=False)
        self._manager.set_actor_state(request.worker, healthy=False)
        return list(request.env_ids)
