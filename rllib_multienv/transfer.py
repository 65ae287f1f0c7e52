"""Transfer: training that starts from an agent of other environments (``config.initialize_from``)."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from rllib_multienv.checkpoints import AgentCheckpoint, check_network_config, read_checkpoint
from rllib_multienv.envs.measure import random_rollout
from rllib_multienv.nets import (
    ActorCritic,
    Interface,
    NetConfig,
    env_key,
    environment_of,
    frozen_parameters,
    is_in_parts,
    owning_environments,
    parameters_of_parts,
)
from rllib_multienv.normalization import Moments, RewardNormalizer
from rllib_multienv.spec import EnvSpec, SpaceSpec


def transferred_state(
    checkpoint: AgentCheckpoint,
    state: Mapping[str, Any],
    interfaces: Mapping[str, Interface],
    path: str | Path,
    *,
    part: str = "weights",
) -> dict[str, Tensor]:
    """The parameters that a network of other environments gets from an agent.

    Everything shared is transferred and must fit. Parameters of one environment (see `environment_of`) are transferred
    where both know it under the same id with the same sizes. Those of other environments stay behind, and environments
    that the agent does not know keep their fresh parameters.

    Args:
        checkpoint: The agent, with its weights.
        state: State dict of the new network; only names and shapes are looked at.
        interfaces: Its environments.
        path: Where the checkpoint is, for errors.
        part: ``"weights"`` (policy and V) or ``"action_values"``.

    Returns:
        The part of ``state`` that changes, with its new values.

    Raises:
        ValueError: A parameter that should be transferred has another shape, or is missing here or there.
    """
    known = {env_id for env_id, spaces in checkpoint.space_specs.items() if _alike(spaces, interfaces.get(env_id))}

    def shared_or_known(name: str) -> bool:
        return (env_id := environment_of(name)) is None or env_id in known

    theirs = {name: tensor for name, tensor in (getattr(checkpoint, part) or {}).items() if shared_or_known(name)}
    there = {name: tuple(tensor.shape) for name, tensor in theirs.items()}
    here = {name: tuple(array.shape) for name, array in state.items() if shared_or_known(name)}
    differing = sorted(name for name in there.keys() | here.keys() if there.get(name) != here.get(name))
    if differing:
        name = differing[0]
        raise ValueError(
            f"Checkpoint {str(path)!r}: the network there does not fit the environments of this run, at {name!r} "
            f"({there.get(name, 'missing')} there, {here.get(name, 'missing')} here) and {len(differing) - 1} others."
        )
    return theirs


def _alike(left: Interface, right: Interface | None) -> bool:
    """Whether parameters for the one have the sizes, and the meaning, of those for the other."""
    return right is not None and left.obs_size == right.obs_size and left.action == right.action


def random_moments(spec: EnvSpec, spaces: SpaceSpec, gamma: float = 0.99) -> tuple[Moments, Moments]:
    """Moments of the observation's numbers ``[I]`` and of the discounted return ``[1]`` of random actions.

    An agent that comes to a new environment normalises with these at first, because it has learned from normalised
    numbers. They weigh as 1,000 steps, so that what it sees itself soon counts for more.

    Raises:
        EnvFailure: The environment failed.
        NonFiniteError: It gave an observation or a reward that is not finite.
    """
    rollout = random_rollout(spec, spaces)
    returns = RewardNormalizer(rollout.rewards.shape[1], gamma)
    returns.observe(rollout.rewards, rollout.dones, rollout.valid)
    obs, discounted = Moments.of(rollout.obs[rollout.valid]), returns.moments.total()
    return obs.weighing(1000.0), discounted.weighing(1000.0)


def shrink_and_perturb(
    trained: Mapping[str, np.ndarray], fresh: Mapping[str, np.ndarray], *, share: float, whole: Collection[str] = ()
) -> dict[str, np.ndarray]:
    """``share * trained + (1 - share) * fresh`` (Ash and Adams 2020, arXiv 1910.08475).

    The noise that is added to the shrunk parameters is a fresh network's, which has the right size for every layer.

    Args:
        trained: Parameters by name.
        fresh: The same of a network that has not learned anything; it may have others besides.
        share: In (0, 1].
        whole: Parts of the network whose trained parameters are taken as they are.
    """
    if share == 1.0:
        return dict(trained)
    return {
        name: value if is_in_parts(name, whole) else (share * value + (1.0 - share) * fresh[name]).astype(value.dtype)
        for name, value in trained.items()
    }


def check_transfer(
    network: ActorCritic,
    config: NetConfig,
    interfaces: Mapping[str, Interface],
    *,
    path: str | None,
    freeze: Collection[str],
    reset: Collection[str],
) -> None:
    """Check that a run can start from a checkpoint.

    Args:
        network: The run's network.
        config: Its configuration.
        interfaces: The run's environments.
        path: The checkpoint's folder; None: the run starts with a fresh network.
        freeze: Parts of the network that are not trained.
        reset: Parts that are not transferred.

    Raises:
        ValueError: The checkpoint's network is another one, or a part is unknown or cannot be frozen.
    """
    frozen = frozen_parameters(network, freeze)
    if both := frozen & parameters_of_parts(network, reset, setting="reset"):
        raise ValueError(f"{min(both)!r} would be frozen and reset at once: it would stay as it is at random.")
    if path is None:
        return
    checkpoint = read_checkpoint(path)
    check_network_config(checkpoint, config, path)
    known = transferred_state(checkpoint, network.state_dict(), interfaces, path)
    if fresh := owning_environments(frozen - known.keys()):
        raise ValueError(
            f"freeze={list(freeze)!r} would freeze parameters of {', '.join(sorted(fresh))}, which are not in the "
            "checkpoint: they would stay as they are at random. Freeze parts that all environments share, or those of "
            f"known ones (such as {env_key(next(iter(checkpoint.space_specs)))!r})."
        )
