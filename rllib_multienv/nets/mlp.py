"""A plain MLP network for one environment, for comparisons."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal, cast

import torch
from torch import Tensor, nn

from .actor_critic import OneEnvironmentActorCritic, Part
from .config import NetConfig, require, require_choice
from .heads import bounded_log_std, gaussian_inputs
from .interface import Interface
from .layers import ACTIVATIONS, mlp

__all__ = ["MLPActorCritic", "MLPNetConfig"]


@dataclass(frozen=True, kw_only=True)
class MLPNetConfig(NetConfig):
    """Config of `MLPActorCritic`.

    Attributes:
        hidden: sizes of the hidden layers.
        activation: ``"tanh"``, ``"relu"`` or ``"gelu"``.
        squash_mean: whether tanh keeps the means of continuous actions in (-1, 1).
        state_dependent_std: whether the standard deviations of continuous actions depend on the observation, as SAC
            needs it; otherwise they are parameters.
    """

    type: ClassVar[str] = "mlp"

    hidden: tuple[int, ...] = (64, 64)
    activation: Literal["tanh", "relu", "gelu"] = "tanh"
    squash_mean: bool = False
    state_dependent_std: bool = False

    def __post_init__(self) -> None:
        """Check the fields."""
        super().__post_init__()
        require(bool(self.hidden) and min(self.hidden) >= 1, "hidden", self.hidden, "one or more whole numbers >= 1")
        require_choice(self, "activation", list(ACTIVATIONS))

    def build(self, interfaces: Mapping[str, Interface]) -> MLPActorCritic:
        """Build the network.

        Raises:
            ValueError: there is no environment, or there are several.
        """
        return MLPActorCritic(self, interfaces)


class MLPActorCritic(OneEnvironmentActorCritic):
    """Separate MLPs for policy and value; the log standard deviation is learned and starts at 0, or near -0.5 where it
    depends on the observation.

    See docs/deviations.md, 7.
    """

    name = "an MLP network"
    twice_differentiable: ClassVar[bool] = True

    def __init__(self, config: MLPNetConfig, interfaces: Mapping[str, Interface]) -> None:
        super().__init__(interfaces)
        self.config = config
        obs_size, action_size = self.interface.obs_size, self.interface.action_size
        activation = ACTIVATIONS[config.activation]
        continuous, depends = self.interface.action.num_continuous, config.state_dependent_std
        outputs = action_size + (continuous if depends else 0)
        self.actor = mlp([obs_size, *config.hidden, outputs], activation, 0.01)
        self.critic = mlp([obs_size, *config.hidden, 1], activation, 1.0)
        self.log_std = nn.Parameter(torch.zeros(continuous)) if continuous and not depends else None
        self.encoders = config.encoders(interfaces, config.hidden[0] if config.hidden else 1)
        self.memory = config.memory_of(interfaces, config.hidden[-1])
        self.world_attention = config.world_attention_of(config.hidden[-1])
        has_layer = bool(config.hidden) or self.encoders is None
        require(has_layer, "hidden", config.hidden, "one layer or more, where observations have images or text")

    def encode(self, part: Part, obs: Mapping[str, Tensor], media: Tensor | None = None) -> Tensor:
        """See `ActorCritic.encode`."""
        layers = list(self.actor if part == "actor" else self.critic)
        rows = obs[self.env_id].to(cast(nn.Linear, layers[0]).weight.dtype)
        for layer in layers[:-1]:
            rows = layer(rows)
            if media is not None:  # beside the first layer
                rows, media = rows + media, None
        return rows

    def decode(self, part: Part, rows: Tensor, counts: Mapping[str, int]) -> dict[str, Tensor]:
        """See `ActorCritic.decode`."""
        if part == "critic":
            return {self.env_id: self.critic[-1](rows).squeeze(1)}
        outputs = self.actor[-1](rows)
        action, squash = self.interface.action, self.config.squash_mean
        if action.num_continuous:
            logits, mean = outputs.tensor_split([action.num_logits], 1)
            if self.log_std is None:
                mean, raw = mean.chunk(2, 1)  # each [B, A]
                log_std = bounded_log_std(raw)
            else:
                log_std = self.log_std.expand_as(mean)
            outputs = gaussian_inputs(mean, log_std, squash_mean=squash, logits=logits)
        return {self.env_id: outputs}

    def actor_parameters(self) -> list[nn.Parameter]:
        """See `ActorCritic.actor_parameters`."""
        own = [*self.actor.parameters(), *([] if self.log_std is None else [self.log_std])]
        known = {id(parameter) for parameter in own}
        return [*own, *(parameter for parameter in super().actor_parameters() if id(parameter) not in known)]
