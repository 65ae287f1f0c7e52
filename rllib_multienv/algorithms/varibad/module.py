"""VariBAD's shared module: PPO's, and the decoders that the belief is trained with."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from functools import cached_property

import torch
from torch import Tensor, nn

from rllib_multienv.algorithms.ppo.module import PPOSharedModule
from rllib_multienv.nets import Inputs, NetConfig, net_config_from_dict
from rllib_multienv.nets.belief import BeliefMemory
from rllib_multienv.spaces.rows import ActionPart, ActionRow, ObservationRow
from rllib_multienv.spec import SpaceSpec

_HIDDEN = 64


def without(spaces: SpaceSpec, numbers: Tensor, *inputs: str) -> Tensor:
    """Numbers ``[R, I]`` whose previous reward and end flag, and these ``inputs``, are zero."""
    numbers = numbers.clone()
    for name in ("previous_reward", "previous_done", *inputs):
        numbers[:, spaces.columns_of(name)] = 0.0
    return numbers


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

    def encode(
        self, spaces: Mapping[str, SpaceSpec], obs: Mapping[str, Inputs], next_obs: Mapping[str, Inputs]
    ) -> Tensor:
        """Steps ``[R, F]`` of several environments, in the order of their sizes."""
        before = {e: own._replace(numbers=without(spaces[e], own.numbers, "previous_action")) for e, own in obs.items()}
        after = {e: own._replace(numbers=without(spaces[e], own.numbers)) for e, own in next_obs.items()}
        both = torch.cat([self.network.encode_inputs(before), self.network.encode_inputs(after)], 1)  # [R, 2 H]
        encoded: Tensor = self.of_steps(both)
        return encoded

    def decode(self, steps: Tensor, latents: Tensor) -> Tensor:
        """Rewards ``[Z, K, N]`` of steps ``[K, N, F]`` in the tasks ``[Z, N, D]``."""
        rewards: Tensor = self.out(steps + self.of_latents(latents)[:, None])  # [Z, K, N, 1]
        return rewards.squeeze(-1)

    def add_env(self, env_id: str, spaces: SpaceSpec) -> None:
        """An environment becomes known."""
        self.network.add_env(env_id, spaces)

    def remove_env(self, env_id: str) -> None:
        """An environment is removed."""
        self.network.remove_env(env_id)


@dataclasses.dataclass(frozen=True)
class NextObservation:
    """An environment whose action is its own next observation: the network that predicts it has these outputs."""

    spaces: SpaceSpec
    discrete: bool = False
    squashed: bool = False
    world: str = ""
    world_copies: int = 1

    @property
    def description(self) -> str:
        """As in `Interface`."""
        return f"next observation of {self.spaces.description}"

    @property
    def observation(self) -> ObservationRow:
        """As in `Interface`, without a mask: an observation and an action."""
        row = self.spaces.observation
        return ObservationRow(row.numbers, row.images, row.texts)

    @cached_property
    def action(self) -> ActionRow:
        """The numbers of the environment's own observation."""
        return ActionRow((ActionPart("continuous", self.spaces.without_inputs.obs_size),))

    @property
    def obs_size(self) -> int:
        """As in `Interface`."""
        return self.spaces.obs_size

    @property
    def action_size(self) -> int:
        """As in `Interface`."""
        return self.action.num_continuous

    @property
    def obs_names(self) -> Sequence[str]:
        """As in `Interface`."""
        return self.spaces.obs_names

    @property
    def action_names(self) -> Sequence[str]:
        """Those of the observation's numbers."""
        return self.spaces.obs_names[: self.action_size]

    @property
    def obs_measured(self) -> Sequence[Sequence[float]]:
        """As in `Interface`."""
        return self.spaces.obs_measured

    @property
    def action_measured(self) -> Sequence[Sequence[float]]:
        """Those of the observation's numbers."""
        return self.spaces.obs_measured[: self.action_size]

    @property
    def action_low(self) -> Sequence[float]:
        """As in `Interface`."""
        return (-1.0,) * self.action_size

    @property
    def action_high(self) -> Sequence[float]:
        """As in `Interface`."""
        return (1.0,) * self.action_size


