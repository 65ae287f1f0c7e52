"""SAC's learner: what is trained, the loss of one environment, and what is logged of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from types import MappingProxyType
from typing import Any

import torch
from ray.rllib.core.columns import Columns
from ray.rllib.core.learner.learner import ENTROPY_KEY, POLICY_LOSS_KEY
from torch import Tensor, nn

from rllib_multienv.algorithms.action_values import ActionValuesLearner
from rllib_multienv.algorithms.off_policy import DISCOUNTS
from rllib_multienv.algorithms.sac import module as outputs
from rllib_multienv.algorithms.sac.loss import sac_loss
from rllib_multienv.algorithms.sac.temperature import Temperatures, target_entropy
from rllib_multienv.learners import LearnerHook, Step
from rllib_multienv.metrics import ALPHA, QF_EXPLAINED_VAR, QF_LOSS


class MultiEnvSACLearner(ActionValuesLearner):
    """The losses of Q and policy for each environment, and a step of its temperature."""

    critic_losses = MappingProxyType({"critic": QF_LOSS})

    def make_hooks(self) -> list[LearnerHook]:
        """Those of every learner, and the temperatures."""
        self._temperatures = Temperatures()
        return [*super().make_hooks(), self._temperatures]

    def parameter_groups(self) -> Iterator[tuple[str, Sequence[nn.Parameter], Any]]:
        """Policy and Q, with a learning rate each."""
        rates = self.config.learning_rates()
        yield "actor", self.network.actor_parameters(), rates["actor"]
        yield "critic", self._shared.action_value_parameters(), rates["critic"]

    def change_environments(self, config: Any) -> None:
        """See `MultiEnvLearner.change_environments`; temperatures of environments that stay do not change."""
        super().change_environments(config)
        self._temperatures.keep_only(self.env_ids)

    def compute_losses(self, *, fwd_out: dict[str, Any], step: Step) -> dict[str, Tensor]:
        """The loss of each environment with its present temperature, which then takes a step."""
        self._entropies: dict[str, Tensor] = {}
        losses = super().compute_losses(fwd_out=fwd_out, step=step)
        sums = [[0.0, 0.0] for _ in self.env_ids]  # of entropies, and of weights
        for place, env_id in enumerate(self.env_ids):
            if env_id in self._entropies:
                weight = step.minibatch.weights.get(env_id, 1.0)
                sums[place] = [float(self._entropies[env_id]) * weight, weight]
        if self.reduction.distributed:
            of_all = torch.tensor(sums, dtype=torch.float64, device=self._device)  # [E, 2]
            self.reduction.sum([of_all])
            sums = of_all.tolist()
        for env_id, (entropy, weight) in zip(self.env_ids, sums, strict=True):
            if weight:
                config = self.config.get_config_for_module(env_id)
                self._temperatures.step(
                    env_id,
                    entropy / weight,
                    target=self._target_entropy(env_id, config),
                    lr=config.alpha_lr,
                    initial=config.initial_alpha,
                )
        return losses

    def _target_entropy(self, env_id: str, config: Any) -> float:
        if config.target_entropy != "auto":
            return float(config.target_entropy)
        return target_entropy(self.config.space_specs[env_id].action, config.target_entropy_share)

    def compute_loss_for_module(
        self, *, module_id: str, config: Any, batch: dict[str, Tensor], fwd_out: dict[str, Tensor], step: Step
    ) -> Tensor:
        """Total loss of one environment's minibatch; ``config`` has that environment's overrides."""
        alpha = self._temperatures.of(module_id, config.initial_alpha)
        loss = sac_loss(
            q_values=fwd_out[outputs.QF_PREDS],
            rewards=batch[Columns.REWARDS] * config.reward_scale,
            discounts=batch.get(DISCOUNTS, config.gamma),
            terminals=batch[Columns.TERMINATEDS],
            next_q_values=fwd_out[outputs.NEXT_QF],
            next_logp=fwd_out[outputs.NEXT_LOGP],
            next_probs=fwd_out[outputs.NEXT_PROBS],
            policy_q_values=fwd_out[outputs.POLICY_QF],
            logp=fwd_out[outputs.LOGP],
            probs=fwd_out[outputs.PROBS],
            alpha=alpha,
        )
        self._entropies[module_id] = entropy = fwd_out[outputs.ENTROPY].detach().mean()
        step.log(module_id, POLICY_LOSS_KEY, loss.policy)
        step.log(module_id, QF_LOSS, loss.q)
        step.log(module_id, QF_EXPLAINED_VAR, loss.q_explained)
        step.log(module_id, ENTROPY_KEY, entropy)
        step.log(module_id, ALPHA, entropy.new_tensor(alpha))
        return loss.total
