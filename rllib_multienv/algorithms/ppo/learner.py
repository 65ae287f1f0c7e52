"""PPO's learner."""

from __future__ import annotations

from typing import Any

from ray.rllib.algorithms.ppo.ppo import LEARNER_RESULTS_KL_KEY, LEARNER_RESULTS_VF_EXPLAINED_VAR_KEY
from ray.rllib.core.columns import Columns
from ray.rllib.core.learner.learner import ENTROPY_KEY, POLICY_LOSS_KEY, VF_LOSS_KEY
from ray.rllib.evaluation.postprocessing import Postprocessing
from torch import Tensor

from rllib_multienv.algorithms.ppo.loss import ppo_loss
from rllib_multienv.learners import MultiEnvLearner


class MultiEnvPPOLearner(MultiEnvLearner):
    """PPO's losses for each environment; everything else is :class:`MultiEnvLearner`."""

    def compute_loss_for_module(
        self, *, module_id: str, config: Any, batch: dict[str, Tensor], fwd_out: dict[str, Tensor]
    ) -> Tensor:
        """Total loss of one environment's minibatch; ``config`` has that environment's overrides."""
        distribution = self.module[module_id].get_train_action_dist_cls()
        loss = ppo_loss(
            distribution=distribution.from_logits(fwd_out[Columns.ACTION_DIST_INPUTS]),
            old_distribution=distribution.from_logits(batch[Columns.ACTION_DIST_INPUTS]),
            actions=batch[Columns.ACTIONS],
            old_logp=batch[Columns.ACTION_LOGP],
            advantages=batch[Postprocessing.ADVANTAGES],
            values=fwd_out[Columns.VF_PREDS],
            old_values=batch[Columns.VF_PREDS],
            value_targets=batch[Postprocessing.VALUE_TARGETS],
            clip_param=config.clip_param,
            vf_clip_param=config.vf_clip_param,
            vf_loss_coeff=config.vf_loss_coeff,
            entropy_coeff=config.entropy_coeff,
        )
        for key, value in (
            (POLICY_LOSS_KEY, loss.policy),
            (VF_LOSS_KEY, loss.value),
            (ENTROPY_KEY, loss.entropy),
            (LEARNER_RESULTS_KL_KEY, loss.kl),
        ):
            self.log_loss(module_id, key, value)
        return loss.total

    def before_steps(self, batch: dict[str, dict[str, Tensor]]) -> None:
        """Log how much of the value targets' variance the values explained before this update."""
        for env_id, columns in batch.items():
            targets = columns[Postprocessing.VALUE_TARGETS]
            residual = (targets - columns[Columns.VF_PREDS]).var(correction=0)
            explained = 1.0 - residual / targets.var(correction=0).clamp(min=1e-8)
            self.metrics.log_value((env_id, LEARNER_RESULTS_VF_EXPLAINED_VAR_KEY), explained, window=1)
