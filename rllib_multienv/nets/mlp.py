"""A plain MLP actor-critic for one environment, for comparisons."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar, Literal, cast

import torch
from torch import Tensor, nn

from .actor_critic import Interface
from .config import NetConfig, require
from .distributions import gaussian_inputs
from .one_environment import OneEnvironmentActorCritic, the_only

__all__ = ["ACTIVATIONS", "MLPActorCritic", "MLPNetConfig", "mlp"]

ACTIVATIONS: dict[str, type[nn.Module]] = {"tanh": nn.Tanh, "relu": nn.ReLU, "gelu": nn.GELU}


@dataclass(frozen=True, kw_only=True)
class MLPNetConfig(NetConfig):
    """Config of `MLPActorCritic`.

    Attributes:
        hidden: sizes of the hidden layers.
        activation: ``"tanh"``, ``"relu"`` or ``"gelu"``.
        squash_mean: whether tanh keeps the means of continuous actions in (-1, 1).
    """

    type: ClassVar[str] = "mlp"

    hidden: tuple[int, ...] = (64, 64)
    activation: Literal["tanh", "relu", "gelu"] = "tanh"
    squash_mean: bool = False

    def __post_init__(self) -> None:
        """Check the fields."""
        object.__setattr__(self, "hidden", tuple(self.hidden))
        require(
            all(isinstance(n, int) and n >= 1 for n in self.hidden),
            "hidden",
            self.hidden,
            "whole numbers >= 1",
        )
        require(self.activation in ACTIVATIONS, "activation", self.activation, f"in {list(ACTIVATIONS)}")

    def build(self, interfaces: Mapping[str, Interface]) -> MLPActorCritic:
        """Build the network; there must be exactly one environment."""
        return MLPActorCritic(self, *the_only(self, interfaces))


def mlp(sizes: list[int], activation: type[nn.Module], last_gain: float) -> nn.Sequential:
    """Linear layers with orthogonal weights and zero biases; gain sqrt(2), the last one ``last_gain``."""
    layers: list[nn.Module] = []
    for index, (fan_in, fan_out) in enumerate(pairwise(sizes)):
        last = index == len(sizes) - 2
        linear = nn.Linear(fan_in, fan_out)
        nn.init.orthogonal_(linear.weight, last_gain if last else math.sqrt(2))
        nn.init.zeros_(linear.bias)
        layers += [linear] if last else [linear, activation()]
    return nn.Sequential(*layers)


class MLPActorCritic(OneEnvironmentActorCritic):
    """Separate MLPs for policy and value; the log standard deviation is learned, starts at 0.

    See docs/deviations.md, 7.
    """

    name = "an MLP network"

    def __init__(self, config: MLPNetConfig, env_id: str, interface: Interface) -> None:
        super().__init__(env_id, interface)
        self.config = config
        activation = ACTIVATIONS[config.activation]
        self.actor = mlp([interface.obs_size, *config.hidden, interface.action_size], activation, 0.01)
        self.critic = mlp([interface.obs_size, *config.hidden, 1], activation, 1.0)
        self.log_std = None if interface.discrete else nn.Parameter(torch.zeros(interface.action_size))

    def policy(self, obs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """See `ActorCritic.policy`."""
        outputs = {}
        for env_id, value in self._checked(obs).items():
            out = self.actor(value)
            if self.log_std is not None:
                out = gaussian_inputs(out, self.log_std.expand_as(out), squash_mean=self.config.squash_mean)
            outputs[env_id] = out
        return outputs

    def value(self, obs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """See `ActorCritic.value`."""
        return {env_id: self.critic(value).squeeze(1) for env_id, value in self._checked(obs).items()}

    def actor_parameters(self) -> list[nn.Parameter]:
        """See `ActorCritic.actor_parameters`."""
        return [*self.actor.parameters(), *([] if self.log_std is None else [self.log_std])]

    def critic_parameters(self) -> list[nn.Parameter]:
        """See `ActorCritic.critic_parameters`."""
        return list(self.critic.parameters())

    def _checked(self, obs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        self.check_observations(obs)
        first = cast(nn.Linear, self.actor[0])  # looking for it among the parameters takes as long as a layer
        return {env_id: value.to(first.weight.dtype) for env_id, value in obs.items()}
