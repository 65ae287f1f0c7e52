"""Sampling with labels: training trials know their tasks, evaluation does not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from ray.rllib.core.columns import Columns

from rllib_multienv.algorithms.dream.module import LABELS
from rllib_multienv.env_runners import MultiEnvRunner
from rllib_multienv.env_runners.lockstep import Lockstep
from rllib_multienv.env_runners.owned_environment import OwnedEnvironment
from rllib_multienv.envs.copies import VectorStep


class TrialLabels:
    """Labels of the trials that B copies of one environment are in.

    Every second trial of a copy is told its task, and of each two copies one at a time. The noise is drawn with the
    trial.

    Args:
        environment: The copies, of a task family.
        size: Z, numbers of the noise.

    Attributes:
        environment: The copies.
    """

    def __init__(self, environment: OwnedEnvironment, size: int) -> None:
        self.environment = environment
        self._rng = np.random.default_rng(None if environment.seed is None else [environment.seed, 3])
        self._noise = np.zeros((environment.num_envs, size), np.float32)
        self._told = np.arange(environment.num_envs) % 2 == 1
        self._tasks = np.zeros((environment.num_envs, 0), np.float32)

    def begin(self, rows: np.ndarray) -> None:
        """Trials begin in these rows, bool ``[B]``."""
        self._tasks = self.environment.copies.tasks.astype(np.float32)
        self._told = self._told ^ rows
        self._noise[rows] = self._rng.standard_normal((int(rows.sum()), self._noise.shape[1]), np.float32)

    def columns(self) -> dict[str, np.ndarray]:
        """The columns `LABELS`, ``[B, ...]`` each."""
        return dict(zip(LABELS, (self._tasks, self._noise.copy(), self._told), strict=True))

    def get_state(self) -> dict[str, Any]:
        """All labels, and the state of the generator."""
        return {**self.columns(), "generator": self._rng.bit_generator.state}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Take over a state of `get_state`."""
        self._tasks, self._noise, self._told = (np.array(state[key]) for key in LABELS)
        self._rng.bit_generator.state = state["generator"]


class LabellingLockstep(Lockstep):
    """The lockstep loop whose module, outside of evaluation, sees the labels of trials, as rollouts do."""

    def __init__(self, **parts: Any) -> None:
        super().__init__(**parts)
        self.labels: dict[str, TrialLabels] = {}

    def _begin(self, env_id: str) -> None:
        super()._begin(env_id)
        if not self.config.in_evaluation:
            self.labels_of(env_id).begin(np.ones(self.environments[env_id].num_envs, bool))

    def labels_of(self, env_id: str) -> TrialLabels:
        """The labels of an environment's copies; new ones where it was not known."""
        environment, known = self.environments[env_id], self.labels.get(env_id)
        if known is None or known.environment is not environment:
            known = TrialLabels(environment, self.config.network_config.embedding_size)
            self.labels[env_id] = known
        return known

    def _forward(self, batch: dict[str, Any], explore: bool) -> dict[str, Any]:
        if self.config.in_evaluation:
            return super()._forward(batch, explore)
        labels = {env_id: self.labels[env_id].columns() for env_id in batch}
        for env_id, columns in batch.items():
            columns |= {
                key: torch.as_tensor(v, device=columns[Columns.OBS].device) for key, v in labels[env_id].items()
            }
        outputs = super()._forward(batch, explore)
        return {env_id: {**columns, **labels[env_id]} for env_id, columns in outputs.items()}

    def _observe(self, env_id: str, columns: Mapping[str, np.ndarray], step: VectorStep) -> None:
        done = (step.terminated | step.truncated) & ~step.is_reset
        if done.any() and not self.config.in_evaluation:
            self.labels[env_id].begin(done)

    def get_state(self) -> dict[str, Any]:
        """The labels of running trials, by env id."""
        return {env_id: own.get_state() for env_id, own in self.labels.items() if env_id in self.environments}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """See `Lockstep.set_state`."""
        for env_id, saved in state.items():
            environment = self.environments.get(env_id)
            if environment is not None and environment.obs is not None:
                self.labels_of(env_id).set_state(saved)


class LabellingRunner(MultiEnvRunner):
    """The runner of `LabellingLockstep`."""

    lockstep_class: ClassVar[type[Lockstep]] = LabellingLockstep
