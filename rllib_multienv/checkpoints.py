"""What a checkpoint holds of an agent, readable without Ray.

RLlib's own files in a checkpoint folder restore an algorithm. Beside them stand two files of this package:
``multienv.json`` (environments, spaces, network configuration, normalisation statistics, versions) and
``multienv_network.pt`` (the network's state dict). They are enough to act, or to start another run from the agent.
"""

from __future__ import annotations

import importlib.metadata
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch

from rllib_multienv.nets import ActorCritic, NetConfig, net_config_from_dict
from rllib_multienv.normalization import Moments
from rllib_multienv.spec import EnvSpec, SpaceSpec

DESCRIPTION_FILE = "multienv.json"
NETWORK_FILE = "multienv_network.pt"
FORMAT = 1
_PACKAGES = ("rllib_multienv", "ray", "torch", "gymnasium", "mujoco", "numpy")


@dataclass(frozen=True, kw_only=True)
class AgentCheckpoint:
    """An agent as a checkpoint describes it.

    Attributes:
        space_specs: Spaces of the environments that it was trained on, by env id.
        env_specs: How to make them; without those whose factory could not be written down.
        network: The network's configuration.
        obs_moments: Statistics of raw observations by env id; empty if observations were not normalised.
        reward_moments: Statistics of discounted returns by env id.
        weights: The network's state dict; None if it was not asked for.
        versions: Versions of the packages that wrote it.
        environments_changed: Whether the run was begun with other environments (``add_env``, ``remove_env``).
    """

    space_specs: Mapping[str, SpaceSpec]
    env_specs: Mapping[str, EnvSpec]
    network: NetConfig
    obs_moments: Mapping[str, Moments]
    reward_moments: Mapping[str, Moments]
    weights: Mapping[str, torch.Tensor] | None = None
    versions: Mapping[str, str] = field(default_factory=dict)
    environments_changed: bool = False

    def to_files(self) -> dict[str, bytes]:
        """Contents of the two files, by name."""
        environments = []
        for env_id, spaces in self.space_specs.items():
            try:
                spec = self.env_specs[env_id].to_dict()
            except (KeyError, ValueError):
                spec = None  # made by a function that has no importable name: it can be acted in, not made
            environments.append(
                {
                    "id": env_id,
                    "spec": spec,
                    "spaces": spaces.to_dict(),
                    "obs_moments": self.obs_moments[env_id].to_dict() if env_id in self.obs_moments else None,
                    "reward_moments": self.reward_moments[env_id].to_dict() if env_id in self.reward_moments else None,
                }
            )
        description = {
            "format": FORMAT,
            "environments": environments,
            "environments_changed": self.environments_changed,
            "network": self.network.to_dict(),
            "versions": dict(self.versions) or _installed_versions(),
        }
        weights = io.BytesIO()
        torch.save(dict(self.weights or {}), weights)
        return {
            DESCRIPTION_FILE: json.dumps(description, indent=1).encode(),
            NETWORK_FILE: weights.getvalue(),
        }


def check_network_config(checkpoint: AgentCheckpoint, mine: NetConfig, path: str | Path) -> None:
    """Raise a ValueError that names the difference if the checkpoint's network has another configuration.

    ``dropout`` may differ: it changes no parameter.
    """
    own, theirs = mine.to_dict(), checkpoint.network.to_dict()
    for name in sorted(own.keys() | theirs.keys(), key=lambda n: (n != "type", n)):
        if name != "dropout" and own.get(name) != theirs.get(name):
            raise ValueError(
                f"Checkpoint {str(path)!r} has another network: {name}={theirs.get(name)!r} there, "
                f"{own.get(name)!r} in this configuration. Use rl_module(model_config={theirs!r})."
            )


def check_weights_fit(checkpoint: AgentCheckpoint, network: ActorCritic, path: str | Path) -> None:
    """Raise a ValueError if the checkpoint's weights cannot be loaded strictly into ``network``."""
    own = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    theirs = {name: tuple(tensor.shape) for name, tensor in (checkpoint.weights or {}).items()}
    differing = sorted(name for name in own.keys() | theirs.keys() if own.get(name) != theirs.get(name))
    if differing:
        raise ValueError(
            f"Checkpoint {str(path)!r}: the network there does not fit, for instance at {differing[0]!r} (there "
            f"{theirs.get(differing[0])}, here {own.get(differing[0])})."
        )
    table = getattr(checkpoint.network, "context", None) == "embedding"
    if table and [*network.interfaces] != [*checkpoint.space_specs]:
        # The rows of the table belong to environments by their order, so that sizes alone could fit.
        raise ValueError(
            f'Checkpoint {str(path)!r}: with context="embedding" the network has parameters of its own for each of '
            f"{', '.join(checkpoint.space_specs)}, which cannot be carried over to {', '.join(network.interfaces)}."
        )


def _installed_versions() -> dict[str, str]:
    versions = {}
    for package in _PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def read_checkpoint(path: str | Path, *, weights: bool = True) -> AgentCheckpoint:
    """Read the agent in a checkpoint folder.

    Args:
        path: A folder that ``algo.save_to_path`` or Tune wrote.
        weights: Whether to read the network's weights too.

    Raises:
        FileNotFoundError: There is no such folder.
        ValueError: The folder is not a checkpoint of this package, or of a newer version of it.
    """
    folder = Path(path)
    if not folder.exists():
        raise FileNotFoundError(f"There is no checkpoint {str(path)!r}: the folder does not exist.")
    description_file = folder / DESCRIPTION_FILE
    if not description_file.is_file():
        raise ValueError(
            f"{str(path)!r} is not a checkpoint of rllib_multienv: it has no file {DESCRIPTION_FILE}. Give a folder "
            "that algo.save_to_path() returned, or a checkpoint_* folder of a Tune run."
        )
    try:
        description = json.loads(description_file.read_text())
    except json.JSONDecodeError as error:
        raise ValueError(f"Checkpoint {str(path)!r}: {DESCRIPTION_FILE} is damaged ({error}).") from error
    if description.get("format") != FORMAT:
        raise ValueError(
            f"Checkpoint {str(path)!r} has format {description.get('format')!r}; this version reads format {FORMAT}."
        )
    environments = description["environments"]
    return AgentCheckpoint(
        space_specs={e["id"]: SpaceSpec.from_dict(e["spaces"]) for e in environments},
        env_specs={e["id"]: EnvSpec.from_dict(e["spec"]) for e in environments if e["spec"]},
        network=net_config_from_dict(description["network"]),
        obs_moments={e["id"]: Moments.from_dict(e["obs_moments"]) for e in environments if e["obs_moments"]},
        reward_moments={e["id"]: Moments.from_dict(e["reward_moments"]) for e in environments if e["reward_moments"]},
        weights=torch.load(folder / NETWORK_FILE, map_location="cpu", weights_only=True) if weights else None,
        versions=description["versions"],
        environments_changed=description.get("environments_changed", False),
    )
