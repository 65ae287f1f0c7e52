"""PEARL's shared module: SAC's, of observations with latents that an encoder infers from contexts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ray.rllib.core.columns import Columns

from rllib_multienv.algorithms.pearl.replay import CONTEXT_NEXT_OBS, CONTEXT_OBS, CONTEXT_VALID, LATENT_NOISE
from rllib_multienv.algorithms.sac.module import OBS_OF_Q, SACSharedModule
from rllib_multienv.nets import ActorCritic, Inputs, Interface, PosteriorActorCritic
from rllib_multienv.spec import SpaceSpec

#: Outputs of the forward, [M] each: KL divergence of each task's posterior from the prior, its mean deviation.
KL, DEVIATION = "kl", "deviation"


class PEARLSharedModule(SACSharedModule):
    """The encoder and the policy of all environments, twin Q and their slow copy."""

    network: PosteriorActorCritic

    @property
    def policy_network(self) -> ActorCritic:
        """See `SACSharedModule.policy_network`."""
        return self.network.policy_network

    def seen_by_action_values(self, env_id: str, space_spec: SpaceSpec) -> Interface:
        """See `ActionValuesModule.seen_by_action_values`."""
        return self.network.config.told({env_id: space_spec})[env_id]

    def _forward_train(self, batch: Mapping[str, Any], **kwargs: Any) -> dict[str, Any]:
        """SAC's outputs (see `SACSharedModule`), and those of each task's posterior.

        Latents have gradients in Q of the data's actions alone: policy and targets take them as they are.
        """
        inputs = {
            key: {e: self._inputs(e, columns[key].flatten(0, -2)) for e, columns in batch.items()}
            for key in (CONTEXT_OBS, CONTEXT_NEXT_OBS, Columns.OBS, Columns.NEXT_OBS)
        }
        valid = {e: columns[CONTEXT_VALID] for e, columns in batch.items()}
        posteriors = self.network.memory.infer(inputs[CONTEXT_OBS], inputs[CONTEXT_NEXT_OBS], valid)
        told = {}
        for env_id, columns in batch.items():
            latents = posteriors[env_id].sample(columns[LATENT_NOISE])  # [M, D]
            obs, next_obs = inputs[Columns.OBS][env_id], inputs[Columns.NEXT_OBS][env_id]
            latents = latents.repeat_interleave(len(obs.numbers) // len(latents), 0)  # [R, D]
            seen, following = (self.network.told(env_id, own, latents) for own in (obs, next_obs))
            told[env_id] = {
                **columns,
                Columns.OBS: seen.detach(),
                Columns.NEXT_OBS: following.detach(),
                OBS_OF_Q: seen,
            }
        outputs = super()._forward_train(told, **kwargs)
        for env_id, posterior in posteriors.items():
            outputs[env_id] |= {KL: posterior.kl_to_prior(), DEVIATION: posterior.variance.sqrt().mean(1)}
        return outputs

    def _inputs(self, env_id: str, rows: Any) -> Inputs:
        return Inputs.of(env_id, self.network.interfaces[env_id].observation, rows)
