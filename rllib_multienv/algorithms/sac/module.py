"""SAC's shared module: all that the losses need, in one packed forward of each network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from ray.rllib.core.columns import Columns
from torch import Tensor

from rllib_multienv.algorithms.action_values import ActionValuesModule
from rllib_multienv.learners.training_data import NOISE
from rllib_multienv.nets import ActorCritic, Categorical, DistralActorCritic, distribution_for
from rllib_multienv.rollout import TARGETS

#: Outputs of the forward, see :func:`~rllib_multienv.algorithms.sac.loss.sac_loss`.
QF_PREDS, POLICY_QF, LOGP, PROBS, ENTROPY = "qf_preds", "policy_qf", "logp", "probs", "entropy"
NEXT_QF, NEXT_LOGP, NEXT_PROBS = "next_qf", "next_logp", "next_probs"
#: Column of observations with gradients, for Q of the data's actions, where the others are without.
OBS_OF_Q = "obs_of_q"


class _Drawn(NamedTuple):
    """Actions of the policy: all of a single choice, or one drawn.

    Attributes:
        numbers: [B, A], the action drawn as action values take it; None for a single choice.
        probs: [B, n], probabilities; 1 for what was drawn.
        logp: [B, n], log probabilities, with Distral less alpha times those of the distilled policy.
        entropy: [B], of the policy, or an estimate.
    """

    numbers: Tensor | None
    probs: Tensor
    logp: Tensor
    entropy: Tensor


class SACSharedModule(ActionValuesModule):
    """The policy of all environments, twin Q and their slow copy.

    The network's V is not trained. It is there so that PPO and IQL can start from this agent, and it from theirs.
    """

    @property
    def policy_network(self) -> ActorCritic:
        """The network whose policy is trained."""
        return self.network

    def _forward_train(self, batch: Mapping[str, Any], **kwargs: Any) -> dict[str, Any]:
        """One forward of each network.

        Returns:
            ``{env_id: {...}}`` with ``"action_dist_inputs"`` [B, ...] and, unless the environment is a data set that is
            trained supervised, arguments of `sac_loss`.
        """
        policy = self.policy_network.policy({e: columns[Columns.OBS] for e, columns in batch.items()})
        outputs = {env_id: {Columns.ACTION_DIST_INPUTS: inputs} for env_id, inputs in policy.items()}
        batch = {env_id: columns for env_id, columns in batch.items() if TARGETS not in columns}
        if not batch:
            return outputs
        obs, next_obs = ({e: columns[key] for e, columns in batch.items()} for key in (Columns.OBS, Columns.NEXT_OBS))
        drawn = self._draw(obs, policy, batch, part=0)
        with torch.no_grad():
            next_drawn = self._draw(next_obs, self.policy_network.policy(next_obs), batch, part=1)
            next_q = self.targets.every(next_obs, _numbers(next_drawn))
        taken = {e: self.action_values.numbers(e, batch[e][Columns.ACTIONS]) for e in _numbers(drawn)}
        seen = {e: columns.get(OBS_OF_Q, columns[Columns.OBS]) for e, columns in batch.items()}
        every = self.action_values.every(seen, taken)  # each [E, B, n]
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
                ENTROPY: drawn[env_id].entropy,
                NEXT_QF: next_q[env_id],
                NEXT_LOGP: next_drawn[env_id].logp,
                NEXT_PROBS: next_drawn[env_id].probs,
            }
        return outputs

    def _draw(
        self, obs: Mapping[str, Tensor], policy: Mapping[str, Tensor], batch: Mapping[str, Any], *, part: int
    ) -> dict[str, _Drawn]:
        """Actions of the policy with these distribution inputs, made of the first or second half of the noise."""
        network: Any = self.policy_network
        distilled = network.distilled_policy(obs) if isinstance(network, DistralActorCritic) else {}
        drawn = {}
        for env_id in obs:
            distribution_class = distribution_for(self.model_config["interfaces"][env_id])
            own = distribution_class.from_logits(policy[env_id])
            other: Any = distribution_class.from_logits(distilled[env_id]) if distilled else None
            numbers = None
            if isinstance(own, Categorical):
                logp, probs = own.log_probs, own.log_probs.exp()
                of_other = None if other is None else other.log_probs
            else:
                numbers, density = own.relaxed(batch[env_id][NOISE].chunk(2, 1)[part])  # [B, A], [B]
                logp, probs = density[:, None], torch.ones_like(density)[:, None]
                of_other = None if other is None else other.logp(numbers)[:, None]
            soft = logp if of_other is None else logp - network.config.alpha * of_other
            drawn[env_id] = _Drawn(numbers, probs, soft, -(probs * logp).sum(1))
        return drawn


def _numbers(drawn: Mapping[str, _Drawn]) -> dict[str, Tensor]:
    return {env_id: own.numbers for env_id, own in drawn.items() if own.numbers is not None}
