"""What an agent takes along into other environments."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from rllib_multienv.checkpoints import AgentCheckpoint
from rllib_multienv.nets import Interface, environment_of


def carried_over_state(
    checkpoint: AgentCheckpoint,
    state: Mapping[str, Any],
    interfaces: Mapping[str, Interface],
    path: str | Path,
    *,
    part: str = "weights",
) -> dict[str, Tensor]:
    """The parameters that a network of other environments takes over from an agent.

    Everything shared is taken over and must fit. What belongs to one environment (see `environment_of`) is taken over
    for environments that both know under the same id with the same sizes; what belongs to others is left behind, and
    environments that the agent does not know keep the fresh parameters that they have.

    Args:
        checkpoint: The agent, with its weights.
        state: State dict of the network that takes over; only names and shapes are looked at.
        interfaces: Its environments.
        path: Where the checkpoint is, for errors.
        part: What of the agent: ``"weights"`` of policy and V, or ``"action_values"``.

    Returns:
        The part of ``state`` that changes, with its new values.

    Raises:
        ValueError: Something that should be taken over has another shape, or is missing here or there.
    """
    known = {env_id for env_id, spaces in checkpoint.space_specs.items() if _alike(spaces, interfaces.get(env_id))}
    theirs = {name: tensor for name, tensor in (getattr(checkpoint, part) or {}).items() if _is_in(name, known)}
    there = {name: tuple(tensor.shape) for name, tensor in theirs.items()}
    here = {name: tuple(array.shape) for name, array in state.items() if _is_in(name, known)}
    differing = sorted(name for name in there.keys() | here.keys() if there.get(name) != here.get(name))
    if differing:
        name = differing[0]
        raise ValueError(
            f"Checkpoint {str(path)!r}: the network there does not fit the environments of this run, at {name!r} "
            f"({_shape(there.get(name))} there, {_shape(here.get(name))} here) and {len(differing) - 1} others."
        )
    return theirs


def _alike(left: Interface, right: Interface | None) -> bool:
    """Whether parameters for the one have the sizes, and the meaning, of those for the other."""
    return right is not None and all(
        getattr(left, name) == getattr(right, name) for name in ("obs_size", "action_size", "discrete")
    )


def _is_in(name: str, env_ids: set[str]) -> bool:
    """Whether a parameter is shared, or belongs to one of these environments."""
    env_id = environment_of(name)
    return env_id is None or env_id in env_ids


def _shape(shape: tuple[int, ...] | None) -> str:
    return "missing" if shape is None else str(shape)
