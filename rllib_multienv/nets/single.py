"""The paper's single-environment agent: residual MLPs for one environment, the baseline of transfer (section 4.2)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor, nn

from .actor_critic import Interface
from .config import NetConfig, require, require_sizes
from .distributions import gaussian_inputs
from .log_std import bounded_log_std
from .one_environment import OneEnvironmentActorCritic, the_only
from .residual_mlp import ResidualMLP, input_layer, output_layer

__all__ = ["SingleActorCritic", "SingleNetConfig", "SingleTower"]


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
        require_sizes(self, "width", "depth")
        require(0.0 <= self.dropout < 1.0, "dropout", self.dropout, "in [0, 1)")

    @classmethod
    def paper(cls, **changes: Any) -> SingleNetConfig:
        """The sizes of the paper's Table 2b; any field can be changed."""
        fields: dict[str, Any] = {"width": 256, "depth": 2, "dropout": 0.1}
        return cls(**(fields | changes))

    def build(self, interfaces: Mapping[str, Interface]) -> SingleActorCritic:
        """Build the network; there must be exactly one environment.

        Raises:
            ValueError: there is none, or there are several.
        """
        return SingleActorCritic(self, *the_only(self, interfaces))


class SingleTower(nn.Module):
    """A residual MLP from ``[B, inputs]`` to ``[B, outputs]``: of the actor, the critic, or an action value.

    Args:
        config: its sizes.
        inputs: features of the input.
        outputs: features of the output.
        gain: size of the outputs at the start.
    """

    def __init__(self, config: SingleNetConfig, inputs: int, outputs: int, gain: float) -> None:
        super().__init__()
        self.encoder = input_layer(inputs, config.width)
        self.middle = ResidualMLP(config.width, config.depth, config.width, config.dropout)
        self.decoder = output_layer(config.width, outputs, gain)

    def forward(self, inputs: Tensor) -> Tensor:
        """``[B, inputs]`` to ``[B, outputs]``."""
        outputs: Tensor = self.decoder(self.middle(self.encoder(inputs.to(self.encoder.weight))))
        return outputs


class SingleActorCritic(OneEnvironmentActorCritic):
    """Residual MLPs for policy and value, separate.

    The log standard deviation comes from the network (section 3.1 of the paper), lies in (-5, 2) and starts at about
    -0.5; means and logits start near 0 (docs/deviations.md, 19). Names in the state dict: ``actor.encoder``,
    ``actor.middle``, ``actor.decoder``, and the same of ``critic``.
    """

    name = "a single-environment network"

    def __init__(self, config: SingleNetConfig, env_id: str, interface: Interface) -> None:
        super().__init__(env_id, interface)
        self.config = config
        self.discrete = interface.discrete
        outputs = interface.action_size * (1 if interface.discrete else 2)
        self.actor = SingleTower(config, interface.obs_size, outputs, 0.01)
        self.critic = SingleTower(config, interface.obs_size, 1, 1.0)

    def policy(self, obs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """See `ActorCritic.policy`."""
        self.check_observations(obs)
        outputs = {env_id: self.actor(value) for env_id, value in obs.items()}
        return outputs if self.discrete else {env_id: self._gaussian(out) for env_id, out in outputs.items()}

    def _gaussian(self, outputs: Tensor) -> Tensor:
        mean, raw = outputs.chunk(2, 1)
        return gaussian_inputs(mean, bounded_log_std(raw), squash_mean=self.config.squash_mean)

    def value(self, obs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """See `ActorCritic.value`."""
        self.check_observations(obs)
        return {env_id: self.critic(value).squeeze(1) for env_id, value in obs.items()}

    def actor_parameters(self) -> list[nn.Parameter]:
        """See `ActorCritic.actor_parameters`."""
        return list(self.actor.parameters())

    def critic_parameters(self) -> list[nn.Parameter]:
        """See `ActorCritic.critic_parameters`."""
        return list(self.critic.parameters())
