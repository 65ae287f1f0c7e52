"""Assignment of environments to runners, and the order in which learners share them out."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from typing import Any

from rllib_multienv.spec import SpaceSpec

logger = logging.getLogger("ray.rllib")

#: Seconds after which other runners take over the environments of one that died; usually it is back within seconds.
ORPHANED_AFTER_S = 60.0


def environment_cost(space_spec: SpaceSpec, num_envs: int) -> float:
    """Estimated cost of one time step of ``num_envs`` copies, in arbitrary units.

    The networks' work grows with the lengths of the observation and action sequences and with the bytes of images and
    texts, the simulator's roughly with the observation size too; the constant is the cost of any environment.
    """
    return num_envs * (8.0 + space_spec.obs_size + space_spec.observation.extra / 32 + space_spec.action_size)


def assign_environments(
    costs: Mapping[str, float], num_workers: int, groups: Mapping[str, str] | None = None
) -> list[tuple[str, ...]]:
    """Distribute environments over workers so that the largest load is small.

    Each environment goes to the least loaded worker, dearest first (longest processing time rule). With more workers
    than environments, each remaining worker shares the environment whose copies' load per worker is the largest. No
    environment is ever left out, and no worker is left without one. The roles of a multi-agent environment,
    ``id@role``, stay together, and so do those with the same group.

    Args:
        costs: Cost of each environment.
        num_workers: Number of workers, at least one.
        groups: `EnvSpec.group` of the environments that are in worlds.

    Returns:
        For each worker the ids of its environments, in the order of ``costs``.

    Raises:
        ValueError: There is no environment or no worker.
    """
    if not costs:
        raise ValueError("There are no environments to assign; pass at least one to `environment(envs=[...])`.")
    if num_workers < 1:
        raise ValueError(f"Environments need at least one worker to own them, not {num_workers}.")
    members: dict[str, list[str]] = {}
    for env_id in costs:
        members.setdefault((groups or {}).get(env_id) or env_id.rpartition("@")[0] or env_id, []).append(env_id)
    of_group = {group: sum(costs[env_id] for env_id in env_ids) for group, env_ids in members.items()}
    dearest_first = sorted(of_group, key=lambda group: -of_group[group])  # of equal ones, in their order
    owned: list[list[str]] = [[] for _ in range(num_workers)]
    if num_workers >= len(members):
        owners = dict.fromkeys(members, 0)
        for worker in range(num_workers):
            if worker < len(members):
                group = dearest_first[worker]
            else:
                group = max(dearest_first, key=lambda g: of_group[g] / owners[g])
            owned[worker].append(group)
            owners[group] += 1
    else:
        loads = [0.0] * num_workers
        for group in dearest_first:
            worker = min(range(num_workers), key=lambda w: loads[w])
            owned[worker].append(group)
            loads[worker] += of_group[group]
    order = {env_id: i for i, env_id in enumerate(costs)}
    return [
        tuple(sorted((env_id for group in own for env_id in members[group]), key=order.__getitem__)) for own in owned
    ]


def environment_costs(config: Any) -> dict[str, float]:
    """Estimated cost of one time step of all copies of each environment."""
    return {spec.id: environment_cost(config.space_specs[spec.id], config.num_rows(spec)) for spec in config.env_specs}


def environment_groups(config: Any) -> dict[str, str]:
    """`EnvSpec.group` of each environment that is in a world."""
    return {spec.id: spec.group for spec in config.env_specs if spec.world}


class Ownership:
    """The assignment of environments to runners.

    While a runner is away its environments are not sampled. If it stays away (its node is gone, and no other has room
    for it), all environments are assigned to the runners that are left; when one comes back, to all again.
    """

    def __init__(
        self, *, costs: Mapping[str, float], workers: Sequence[int], groups: Mapping[str, str] | None = None
    ) -> None:
        """Set up.

        Args:
            costs: Cost of each environment.
            workers: Indices of the runners.
            groups: See `assign_environments`.
        """
        self._costs, self._groups = dict(costs), groups
        self._away_since: float | None = None
        self._assign(workers)

    def _assign(self, workers: Sequence[int]) -> None:
        parts = assign_environments(self._costs, len(workers), self._groups)
        self._owned = dict(zip(sorted(workers), parts, strict=True))

    def change(self, costs: Mapping[str, float], groups: Mapping[str, str] | None = None) -> None:
        """The environments of the run are others now."""
        self._costs, self._groups = dict(costs), groups
        self._assign(list(self._owned))

    def owned(self, present: Sequence[int]) -> dict[int, tuple[str, ...]]:
        """What each runner is to sample now.

        Args:
            present: Indices of the runners that can be asked.
        """
        away = self._owned.keys() - set(present)
        if not away:
            self._away_since = None
            if present and set(present) != self._owned.keys():
                self._assign(present)
        elif self._away_since is None:
            self._away_since = time.monotonic()
        elif present and time.monotonic() - self._away_since > ORPHANED_AFTER_S:
            logger.warning(
                "Env runners %s have been away for %g s; the others take over %s.",
                sorted(away),
                ORPHANED_AFTER_S,
                ", ".join(sorted({env_id for worker in away for env_id in self._owned[worker]})),
            )
            self._assign(present)
            self._away_since = None
        return {worker: env_ids for worker, env_ids in self._owned.items() if worker in present}

    def unsampled(self, present: Sequence[int]) -> list[str]:
        """Environments of the runners that are away."""
        return [env_id for worker, ids in self._owned.items() if worker not in present for env_id in ids]

    def describe(self) -> str:
        """One line for each runner: its environments."""
        return "\n".join(f"env runner {worker}: {', '.join(ids)}" for worker, ids in sorted(self._owned.items()))


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
