"""Checkpoints of an algorithm: RLlib's, with the agent's own files beside it; complete, or refused."""

from __future__ import annotations

import tempfile
import uuid
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.fs
import torch
from ray.rllib.algorithms.algorithm import Algorithm
from ray.rllib.core import COMPONENT_LEARNER, COMPONENT_RL_MODULE

from rllib_multienv.atomic_files import atomic_folder, upload_sealed
from rllib_multienv.checkpoints import (
    DESCRIPTION_FILE,
    AgentCheckpoint,
    check_complete,
    check_network_config,
    listed_files,
    read_checkpoint,
)
from rllib_multienv.connectors import NormalizeObservations, RewardScale
from rllib_multienv.modules import SHARED_MODULE
from rllib_multienv.normalization import Moments


class CheckpointingMixin(Algorithm):
    """Saves and restores an algorithm whose environments come and go (`MultiEnvAlgorithm`)."""

    config: Any
    _environments_changed: bool
    _departed: set[str]

    def _change_environments(self, config: Any) -> None:
        """Train on the environments of this configuration from now on."""
        raise NotImplementedError

    def _send_to_runners(self, workers: list[int] | None = None) -> None:
        """Give runners the environments, the learner's weights and the statistics."""
        raise NotImplementedError

    def _module_state(self) -> dict[str, np.ndarray]:
        """The shared module's whole state dict, as arrays."""
        state = self.learner_group.get_state(components=f"{COMPONENT_LEARNER}/{COMPONENT_RL_MODULE}")
        return state[COMPONENT_LEARNER][COMPONENT_RL_MODULE][SHARED_MODULE]

    def agent_checkpoint(self) -> AgentCheckpoint:
        """The agent as it stands."""
        return self._describe(self._module_state())

    def _describe(self, state: Mapping[str, np.ndarray]) -> AgentCheckpoint:
        """The agent whose shared module has this state dict."""
        moments: dict[type, dict[str, Moments]] = {NormalizeObservations: {}, RewardScale: {}}
        for piece in self.env_runner.statistics:
            moments[type(piece)] = {env_id: shared.total() for env_id, shared in piece.moments().items()}
        return AgentCheckpoint(
            space_specs=self.config.space_specs,
            env_specs={spec.id: spec for spec in self.config.env_specs},
            network=self.config.network_config,
            obs_moments=moments[NormalizeObservations],
            reward_moments=moments[RewardScale],
            weights=part_of(state, "network"),
            environments_changed=self._environments_changed,
            adapter=self.config.adapter,
        )

    def save_to_path(self, path: Any = None, *, state: Any = None, filesystem: Any = None, **kwargs: Any) -> str:
        """RLlib's checkpoint, and beside it the agent's own two files (see :mod:`rllib_multienv.checkpoints`).

        On this machine the checkpoint is written whole or not at all: killed at any moment, an earlier checkpoint at
        ``path`` or the new one is there, complete (:func:`rllib_multienv.atomic_files.atomic_folder` names the file
        systems that cannot promise that). Other files in the folder ``path`` stay.

        In another file system the earlier checkpoint is lost once the upload begins. ``multienv.json`` is removed
        first and written last, so that a folder that is not complete is refused by all that read checkpoints. To keep
        the earlier one until then, give every checkpoint its own path.

        Args:
            path: A folder, a URI, or a ``ray.train.Checkpoint``; where not given, a new temporary folder.
            state: See ``Checkpointable.save_to_path``.
            filesystem: Where ``path`` is, if neither local nor told by a URI.
            kwargs: See ``Checkpointable.save_to_path``.

        Returns:
            The folder.

        Raises:
            NotADirectoryError: There is a file at ``path``.
        """
        path, filesystem = _locate(path, filesystem)
        path = path or str(Path(tempfile.gettempdir(), str(uuid.uuid4())))
        if filesystem is None:
            with atomic_folder(path, seal=DESCRIPTION_FILE, known=listed_files(path)) as folder:
                self._write_checkpoint(folder, state, kwargs)
        else:
            with tempfile.TemporaryDirectory() as local:
                self._write_checkpoint(Path(local), state, kwargs)
                upload_sealed(Path(local), filesystem, path, seal=DESCRIPTION_FILE)
        return path

    def _write_checkpoint(self, folder: Path, state: Any, kwargs: dict[str, Any]) -> None:
        super().save_to_path(str(folder), state=state, **kwargs)
        training = {"training_iteration": self.training_iteration, "time_total_s": self._time_total}
        self.agent_checkpoint().write(folder, training=training)

    def restore_from_path(self, path: Any, *args: Any, filesystem: Any = None, **kwargs: Any) -> None:
        """Restore everything.

        Raises:
            FileNotFoundError: There is no such folder.
            ValueError: It is no checkpoint of this package, an incomplete one, or one of another network or of other
                environments. The algorithm is as it was before.
        """
        path, filesystem = _locate(path, filesystem)
        if not kwargs.get("component"):
            check_complete(path, filesystem)
            checkpoint = read_checkpoint(path, weights=False, filesystem=filesystem)
            check_network_config(checkpoint, self.config.network_config, path)
            self._check_environments(checkpoint, path)
        super().restore_from_path(path, *args, filesystem=filesystem, **kwargs)
        self._send_to_runners()

    def _check_environments(self, checkpoint: AgentCheckpoint, path: Any) -> None:
        own, theirs = self.config.space_specs, checkpoint.space_specs
        if checkpoint.environments_changed and checkpoint.env_specs.keys() == theirs.keys() != own.keys():
            # The run was begun with the environments of this configuration, and its checkpoint has those of later.
            self._change_environments(self.config.with_environments(list(checkpoint.env_specs.values())))
            own = self.config.space_specs
        for env_id in [*theirs, *own]:
            if env_id not in own or env_id not in theirs or not own[env_id].has_spaces_of(theirs[env_id]):
                raise ValueError(
                    f"Checkpoint {str(path)!r} is of other environments than this run, for instance {env_id!r}; there: "
                    f"{', '.join(theirs)}. To start from its agent, build a new algorithm with "
                    "config.initialize_from(path)."
                )
            ours, there = own[env_id].description, theirs[env_id].description
            if ours != there:
                raise ValueError(
                    f"Checkpoint {str(path)!r} describes {env_id!r} to the network as {there!r}, this run as {ours!r}. "
                    f"Write EnvSpec({env_id!r}, ..., description={there!r})."
                )
        # Measured descriptions are part of the agent, also where this machine would measure otherwise.
        measured = {
            env_id: replace(spec, obs_measured=there.obs_measured, action_measured=there.action_measured)
            for env_id, spec in own.items()
            for there in (theirs[env_id],)
        }
        if measured != own:
            config = self.config.copy(copy_frozen=False)
            config.space_specs = measured
            config.freeze()
            self._change_environments(config)

    @classmethod
    def from_checkpoint(cls, path: Any, filesystem: Any = None, **kwargs: Any) -> Any:
        """Build the algorithm that a checkpoint holds and restore it.

        Args:
            path: A folder, a URI, or a ``ray.train.Checkpoint``.
            filesystem: Where ``path`` is, if neither local nor told by a URI.
            kwargs: See ``Algorithm.from_checkpoint``.

        Raises:
            FileNotFoundError: There is no such folder.
            ValueError: It is no checkpoint of this package, or an incomplete one.
        """
        path, filesystem = _locate(path, filesystem)
        check_complete(path, filesystem)
        return super().from_checkpoint(path, filesystem, **kwargs)

    def get_ctor_args_and_kwargs(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """RLlib's, without the agent that this run began from: its checkpoint may have been deleted by then."""
        (config,), kwargs = super().get_ctor_args_and_kwargs()
        return ({**config, "initial_checkpoint": None},), kwargs

    def get_state(self, *args: Any, **kwargs: Any) -> Any:
        """RLlib's, and the environments that were removed."""
        return {**super().get_state(*args, **kwargs), "departed": sorted(self._departed)}

    def set_state(self, state: Any) -> None:
        """Take over a saved state."""
        super().set_state(state)
        self._departed = {*state.get("departed", ())} - {spec.id for spec in self.config.env_specs}


def part_of(state: Mapping[str, np.ndarray], part: str) -> dict[str, torch.Tensor]:
    """The state dict of a child, from that of its parent."""
    return {
        name.removeprefix(f"{part}."): torch.as_tensor(np.array(array))
        for name, array in state.items()
        if name.startswith(f"{part}.")
    }


def _locate(path: Any, filesystem: Any) -> tuple[str | None, Any]:
    """Where a checkpoint is: an absolute local path and no file system, or a path in a file system."""
    if path is None:
        return None, filesystem
    if filesystem is None and hasattr(path, "filesystem"):  # a ray.train.Checkpoint
        path, filesystem = path.path, path.filesystem
    elif filesystem is None and "://" in str(path):
        filesystem, path = pyarrow.fs.FileSystem.from_uri(str(path))
    if filesystem is None or isinstance(filesystem, pyarrow.fs.LocalFileSystem):
        return str(Path(path).absolute()), None
    return str(path), filesystem
