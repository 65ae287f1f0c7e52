"""MAESN's env runner: copies have tasks of a list, each of which starts with its own latent."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from rllib_multienv.algorithms.maml.batches import TASK
from rllib_multienv.algorithms.maml.runner import AdaptingLockstep, MAMLRunner
from rllib_multienv.env_runners.lockstep import Lockstep
from rllib_multienv.env_runners.multi_env_runner import COMPONENT_ENVIRONMENTS
from rllib_multienv.latent_loop import LatentLoop, TaskLatents

#: Of the lists of tasks: all runners have the same.
_LIST_SEED = 1


class MAESNLockstep(AdaptingLockstep):
    """Before each fragment, tasks are drawn from the environment's list of training tasks, none twice if they suffice.

    Attributes:
        rng: Draws tasks.
    """

    rng: np.random.Generator

    def __init__(self, **parts: Any) -> None:
        super().__init__(**parts)
        self._lists: dict[str, np.ndarray] = {}  # [num_train_tasks, D]
        self._tasks: dict[str, np.ndarray] = {}  # [B], numbers of the copies' tasks

    def _begin(self, env_id: str) -> None:
        if not self.config.in_evaluation:
            number, copies = self.config.num_train_tasks, self.environments[env_id].copies
            if env_id not in self._lists:
                self._lists[env_id] = copies.sample_tasks(number, "train", np.random.default_rng(_LIST_SEED))
            rounds = -(-copies.num_envs // number)
            drawn = np.concatenate([self.rng.permutation(number) for _ in range(rounds)])[: copies.num_envs]
            copies.set_tasks(self._lists[env_id][drawn])
            self._tasks[env_id] = drawn
        super()._begin(env_id)

    def _starts(self, env_id: str) -> Mapping[str, Tensor] | None:
        if env_id not in self._tasks:
            return None
        table = TaskLatents.of(self.module.shared.network, env_id).detach()
        return LatentLoop.latents(table[torch.from_numpy(self._tasks[env_id]).to(table.device)])

    def _forward(self, batch: dict[str, Any], explore: bool) -> dict[str, Any]:
        outputs = super()._forward(batch, explore)
        for env_id in self._tasks.keys() & outputs.keys():
            outputs[env_id][TASK] = self._tasks[env_id]
        return outputs


class MAESNRunner(MAMLRunner):
    """Its state has that of the generator which draws tasks."""

    lockstep_class: ClassVar[type[Lockstep]] = MAESNLockstep

    @cached_property
    def _task_rng(self) -> np.random.Generator:
        return np.random.default_rng(None if self.config.seed is None else [self.config.seed, self.worker_index])

    def _connect(self) -> None:
        super()._connect()
        assert isinstance(self._lockstep, MAESNLockstep)
        self._lockstep.rng = self._task_rng

    def get_state(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """See `MultiEnvRunner.get_state`."""
        state = super().get_state(*args, **kwargs)
        if COMPONENT_ENVIRONMENTS in state:
            state[COMPONENT_ENVIRONMENTS]["task_rng"] = self._task_rng.bit_generator.state
        return state

    def set_state(self, state: dict[str, Any]) -> None:
        """See `MultiEnvRunner.set_state`."""
        super().set_state(state)
        if (own := state.get(COMPONENT_ENVIRONMENTS, {}).get("task_rng")) is not None:
            self._task_rng.bit_generator.state = own