class StateDecoder(nn.Module):
    """Predicts the next observation from a task's latent, an observation and an action, in any environment.

    Arguments as in `RewardDecoder`.
    """

    def __init__(self, config: NetConfig, interfaces: Mapping[str, SpaceSpec], width: int, latent: int) -> None:
        super().__init__()
        outputs = {env_id: NextObservation(spaces) for env_id, spaces in interfaces.items()}
        self.network = dataclasses.replace(config, memory=None).build(outputs)
        self.network.drop_critic()
        self.of_latents = nn.Linear(latent, width, bias=False)

    def encode(
        self, spaces: Mapping[str, SpaceSpec], obs: Mapping[str, Inputs], next_obs: Mapping[str, Inputs]
    ) -> Tensor:
        """Observations and actions ``[R, H]`` of several environments, in the order of their sizes."""
        inputs = {}
        for env_id, own in obs.items():
            numbers, action = without(spaces[env_id], own.numbers), spaces[env_id].columns_of("previous_action")
            numbers[:, action] = next_obs[env_id].numbers[:, action]  # the one that is taken
            inputs[env_id] = own._replace(numbers=numbers)
        return self.network.encode_inputs(inputs)

    def decode(self, env_id: str, steps: Tensor, latents: Tensor) -> Tensor:
        """Numbers ``[Z, K, N, I]`` of the next observations of steps ``[K, N, H]`` in the tasks ``[Z, N, D]``."""
        rows = steps + self.of_latents(latents)[:, None]  # [Z, K, N, H]
        flat = rows.flatten(0, 2)
        outputs = self.network.decode("actor", flat, {env_id: len(flat)})[env_id]  # [Z K N, 2 I]: means, deviations
        return outputs.chunk(2, 1)[0].unflatten(0, rows.shape[:3])

    def add_env(self, env_id: str, spaces: SpaceSpec) -> None:
        """An environment becomes known."""
        self.network.add_env(env_id, NextObservation(spaces))

    def remove_env(self, env_id: str) -> None:
        """An environment is removed."""
        self.network.remove_env(env_id)


class VariBADSharedModule(PPOSharedModule):
    """PPO's shared module with the decoders, which runners neither keep nor receive.

    ``model_config`` also has ``"decodes_states"``: whether there is a `StateDecoder`.
    """

    def setup(self) -> None:
        """Build network and decoders."""
        super().setup()
        self.decoder: RewardDecoder | None = None
        self.state_decoder: StateDecoder | None = None
        if not self.inference_only:
            interfaces, sizes = self.model_config["interfaces"], (self.belief.width, self.belief.latent)
            config = net_config_from_dict(self.model_config["network"])
            self.decoder = RewardDecoder(config, interfaces, *sizes)
            if self.model_config["decodes_states"]:
                self.state_decoder = StateDecoder(config, interfaces, *sizes)

    @property
    def belief(self) -> BeliefMemory:
        """The part of the network that infers the task."""
        assert isinstance(self.network.memory, BeliefMemory)
        return self.network.memory

    @property
    def decoders(self) -> list[RewardDecoder | StateDecoder]:
        """Those that there are."""
        return [decoder for decoder in (self.decoder, self.state_decoder) if decoder is not None]

    def add_env(self, env_id: str, space_spec: SpaceSpec) -> None:
        """Make an environment known to network and decoders."""
        super().add_env(env_id, space_spec)
        for decoder in self.decoders:
            decoder.add_env(env_id, space_spec)

    def remove_env(self, env_id: str) -> None:
        """Remove an environment from network and decoders."""
        super().remove_env(env_id)
        for decoder in self.decoders:
            decoder.remove_env(env_id)

    def get_non_inference_attributes(self) -> list[str]:
        """The critic and the decoders."""
        return [*super().get_non_inference_attributes(), "decoder", "state_decoder"]
