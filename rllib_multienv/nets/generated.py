"""The generated network: first and last layers from descriptions, at the cost of an MLP.

A small network maps the description of each observation component to its row of the first layer's weights, and the
description of each action component to its row of the last layer's. Everything between is a residual MLP that all
environments share; an environment's description scales and shifts its hidden units (FiLM, Perez et al. 2018). Weights
are generated once per environment and step, not per row, and in inference kept until a parameter changes. No parameter
belongs to an environment.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .action_values import NetworkActionValues
from .actor_critic import ActorCritic, Part
from .cache import CachedModule, clear_caches
from .config import NetConfig, require, require_choice, require_whole
from .context import (
    CONTEXT_SIZE,
    DESCRIPTIONS,
    Descriptions,
    TaskContext,
    describe,
    describe_actions,
    describe_observation,
)
from .heads import VALUE_HEADS, ValueBins, bounded_log_std, gaussian_inputs
from .interface import Interface
from .layout import Layout, LayoutCache, OutputLayout
from .packed import block_linear, read_rows

__all__ = ["FirstLayer", "GeneratedActorCritic", "GeneratedNetConfig", "Middle"]


@dataclass(frozen=True, kw_only=True)
class GeneratedNetConfig(NetConfig):
    """Config of `GeneratedActorCritic`.

    Attributes:
        width: features H, also of the hidden layers.
        depth: blocks of the residual MLP.
        generator_width: hidden size of the networks that generate weights.
        code_size: D, length of a component's description.
        descriptions: as in `AgnosticNetConfig`.
        dropout: probability in training mode.
        squash_mean: whether tanh keeps the means of continuous actions in (-1, 1).
        state_dependent_std: whether the standard deviations of continuous actions depend on the observation; otherwise
            on the action's description alone.
        value_head, num_value_bins, value_limit: as in `AgnosticNetConfig`.
    """

    type: ClassVar[str] = "generated"
    for_any: ClassVar[bool] = True

    width: int = 64
    depth: int = 3
    generator_width: int = 64
    code_size: int = 64
    descriptions: Descriptions = "id"
    dropout: float = 0.0
    squash_mean: bool = False
    state_dependent_std: bool = True
    value_head: Literal["scalar", "two_hot", "hl_gauss"] = "scalar"
    num_value_bins: int = 101
    value_limit: float = 100.0

    def __post_init__(self) -> None:
        """Check the fields."""
        super().__post_init__()
        require_whole(self, "width", "depth", "generator_width", "code_size")
        require_whole(self, "num_value_bins", at_least=3)
        require(0.0 <= self.dropout < 1.0, "dropout", self.dropout, "in [0, 1)")
        require_choice(self, "value_head", VALUE_HEADS)
        require_choice(self, "descriptions", DESCRIPTIONS)
        require(self.value_limit > 0, "value_limit", self.value_limit, "> 0")

    def of_components(self, interface: Interface) -> Tensor:
        """``[I, D]``, descriptions of the components of an observation."""
        return describe_observation(interface, self.code_size, self.descriptions)

    def of_actions(self, interface: Interface) -> Tensor:
        """``[A, D]``, descriptions of the actions or of their components."""
        return describe_actions(interface, self.code_size, self.descriptions)

    def of_value(self, interface: Interface) -> Tensor:
        """``[1, C]``, the description of the environment."""
        return self.of_environment(interface)[None]

    def of_environment(self, interface: Interface) -> Tensor:
        """``[C]``, the description of the environment."""
        return describe(interface, self.descriptions)

    def make_middle(self) -> Middle | None:
        """The hidden layers of actor or critic; None: the residual MLP that the environment's description modulates."""
        return None

    def build(self, interfaces: Mapping[str, Interface]) -> GeneratedActorCritic:
        """Build the network for these environments; others can be added later."""
        return GeneratedActorCritic(self, interfaces)

    def build_critic(self, interfaces: Mapping[str, Interface], *, num_estimates: int = 2) -> NetworkActionValues:
        """Build action values for these environments; others can be added later."""

        def build(inputs: Mapping[str, Interface]) -> GeneratedActorCritic:
            network = self.without_dropout().build(inputs)
            del network.actor.decoders["mean"], network.actor.decoders["log_std"]  # all outputs are logits
            return network

        return NetworkActionValues(build, interfaces, num_estimates=num_estimates)


