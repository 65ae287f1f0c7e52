"""IQL's learner: what is trained, the loss of one environment, and what is logged of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from types import MappingProxyType
from typing import Any

import torch
from ray.rllib.algorithms.ppo.ppo import LEARNER_RESULTS_VF_EXPLAINED_VAR_KEY
from ray.rllib.core.columns import Columns
from ray.rllib.core.learner.learner import POLICY_LOSS_KEY, VF_LOSS_KEY
from torch import Tensor, nn

from rllib_multienv.algorithms.action_values import ActionValuesLearner
from rllib_multienv.algorithms.iql.loss import MAX_WEIGHT, iql_loss, policy_weights
from rllib_multienv.algorithms.iql.module import QF_PREDS, QF_TARGET, VF_PREDS_NEXT
from rllib_multienv.learners import Step
from rllib_multienv.metrics import ADVANTAGE_MEAN, CLIPPED_WEIGHTS, QF_EXPLAINED_VAR, QF_LOSS
from rllib_multienv.offline.replay import DatasetReplay

_WEIGHTS = "policy_weights"


class MultiEnvIQLLearner(ActionValuesLearner):
    """The losses of V, Q and policy for each environment; the target networks move after each step."""

    critic_losses = MappingProxyType({"value": VF_LOSS_KEY, "critic": QF_LOSS})

    def parameter_groups(self) -> Iterator[tuple[str, Sequence[nn.Parameter], Any]]:
        """Policy, V and Q, with a learning rate each."""
        rates = self.config.learning_rates()
        yield "actor", self.network.actor_parameters(), rates["actor"]
        yield "value", self.network.critic_parameters(), rates["value"]
        yield "critic", self._shared.action_value_parameters(), rates["critic"]

    def compute_losses(self, *, fwd_out: dict[str, Any], step: Step) -> dict[str, Tensor]:
        """The loss of each environment; learners that share an environment share the mean of its weights."""
        weights = {
            env_id: policy_weights(
                values=columns[Columns.VF_PREDS],
                target_q_values=columns[QF_TARGET],
                beta=self.config.get_config_for_module(env_id).beta * self._value_scale(env_id),
            )
            for env_id, columns in fwd_out.items()
        }
        for env_id, own in weights.items():
            step.log(env_id, CLIPPED_WEIGHTS, (own >= MAX_WEIGHT).float().mean())
        if self.config.normalize_policy_weights:
            weights = self._normalized(weights, step)
        fwd_out = {env_id: {**columns, _WEIGHTS: weights[env_id]} for env_id, columns in fwd_out.items()}
        return super().compute_losses(fwd_out=fwd_out, step=step)

    def _normalized(self, weights: dict[str, Tensor], step: Step) -> dict[str, Tensor]:
        """Weights of each environment divided by their mean over its minibatch, over all learners."""
        means = torch.zeros(len(self.env_ids), device=self._device)
        for place, env_id in enumerate(self.env_ids):
            if env_id in weights:
                means[place] = weights[env_id].mean() * step.minibatch.weights.get(env_id, 1.0)
        self.reduction.sum([means])
        # All weights may be too small for a float; then there is nothing to imitate.
        means = means.clamp(min=torch.finfo(means.dtype).tiny)
        return {e: weights[e] / mean for e, mean in zip(self.env_ids, means, strict=True) if e in weights}

    def _value_scale(self, env_id: str) -> float:
        """Normalised rewards in one unit of the environment's values."""
        replay = self.replays[env_id]
        assert isinstance(replay, DatasetReplay)
        return replay.value_scale

    def compute_loss_for_module(
        self, *, module_id: str, config: Any, batch: dict[str, Tensor], fwd_out: dict[str, Tensor], step: Step
    ) -> Tensor:
        """Total loss of one environment's minibatch; ``config`` has that environment's overrides."""
        distribution_class = self.module[module_id].get_train_action_dist_cls()
        loss = iql_loss(
            values=fwd_out[Columns.VF_PREDS],
            next_values=fwd_out[VF_PREDS_NEXT],
            q_values=fwd_out[QF_PREDS],
            target_q_values=fwd_out[QF_TARGET],
            distribution=distribution_class.from_logits(fwd_out[Columns.ACTION_DIST_INPUTS]),
            actions=batch[Columns.ACTIONS],
            rewards=batch[Columns.REWARDS],
            terminals=batch[Columns.TERMINATEDS],
            gamma=config.gamma,
            expectile=config.expectile,
            weights=fwd_out[_WEIGHTS],
        )
        step.log(module_id, POLICY_LOSS_KEY, loss.policy)
        step.log(module_id, VF_LOSS_KEY, loss.value)
        step.log(module_id, QF_LOSS, loss.q)
        step.log(module_id, LEARNER_RESULTS_VF_EXPLAINED_VAR_KEY, loss.value_explained)
        step.log(module_id, QF_EXPLAINED_VAR, loss.q_explained)
        step.log(module_id, ADVANTAGE_MEAN, loss.advantage * self._value_scale(module_id))
        return loss.total
