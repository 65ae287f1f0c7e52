"""MAESN's env runner: copies have tasks of a list, each of which starts with its own latent."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from rllib_multienv.algorithms.maml.batches import TASK
from rllib_multienv.algorithms.maml.runner import AdaptingLockstep, MAMLRunner
from rllib_multienv.env_runners.lockstep import Lockstep
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

    def get_state(self) -> dict[str, Any]:
        """That of the generator which draws tasks."""
        return {"rng": self.rng.bit_generator.state}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """See `Lockstep.set_state`."""
        if state:
            self.rng.bit_generator.state = state["rng"]


class MAESNRunner(MAMLRunner):
    """The runner of `MAESNLockstep`."""

    lockstep_class: ClassVar[type[Lockstep]] = MAESNLockstep

    def _connect(self) -> None:
        super()._connect()
        assert isinstance(self._lockstep, MAESNLockstep)
        seed = self.config.seed
        self._lockstep.rng = np.random.default_rng(None if seed is None else [seed, self.worker_index])
