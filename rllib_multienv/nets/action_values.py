"""Action-value functions Q(s, a) for environments of any observation and action size, for offline algorithms."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .actor_critic import Interface
from .agnostic import AgnosticNetConfig, Tower
from .config import NetConfig
from .layout import Layout, LayoutCache, build_layout
from .mlp import ACTIVATIONS, MLPNetConfig, mlp
from .single import SingleNetConfig, SingleTower

__all__ = ["ActionValues", "AgnosticActionValues", "MLPActionValues", "SingleActionValues", "build_action_values"]


class ActionValues(nn.Module, ABC):
    """Several estimates of ``Q(s, a)`` side by side (twin Q), of several environments at once.

    Observations come as ``{env_id: [B, I]}``, the actions taken as ``{env_id: [B, A]}`` in [-1, 1] (continuous) or
    ``[B]`` (discrete).
    """

    def __init__(self) -> None:
        super().__init__()
        self.interfaces: dict[str, Interface] = {}

    @abstractmethod
    def forward(self, obs: Mapping[str, Tensor], actions: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Values of the actions taken, ``{env_id: [num_estimates, B]}``."""

    def add_env(self, env_id: str, interface: Interface) -> None:
        """Make an environment known."""
        self.interfaces[env_id] = interface

    def remove_env(self, env_id: str) -> None:
        """Forget an environment."""
        del self.interfaces[env_id]


def build_action_values(
    config: NetConfig, interfaces: Mapping[str, Interface], *, num_estimates: int = 2
) -> ActionValues:
    """The action values that go with an actor-critic of ``config``, for the same environments.

    Raises:
        ValueError: There are none for this kind of network.
    """
    for config_class, build in _KINDS:
        if isinstance(config, config_class):
            return build(config, interfaces, num_estimates=num_estimates)
    known = ", ".join(repr(config_class.type) for config_class, _ in _KINDS)
    raise ValueError(f"there are no action values for networks of type {config.type!r}; only for {known}")


@dataclass(frozen=True)
class _Input:
    """An environment as the encoder and the decoders of Q see it.

    A continuous action follows the observation, and the decoder gives one number, its value. Discrete actions are not
    in the input; the decoder gives one number for each.
    """

    description: str
    obs_size: int
    action_size: int
    discrete: bool
    action_low: tuple[float, ...] = ()
    action_high: tuple[float, ...] = ()

    @classmethod
    def of(cls, interface: Interface) -> _Input:
        if interface.discrete:
            return cls(interface.description, interface.obs_size, interface.action_size, True)
        return cls(interface.description, interface.obs_size + interface.action_size, 1, False)


