"""The paper's single-environment network: residual MLPs, the baseline of transfer (section 4.2)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor, nn

from .actor_critic import OneEnvironmentActorCritic, Part
from .config import NetConfig, require, require_whole
from .heads import bounded_log_std, gaussian_inputs
from .interface import Interface
from .layers import ResidualMLP, input_layer, output_layer

__all__ = ["SingleActorCritic", "SingleNetConfig"]


@dataclass(frozen=True, kw_only=True)
class SingleNetConfig(NetConfig):
    """Config of `SingleActorCritic`. The defaults suit two CPU cores; `paper` gives the paper's sizes.

    Attributes:
        width: features of the residual MLPs, and their hidden size.
        depth: their blocks.
        dropout: probability in training mode.
        squash_mean: whether tanh keeps the means of continuous actions in (-1, 1).
    """

    type: ClassVar[str] = "single"

    width: int = 64
    depth: int = 2
    dropout: float = 0.0
    squash_mean: bool = False

    def __post_init__(self) -> None:
        """Check the fields."""
        super().__post_init__()
        require_whole(self, "width", "depth")
        require(0.0 <= self.dropout < 1.0, "dropout", self.dropout, "in [0, 1)")

    @classmethod
    def paper(cls, **changes: Any) -> SingleNetConfig:
        """The sizes of the paper's Table 2b; any field can be changed."""
        fields: dict[str, Any] = {"width": 256, "depth": 2, "dropout": 0.1}
        return cls(**(fields | changes))

    def build(self, interfaces: Mapping[str, Interface]) -> SingleActorCritic:
        """Build the network.

        Raises:
            ValueError: there is no environment, or there are several.
        """
        return SingleActorCritic(self, interfaces)


class _Tower(nn.Module):
    """A residual MLP from ``[B, inputs]`` to ``[B, outputs]``, whose outputs start with size ``gain``."""

    def __init__(self, config: SingleNetConfig, inputs: int, outputs: int, gain: float) -> None:
        super().__init__()
        self.encoder = input_layer(inputs, config.width)
        self.middle = ResidualMLP(config.width, config.depth, config.width, config.dropout)
        self.decoder = output_layer(config.width, outputs, gain)


class SingleActorCritic(OneEnvironmentActorCritic):
    """Separate residual MLPs for policy and value.

    The log standard deviation comes from the network (section 3.1 of the paper), lies in (-5, 2) and starts at about
    -0.5; means and logits start near 0 (docs/deviations.md, 26). Names in the state dict: ``actor.encoder``,
    ``actor.middle``, ``actor.decoder``, and the same of ``critic``.
    """

    name = "a single-environment network"

    twice_differentiable: ClassVar[bool] = True

    def __init__(self, config: SingleNetConfig, interfaces: Mapping[str, Interface]) -> None:
        super().__init__(interfaces)
        self.config = config
        self.actor = _Tower(config, self.interface.obs_size, self.interface.action.num_inputs, 0.01)
        self.critic = _Tower(config, self.interface.obs_size, 1, 1.0)
        self.encoders = config.encoders(interfaces, config.width)
        self.memory = config.memory_of(interfaces, config.width)
        self.world_attention = config.world_attention_of(config.width)

    def encode(self, part: Part, obs: Mapping[str, Tensor], media: Tensor | None = None) -> Tensor:
        """See `ActorCritic.encode`."""
        tower = self.actor if part == "actor" else self.critic
        rows = tower.encoder(obs[self.env_id].to(tower.encoder.weight))
        middle: Tensor = tower.middle(rows if media is None else rows + media)
        return middle

    def decode(self, part: Part, rows: Tensor, counts: Mapping[str, int]) -> dict[str, Tensor]:
        """See `ActorCritic.decode`."""
        if part == "critic":
            return {self.env_id: self.critic.decoder(rows).squeeze(1)}
        outputs = self.actor.decoder(rows)
        action = self.interface.action
        if action.num_continuous:
            logits, mean, raw = outputs.split([action.num_logits, action.num_continuous, action.num_continuous], 1)
            squash = self.config.squash_mean
            outputs = gaussian_inputs(mean, bounded_log_std(raw), squash_mean=squash, logits=logits)
        return {self.env_id: outputs}
