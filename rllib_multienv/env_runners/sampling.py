"""Sampling, the driver's side: requests to runners with timeouts, failures, and what was sampled in a round."""

from __future__ import annotations

import logging
import math
import time
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NoReturn, Self

import ray
from ray import cloudpickle
from ray.exceptions import RayError, RayTaskError
from ray.rllib.env.env_runner_group import EnvRunnerGroup

from rllib_multienv.env_runners.assignment import Ownership, environment_costs, environment_groups

logger = logging.getLogger("ray.rllib")

#: A runner that has not answered within so many times the timeout is replaced.
PATIENCE = 3


# Requests to remote runners


class RemoteTraceback(Exception):
    """The traceback of an error in another process, as text."""

    def __str__(self) -> str:
        return f"in an env runner:\n{self.args[0]}"


@dataclass(frozen=True)
class SamplingFailure:
    """An exception of user code (environment, callback, connector) that a remote runner returns instead of a sample.

    For RLlib a call that raises is a failed runner: by default it logs that and continues without the runner's
    environments, so a bug in an environment would be one line in a log. Runners that die are still left to RLlib.
    """

    error: Exception
    traceback: str

    @classmethod
    def of(cls, error: Exception) -> Self:
        """From an exception that is being handled."""
        text = "".join(traceback.format_exception(error))
        try:
            cloudpickle.loads(cloudpickle.dumps(error))
        except Exception:
            error = RuntimeError(f"{type(error).__name__}: {error}")
        return cls(error, text)

    def reraise(self) -> NoReturn:
        """Raise the exception here, with the other process's traceback as its cause."""
        raise self.error from RemoteTraceback(self.traceback)


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
        fragments: Object-store references of its rollouts, by env id.
    """

    worker: int
    report: SampleReport
    fragments: dict[str, ray.ObjectRef]


@dataclass(kw_only=True)
class _Request:
    worker: int
    env_ids: tuple[str, ...]
    references: list[ray.ObjectRef]  # of the report, then of each environment's rollout
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
    beyond the timeout: training continues without it, and its fragments are taken when they come, one or more updates
    old (PPO's ratio corrects for that). After :data:`PATIENCE` times the timeout it is replaced.

    Runners may be asked ahead of the round in which their answers are wanted: their timeout begins with that round.

    Rollouts are return values, so the driver owns them: they outlive a runner that dies after it has sampled.
    """

    def __init__(self, group: EnvRunnerGroup, *, timeout_s: float, tolerate_failures: bool) -> None:
        """Set up.

        Args:
            group: The runners.
            timeout_s: How long to wait for a runner.
            tolerate_failures: Whether to continue if a runner dies; otherwise that is an error.
        """
        self._manager = group._worker_manager
        self._timeout_s = timeout_s
        self._tolerate_failures = tolerate_failures
        self._open: dict[int, _Request] = {}

    def ask(self, owned: Mapping[int, tuple[str, ...]], lengths: Mapping[str, int]) -> None:
        """Ask all healthy runners that have nothing to answer yet, and wait for none of them.

        Args:
            owned: For each runner the environments that it owns.
            lengths: Time steps of each environment that is to be sampled, by env id.
        """
        for worker in self._manager.healthy_actor_ids():
            wanted = {env_id: lengths[env_id] for env_id in owned.get(worker, ()) if env_id in lengths}
            if worker not in self._open and wanted:
                self._open[worker] = self._ask(worker, owned[worker], wanted)

    def collect(
        self, owned: Mapping[int, tuple[str, ...]], lengths: Mapping[str, int]
    ) -> tuple[list[Sampled], list[str]]:
        """Ask all healthy runners for fragments and wait for them.

        Args:
            owned: For each runner the environments that it owns.
            lengths: Time steps of each environment that is to be sampled, by env id.

        Returns:
            The answers in the order of the runners, and the env ids of the fragments that were lost.

        Raises:
            RuntimeError: A runner died and that is not tolerated.
            Exception: What a runner's environment, callback or connector raised.
        """
        answers: list[Sampled] = []
        lost: list[str] = []
        self.ask(owned, lengths)
        for request in self._open.values():
            request.waited_since = min(request.waited_since, time.monotonic())
        while self._open:
            punctual = [request for request in self._open.values() if request.age < self._timeout_s]
            if not punctual and answers:
                break  # late answers may come in a later round
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
        """Ignore the answers to earlier requests."""
        self._open.clear()

    def _ask(self, worker: int, owned: tuple[str, ...], lengths: Mapping[str, int]) -> _Request:
        sample = self._manager.actors()[worker].sample_fragments.options(num_returns=1 + len(lengths))
        references = sample.remote(owned, lengths)
        return _Request(worker=worker, env_ids=tuple(lengths), references=references)

    def _answer(self, request: _Request) -> Sampled | None:
        try:
            report = ray.get(request.references[0])
        except RayError as error:
            if not self._tolerate_failures:
                raise RuntimeError(
                    f"{request} failed while sampling. To continue without its fragments and replace it, set "
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
                "%s has not answered within sample_timeout_s=%g; continuing without it until it does.",
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


# One round


@dataclass(frozen=True, kw_only=True)
class SampledRound:
    """What was sampled in one round.

    Attributes:
        fragments: ``{env_id: [(rollout or its reference, steps), ...]}`` in the order of the configuration, whichever
            runner answered first.
        metrics: Of each runner.
        lost: Env ids of the fragments that died with their runner, or whose runner is away.
        nodes: Where the fragments of an environment are, by env id.
        unwanted: Steps of environments that were removed while a late runner sampled them, by env id.
        connectors: State of the connectors of each remote runner that answered, by its index.
    """

    fragments: dict[str, list[tuple[Any, int]]]
    metrics: list[Any]
    lost: list[str]
    nodes: dict[str, str]
    unwanted: dict[str, int]
    connectors: dict[int, Any]


class OnlineSampling:
    """Asks the runners of a group for fragments."""

    def __init__(self, group: EnvRunnerGroup, config: Any) -> None:
        self._group = group
        self._config = config
        self._ownership: Ownership | None = None
        if group.num_remote_env_runners():
            self._ownership = Ownership(
                costs=environment_costs(config),
                workers=group._worker_manager.actor_ids(),
                groups=environment_groups(config),
            )
            self._requests = SampleRequests(
                group,
                timeout_s=config.sample_timeout_s,
                tolerate_failures=config.restart_failed_env_runners or config.ignore_env_runner_failures,
            )

    def change_environments(self, config: Any) -> None:
        """The environments of the run are those of ``config`` now."""
        self._config = config
        if self._ownership is not None:
            self._ownership.change(environment_costs(config), environment_groups(config))

    def round(self, lengths: Mapping[str, int]) -> SampledRound:
        """Sample one fragment of each environment from every runner that owns it.

        An environment is missing if it could not be sampled this time. Runners that are late with an earlier request
        answer that one.

        Args:
            lengths: Time steps of the fragments, by env id; environments that are missing are not sampled.
        """
        found: dict[str, list[tuple[Any, int]]] = {spec.id: [] for spec in self._config.env_specs}
        lost: list[str] = []
        nodes: dict[str, str] = {}
        unwanted: dict[str, int] = {}
        connectors: dict[int, Any] = {}
        if self._ownership is None:
            for env_id, rollout in self._group.local_env_runner.sample_rollouts(lengths).items():
                # Several remote learners may need the same fragment: it goes to the object store once.
                data = ray.put(rollout) if self._config.num_learners > 1 else rollout
                found[env_id].append((data, rollout.steps))
            metrics = [self._group.local_env_runner.get_metrics()]
        else:
            present = self._group.healthy_env_runner_ids()
            owned = self._ownership.owned(present)
            unsampled = [env_id for env_id in self._ownership.unsampled(present) if env_id in lengths]
            answers, lost = self._requests.collect(owned, lengths)
            lost += unsampled
            for answer in answers:
                for env_id, reference in answer.fragments.items():
                    steps = answer.report.steps[env_id]
                    if env_id in found:
                        found[env_id].append((reference, steps))
                    else:
                        unwanted[env_id] = unwanted.get(env_id, 0) + steps
            metrics = [answer.report.metrics for answer in answers]
            nodes = {env_id: answer.report.node_id for answer in answers for env_id in answer.fragments}
            connectors = {answer.worker: answer.report.connectors for answer in answers}
        fragments = {env_id: fragments for env_id, fragments in found.items() if fragments}
        return SampledRound(
            fragments=fragments, metrics=metrics, lost=lost, nodes=nodes, unwanted=unwanted, connectors=connectors
        )

    def share_statistics(self, sampled: SampledRound, env_steps: int) -> None:
        """Merge the statistics of the runners that answered, and give them the whole of it.

        RLlib asks every runner for its state after each iteration: it would wait for one that is late, and then
        overwrite the statistics of that one. Here a late runner keeps them until it answers.

        Args:
            sampled: The round.
            env_steps: Steps sampled so far.
        """
        if self._ownership is None or sampled.connectors:
            self._group.sync_env_runner_states(
                config=self._config,
                env_steps_sampled=env_steps,
                connector_states=list(sampled.connectors.values()),
                env_runner_indices_to_update=list(sampled.connectors),
            )

    def begin_next(self, lengths: Mapping[str, int]) -> None:
        """Let remote runners begin the fragments of the next round (see `round`), with the weights that they have."""
        if self._ownership is not None:
            self._requests.ask(self._ownership.owned(self._group.healthy_env_runner_ids()), lengths)

    def forget(self) -> None:
        """Do not use what is being sampled now: it comes from an agent that was replaced."""
        if self._ownership is not None:
            self._requests.forget()

    def describe(self) -> str:
        """The assignment, a line for each runner; empty where the local one samples all."""
        return "" if self._ownership is None else self._ownership.describe()
