"""Fragments of all environments, whether one local runner or many remote ones sample them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import ray
from ray.rllib.env.env_runner_group import EnvRunnerGroup

from rllib_multienv.env_runners import environment_cost
from rllib_multienv.env_runners.ownership import Ownership
from rllib_multienv.env_runners.sample_requests import SampleRequests


@dataclass(frozen=True, kw_only=True)
class SampledRound:
    """What was sampled in one round.

    Attributes:
        fragments: ``{env_id: [(chunks or their reference, steps), ...]}`` in the order of the configuration, whichever
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


def environment_costs(config: Any) -> dict[str, float]:
    """Estimated cost of one time step of all copies of each environment."""
    return {
        spec.id: environment_cost(config.space_specs[spec.id], config.num_copies(spec)) for spec in config.env_specs
    }


class OnlineSampling:
    """Asks the runners of a group for fragments."""

    def __init__(self, group: EnvRunnerGroup, config: Any) -> None:
        self._group = group
        self._config = config
        self._ownership: Ownership | None = None
        if group.num_remote_env_runners():
            self._ownership = Ownership(costs=environment_costs(config), workers=group._worker_manager.actor_ids())
            self._requests = SampleRequests(
                group,
                timeout_s=config.sample_timeout_s,
                tolerate_failures=config.restart_failed_env_runners or config.ignore_env_runner_failures,
            )

    def change_environments(self, config: Any) -> None:
        """The environments of the run are those of ``config`` now."""
        self._config = config
        if self._ownership is not None:
            self._ownership.change(environment_costs(config))

    def round(self) -> SampledRound:
        """Sample one fragment of every environment from every runner that owns it.

        An environment is missing if it could not be sampled this time.
        """
        found: dict[str, list[tuple[Any, int]]] = {spec.id: [] for spec in self._config.env_specs}
        lost: list[str] = []
        nodes: dict[str, str] = {}
        unwanted: dict[str, int] = {}
        connectors: dict[int, Any] = {}
        if self._ownership is None:
            sampled = self._group.local_env_runner.sample_by_environment()
            for env_id, chunks in sampled.items():
                # Several remote learners may need the same fragment: it goes to the object store once.
                data = ray.put(chunks) if self._config.num_learners > 1 else chunks
                found[env_id].append((data, sum(map(len, chunks))))
            metrics = [self._group.local_env_runner.get_metrics()]
        else:
            present = self._group.healthy_env_runner_ids()
            owned = self._ownership.owned(present)
            unsampled = self._ownership.unsampled(present)
            answers, lost = self._requests.collect(owned)
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
        overwrite what that one has seen. Here a late runner keeps it until it answers.

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

    def begin_next(self) -> None:
        """Let remote runners begin the fragments of the next round, with the weights that they have."""
        if self._ownership is not None:
            self._requests.ask(self._ownership.owned(self._group.healthy_env_runner_ids()))

    def forget(self) -> None:
        """Do not use what is being sampled now: it is of an agent that is no more."""
        if self._ownership is not None:
            self._requests.forget()

    def describe(self) -> str:
        """Which runner samples which environments; empty where the local one samples all."""
        return "" if self._ownership is None else self._ownership.describe()


def near_their_learners(
    costs: Mapping[str, float], nodes: Mapping[str, str], learner_nodes: list[str]
) -> dict[str, float]:
    """``costs`` in an order in which environments stand with those learners that are on their node.

    Learners take their shares in this order, so that experience stays on a node where it can (DD-PPO).

    Args:
        costs: By env id.
        nodes: Node on which each environment is sampled; unknown where missing.
        learner_nodes: Node of each learner.
    """
    first_learner = {node: learner for learner, node in reversed(list(enumerate(learner_nodes)))}
    anywhere = len(learner_nodes)
    return dict(sorted(costs.items(), key=lambda item: first_learner.get(nodes.get(item[0], ""), anywhere)))
