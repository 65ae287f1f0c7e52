"""IQL's shared module: the agent's network, and the action values, which only learners need."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from ray.rllib.core.columns import Columns
from torch import nn

from rllib_multienv.modules import SharedModule
from rllib_multienv.nets import ActionValues, net_config_from_dict

QF_PREDS = "qf_preds"
QF_TARGET = "qf_target"
VF_PREDS_NEXT = "vf_preds_next"


class IQLSharedModule(SharedModule):
    """Policy and V of all environments (``network``), twin Q (``action_values``) and their slow copy (``targets``)."""

    action_values: ActionValues
    targets: ActionValues

    def setup(self) -> None:
        """Build the networks; for inference the policy alone."""
        super().setup()
        if not self.inference_only:
            config = net_config_from_dict(self.model_config["network"])
            self.action_values = config.build_critic(self.model_config["interfaces"])
            self.targets = copy.deepcopy(self.action_values).requires_grad_(False)

    def get_non_inference_attributes(self) -> list[str]:
        """Parts that only learners use."""
        return [*super().get_non_inference_attributes(), "action_values", "targets"]

    def action_value_parameters(self) -> list[nn.Parameter]:
        """Parameters of twin Q."""
        return list(self.action_values.parameters())

    @torch.no_grad()
    def move_targets(self, tau: float) -> None:
        """Move the slow copy towards the action values by the share ``tau`` (Polyak averaging)."""
        torch._foreach_lerp_(list(self.targets.parameters()), list(self.action_values.parameters()), tau)

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
