"""Task heads: one encoder for all environments, and a head of its own for each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal, cast

import torch
from torch import Tensor, nn

from .actor_critic import Part
from .cache import clear_caches
from .config import require_choice, require_whole
from .context import DESCRIPTIONS, Descriptions
from .generated import FirstLayer, GeneratedNetConfig
from .interface import Interface
from .layers import input_layer
from .layout import LayoutCache
from .specific import SpecificActorCritic, SpecificNetConfig, SpecificTower

__all__ = ["TaskHeadsActorCritic", "TaskHeadsNetConfig"]


@dataclass(frozen=True, kw_only=True)
class TaskHeadsNetConfig(SpecificNetConfig):
    """Config of `TaskHeadsActorCritic`.

    The plain network of as many parameters is `same_size` of a `GeneratedNetConfig` or `SpecificNetConfig`.

    Attributes:
        encoder: the first layer, of all environments. ``"generated"``: as in `GeneratedNetConfig`, for observations of
            any size. ``"shared"``: one linear layer; all environments must have as many numbers in their observations,
            with the same meaning.
        encoder_depth: blocks after it.
        decoder_depth: blocks of each head.
        generator_width, code_size, descriptions: of the generated layer, as in `GeneratedNetConfig`.
    """

    type: ClassVar[str] = "task_heads"

    encoder: Literal["generated", "shared"] = "generated"
    generator_width: int = 64
    code_size: int = 64
    descriptions: Descriptions = "id"

    def __post_init__(self) -> None:
        """Check the fields."""
        super().__post_init__()
        require_choice(self, "encoder", ("generated", "shared"))
        require_choice(self, "descriptions", DESCRIPTIONS)
        require_whole(self, "generator_width", "code_size")

    def first_layer(self) -> GeneratedNetConfig:
        """The config of the generated layer."""
        return GeneratedNetConfig(
            width=self.width,
            generator_width=self.generator_width,
            code_size=self.code_size,
            descriptions=self.descriptions,
        )

    def check_environments(self, interfaces: Mapping[str, Interface]) -> None:
        """See `NetConfig.check_environments`; a shared layer is for observations of one size."""
        super().check_environments(interfaces)
        self.check_sizes(interfaces)

    def check_sizes(self, interfaces: Mapping[str, Interface]) -> None:
        """Raise a ValueError if the first layer is one linear layer, and observations differ in size."""
        sizes = {env_id: interface.obs_size for env_id, interface in interfaces.items()}
        if self.encoder == "shared" and len(set(sizes.values())) > 1:
            raise ValueError(
                f'encoder="shared": observations must have equally many numbers, not {sizes}; use encoder="generated"'
            )

    def build(self, interfaces: Mapping[str, Interface]) -> TaskHeadsActorCritic:
        """Build the network for these environments; others can be added later and get heads."""
        return TaskHeadsActorCritic(self, interfaces)


class _Tower(SpecificTower):
    """Actor or critic; the encoder of all environments is ``first``, ``middle`` follows it."""

    config: TaskHeadsNetConfig

    def __init__(self, config: TaskHeadsNetConfig, numbers: int) -> None:
        super().__init__(config)
        generated = config.encoder == "generated"
        self.first: FirstLayer | nn.Linear = (
            FirstLayer(config.first_layer(), modulated=False) if generated else input_layer(numbers, config.width)
        )
        self.blocks = self._residual_mlp(config.encoder_depth)

    def new_encoder(self, inputs: int) -> nn.Module | None:
        """None."""
        return None


class TaskHeadsActorCritic(SpecificActorCritic):
    """Policy and values with one encoder and middle for all environments, and heads for each (hard parameter sharing).

    An environment that is added gets new heads; one that is removed takes them along. Names in the state dict:
    ``actor.first``, ``actor.blocks``, ``actor.middle``, ``actor.decoders.env:ID``, and the same of ``critic``.
    """

    def __init__(self, config: TaskHeadsNetConfig, interfaces: Mapping[str, Interface]) -> None:
        self._layouts = LayoutCache(config.first_layer())
        super().__init__(config, interfaces)

    def _tower(self, interfaces: Mapping[str, Interface]) -> SpecificTower:
        numbers = next((interface.obs_size for interface in interfaces.values()), 1)
        return _Tower(cast(TaskHeadsNetConfig, self.config), numbers)

    def add_env(self, env_id: str, interface: Interface) -> None:
        """See `ActorCritic.add_env`; a new environment gets new heads.

        Raises:
            ValueError: the first layer is shared, and the observation has another size than those of the others.
        """
        cast(TaskHeadsNetConfig, self.config).check_sizes({**self.interfaces, env_id: interface})
        super().add_env(env_id, interface)

    def remove_env(self, env_id: str) -> None:
        """See `ActorCritic.remove_env`."""
        super().remove_env(env_id)
        self._layouts.clear()
        clear_caches(self)

    def encode(self, part: Part, obs: Mapping[str, Tensor], media: Tensor | None = None) -> Tensor:
        """See `ActorCritic.encode`."""
        tower = cast(_Tower, self.actor if part == "actor" else self.critic)
        like = next(tower.middle.parameters())
        if isinstance(tower.first, FirstLayer):
            layout = self._layouts.get({env_id: len(value) for env_id, value in obs.items()}, self.interfaces, like)
            rows, _ = tower.first(layout.pack(obs), layout)  # [R, H]
        else:
            rows = tower.first(torch.cat(list(obs.values())).to(like))  # [R, H]
        encoded: Tensor = tower.middle(tower.blocks(rows if media is None else rows + media))
        return encoded
