"""IQL's learner."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from ray.rllib.algorithms.ppo.ppo import LEARNER_RESULTS_VF_EXPLAINED_VAR_KEY
from ray.rllib.core.columns import Columns
from ray.rllib.core.learner.learner import POLICY_LOSS_KEY, VF_LOSS_KEY
from torch import Tensor, nn

from rllib_multienv.algorithms.iql.loss import MAX_WEIGHT, iql_loss, policy_weights
from rllib_multienv.algorithms.iql.module import QF_PREDS, QF_TARGET, VF_PREDS_NEXT, IQLSharedModule
from rllib_multienv.learners import MultiEnvLearner, Step
from rllib_multienv.offline.replay import DatasetReplay

QF_LOSS_KEY = "qf_loss"
ADVANTAGE_MEAN = "advantage_mean"
QF_EXPLAINED_VAR = "qf_explained_var"
CLIPPED_WEIGHTS = "clipped_weights"
POLICY_WEIGHTS = "policy_weights"


class MultiEnvIQLLearner(MultiEnvLearner):
    """Implicit Q-learning on several data sets at once (Algorithm 2 of the paper).

    A step draws a minibatch of every data set, makes one packed forward of each network, sums the losses of V, Q and
    policy over environments, and moves the target networks. The data sets are fetched once and stay.
    """

    @property
    def _shared(self) -> IQLSharedModule:
        shared = self.module.shared
        assert isinstance(shared, IQLSharedModule)
        return shared

    def parameter_groups(self) -> Iterator[tuple[str, Sequence[nn.Parameter], Any]]:
        """Policy, V and Q, each with a learning rate of its own."""
        rates = self.config.learning_rates()
        yield "actor", self.network.actor_parameters(), rates["actor"]
        yield "value", self.network.critic_parameters(), rates["value"]
        yield "critic", self._shared.action_value_parameters(), rates["critic"]

    def schedule_time(self, timesteps: dict[str, Any]) -> int:
        """Learning rates move with the number of optimiser steps."""
        return self.num_steps

    def after_step(self) -> None:
        """Move the target networks."""
        self._shared.move_targets(self.config.tau)

    def compute_losses(self, *, fwd_out: dict[str, Any], step: Step) -> dict[str, Tensor]:
        """The loss of each environment; all learners call this together, for they share means of weights."""
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
        fwd_out = {env_id: {**columns, POLICY_WEIGHTS: weights[env_id]} for env_id, columns in fwd_out.items()}
        return super().compute_losses(fwd_out=fwd_out, step=step)

    def _value_scale(self, env_id: str) -> float:
        replay = self.replays[env_id]
        assert isinstance(replay, DatasetReplay)
        return replay.value_scale

    def _normalized(self, weights: dict[str, Tensor], step: Step) -> dict[str, Tensor]:
        """Weights of each environment divided by their mean over its minibatch, wherever its rows are."""
        means = torch.zeros(len(self.env_ids), device=self._device)
        for place, env_id in enumerate(self.env_ids):
            if env_id in weights:
                means[place] = weights[env_id].mean() * step.minibatch.weights.get(env_id, 1.0)
        self.reduction.sum([means])
        # All weights may be too small for a float; then there is nothing to imitate.
        means = means.clamp(min=torch.finfo(means.dtype).tiny)
        return {e: weights[e] / mean for e, mean in zip(self.env_ids, means, strict=True) if e in weights}

    def compute_loss_for_module(
        self, *, module_id: str, config: Any, batch: dict[str, Tensor], fwd_out: dict[str, Tensor], step: Step
    ) -> Tensor:
        """Total loss of one environment's minibatch; ``config`` has that environment's overrides."""
        loss = iql_loss(
            values=fwd_out[Columns.VF_PREDS],
            next_values=fwd_out[VF_PREDS_NEXT],
            q_values=fwd_out[QF_PREDS],
            target_q_values=fwd_out[QF_TARGET],
            distribution=self.module[module_id]
            .get_train_action_dist_cls()
            .from_logits(fwd_out[Columns.ACTION_DIST_INPUTS]),
            actions=batch[Columns.ACTIONS],
            rewards=batch[Columns.REWARDS],
            terminals=batch[Columns.TERMINATEDS],
            gamma=config.gamma,
            expectile=config.expectile,
            weights=fwd_out[POLICY_WEIGHTS],
        )
        for key, value in (
            (POLICY_LOSS_KEY, loss.policy),
            (VF_LOSS_KEY, loss.value),
            (QF_LOSS_KEY, loss.q),
            (LEARNER_RESULTS_VF_EXPLAINED_VAR_KEY, loss.value_explained),
            (QF_EXPLAINED_VAR, loss.q_explained),
            (ADVANTAGE_MEAN, loss.advantage * self._value_scale(module_id)),
        ):
            step.log(module_id, key, value)
        return loss.total
