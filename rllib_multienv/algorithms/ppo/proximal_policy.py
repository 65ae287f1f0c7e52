"""Learner piece: the decoupled PPO objective, for rollouts of an older policy."""

from __future__ import annotations

from typing import Any

import torch
from ray.rllib.core.columns import Columns

from rllib_multienv.connectors import RolloutConnector
from rllib_multienv.rollout import TARGETS

#: Column of pi_prox(a|s) / pi_behav(a|s), [B].
IMPORTANCE_WEIGHTS = "importance_weights"
#: Bound on them, for a single improbable action not to drown a minibatch.
MAX_IMPORTANCE_WEIGHT = 2.0


class ProximalPolicy(RolloutConnector):
    """Has PPO clip against the policy that this update begins with, and weights rows by how likely it finds them.

    Fragments that were sampled ahead come from the policy before the last update (pi_behav). Ratios to that one begin
    away from 1, so a part of them is clipped before the first step, and what is left of epsilon is less. So the ratio
    is taken to the policy before this update (pi_prox), and each row counts pi_prox / pi_behav times: the decoupled
    objective of Hilton et al. 2021 (arXiv 2110.00641), whose weights are bounded here by
    :data:`MAX_IMPORTANCE_WEIGHT` (docs/deviations.md, 20). It costs a forward of the policy over the fragments in each
    update.

    Replaces ``"action_logp"`` and ``"action_dist_inputs"`` by pi_prox's, and adds ``"importance_weights"``, [B].
    """

    def __call__(self, *, rl_module: Any, batch: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        """One packed forward for all environments, whose columns are tensors."""
        policies = rl_module.shared.forward_inference(batch)
        for env_id, columns in batch.items():
            if TARGETS in columns:
                continue
            inputs = policies[env_id][Columns.ACTION_DIST_INPUTS]
            distribution = rl_module[env_id].get_train_action_dist_cls().from_logits(inputs)
            logp = distribution.logp(columns[Columns.ACTIONS])
            weights = torch.exp(logp - columns[Columns.ACTION_LOGP])
            columns[IMPORTANCE_WEIGHTS] = weights.clamp(max=MAX_IMPORTANCE_WEIGHT)
            columns[Columns.ACTION_LOGP] = logp
            columns[Columns.ACTION_DIST_INPUTS] = inputs
        return batch
