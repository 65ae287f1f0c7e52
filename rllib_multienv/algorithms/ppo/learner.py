"""PPO's learner: the loss of one environment, and what is logged of it."""

from __future__ import annotations

from typing import Any

import torch
from ray.rllib.algorithms.ppo.ppo import LEARNER_RESULTS_KL_KEY, LEARNER_RESULTS_VF_EXPLAINED_VAR_KEY
from ray.rllib.core.columns import Columns
from ray.rllib.core.learner.learner import ENTROPY_KEY, POLICY_LOSS_KEY, VF_LOSS_KEY
from ray.rllib.evaluation.postprocessing import Postprocessing
from torch import Tensor

from rllib_multienv.algorithms.ppo.adaptive import KLCoefficients, ValueStatistics
from rllib_multienv.algorithms.ppo.loss import ppo_loss, squared_value_loss
from rllib_multienv.algorithms.ppo.proximal_policy import IMPORTANCE_WEIGHTS
from rllib_multienv.learners import LearnerHook, MultiEnvLearner, Step
from rllib_multienv.modules.shared_module import VF_LOGITS
from rllib_multienv.rollout import TARGETS

# The value loss of an environment whose values are known better than this (in its own units) is not blown up further.
_SMALLEST_ERROR = 1e-2


class ExplainedVariance(LearnerHook):
    """Logs the share of the value targets' variance that the values explained before the update."""

    def before_steps(self, learner: Any, batch: dict[str, dict[str, Tensor]]) -> None:
        """Log it for each environment."""
        for env_id, columns in batch.items():
            if TARGETS in columns:
                continue
            targets = columns[Postprocessing.VALUE_TARGETS]
            residual = (targets - columns[Columns.VF_PREDS]).var(correction=0)
            explained = 1.0 - residual / targets.var(correction=0).clamp(min=1e-8)
            learner.metrics.log_value((env_id, LEARNER_RESULTS_VF_EXPLAINED_VAR_KEY), explained, window=1)


class MultiEnvPPOLearner(MultiEnvLearner):
    """PPO's loss for each environment; everything else is :class:`MultiEnvLearner`."""

    def make_hooks(self) -> list[LearnerHook]:
        """Those of every learner, and PPO's statistics and adaptive coefficients."""
        self._value_statistics = ValueStatistics(normalize=self.config.value_normalization == "running")
        self._kl_coefficients = KLCoefficients()
        hooks: list[LearnerHook] = [*super().make_hooks(), ExplainedVariance()]
        if "running" in (self.config.value_normalization, self.config.value_loss_scaling):
            hooks.append(self._value_statistics)
        if self.config.use_kl_loss:
            hooks.append(self._kl_coefficients)
        return hooks

    def set_state(self, state: dict[str, Any]) -> None:
        """Take over (parts of) a state."""
        super().set_state(state)
        self._value_statistics.set_moments(self)

    def compute_loss_for_module(
        self, *, module_id: str, config: Any, batch: dict[str, Tensor], fwd_out: dict[str, Tensor], step: Step
    ) -> Tensor:
        """Total loss of one environment's minibatch; ``config`` has that environment's overrides."""
        distribution_class = self.module[module_id].get_train_action_dist_cls()
        distribution = distribution_class.from_logits(fwd_out[Columns.ACTION_DIST_INPUTS])
        loss = ppo_loss(
            distribution=distribution,
            actions=batch[Columns.ACTIONS],
            old_logp=batch[Columns.ACTION_LOGP],
            advantages=batch[Postprocessing.ADVANTAGES],
            value_loss=self._value_loss(module_id, config, batch, fwd_out),
            clip_param=config.clip_param,
            vf_loss_coeff=config.vf_loss_coeff / self._value_loss_scale(module_id),
            entropy_coeff=config.entropy_coeff,
            importance_weights=batch.get(IMPORTANCE_WEIGHTS),
        )
        step.log(module_id, POLICY_LOSS_KEY, loss.policy)
        step.log(module_id, VF_LOSS_KEY, loss.value)
        step.log(module_id, ENTROPY_KEY, loss.entropy)
        if not (config.use_kl_loss or step.is_reported):
            return loss.total
        with torch.set_grad_enabled(config.use_kl_loss and torch.is_grad_enabled()):
            old_distribution = distribution_class.from_logits(batch[Columns.ACTION_DIST_INPUTS])
            divergence = old_distribution.kl(distribution).mean()
        step.log(module_id, LEARNER_RESULTS_KL_KEY, divergence)
        if not config.use_kl_loss:
            return loss.total
        return loss.total + self._kl_coefficients.of(module_id, config.kl_coeff) * divergence

    def _value_loss(self, env_id: str, config: Any, batch: dict[str, Tensor], fwd_out: dict[str, Tensor]) -> Tensor:
        """The value loss in the environment's own unit: a cross-entropy, or half the mean squared error."""
        moments = self.module.shared.value_moments.get(env_id)

        def own_unit(values: Tensor) -> Tensor:
            return values if moments is None else (values - moments[0]) / moments[1]

        targets = own_unit(batch[Postprocessing.VALUE_TARGETS])
        bins = self.network.value_bins
        if bins is not None:
            return bins.loss(fwd_out[VF_LOGITS], targets).mean()
        return squared_value_loss(
            values=own_unit(fwd_out[Columns.VF_PREDS]),
            old_values=own_unit(batch[Columns.VF_PREDS]),
            value_targets=targets,
            vf_clip_param=config.vf_clip_param,
        )

    def _value_loss_scale(self, env_id: str) -> float:
        """What the environment's value loss is divided by."""
        if self.config.value_loss_scaling == "none":
            return 1.0
        std = self.module.shared.value_moments.get(env_id, (0.0, 1.0))[1]
        return max(self._value_statistics.error(env_id) / std**2, _SMALLEST_ERROR)
