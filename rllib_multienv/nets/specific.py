"""The paper's multi-environment specific network: encoders and decoders for each environment, a shared middle."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from .actor_critic import ActorCritic, Part
from .config import NetConfig, require, require_whole
from .heads import bounded_log_std, gaussian_inputs
from .interface import Interface
from .layers import ResidualMLP, input_layer, output_layer
from .parameters import env_key, insert_part

__all__ = ["SpecificActorCritic", "SpecificNetConfig"]


@dataclass(frozen=True, kw_only=True)
class SpecificNetConfig(NetConfig):
    """Config of `SpecificActorCritic`. The defaults suit two CPU cores; `paper` gives the paper's sizes.

    Attributes:
        width: features of all residual MLPs, and their hidden size.
        encoder_depth: blocks of each environment's encoders.
        middle_depth: blocks of the shared middle.
        decoder_depth: blocks of each environment's decoders.
        dropout: probability in training mode.
        squash_mean: whether tanh keeps the means of continuous actions in (-1, 1).
    """

    type: ClassVar[str] = "specific"
    for_any: ClassVar[bool] = True

    width: int = 64
    encoder_depth: int = 1
    middle_depth: int = 2
    decoder_depth: int = 1
    dropout: float = 0.0
    squash_mean: bool = False

    def __post_init__(self) -> None:
        """Check the fields."""
        super().__post_init__()
        require_whole(self, "width", "encoder_depth", "middle_depth", "decoder_depth")
        require(0.0 <= self.dropout < 1.0, "dropout", self.dropout, "in [0, 1)")

    @classmethod
    def paper(cls, **changes: Any) -> SpecificNetConfig:
        """The paper's width, depth and dropout (Table 2b; docs/deviations.md, 27); any field can be changed."""
        fields: dict[str, Any] = {"width": 256, "dropout": 0.1}
        return cls(**(fields | changes))

    def build(self, interfaces: Mapping[str, Interface]) -> SpecificActorCritic:
        """Build the network for these environments; others can be added later and get new parameters."""
        return SpecificActorCritic(self, interfaces)