class Generator(nn.Module):
    """Weights from descriptions: ``[N, D]`` to ``[N, H]``, a hidden layer beside a linear map.

    Args:
        inputs: D.
        hidden: size of the hidden layer.
        outputs: H.
        scale: factor of the weights.
        start: size of the generator's own parameters at the start.
    """

    def __init__(self, inputs: int, hidden: int, outputs: int, scale: float, start: float = 1.0) -> None:
        super().__init__()
        self.hidden = nn.Linear(inputs, hidden)
        self.out = nn.Linear(hidden, outputs, bias=False)
        self.skip = nn.Linear(inputs, outputs, bias=False)
        self.scale = scale
        nn.init.normal_(self.out.weight, std=start / math.sqrt(hidden))
        nn.init.normal_(self.skip.weight, std=start / math.sqrt(inputs))

    def forward(self, descriptions: Tensor) -> Tensor:
        """``[N, D]`` to ``[N, H]``."""
        hidden = F.gelu(self.hidden(descriptions))
        skip, scale = self.skip(descriptions), self.scale
        return torch.addmm(skip, hidden, self.out.weight.t(), beta=scale, alpha=scale)


class Middle(nn.Module, ABC):
    """Hidden layers between generated first and last layers, which know the environment of each row.

    Attributes:
        context: a vector for each environment.
    """

    def __init__(self, context: TaskContext) -> None:
        super().__init__()
        self.context = context

    @abstractmethod
    def forward(self, rows: Tensor, layout: Layout) -> Tensor:
        """``[R, H]`` to ``[R, H]``."""

    def contexts(self, layout: Layout, like: Tensor) -> Tensor:
        """``[E, C]``, of the environments of a batch."""
        return self.context.table(layout.order, like)

    @staticmethod
    def of_rows(values: Tensor, layout: Layout) -> Tensor:
        """``[E, K]`` to ``[R, K]``, each row that of its environment; ``[1, K]`` where there is only one."""
        return values if len(layout.order) == 1 else layout.membership.to(values) @ values


