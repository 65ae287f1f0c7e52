"""IQL's learner."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import ray
import torch
from ray.rllib.algorithms.ppo.ppo import LEARNER_RESULTS_VF_EXPLAINED_VAR_KEY
from ray.rllib.core.columns import Columns
from ray.rllib.core.learner.learner import POLICY_LOSS_KEY, VF_LOSS_KEY
from torch import Tensor, nn

from rllib_multienv.algorithms.iql.loss import MAX_WEIGHT, iql_loss, policy_weights
from rllib_multienv.algorithms.iql.minibatches import draw_minibatches
from rllib_multienv.algorithms.iql.module import QF_PREDS, QF_TARGET, VF_PREDS_NEXT, IQLSharedModule
from rllib_multienv.algorithms.iql.training_data import OfflineTrainingData
from rllib_multienv.learners import MultiEnvLearner
from rllib_multienv.learners.gradients import all_reduce_sum, broadcast_from_first
from rllib_multienv.learners.minibatches import Minibatch
from rllib_multienv.offline.replay import DatasetReplay

QF_LOSS_KEY = "qf_loss"
ADVANTAGE_MEAN = "advantage_mean"
QF_EXPLAINED_VAR = "qf_explained_var"
CLIPPED_WEIGHTS = "clipped_weights"


class MultiEnvIQLLearner(MultiEnvLearner):
    """Implicit Q-learning on several data sets at once (Algorithm 2 of the paper).

    A step draws a minibatch of every data set, makes one packed forward of each network, sums the losses of V, Q and
    policy over environments, and moves the target networks. The data sets are fetched once and stay.
    """

    def build(self) -> None:
        """Build as any learner; with several, agree on the initial action values too."""
        if self._is_built:
            return
        self._replays: dict[str, DatasetReplay] = {}
        super().build()
        if self.distributed:
            broadcast_from_first([*self._shared.action_values.state_dict().values()], self._group)
            self._shared.move_targets(1.0)

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

    def passes(
        self, training_data: OfflineTrainingData, *, num_updates: int = 1, **kwargs: Any
    ) -> Iterator[tuple[bool, Iterator[Minibatch]]]:
        """One pass of ``num_updates`` minibatches, each of transitions drawn at random."""
        for env_id, replay in training_data.replays.items():
            if env_id not in self._replays:
                self._replays[env_id] = ray.get(replay) if isinstance(replay, ray.ObjectRef) else replay
        first = self._num_updates
        self._num_updates += num_updates
        minibatches = draw_minibatches(
            {env_id: self._replays[env_id] for env_id in training_data.replays},
            training_data,
            num_updates=num_updates,
            seed=self._shuffle_seed,
            first_update=first,
            device=self._device,
        )
        yield True, minibatches

    def schedule_time(self, timesteps: dict[str, Any]) -> int:
        """Learning rates move with the number of updates."""
        return self._num_updates

    def apply_gradients(self, gradients_dict: dict[Any, Tensor]) -> None:
        """One optimiser step, and one of the target networks."""
        super().apply_gradients(gradients_dict)
        self._shared.move_targets(self.config.tau)

    def compute_losses(self, *, fwd_out: dict[str, Any], batch: dict[str, Any]) -> dict[str, Tensor]:
        """The loss of each environment; all learners call this together, for they share means of weights."""
        self._policy_weights = {
            env_id: policy_weights(
                values=columns[Columns.VF_PREDS],
                target_q_values=columns[QF_TARGET],
                beta=self.config.get_config_for_module(env_id).beta * self._replays[env_id].value_scale,
            )
            for env_id, columns in fwd_out.items()
        }
        for env_id, weights in self._policy_weights.items():
            self.log_loss(env_id, CLIPPED_WEIGHTS, (weights >= MAX_WEIGHT).float().mean())
        if self.config.normalize_policy_weights:
            self._normalize_policy_weights()
        return super().compute_losses(fwd_out=fwd_out, batch=batch)

    def _normalize_policy_weights(self) -> None:
        """Divide the weights of each environment by their mean over its minibatch, wherever its rows are."""
        env_ids = [*self.config.space_specs]
        means = torch.zeros(len(env_ids), device=self._device)
        for place, env_id in enumerate(env_ids):
            if env_id in self._policy_weights:
                means[place] = self._policy_weights[env_id].mean() * self._row_weights.get(env_id, 1.0)
        if self.distributed:
            all_reduce_sum([means], self._group)
        # All weights may be too small for a float; then there is nothing to imitate.
        for env_id, mean in zip(env_ids, means.clamp(min=torch.finfo(means.dtype).tiny), strict=True):
            if env_id in self._policy_weights:
                self._policy_weights[env_id] = self._policy_weights[env_id] / mean

    def compute_loss_for_module(
        self, *, module_id: str, config: Any, batch: dict[str, Tensor], fwd_out: dict[str, Tensor]
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
            weights=self._policy_weights[module_id],
        )
        for key, value in (
            (POLICY_LOSS_KEY, loss.policy),
            (VF_LOSS_KEY, loss.value),
            (QF_LOSS_KEY, loss.q),
            (LEARNER_RESULTS_VF_EXPLAINED_VAR_KEY, loss.value_explained),
            (QF_EXPLAINED_VAR, loss.q_explained),
            (ADVANTAGE_MEAN, loss.advantage * self._replays[module_id].value_scale),
        ):
            self.log_loss(module_id, key, value)
        return loss.total
