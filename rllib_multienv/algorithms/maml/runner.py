"""The env runner whose policies adapt: each copy has a task, and takes the steps of the inner loop in its trial."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from ray.rllib.core.columns import Columns
from torch import Tensor

from rllib_multienv.env_runners import MultiEnvRunner
from rllib_multienv.env_runners.lockstep import Lockstep
from rllib_multienv.envs.copies import VectorStep
from rllib_multienv.inner_loop import TaskPolicies
from rllib_multienv.rollout import Rollout


class AdaptingLockstep(Lockstep):
    """Where actions are drawn, each copy acts with the policy that is adapted to its task."""

    def __init__(self, **parts: Any) -> None:
        super().__init__(**parts)
        self._policies: dict[str, TaskPolicies] = {}

    def _begin(self, env_id: str) -> None:
        self._policies.pop(env_id, None)
        super()._begin(env_id)

    def _forward(self, batch: dict[str, Any], explore: bool) -> dict[str, Any]:
        if not explore:
            return super()._forward(batch, explore)
        inner_loop, network = self.config.inner_loop, self.module.shared.network
        outputs = {}
        for env_id, columns in batch.items():
            obs = columns[Columns.OBS]
            if env_id not in self._policies:
                starts = self._starts(env_id)
                self._policies[env_id] = TaskPolicies(inner_loop, network, env_id, len(obs), starts)
            outputs[env_id] = {Columns.ACTION_DIST_INPUTS: self._policies[env_id](obs)}
        return outputs

    def _starts(self, env_id: str) -> Mapping[str, Tensor] | None:
        """What is adapted of the copies' tasks before the first step, ``[B, ...]`` each; None: the same for all."""
        return None

    def _observe(self, env_id: str, columns: Mapping[str, np.ndarray], step: VectorStep) -> None:
        if Columns.ACTION_LOGP not in columns:
            return
        assert step.episode_ends is not None  # all environments have trials
        own = {
            "obs": columns[Columns.OBS],
            "actions": columns[Columns.ACTIONS],
            "logp": columns[Columns.ACTION_LOGP],
            "dist_inputs": columns[Columns.ACTION_DIST_INPUTS],
        }
        done = step.terminated | step.truncated
        self._policies[env_id].observe(own, step.rewards, step.episode_ends, done, ~step.is_reset)


class MAMLRunner(MultiEnvRunner):
    """Every fragment begins with new trials, so that all that is learned from starts at the present parameters."""

    lockstep_class: ClassVar[type[Lockstep]] = AdaptingLockstep

    def sample_rollouts(self, lengths: Mapping[str, int] | None = None) -> dict[str, Rollout]:
        """Sample one fragment of every owned environment, see `MultiEnvRunner.sample_rollouts`."""
        return self._sample([] if self._callbacks.want_episodes else None, force_reset=True, lengths=lengths)
