"""The agent's files in a checkpoint, readable without Ray, and the checkpoint that a path stands for.

RLlib's own files in a checkpoint folder restore an algorithm. Beside them are two files of this package:
``multienv.json`` (environments, spaces, network configuration, normalisation statistics, versions) and
``multienv_network.pt`` (the network's state dict). They are enough to act, or to start another run from the agent.
Offline algorithms add ``multienv_action_values.pt``, the state dict of Q, for other offline runs to start from.

``multienv.json`` is written last and lists all files of the checkpoint with their sizes and checksums, so a folder
whose writer was killed, or that was copied in part, is recognised as incomplete.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from rllib_multienv.atomic_files import interrupted_writes
from rllib_multienv.nets import NetConfig, net_config_from_dict
from rllib_multienv.normalization import Moments
from rllib_multienv.spec import EnvSpec, SpaceSpec

DESCRIPTION_FILE = "multienv.json"
NETWORK_FILE = "multienv_network.pt"
ACTION_VALUES_FILE = "multienv_action_values.pt"
FORMAT = 1
#: Trained agents that come with the package (docs/make_agent.py).
SHIPPED = Path(__file__).with_name("agents")
#: The way to adapt of agents that have no other.
BY_MEMORY: Mapping[str, Any] = {"type": "memory"}
_PACKAGES = ("rllib_multienv", "ray", "torch", "gymnasium", "mujoco", "numpy")


@dataclass(frozen=True, kw_only=True)
class AgentCheckpoint:
    """The agent of a checkpoint.

    Attributes:
        space_specs: Spaces of the environments that it was trained on, by env id.
        env_specs: Specifications of these environments, without those whose factory could not be written down.
        network: The network's configuration.
        obs_moments: Statistics of raw observations by env id; empty if observations were not normalised.
        reward_moments: Statistics of discounted returns by env id.
        weights: The network's state dict; None if it was not read.
        action_values: State dict of Q; None if it was not read, or the algorithm has none.
        versions: Versions of the packages that wrote it.
        environments_changed: Whether the run started with other environments (``add_env``, ``remove_env``).
        adapter: The way in which the agent adapts to a task: ``type``, a name in `evaluation.adapters`, and its fields.
    """

    space_specs: Mapping[str, SpaceSpec]
    env_specs: Mapping[str, EnvSpec]
    network: NetConfig
    obs_moments: Mapping[str, Moments]
    reward_moments: Mapping[str, Moments]
    weights: Mapping[str, torch.Tensor] | None = None
    action_values: Mapping[str, torch.Tensor] | None = None
    versions: Mapping[str, str] = field(default_factory=dict)
    environments_changed: bool = False
    adapter: Mapping[str, Any] = field(default_factory=lambda: BY_MEMORY)

    def known_among(self, space_specs: Mapping[str, SpaceSpec]) -> set[str]:
        """Ids of the environments that are also in ``space_specs``, with observations of the same size."""
        return {
            env_id
            for env_id, spec in self.space_specs.items()
            if env_id in space_specs and space_specs[env_id].obs_size == spec.obs_size
        }

    def write(self, folder: Path, *, training: Mapping[str, float]) -> None:
        """Write these files into a folder on this machine that already holds all other files of the checkpoint.

        Args:
            folder: The checkpoint's folder.
            training: Progress of the training: ``training_iteration`` and ``time_total_s``, as in RLlib's results.
        """
        torch.save(dict(self.weights or {}), folder / NETWORK_FILE)
        if self.action_values is not None:
            torch.save(dict(self.action_values), folder / ACTION_VALUES_FILE)
        environments = []
        for env_id, spaces in self.space_specs.items():
            try:
                spec = self.env_specs[env_id].to_dict()
            except (KeyError, ValueError):
                spec = None  # its factory cannot be imported by name: the agent can act in it, not make it
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
            "adapter": dict(self.adapter),
            "versions": dict(self.versions) or installed_versions(),
            "training": dict(training),
            "files": {
                str(file.relative_to(folder)): {"bytes": file.stat().st_size, "sha256": _sha256(file)}
                for file in sorted(folder.rglob("*"))
                if file.is_file() and file != folder / DESCRIPTION_FILE
            },
        }
        (folder / DESCRIPTION_FILE).write_text(json.dumps(description, indent=1), encoding="utf-8")


def check_network_config(checkpoint: AgentCheckpoint, mine: NetConfig, path: str | Path) -> None:
    """Raise a ValueError that names the difference if the checkpoint's network has another configuration.

    ``dropout`` and ``max_seq_len`` may differ: no parameter depends on them.
    """
    own, theirs = mine.to_dict(), checkpoint.network.to_dict()
    for name in sorted(own.keys() | theirs.keys(), key=lambda n: (n != "type", n)):
        if name not in ("dropout", "max_seq_len") and own.get(name) != theirs.get(name):
            raise ValueError(
                f"Checkpoint {str(path)!r} has another network: {name}={theirs.get(name)!r} there, "
                f"{own.get(name)!r} in this configuration. Use rl_module(model_config={theirs!r})."
            )


def installed_versions() -> dict[str, str]:
    """Versions of the installed packages that results depend on."""
    versions = {}
    for package in _PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def _sha256(file: Path) -> str:
    with open(file, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def read_checkpoint(path: str | Path, *, weights: bool = True, filesystem: Any = None) -> AgentCheckpoint:
    """Read the agent in a checkpoint folder.

    Args:
        path: A folder that ``algo.save_to_path`` or Tune wrote, the folder of a run or a trial, or the name of an agent
            of the package (see :func:`find_checkpoint`).
        weights: Whether to read the network's weights too.
        filesystem: The pyarrow file system in which ``path`` is, if not on this machine; only without ``weights``.

    Raises:
        FileNotFoundError: There is no such folder.
        ValueError: The folder is not a checkpoint of this package, or of a newer version of it, or the file with the
            weights is not as it was written.
    """
    if filesystem is None:
        path = find_checkpoint(path)
    description = _read_description(path, filesystem)
    has_action_values = ACTION_VALUES_FILE in description.get("files", {})
    if weights:
        _check_file(path, NETWORK_FILE, description, filesystem)
        if has_action_values:
            _check_file(path, ACTION_VALUES_FILE, description, filesystem)
    environments = description["environments"]
    space_specs = {e["id"]: SpaceSpec.from_dict(e["spaces"]) for e in environments}
    return AgentCheckpoint(
        space_specs=space_specs,
        env_specs={
            e["id"]: EnvSpec.from_dict({**e["spec"], "description": space_specs[e["id"]].description})
            for e in environments
            if e["spec"]
        },
        network=net_config_from_dict(description["network"]),
        obs_moments={e["id"]: Moments.from_dict(e["obs_moments"]) for e in environments if e["obs_moments"]},
        reward_moments={e["id"]: Moments.from_dict(e["reward_moments"]) for e in environments if e["reward_moments"]},
        weights=_load_tensors(path, NETWORK_FILE) if weights else None,
        action_values=_load_tensors(path, ACTION_VALUES_FILE) if weights and has_action_values else None,
        versions=description["versions"],
        environments_changed=description.get("environments_changed", False),
        adapter=_adapter(description),
    )


def _adapter(description: Mapping[str, Any]) -> Mapping[str, Any]:
    if own := description.get("inner_loop"):  # as earlier versions wrote it
        return {"type": "inner_loop", **own}
    return dict(description.get("adapter", BY_MEMORY))


def _load_tensors(path: str | Path, name: str) -> dict[str, torch.Tensor]:
    tensors: dict[str, torch.Tensor] = torch.load(Path(path) / name, map_location="cpu", weights_only=True)
    return tensors


def find_checkpoint(path: str | Path, *, best: bool = False) -> Path:
    """The checkpoint that a path stands for: itself, or the newest complete one of a run's or a trial's folder.

    A run's folder may have a link ``checkpoint``, which says the trial that counts where there are several.

    Args:
        path: A checkpoint, or the folder of a run or a trial; or the name of an agent that the package ships, such as
            ``quickstart``, where there is no folder of that name.
        best: Take the run's best checkpoint in place of the newest.

    Raises:
        FileNotFoundError: There is no such folder, or no checkpoint in it.
    """
    path = Path(path)
    if not path.exists() and len(path.parts) == 1 and (SHIPPED / path / DESCRIPTION_FILE).is_file():
        path = SHIPPED / path
    if best:
        if not (path / "best_checkpoint").is_dir():
            raise FileNotFoundError(f"{str(path)!r} has no best_checkpoint. Give the folder of a run that saved one.")
        return path / "best_checkpoint"
    if not path.is_dir():
        raise FileNotFoundError(f"There is no checkpoint {str(path)!r}: the folder does not exist.{_hint(path)}")
    if (path / DESCRIPTION_FILE).is_file():
        return path
    found = sorted(
        (folder for trial in (path, *path.iterdir()) for folder in checkpoint_folders(trial)),
        key=lambda folder: (folder.stat().st_mtime, folder.name),
    )
    if (path / "checkpoint").is_dir():
        found.append((path / "checkpoint").resolve())
    if not found:
        if (path / "config.yaml").is_file():
            raise FileNotFoundError(f"The run in {str(path)!r} has no checkpoint yet.")
        return path
    trials = dict.fromkeys(folder.parent for folder in reversed(found))
    # Where none is complete, reading the latest one shows the reason.
    return next((newest for trial in trials if (newest := newest_complete(trial)) is not None), found[-1])


def checkpoint_folders(trial: Path) -> list[Path]:
    """The checkpoint folders of a trial, complete or not, the oldest first."""
    return sorted((path for path in trial.glob("checkpoint_*") if checkpoint_number(path) >= 0), key=checkpoint_number)


def checkpoint_number(folder: Path) -> int:
    """7 for a folder ``checkpoint_000007``, -1 for anything else."""
    match = re.fullmatch(r"checkpoint_(\d+)", folder.name)
    return int(match[1]) if match and folder.is_dir() else -1


def newest_complete(trial: Path) -> Path | None:
    """The newest complete checkpoint of a trial."""
    return next((path for path in reversed(checkpoint_folders(trial)) if incomplete_reason(path) is None), None)


def incomplete_reason(checkpoint: Path) -> str | None:
    """What is missing or changed in a checkpoint; None if it is complete."""
    try:
        check_complete(checkpoint)
    except (OSError, ValueError) as error:
        return str(error)
    return None


def check_complete(path: str | Path, filesystem: Any = None) -> None:
    """Check that a checkpoint has every file that it was written with, unchanged.

    Args:
        path: The folder.
        filesystem: The pyarrow file system in which ``path`` is, if not on this machine; there only the sizes are
            looked at.

    Raises:
        FileNotFoundError: There is no such folder.
        ValueError: It is no checkpoint of this package, or something in it is missing or changed.
    """
    description = _read_description(path, filesystem)
    for name in [NETWORK_FILE, *description.get("files", {})]:
        _check_file(path, name, description, filesystem)


def training_progress(path: str | Path) -> dict[str, float]:
    """How far the training was when a checkpoint was written: ``training_iteration`` and ``time_total_s``.

    Empty for a checkpoint of a version of this package that did not write it down.

    Raises:
        FileNotFoundError: There is no such folder.
        ValueError: It is no checkpoint of this package.
    """
    return dict(_read_description(path, None).get("training", {}))


def listed_files(path: str | Path) -> set[str]:
    """The files that the checkpoint in a folder consists of, as far as its description says; none if it has none."""
    try:
        description = _read_description(path, None)
    except (OSError, ValueError):
        return set()
    return {DESCRIPTION_FILE, NETWORK_FILE, *description.get("files", {})}


def _read_description(path: str | Path, filesystem: Any) -> dict[str, Any]:
    text = _read_local(path) if filesystem is None else _read_remote(path, filesystem)
    if text is None:
        raise ValueError(
            f"{str(path)!r} is not a checkpoint of rllib_multienv: it has no file {DESCRIPTION_FILE}. Give a folder "
            "that algo.save_to_path() returned, or the folder of a run, of a trial or of one of its checkpoints."
        )
    try:
        description = json.loads(text)
    except ValueError as error:
        raise ValueError(f"Checkpoint {str(path)!r}: {DESCRIPTION_FILE} is damaged ({error}).") from error
    if description.get("format") != FORMAT:
        raise ValueError(
            f"Checkpoint {str(path)!r} has format {description.get('format')!r}; this version reads format {FORMAT}."
        )
    return description


def _read_local(path: str | Path) -> bytes | None:
    if not Path(path).exists():
        raise FileNotFoundError(f"There is no checkpoint {str(path)!r}: the folder does not exist.{_hint(path)}")
    file = Path(path) / DESCRIPTION_FILE
    return file.read_bytes() if file.is_file() else None


def _hint(path: str | Path) -> str:
    aside = interrupted_writes(path, seal=DESCRIPTION_FILE)
    return f" A complete one is at {str(aside[-1])!r}: its writer was killed; rename it." if aside else ""


def _read_remote(path: str | Path, filesystem: Any) -> bytes | None:
    try:
        with filesystem.open_input_stream((Path(path) / DESCRIPTION_FILE).as_posix()) as stream:
            return stream.read()
    except FileNotFoundError:
        if filesystem.get_file_info(str(path)).type.name == "NotFound":
            raise FileNotFoundError(f"There is no checkpoint {str(path)!r}: the folder does not exist.") from None
        return None


def _check_file(path: str | Path, name: str, description: Mapping[str, Any], filesystem: Any) -> None:
    """Raise a ValueError if a file is missing or not as it was written."""
    file = Path(path) / name
    wanted = description.get("files", {}).get(name, {})
    if filesystem is None:
        size = file.stat().st_size if file.is_file() else None
    else:
        size = filesystem.get_file_info(file.as_posix()).size
    problem = None
    if size is None:
        problem = "is missing"
    elif size != wanted.get("bytes", size):
        problem = f"has {size} of {wanted['bytes']} bytes"
    elif filesystem is None and "sha256" in wanted and _sha256(file) != wanted["sha256"]:
        problem = "is not what was written"
    if problem:
        raise ValueError(
            f"Checkpoint {str(path)!r} is incomplete: {name} {problem}. Its writer was stopped before it was done, or "
            "the folder was changed or copied in part; take another checkpoint."
        )
