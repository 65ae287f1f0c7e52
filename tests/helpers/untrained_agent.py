"""A checkpoint of an agent that has learned nothing, without Ray."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from rllib_multienv import AgnosticNetConfig, EnvSpec
from rllib_multienv.checkpoints import AgentCheckpoint
from rllib_multienv.envs import probe_spaces, with_measurements
from rllib_multienv.nets import NetConfig

TINY_NET = AgnosticNetConfig(d_model=8, d_state=4)


def save_untrained(
    folder: Path,
    env_ids: Sequence[str],
    network: NetConfig = TINY_NET,
    change: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]] | None = None,
) -> Path:
    """Write the checkpoint into a new folder, and return that; ``change`` may change the weights first."""
    specs = {spec.id: spec for spec in map(EnvSpec, env_ids)}
    spaces = {env_id: probe_spaces(spec) for env_id, spec in specs.items()}
    if network.needs_measurements:
        spaces = {env_id: with_measurements(specs[env_id], one) for env_id, one in spaces.items()}
    torch.manual_seed(0)
    weights = network.build(spaces).state_dict()
    if change is not None:
        weights = change(weights)
    folder.mkdir(parents=True)
    checkpoint = AgentCheckpoint(
        space_specs=spaces, env_specs=specs, network=network, obs_moments={}, reward_moments={}, weights=weights
    )
    checkpoint.write(folder, training={"training_iteration": 0, "time_total_s": 0.0})
    return folder
