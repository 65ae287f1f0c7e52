"""A checkpoint of an agent that has learned nothing, without Ray."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from rllib_multienv import AgnosticNetConfig, EnvSpec
from rllib_multienv.checkpoints import AgentCheckpoint
from rllib_multienv.envs.make import probe_spaces


def save_untrained(folder: Path, env_ids: Sequence[str]) -> Path:
    """Write the checkpoint into a new folder, and return that."""
    specs = {env_id: EnvSpec(env_id) for env_id in env_ids}
    spaces = {env_id: probe_spaces(spec) for env_id, spec in specs.items()}
    config = AgnosticNetConfig(d_model=8, d_state=4)
    torch.manual_seed(0)
    weights = config.build(spaces).state_dict()
    folder.mkdir(parents=True)
    checkpoint = AgentCheckpoint(
        space_specs=spaces, env_specs=specs, network=config, obs_moments={}, reward_moments={}, weights=weights
    )
    checkpoint.write(folder, training={"training_iteration": 0, "time_total_s": 0.0})
    return folder
