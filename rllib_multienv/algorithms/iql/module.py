"""IQL's shared module: the agent's network, and the action values, which only learners need."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from ray.rllib.core.columns import Columns

from rllib_multienv.algorithms.action_values import ActionValuesModule

QF_PREDS = "qf_preds"
QF_TARGET = "qf_target"
VF_PREDS_NEXT = "vf_preds_next"


class IQLSharedModule(ActionValuesModule):
    """Policy and V of all environments (``network``), twin Q (``action_values``) and their slow copy (``targets``)."""

    def _forward_train(self, batch: Mapping[str, Any], **kwargs: Any) -> dict[str, Any]:
        """One forward of each network.

        Returns:
            ``{env_id: {...}}`` with ``"action_dist_inputs"`` [B, ...], ``"vf_preds"`` [B], ``"qf_preds"`` [2, B], and
            without gradients ``"vf_preds_next"`` [B] and ``"qf_target"`` [2, B].
        """
        obs = {env_id: columns[Columns.OBS] for env_id, columns in batch.items()}
        actions = {env_id: columns[Columns.ACTIONS] for env_id, columns in batch.items()}
        outputs = self.network(obs)
        q_values = self.action_values(obs, actions)
        next_values = self.compute_values(
            {env_id: {Columns.OBS: columns[Columns.NEXT_OBS]} for env_id, columns in batch.items()}
        )
        with torch.no_grad():
            targets = self.targets(obs, actions)
        return {
            env_id: {
                Columns.ACTION_DIST_INPUTS: outputs.policy[env_id],
                Columns.VF_PREDS: outputs.values[env_id],
                QF_PREDS: q_values[env_id],
                VF_PREDS_NEXT: next_values[env_id],
                QF_TARGET: targets[env_id],
            }
            for env_id in batch
        }