class FirstLayer(CachedModule):
    """The generated first layer.

    Args:
        config: the sizes.
        modulated: whether it also gives scales and shifts of the hidden units.
    """

    def __init__(self, config: GeneratedNetConfig, *, modulated: bool) -> None:
        super().__init__()
        self.config = config
        self.weights = Generator(config.code_size, config.generator_width, config.width, 1.0)
        self.bias = nn.Linear(CONTEXT_SIZE, config.width)
        self.modulation: nn.Linear | None = None
        if not modulated:
            return
        self.modulation = nn.Linear(CONTEXT_SIZE, 2 * config.depth * config.width)
        with torch.no_grad():
            self.modulation.weight.normal_(std=0.3 / math.sqrt(CONTEXT_SIZE))
            self.modulation.bias.view(config.depth, 2, -1).copy_(torch.tensor([1.0, 0.0])[:, None])  # scale, shift

    def forward(self, scalars: Tensor, layout: Layout) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Rows ``[R, H]`` from the packed observations ``[N]``, and scale and shift ``[R or 1, H]`` of each block."""
        weights, biases, modulation = self.cached(layout.order, lambda: self._generate(layout))
        rows = block_linear(scalars, weights, biases, layout.blocks)
        if modulation is None:
            return rows, ()
        if len(layout.order) > 1:
            modulation = layout.membership.to(modulation) @ modulation  # [R, depth * 2 * H]
        return rows, modulation.unflatten(1, (-1, self.config.width)).unbind(1)

    def _generate(self, layout: Layout) -> tuple[Tensor, Tensor, Tensor | None]:
        """Weights ``[U, H]``, biases ``[E, H]`` and modulations ``[E, depth * 2 * H]``."""
        environments = layout.environments
        modulation = None if self.modulation is None else self.modulation(environments)
        return self.weights(layout.components), self.bias(environments), modulation


class _Decoder(CachedModule):
    """Generated outputs: weights and biases from descriptions.

    Args:
        config: the sizes.
        inputs: length of an output's description.
        scale, start: as in `Generator`; outputs start at about the size of their product.
    """

    def __init__(self, config: GeneratedNetConfig, inputs: int, scale: float, start: float) -> None:
        super().__init__()
        scale /= math.sqrt(config.width)
        self.weights = Generator(inputs, config.generator_width, config.width, scale, start)
        self.bias = nn.Linear(inputs, 1)
        nn.init.zeros_(self.bias.weight)
        nn.init.zeros_(self.bias.bias)

    def forward(self, readout: OutputLayout) -> tuple[Tensor, Tensor]:
        """Weights ``[U, H]`` and biases ``[U]``."""
        return self.cached(readout.env_ids, lambda: self._generate(readout.constants))

    def _generate(self, descriptions: Tensor) -> tuple[Tensor, Tensor]:
        return self.weights(descriptions), self.bias(descriptions).squeeze(1)


class _Block(nn.Module):
    """One block of the residual MLP: ``x + W2 (scale * GELU(W1 LayerNorm(x)) + shift)``."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.first = nn.Linear(width, width)
        self.second = nn.Linear(width, width)
        self.dropout = dropout

    def forward(self, rows: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
        """``[R, H]`` to ``[R, H]``."""
        hidden = torch.addcmul(shift, F.gelu(self.first(self.norm(rows))), scale)
        if self.dropout and self.training:
            hidden = F.dropout(hidden, self.dropout)
        return rows + self.second(hidden)


class _Tower(nn.Module):
    """Actor or critic: generated first layer, shared hidden layers, generated outputs."""

    def __init__(self, config: GeneratedNetConfig, decoders: Mapping[str, tuple[int, float, float]]) -> None:
        super().__init__()
        self.middle = config.make_middle()
        self.encoder = FirstLayer(config, modulated=self.middle is None)
        depth = config.depth if self.middle is None else 0
        self.blocks = nn.ModuleList(_Block(config.width, config.dropout) for _ in range(depth))
        self.norm = nn.LayerNorm(config.width)
        self.decoders = nn.ModuleDict({name: _Decoder(config, *sizes) for name, sizes in decoders.items()})
        self.head: nn.Linear | None = None

    def encode(self, scalars: Tensor, layout: Layout, media: Tensor | None) -> Tensor:
        """``[R, H]`` from the packed observations ``[N]`` and what is added for images and text."""
        rows, modulations = self.encoder(scalars, layout)
        if media is not None:
            rows = rows + media
        if self.middle is not None:
            rows = self.middle(rows, layout)
        for block, scale, shift in zip(self.blocks, modulations[::2], modulations[1::2], strict=True):
            rows = block(rows, scale, shift)
        encoded: Tensor = self.norm(rows)
        return encoded


class GeneratedActorCritic(ActorCritic):
    """Policy and value networks with generated first and last layers.

    Names in the state dict: ``actor.encoder`` (what generates the first layer and the modulation), ``actor.blocks``,
    ``actor.decoders.{logits,mean,log_std}``, ``critic.encoder``, ``critic.blocks``, ``critic.decoders.value``; where
    the config has a middle of its own, ``middle`` instead of ``blocks``.

    Log standard deviations lie in (-5, 2) and start at about -0.5; means and logits start near 0.
    """

    twice_differentiable: ClassVar[bool] = True

    def __init__(self, config: GeneratedNetConfig, interfaces: Mapping[str, Interface]) -> None:
        super().__init__()
        self.config = config
        action = (config.code_size, 0.25, 0.2)
        self.actor = _Tower(config, {"logits": action, "mean": action, "log_std": action})
        # Values start small: with noise of size one, the first advantages are mostly that (docs/results/generated.md).
        self.critic = _Tower(config, {"value": (CONTEXT_SIZE, 1.0, 0.1 if config.value_head == "scalar" else 1.0)})
        if config.value_head != "scalar":
            self.value_bins = ValueBins(config.value_head, config.num_value_bins, config.value_limit)
            head = self.critic.head = nn.Linear(config.width, config.num_value_bins)
            nn.init.normal_(head.weight, std=0.01)  # nearly uniform
            nn.init.zeros_(head.bias)
        self._layouts = LayoutCache(config)
        self.encoders = config.encoders(interfaces, config.width)
        self.memory = config.memory_of(interfaces, config.width)
        for env_id, interface in interfaces.items():
            self.add_env(env_id, interface)
        self.world_attention = config.world_attention_of(config.width)

    @property
    def _middles(self) -> list[Middle]:
        towers = [self.actor, *([self.critic] if hasattr(self, "critic") else [])]
        return [tower.middle for tower in towers if tower.middle is not None]

    def add_env(self, env_id: str, interface: Interface) -> None:
        """See `ActorCritic.add_env`."""
        is_new = env_id not in self.interfaces
        super().add_env(env_id, interface)
        for middle in self._middles if is_new else ():
            middle.context.add_env(env_id, interface)

    def remove_env(self, env_id: str) -> None:
        """See `ActorCritic.remove_env`."""
        super().remove_env(env_id)
        for middle in self._middles:
            middle.context.remove_env(env_id)
        self._layouts.clear()
        clear_caches(self)

    def encode(self, part: Part, obs: Mapping[str, Tensor], media: Tensor | None = None) -> Tensor:
        """See `ActorCritic.encode`."""
        layout = self._layout({env_id: len(value) for env_id, value in obs.items()})
        tower = self.actor if part == "actor" else self.critic
        return tower.encode(layout.pack(obs), layout, media)

    def decode(self, part: Part, rows: Tensor, counts: Mapping[str, int]) -> dict[str, Tensor]:
        """See `ActorCritic.decode`."""
        layout = self._layout(counts)
        if part == "critic":
            return self._values(rows, layout)
        outputs: dict[str, Tensor] = {}
        if layout.logits is not None:
            weights, biases = self.actor.decoders["logits"](layout.logits)
            outputs |= layout.logits.split(read_rows(rows, weights, biases, layout.logits.sources))
        if layout.gaussian is not None:
            outputs |= self._gaussian_outputs(rows, layout.gaussian, outputs)
        return outputs

    def _gaussian_outputs(self, rows: Tensor, readout: OutputLayout, logits: Mapping[str, Tensor]) -> dict[str, Tensor]:
        squash = self.config.squash_mean
        weights, biases = self.actor.decoders["mean"](readout)  # [U, H], [U]
        std_weights, std_biases = self.actor.decoders["log_std"](readout)
        if not self.config.state_dependent_std:
            std_weights = torch.zeros_like(std_weights)
        # Mean and deviation of an action component are neighbours, so that each environment is one product.
        weights = torch.stack([weights, std_weights], 1).flatten(0, 1)  # [2U, H]
        biases = torch.stack([biases, std_biases], 1).flatten()
        sources = tuple((row, count, 2 * size) for row, count, size in readout.sources)
        outputs = {}
        for env_id, both in readout.split(read_rows(rows, weights, biases, sources), 2).items():
            mean, raw = both.unflatten(1, (-1, 2)).unbind(2)  # each [B, A]
            log_std = bounded_log_std(raw)
            outputs[env_id] = gaussian_inputs(mean, log_std, squash_mean=squash, logits=logits.get(env_id))
        return outputs

    def _values(self, rows: Tensor, layout: Layout) -> dict[str, Tensor]:
        weights, biases = self.critic.decoders["value"](layout.value)  # [E, H], [E]
        if self.critic.head is None:
            values = read_rows(rows, weights, biases, layout.value.sources)  # [R]
        else:
            values = self.critic.head(rows * (layout.membership.to(weights) @ weights))  # [R, K]
        return {env_id: value.squeeze(1) for env_id, value in layout.value.split(values).items()}

    def _layout(self, counts: Mapping[str, int]) -> Layout:
        return self._layouts.get(counts, self.interfaces, self.actor.norm.weight)
