"""A plain MLP network for one environment, for comparisons."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .action_values import ActionValues
from .actor_critic import OneEnvironmentActorCritic, Part
from .config import NetConfig, require, require_choice
from .heads import bounded_log_std, gaussian_inputs
from .interface import Inputs, Interface
from .layers import ACTIVATIONS, mlp

__all__ = ["MLPActionValues", "MLPActorCritic", "MLPNetConfig"]

FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {"tanh": torch.tanh, "relu": torch.relu, "gelu": F.gelu}


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

    def build_critic(self, interfaces: Mapping[str, Interface], *, num_estimates: int = 2) -> ActionValues:
        """Build action values, with one product for each layer of all estimates unless there are images or text."""
        needed = self.for_environments(interfaces)
        if needed.image_encoder is not None or needed.text_encoder is not None:
            return super().build_critic(interfaces, num_estimates=num_estimates)
        return MLPActionValues(self, interfaces, num_estimates=num_estimates)


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
        self._activation = FUNCTIONS[config.activation]
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
        linear = [layer for layer in (self.actor if part == "actor" else self.critic) if isinstance(layer, nn.Linear)]
        rows = obs[self.env_id].to(linear[0].weight.dtype)
        for layer in linear[:-1]:  # calling modules takes as long as a small layer
            rows = F.linear(rows, layer.weight, layer.bias)
            if media is not None:  # beside the first layer
                rows, media = rows + media, None
            rows = self._activation(rows)
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


class MLPActionValues(ActionValues):
    """Several MLPs of one environment side by side; each layer of all of them is one batched product."""

    def __init__(self, config: MLPNetConfig, interfaces: Mapping[str, Interface], *, num_estimates: int) -> None:
        super().__init__(interfaces)
        self._activation = FUNCTIONS[config.activation]
        ((self._env_id, inputs),) = self.inputs.items()
        sizes = [inputs.obs_size, *config.hidden, inputs.action_size]
        estimates = [list(mlp(sizes, ACTIVATIONS[config.activation], 0.01))[::2] for _ in range(num_estimates)]
        self.weights, self.biases = nn.ParameterList(), nn.ParameterList()
        for layers in zip(*cast(list[list[nn.Linear]], estimates), strict=True):
            self.weights.append(torch.stack([layer.weight.detach() for layer in layers]))  # [num_estimates, out, in]
            self.biases.append(
                torch.stack([layer.bias.detach() for layer in layers])[:, None]
            )  # [num_estimates, 1, out]

    def all_values(self, inputs: Mapping[str, Inputs]) -> dict[str, Tensor]:
        """See `ActionValues.all_values`."""
        rows = inputs[self._env_id].numbers.to(self.weights[0].dtype)
        rows = rows.expand(len(self.weights[0]), -1, -1)  # [num_estimates, B, I]
        for number, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            if number:
                rows = self._activation(rows)
            rows = torch.baddbmm(bias, rows, weight.transpose(1, 2))  # [num_estimates, B, out]
        return {self._env_id: rows}
