"""Learner piece: advantages of both policies, the explorer's from what its steps tell of the task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
from ray.rllib.core.columns import Columns
from ray.rllib.evaluation.postprocessing import Postprocessing

from rllib_multienv.algorithms.dream.loss import exploration_rewards
from rllib_multienv.algorithms.dream.module import LABELS
from rllib_multienv.connectors import GeneralizedAdvantages
from rllib_multienv.connectors.advantages import final_columns, of_steps, sequence_columns
from rllib_multienv.metrics import INFORMATION_GAIN
from rllib_multienv.nets.dream import EXPLORING
from rllib_multienv.rollout import EPISODE_ENDS, VALID, Rollout


class ExplorationAdvantages(GeneralizedAdvantages):
    """Rewards of steps that explore are replaced by `exploration_rewards`, in units of the bottleneck.

    Advantages are standardised for each policy apart.
    """

    carried: ClassVar[tuple[str, ...]] = LABELS

    def __call__(
        self,
        *,
        rl_module: Any,
        batch: dict[str, Any],
        rollouts: Mapping[str, Sequence[Rollout]],
        metrics: Any = None,
        **kwargs: Any,
    ) -> dict[str, Any]:
        """See `GeneralizedAdvantages`."""
        found = {env_id: own for env_id, own in rollouts.items() if any(r.steps for r in own)}
        explored = self._explored(rl_module, found)
        if metrics is not None:
            for env_id, own in explored.items():
                gains = [r.rewards[r.extra[EXPLORING]].sum() / r.reward_scale for r in own]
                ends = sum((r.extra[EXPLORING] & r.extra[EPISODE_ENDS]).sum() for r in own)
                if ends:
                    metrics.log_value((env_id, INFORMATION_GAIN), sum(gains) / ends, window=1)
        batch = super().__call__(rl_module=rl_module, batch=batch, rollouts=explored, metrics=metrics, **kwargs)
        for env_id in explored:
            self._standardise(batch[env_id])
        return batch

    def _explored(self, rl_module: Any, rollouts: Mapping[str, Sequence[Rollout]]) -> dict[str, list[Rollout]]:
        """The rollouts with the rewards of exploring, and with the column ``"exploring"``."""
        length = self.config.network_config.max_seq_len
        columns = {env_id: sequence_columns(own, length) for env_id, own in rollouts.items()}
        last = {env_id: final_columns(own, carried=self.carried) for env_id, own in rollouts.items()}
        errors, final_errors = (
            rl_module.shared.compute_errors(
                {e: {key: self._tensor(column) for key, column in own.items()} for e, own in found.items()}
            )
            for found in (columns, last)
        )
        result: dict[str, list[Rollout]] = {}
        for env_id, own in rollouts.items():
            config = self.config.get_config_for_module(env_id)
            valid = columns[env_id][VALID]  # [L, S]
            exploring, before = (of_steps(part.cpu().numpy(), valid, own) for part in errors[env_id])  # [T, B] each
            sizes = np.cumsum([len(r.final_obs) for r in own])[:-1]
            after = np.split(final_errors[env_id][1].cpu().numpy(), sizes)  # [F] each
            result[env_id] = []
            for rollout, explores, at_steps, at_ends in zip(own, exploring, before, after, strict=True):
                gains = exploration_rewards(at_steps, at_ends, rollout.final_rows, config.exploration_cost)
                rewards = np.where(explores, gains / config.bottleneck * rollout.reward_scale, rollout.rewards)
                extra = {**rollout.extra, EXPLORING: explores}
                result[env_id].append(replace(rollout, rewards=rewards, extra=extra))
        return result

    def _standardise(self, columns: dict[str, Any]) -> None:
        """Standardise the advantages of each policy."""
        advantages = columns[Postprocessing.VALUE_TARGETS] - columns[Columns.VF_PREDS]  # [N]
        floor = self.config.min_advantage_std if self.config.normalize_rewards else 0.0
        for rows, least in ((columns[EXPLORING], 0.0), (~columns[EXPLORING], floor)):
            if rows.any():
                own = advantages[rows]
                spread = max(float(own.std(correction=0)), least, 1e-8)
                columns[Postprocessing.ADVANTAGES][rows] = (own - own.mean()) / spread
