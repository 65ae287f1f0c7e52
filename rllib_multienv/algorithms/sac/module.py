"""SAC's shared module: all that the losses need, in one packed forward of each network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from ray.rllib.core.columns import Columns
from torch import Tensor

from rllib_multienv.algorithms.action_values import ActionValuesModule
from rllib_multienv.learners.training_data import NOISE
from rllib_multienv.nets import Categorical, distribution_for
from rllib_multienv.rollout import TARGETS

#: Outputs of the forward, see :func:`~rllib_multienv.algorithms.sac.loss.sac_loss`.
QF_PREDS, POLICY_QF, LOGP, PROBS = "qf_preds", "policy_qf", "logp", "probs"
NEXT_QF, NEXT_LOGP, NEXT_PROBS = "next_qf", "next_logp", "next_probs"


class _Drawn(NamedTuple):
    """Actions of the policy: all of a single choice, or one drawn.

    Attributes:
        numbers: [B, A], the action drawn as action values take it; None for a single choice.
        logp, probs: [B, n].
    """

    numbers: Tensor | None
    logp: Tensor
    probs: Tensor


class SACSharedModule(ActionValuesModule):
    """The policy of all environments, twin Q and their slow copy.

    The network's V is not trained. It is there so that PPO and IQL can start from this agent, and it from theirs.
    """

    def _forward_train(self, batch: Mapping[str, Any], **kwargs: Any) -> dict[str, Any]:
        """One forward of each network.

        Returns:
            ``{env_id: {...}}`` with ``"action_dist_inputs"`` [B, ...] and, unless the environment is a data set that is
            trained supervised, arguments of `sac_loss`.
        """
        policy = self.network({e: columns[Columns.OBS] for e, columns in batch.items()}, parts=("actor",)).policy
        outputs = {env_id: {Columns.ACTION_DIST_INPUTS: inputs} for env_id, inputs in policy.items()}
        batch = {env_id: columns for env_id, columns in batch.items() if TARGETS not in columns}
        if not batch:
            return outputs
        obs, next_obs = ({e: columns[key] for e, columns in batch.items()} for key in (Columns.OBS, Columns.NEXT_OBS))
        drawn = {env_id: self._draw(env_id, policy[env_id], batch, part=0) for env_id in batch}
        with torch.no_grad():
            next_policy = self.network(next_obs, parts=("actor",)).policy
            next_drawn = {env_id: self._draw(env_id, next_policy[env_id], batch, part=1) for env_id in batch}
            next_q = self.targets.every(next_obs, _numbers(next_drawn))
        taken = {e: self.action_values.numbers(e, batch[e][Columns.ACTIONS]) for e in _numbers(drawn)}
        every = self.action_values.every(obs, taken)  # each [E, B, n]
        of_policy = {env_id: values.detach() for env_id, values in every.items()}
        if taken:
            with self.action_values_frozen() as frozen:
                of_policy |= frozen.every({env_id: obs[env_id] for env_id in taken}, _numbers(drawn))
        for env_id, columns in batch.items():
            outputs[env_id] |= {
                QF_PREDS: self.action_values.taken(env_id, every[env_id], columns[Columns.ACTIONS]),
                POLICY_QF: of_policy[env_id],
                LOGP: drawn[env_id].logp,
                PROBS: drawn[env_id].probs,
                NEXT_QF: next_q[env_id],
                NEXT_LOGP: next_drawn[env_id].logp,
                NEXT_PROBS: next_drawn[env_id].probs,
            }
        return outputs

    def _draw(self, env_id: str, inputs: Tensor, batch: Mapping[str, Any], *, part: int) -> _Drawn:
        """Actions of a state's distribution inputs, made of the first or second half of the noise."""
        distribution = distribution_for(self.model_config["interfaces"][env_id]).from_logits(inputs)
        if isinstance(distribution, Categorical):
            return _Drawn(None, distribution.log_probs, distribution.log_probs.exp())
        numbers, logp = distribution.relaxed(batch[env_id][NOISE].chunk(2, 1)[part])  # [B, A], [B]
        return _Drawn(numbers, logp[:, None], torch.ones_like(logp[:, None]))


def _numbers(drawn: Mapping[str, _Drawn]) -> dict[str, Tensor]:
    return {env_id: own.numbers for env_id, own in drawn.items() if own.numbers is not None}
