"""Which worker owns which environments."""

from __future__ import annotations

from collections.abc import Mapping

from rllib_multienv.spec import SpaceSpec


def environment_cost(space_spec: SpaceSpec, num_envs: int) -> float:
    """Estimated cost of one time step of ``num_envs`` copies, in arbitrary units.

    The networks' work grows with the lengths of the observation and action sequences, the simulator's roughly with the
    observation size too; the constant stands for what every environment costs whatever its size.
    """
    return num_envs * (8.0 + space_spec.obs_size + space_spec.action_size)


def assign_environments(costs: Mapping[str, float], num_workers: int) -> list[tuple[str, ...]]:
    """Distribute environments over workers so that the largest load is small.

    Each environment goes to the least loaded worker, dearest first (longest processing time rule). With more workers
    than environments, each remaining worker shares the environment whose copies' load per worker is the largest. No
    environment is ever left out, and no worker is left without one.

    Args:
        costs: Cost of each environment.
        num_workers: Number of workers, at least one.

    Returns:
        For each worker the ids of its environments, in the order of ``costs``.

    Raises:
        ValueError: There is no environment or no worker.
    """
    if not costs:
        raise ValueError("There are no environments to assign; pass at least one to `environment(envs=[...])`.")
    if num_workers < 1:
        raise ValueError(f"Environments need at least one worker to own them, not {num_workers}.")
    order = {env_id: i for i, env_id in enumerate(costs)}
    dearest_first = sorted(costs, key=lambda env_id: (-costs[env_id], order[env_id]))
    owned: list[list[str]] = [[] for _ in range(num_workers)]
    if num_workers >= len(costs):
        owners = dict.fromkeys(costs, 0)
        for worker in range(num_workers):
            if worker < len(costs):
                env_id = dearest_first[worker]
            else:
                env_id = max(dearest_first, key=lambda e: costs[e] / owners[e])
            owned[worker].append(env_id)
            owners[env_id] += 1
    else:
        loads = [0.0] * num_workers
        for env_id in dearest_first:
            worker = min(range(num_workers), key=lambda w: loads[w])
            owned[worker].append(env_id)
            loads[worker] += costs[env_id]
    return [tuple(sorted(ids, key=order.__getitem__)) for ids in owned]
