"""PPO's learner."""

from __future__ import annotations

from typing import Any

import torch
from ray.rllib.algorithms.ppo.ppo import (
    LEARNER_RESULTS_CURR_KL_COEFF_KEY,
    LEARNER_RESULTS_KL_KEY,
    LEARNER_RESULTS_VF_EXPLAINED_VAR_KEY,
)
from ray.rllib.core.columns import Columns
from ray.rllib.core.learner.learner import ENTROPY_KEY, POLICY_LOSS_KEY, VF_LOSS_KEY
from ray.rllib.evaluation.postprocessing import Postprocessing
from torch import Tensor

from rllib_multienv.algorithms.ppo.kl_coefficients import KLCoefficients
from rllib_multienv.algorithms.ppo.loss import ppo_loss, squared_value_loss
from rllib_multienv.connectors.proximal_policy import IMPORTANCE_WEIGHTS
from rllib_multienv.learners import MultiEnvLearner
from rllib_multienv.learners.gradients import all_reduce_sum
from rllib_multienv.learners.value_statistics import ValueStatistics
from rllib_multienv.modules.shared_module import VF_LOGITS

_COMPONENT_VALUE_STATISTICS = "value_statistics"
_COMPONENT_KL_COEFFICIENTS = "kl_coefficients"
# The value loss of an environment whose values are known better than this (in its own units) is not blown up further.
_SMALLEST_ERROR = 1e-2


class MultiEnvPPOLearner(MultiEnvLearner):
    """PPO's losses for each environment; everything else is :class:`MultiEnvLearner`."""

    def build(self) -> None:
        """Build as any learner."""
        if not self._is_built:
            self._value_statistics = ValueStatistics()
            self._kl_coefficients = KLCoefficients()
        super().build()

    def get_state(self, components: Any = None, *, not_components: Any = None, **kwargs: Any) -> dict[str, Any]:
        """That of any learner, the statistics of value targets and the coefficients of the KL divergence."""
        state = super().get_state(components, not_components=not_components, **kwargs)
        if self._check_component(_COMPONENT_VALUE_STATISTICS, components, not_components):
            state[_COMPONENT_VALUE_STATISTICS] = self._value_statistics.get_state()
        if self._check_component(_COMPONENT_KL_COEFFICIENTS, components, not_components):
            state[_COMPONENT_KL_COEFFICIENTS] = self._kl_coefficients.get_state()
        return state

    def set_state(self, state: dict[str, Any]) -> None:
        """Take over (parts of) a state."""
        super().set_state(state)
        if _COMPONENT_VALUE_STATISTICS in state:
            self._value_statistics.set_state(state[_COMPONENT_VALUE_STATISTICS])
            if self.config.value_normalization == "running":
                self._set_value_moments()
        if _COMPONENT_KL_COEFFICIENTS in state:
            self._kl_coefficients.set_state(state[_COMPONENT_KL_COEFFICIENTS])

    def compute_loss_for_module(
        self, *, module_id: str, config: Any, batch: dict[str, Tensor], fwd_out: dict[str, Tensor]
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
        self.log_loss(module_id, POLICY_LOSS_KEY, loss.policy)
        self.log_loss(module_id, VF_LOSS_KEY, loss.value)
        self.log_loss(module_id, ENTROPY_KEY, loss.entropy)
        if not (config.use_kl_loss or self.is_reported):
            return loss.total
        with torch.set_grad_enabled(config.use_kl_loss and torch.is_grad_enabled()):
            old_distribution = distribution_class.from_logits(batch[Columns.ACTION_DIST_INPUTS])
            divergence = old_distribution.kl(distribution).mean()
        self.log_loss(module_id, LEARNER_RESULTS_KL_KEY, divergence)
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

    def after_gradient_based_update(self, *, timesteps: dict[str, Any]) -> None:
        """What RLlib does, and other coefficients of the KL divergence; all learners call this together."""
        super().after_gradient_based_update(timesteps=timesteps)
        if not self.config.use_kl_loss:
            return
        for env_id, divergence in self.mean_over_learners(LEARNER_RESULTS_KL_KEY).items():
            config = self.config.get_config_for_module(env_id)
            value = self._kl_coefficients.adapt(env_id, divergence, initial=config.kl_coeff, target=config.kl_target)
            self.metrics.log_value((env_id, LEARNER_RESULTS_CURR_KL_COEFF_KEY), value, window=1)

    def before_steps(self, batch: dict[str, dict[str, Tensor]]) -> None:
        """Log how much of the value targets' variance the values explained before this update; renew statistics."""
        for env_id, columns in batch.items():
            targets = columns[Postprocessing.VALUE_TARGETS]
            residual = (targets - columns[Columns.VF_PREDS]).var(correction=0)
            explained = 1.0 - residual / targets.var(correction=0).clamp(min=1e-8)
            self.metrics.log_value((env_id, LEARNER_RESULTS_VF_EXPLAINED_VAR_KEY), explained, window=1)
        if "running" in (self.config.value_normalization, self.config.value_loss_scaling):
            self._renew_value_statistics(batch)

    def _renew_value_statistics(self, batch: dict[str, dict[str, Tensor]]) -> None:
        self._value_statistics.update(
            {env_id: columns[Postprocessing.VALUE_TARGETS] for env_id, columns in batch.items()},
            {env_id: columns[Columns.VF_PREDS] for env_id, columns in batch.items()},
            [*self.config.space_specs],
            (lambda sums: all_reduce_sum([sums], self._group)) if self.distributed else lambda sums: None,
        )
        if self.config.value_normalization == "none":
            return
        before = dict(self.module.shared.value_moments)
        self._set_value_moments()
        for env_id, columns in batch.items():
            # The old predictions of the network, read with the new moments: clipping compares what it gives out.
            mean, std = before.get(env_id, (0.0, 1.0))
            new_mean, new_std = self.module.shared.value_moments[env_id]
            columns[Columns.VF_PREDS] = (columns[Columns.VF_PREDS] - mean) / std * new_std + new_mean

    def _set_value_moments(self) -> None:
        self.module.shared.value_moments = {
            env_id: self._value_statistics.moments(env_id) for env_id in self.config.space_specs
        }
