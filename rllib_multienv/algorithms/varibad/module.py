"""VariBAD's shared module: PPO's, and the decoders that the belief is trained with."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from rllib_multienv.algorithms.ppo.module import PPOSharedModule
from rllib_multienv.nets import Inputs, NetConfig, net_config_from_dict
from rllib_multienv.nets.belief import BeliefMemory
from rllib_multienv.spec import SpaceSpec

_HIDDEN = 64


class RewardDecoder(nn.Module):
    """Predicts the reward of a step from a task's latent, and what was seen before and after it, in any environment.

    Both observations are encoded by a network like that of the policy. What was seen before has no previous inputs, and
    what was seen after has the action alone, not the reward.

    Args:
        config: the policy's network.
        interfaces: the environments.
        width: features of its rows.
        latent: D.
    """

    def __init__(self, config: NetConfig, interfaces: Mapping[str, SpaceSpec], width: int, latent: int) -> None:
        super().__init__()
        self.network = dataclasses.replace(config, memory=None).build(interfaces)
        self.network.drop_critic()
        self.of_steps = nn.Linear(2 * width, _HIDDEN)
        self.of_latents = nn.Linear(latent, _HIDDEN, bias=False)
        self.out = nn.Sequential(nn.GELU(), nn.Linear(_HIDDEN, _HIDDEN), nn.GELU(), nn.Linear(_HIDDEN, 1))

    def encode(self, obs: Mapping[str, Inputs], next_obs: Mapping[str, Inputs]) -> Tensor:
        """Steps ``[R, F]`` of several environments, in the order of their sizes."""
        before, after = self._without(obs, "previous_action"), self._without(next_obs)
        both = torch.cat([self.network.encode_inputs(before), self.network.encode_inputs(after)], 1)  # [R, 2 H]
        encoded: Tensor = self.of_steps(both)
        return encoded

    def _without(self, inputs: Mapping[str, Inputs], *others: str) -> dict[str, Inputs]:
        """Inputs whose previous reward and end flag, and ``others``, are zero."""
        found = {}
        for env_id, own in inputs.items():
            spaces = self.network.interfaces[env_id]
            assert isinstance(spaces, SpaceSpec)
            numbers = own.numbers.clone()
            for name in ("previous_reward", "previous_done", *others):
                numbers[:, spaces.columns_of(name)] = 0.0
            found[env_id] = own._replace(numbers=numbers)
        return found

    def decode(self, steps: Tensor, latents: Tensor) -> Tensor:
        """Rewards ``[Z, K, N]`` of steps ``[K, N, F]`` in the tasks ``[Z, N, D]``."""
        rewards: Tensor = self.out(steps + self.of_latents(latents)[:, None])  # [Z, K, N, 1]
        return rewards.squeeze(-1)


class VariBADSharedModule(PPOSharedModule):
    """PPO's shared module with `RewardDecoder`, which runners neither keep nor receive."""

    def setup(self) -> None:
        """Build network and decoder."""
        super().setup()
        if not self.inference_only:
            config, belief = net_config_from_dict(self.model_config["network"]), self.belief
            self.decoder = RewardDecoder(config, self.model_config["interfaces"], belief.width, belief.latent)

    @property
    def belief(self) -> BeliefMemory:
        """The part of the network that infers the task."""
        assert isinstance(self.network.memory, BeliefMemory)
        return self.network.memory

    def add_env(self, env_id: str, space_spec: SpaceSpec) -> None:
        """Make an environment known to network and decoder."""
        super().add_env(env_id, space_spec)
        if not self.inference_only:
            self.decoder.network.add_env(env_id, space_spec)

    def remove_env(self, env_id: str) -> None:
        """Remove an environment from network and decoder."""
        super().remove_env(env_id)
        if not self.inference_only:
            self.decoder.network.remove_env(env_id)

    def get_non_inference_attributes(self) -> list[str]:
        """The critic and the decoder."""
        return [*super().get_non_inference_attributes(), "decoder"]