class SpecificTower(nn.Module):
    """Actor or critic: an encoder and decoders for each environment, and a shared residual MLP between them."""

    def __init__(self, config: SpecificNetConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = nn.ModuleDict()
        self.middle = self._residual_mlp(config.middle_depth)
        self.decoders = nn.ModuleDict()

    def _residual_mlp(self, depth: int) -> ResidualMLP:
        return ResidualMLP(self.config.width, depth, self.config.width, self.config.dropout)

    def new_encoder(self, inputs: int) -> nn.Module | None:
        """The encoder of a new environment; None if there is one for all."""
        layer = input_layer(inputs, self.config.width)
        return nn.Sequential(layer, self._residual_mlp(self.config.encoder_depth))

    def add_env(self, env_id: str, inputs: int, outputs: Mapping[str, tuple[int, float]]) -> None:
        """New parts for an environment: ``outputs`` gives size and gain of each decoder by its name."""
        width, config, like = self.config.width, self.config, next(self.middle.parameters())
        decoders = nn.ModuleDict(
            {
                name: nn.Sequential(self._residual_mlp(config.decoder_depth), output_layer(width, size, gain))
                for name, (size, gain) in outputs.items()
            }
        )
        if (encoder := self.new_encoder(inputs)) is not None:
            insert_part(self.encoder, env_id, encoder.to(like).train(self.training))
        insert_part(self.decoders, env_id, decoders.to(like).train(self.training))

    def remove_env(self, env_id: str) -> None:
        """Drop an environment's parts."""
        if env_key(env_id) in self.encoder:
            del self.encoder[env_key(env_id)]
        del self.decoders[env_key(env_id)]

    def encode(self, obs: Mapping[str, Tensor], media: Tensor | None) -> Tensor:
        """``[R, H]`` from observations ``{env_id: [B, I]}`` and what is added for images and text."""
        like = next(self.middle.parameters())
        encoded = [self.encoder[env_key(env_id)](value.to(like)) for env_id, value in obs.items()]  # each [B, H]
        rows = torch.cat(encoded)
        middle: Tensor = self.middle(rows if media is None else rows + media)
        return middle

    def decode(self, rows: Tensor, counts: Mapping[str, int]) -> dict[str, dict[str, Tensor]]:
        """Outputs of every environment's decoders: ``{env_id: {name: [B, size]}}``."""
        return {
            env_id: {name: decoder(own) for name, decoder in self.decoders[env_key(env_id)].items()}  # type: ignore[operator]
            for env_id, own in zip(counts, rows.split(list(counts.values())), strict=True)
        }


class SpecificActorCritic(ActorCritic):
    """Policy and value of many environments, with parameters for each of them (paper, section 4.2).

    An environment's own layers run for its samples alone, the shared middle once for all. An environment that is added
    starts with fresh parameters; one that is removed leaves nothing behind. There is no task context. Names in the
    state dict: ``actor.encoder.env:ID``, ``actor.middle``, ``actor.decoders.env:ID.{logits,mean,log_std}``,
    ``critic.encoder.env:ID``, ``critic.middle``, ``critic.decoders.env:ID.value`` (see `env_key`).

    Log standard deviations lie in (-5, 2) and start at about -0.5; means and logits start near 0.
    """

    twice_differentiable: ClassVar[bool] = True

    def __init__(self, config: SpecificNetConfig, interfaces: Mapping[str, Interface]) -> None:
        super().__init__()
        self.config = config
        self.actor, self.critic = self._tower(interfaces), self._tower(interfaces)
        self.encoders = config.encoders(interfaces, config.width)
        self.memory = config.memory_of(interfaces, config.width)
        for env_id, interface in interfaces.items():
            self.add_env(env_id, interface)
        self.world_attention = config.world_attention_of(config.width)

    def add_env(self, env_id: str, interface: Interface) -> None:
        """See `ActorCritic.add_env`; a new environment gets new parameters."""
        is_new = env_id not in self.interfaces
        super().add_env(env_id, interface)
        if not is_new:
            return
        action, policy = interface.action, {}
        if action.num_logits:
            policy["logits"] = (action.num_logits, 0.01)
        if action.num_continuous:
            policy |= {name: (action.num_continuous, 0.01) for name in ("mean", "log_std")}
        self.actor.add_env(env_id, interface.obs_size, policy)
        if self._has_critic:
            self.critic.add_env(env_id, interface.obs_size, {"value": (1, 1.0)})

    def remove_env(self, env_id: str) -> None:
        """See `ActorCritic.remove_env`."""
        super().remove_env(env_id)
        self.actor.remove_env(env_id)
        if self._has_critic:
            self.critic.remove_env(env_id)

    def _tower(self, interfaces: Mapping[str, Interface]) -> SpecificTower:
        return SpecificTower(self.config)

    @property
    def _has_critic(self) -> bool:
        """False after `drop_critic`."""
        return hasattr(self, "critic")

    def encode(self, part: Part, obs: Mapping[str, Tensor], media: Tensor | None = None) -> Tensor:
        """See `ActorCritic.encode`."""
        tower = self.actor if part == "actor" else self.critic
        return tower.encode(obs, media)

    def decode(self, part: Part, rows: Tensor, counts: Mapping[str, int]) -> dict[str, Tensor]:
        """See `ActorCritic.decode`."""
        if part == "critic":
            return {env_id: decoded["value"].squeeze(1) for env_id, decoded in self.critic.decode(rows, counts).items()}
        return {env_id: self._policy_inputs(decoded) for env_id, decoded in self.actor.decode(rows, counts).items()}

    def _policy_inputs(self, decoded: Mapping[str, Tensor]) -> Tensor:
        if "mean" not in decoded:
            return decoded["logits"]
        log_std = bounded_log_std(decoded["log_std"])
        squash = self.config.squash_mean
        return gaussian_inputs(decoded["mean"], log_std, squash_mean=squash, logits=decoded.get("logits"))