class AgnosticActionValues(ActionValues):
    """Q with the blocks of the agnostic network (section 3.1 of the paper), one tower for each estimate.

    The components of a continuous action are tokens after those of the observation. They have position features of
    their own, so that the first component of an action is the same to the encoder whatever the observation's length.
    """

    def __init__(self, config: AgnosticNetConfig, interfaces: Mapping[str, Interface], *, num_estimates: int) -> None:
        super().__init__()
        # Dropout in Q would make the targets of V noisy.
        self.config = replace(config, dropout=0.0, share_encoder=False)
        self.towers = nn.ModuleList(
            Tower(self.config, ("value", "logits"), with_encoder=True, position_size=2 * config.position_size)
            for _ in range(num_estimates)
        )
        self._layouts = LayoutCache()
        for env_id, interface in interfaces.items():
            self.add_env(env_id, interface)

    def add_env(self, env_id: str, interface: Interface) -> None:
        """Make an environment known; only ``context="embedding"`` gets new parameters."""
        super().add_env(env_id, interface)
        for tower in self._all_towers():
            tower.context.add_env(env_id, interface)

    def remove_env(self, env_id: str) -> None:
        """Forget an environment."""
        super().remove_env(env_id)
        for tower in self._all_towers():
            tower.context.remove_env(env_id)
        self._layouts.clear()

    def _all_towers(self) -> list[Tower]:
        return [cast(Tower, tower) for tower in self.towers]

    def forward(self, obs: Mapping[str, Tensor], actions: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """See `ActionValues.forward`."""
        inputs = {
            env_id: value if self.interfaces[env_id].discrete else torch.cat([value, actions[env_id]], 1)
            for env_id, value in obs.items()
        }
        layout = self._layout(inputs)
        scalars = layout.pack(inputs)
        estimates = [self._estimate(tower, scalars, layout, actions) for tower in self._all_towers()]
        return {env_id: torch.stack([estimate[env_id] for estimate in estimates]) for env_id in obs}

    def _estimate(
        self, tower: Tower, scalars: Tensor, layout: Layout, actions: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        rows = tower.middle(tower.encode(scalars, layout), layout)
        values: dict[str, Tensor] = {}
        if layout.gaussian is not None:
            found = layout.gaussian.split(tower.decode("value", rows, layout.gaussian))
            values |= {env_id: value.squeeze(1) for env_id, value in found.items()}
        if layout.logits is not None:
            found = layout.logits.split(tower.decode("logits", rows, layout.logits))
            values |= {
                env_id: value.gather(1, actions[env_id].long().unsqueeze(1)).squeeze(1)
                for env_id, value in found.items()
            }
        return values

    def _layout(self, inputs: Mapping[str, Tensor]) -> Layout:
        like = next(self.parameters())
        counts = {env_id: len(value) for env_id, value in inputs.items()}
        return self._layouts.get(counts, like, lambda: self._build_layout(counts, like.detach()))

    def _build_layout(self, counts: Mapping[str, int], like: Tensor) -> Layout:
        return build_layout(
            counts,
            {env_id: _Input.of(self.interfaces[env_id]) for env_id in counts},
            d_model=self.config.d_model,
            positions_of=self._positions,
            with_readouts=self.config.position_codes > 0,
            like=like,
        )

    def _positions(self, env_id: str) -> Tensor:
        """``[I, 2 P]``, or ``[I + A, 2 P]`` where a continuous action follows, whose positions are the second half."""
        interface, size = self.interfaces[env_id], self.config.position_size
        positions = self.config.encoder_inputs(interface.description, interface.obs_size)
        if interface.discrete:
            return F.pad(positions, (0, size))
        of_action = self.config.encoder_inputs(f"{interface.description} action", interface.action_size)
        return torch.block_diag(positions, of_action)


class _OneEnvironmentValues(ActionValues):
    """Q of one environment: of observation and action, or with one output per discrete action."""

    def __init__(self, interfaces: Mapping[str, Interface]) -> None:
        super().__init__()
        ((env_id, interface),) = interfaces.items()
        super().add_env(env_id, interface)
        self.inputs, self.outputs = interface.obs_size + interface.action_size, 1
        if interface.discrete:
            self.inputs, self.outputs = interface.obs_size, interface.action_size

    def forward(self, obs: Mapping[str, Tensor], actions: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """See `ActionValues.forward`."""
        values = {}
        for env_id, value in obs.items():
            if self.interfaces[env_id].discrete:
                estimates = self._estimates(value)
                taken = actions[env_id].long().expand(len(estimates), -1).unsqueeze(2)
                values[env_id] = estimates.gather(2, taken).squeeze(2)
            else:
                values[env_id] = self._estimates(torch.cat([value, actions[env_id]], 1)).squeeze(2)
        return values

    @abstractmethod
    def _estimates(self, inputs: Tensor) -> Tensor:
        """``[num_estimates, B, outputs]`` of ``[B, inputs]``."""


class MLPActionValues(_OneEnvironmentValues):
    """Q of one environment by plain MLPs.

    The estimates have the same sizes, so each of their layers is one batched matrix product.
    """

    def __init__(self, config: MLPNetConfig, interfaces: Mapping[str, Interface], *, num_estimates: int) -> None:
        super().__init__(interfaces)
        sizes = [self.inputs, *config.hidden, self.outputs]
        nets = [mlp(sizes, ACTIVATIONS[config.activation], 1.0) for _ in range(num_estimates)]
        linears = [[layer for layer in net if isinstance(layer, nn.Linear)] for net in nets]
        self.activation = ACTIVATIONS[config.activation]()
        self.weights = nn.ParameterList(
            torch.stack([layer.weight.detach().T for layer in layers]) for layers in zip(*linears, strict=True)
        )  # each [num_estimates, fan_in, fan_out]
        self.biases = nn.ParameterList(
            torch.stack([layer.bias.detach()[None] for layer in layers]) for layers in zip(*linears, strict=True)
        )  # each [num_estimates, 1, fan_out]

    def _estimates(self, inputs: Tensor) -> Tensor:
        hidden = inputs.expand(len(self.weights[0]), -1, -1)
        for number, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            hidden = torch.baddbmm(bias, hidden if number == 0 else self.activation(hidden), weight)
        return hidden


class SingleActionValues(_OneEnvironmentValues):
    """Q of one environment by residual MLPs, one for each estimate."""

    def __init__(self, config: SingleNetConfig, interfaces: Mapping[str, Interface], *, num_estimates: int) -> None:
        super().__init__(interfaces)
        config = replace(config, dropout=0.0)  # dropout in Q would make the targets of V noisy
        self.towers = nn.ModuleList(SingleTower(config, self.inputs, self.outputs, 1.0) for _ in range(num_estimates))

    def _estimates(self, inputs: Tensor) -> Tensor:
        return torch.stack([tower(inputs) for tower in self.towers])


_KINDS: tuple[tuple[type[NetConfig], Any], ...] = (
    (AgnosticNetConfig, AgnosticActionValues),
    (MLPNetConfig, MLPActionValues),
    (SingleNetConfig, SingleActionValues),
)
