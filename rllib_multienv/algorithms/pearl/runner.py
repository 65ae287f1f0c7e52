"""Sampling with tasks: fragments of task families say which task each step is of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from rllib_multienv.algorithms.pearl.replay import TASK
from rllib_multienv.env_runners import MultiEnvRunner
from rllib_multienv.env_runners.lockstep import Lockstep
from rllib_multienv.envs.copies import VectorStep
from rllib_multienv.envs.make import is_task_family


class TaskLockstep(Lockstep):
    """The lockstep loop whose rollouts have the column `TASK`; evaluation has no use for it."""

    def __init__(self, **parts: Any) -> None:
        super().__init__(**parts)
        self._are_families: dict[str, bool] = {}
        self._tasks: dict[str, np.ndarray] = {}  # as long as no trial begins

    def _begin(self, env_id: str) -> None:
        self._tasks.pop(env_id, None)
        super()._begin(env_id)

    def _forward(self, batch: dict[str, Any], explore: bool) -> dict[str, Any]:
        outputs = super()._forward(batch, explore)
        for env_id, columns in outputs.items() if not self.config.in_evaluation else ():
            environment = self.environments[env_id]
            if env_id not in self._are_families:
                self._are_families[env_id] = is_task_family(environment.spec)
            if env_id not in self._tasks and self._are_families[env_id]:
                self._tasks[env_id] = environment.copies.tasks.copy()
            if env_id in self._tasks:
                columns[TASK] = self._tasks[env_id]
        return outputs

    def _observe(self, env_id: str, columns: Mapping[str, np.ndarray], step: VectorStep) -> None:
        if (step.terminated | step.truncated).any():
            self._tasks.pop(env_id, None)


class PEARLRunner(MultiEnvRunner):
    """The runner of `TaskLockstep`."""

    lockstep_class: ClassVar[type[Lockstep]] = TaskLockstep
