"""HiP-BMDP's shared module: SAC's with one embedding for each task, and the models."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from ray.rllib.core.columns import Columns
from torch import nn

from rllib_multienv.algorithms.sac.module import SACSharedModule
from rllib_multienv.nets import HiPActorCritic
from rllib_multienv.nets.hip import share_context
from rllib_multienv.rollout import TARGETS

#: Outputs of the forward beside SAC's: the fields of `Predicted`, and the change that there was.
PREDICTED_CHANGE, PREDICTED_LOG_STD, PREDICTED_REWARD = "predicted_change", "predicted_log_std", "predicted_reward"
CHANGE = "change"


class HiPBMDPSharedModule(SACSharedModule):
    """SAC's shared module. Policy, twin Q and models have the same embeddings; the slow copy of Q has slow ones."""

    network: HiPActorCritic

    def setup(self) -> None:
        """Build the networks."""
        super().setup()
        if not self.inference_only:
            share_context(self.action_values, self.network.context)
            self.targets = copy.deepcopy(self.action_values).requires_grad_(False)
            self._list_parameters()

    def model_parameters(self) -> list[nn.Parameter]:
        """Parameters of the models, without the embeddings."""
        embeddings = {id(parameter) for parameter in self.network.context.parameters()}
        return [p for p in self.network.models.parameters() if id(p) not in embeddings]

    def _forward_train(self, batch: Mapping[str, Any], **kwargs: Any) -> dict[str, Any]:
        """SAC's forward, and the predictions of the models."""
        outputs = super()._forward_train(batch, **kwargs)
        own, models = {e: columns for e, columns in batch.items() if TARGETS not in columns}, self.network.models
        for env_id, predicted in self.predict({env_id: env_id for env_id in own}, own).items():
            columns = own[env_id]
            outputs[env_id] |= {
                PREDICTED_CHANGE: predicted.change,
                PREDICTED_LOG_STD: predicted.log_std,
                PREDICTED_REWARD: predicted.reward,
                CHANGE: models.changes(env_id, columns[Columns.OBS], columns[Columns.NEXT_OBS]),
            }
        return outputs

    def predict(self, tasks: Mapping[str, str], batch: Mapping[str, Any]) -> dict[str, Any]:
        """What would follow from the rows of each environment of ``batch`` in another one, ``tasks[env_id]``.

        Returns:
            `Predicted` by the environment of the rows.
        """
        models = self.network.models
        obs = {tasks[e]: columns[Columns.OBS] for e, columns in batch.items()}
        numbers = {tasks[e]: models.numbers(e, columns[Columns.ACTIONS]) for e, columns in batch.items()}
        predicted = models(obs, numbers) if batch else {}
        return {env_id: predicted[tasks[env_id]] for env_id in batch}
