"""The agnostic network: one set of parameters for environments of any observation and action size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .action_values import ActionValues
from .actor_critic import ActorCritic, Part
from .config import NetConfig, require, require_choice, require_whole
from .context import (
    DESCRIPTIONS,
    Descriptions,
    TaskContext,
    component_codes,
    describe_actions,
    describe_observation,
    position_features,
    sinusoidal_encoding,
)
from .encoders import Encoders
from .heads import VALUE_HEADS, ValueBins, bounded_log_std, gaussian_inputs
from .interface import VALUE_MEASURED, VALUE_NAMES, Inputs, Interface, StateActionInterface
from .layers import DecoderBlock, EncoderBlock, ResidualMLP, SequenceTrunk, TransformerLayer
from .layout import Layout, LayoutCache, OutputLayout
from .sequence import SEQUENCE_EMBEDDINGS

__all__ = ["AgnosticActionValues", "AgnosticActorCritic", "AgnosticNetConfig"]

_POSITION_FEATURES = 17


@dataclass(frozen=True, kw_only=True)
class AgnosticNetConfig(NetConfig):
    """Config of `AgnosticActorCritic`. The defaults suit two CPU cores; `paper` gives the paper's sizes.

    Attributes:
        d_model: features H of every token.
        embedding: sequence embedding, ``"s4"``, ``"s4d"`` or ``"gru"``.
        d_state: state size of the S4 layers, even.
        num_embedding_layers: layers of the sequence embedding in every block.
        num_transformer_layers: transformer layers after the embedding, in every block. None by default, since the agent
            learned better and faster without (docs/results/mini_mix.md); the paper has two.
        num_heads: attention heads; divides d_model.
        dim_feedforward: hidden size of the transformers' feed-forward part; None means d_model.
        res_mlp_depth: blocks of the residual MLP between encoder and decoders; 0 leaves it out.
        res_mlp_width: their hidden size; None means d_model.
        dropout: probability in training mode.
        context: ``"computed"`` (from the description), ``"embedding"`` (the paper's table, a row per environment) or
            ``"none"``.
        share_encoder: one encoder for actor and critic.
        encoder_positions: whether the encoder sees the position of each observation component.
        position_codes: number of signs that it sees besides, hashed from environment and position (see
            `position_codes`). With any, decoders read each output from different features (`decoder_readouts`); 0
            leaves out both.
        descriptions: source of codes and readouts. ``"id"``: hashed from the environment's description; ``"auto"``:
            from words for each component where these are known (`EnvSpec.descriptors`), so that environments with the
            same components are alike; ``"measured"``: from what each component does in a short random rollout, so that
            components that behave alike are alike, whatever their names and order; ``"auto+measured"``: from both.
        output_gain: factor of the decoders' mean over the features.
        init_scale: start of the decoders' residual branches relative to the usual.
        state_dependent_std: whether the standard deviations of continuous actions depend on the observation; otherwise
            on the task context alone, one for each component of an environment's action.
        squash_mean: whether tanh keeps the means of continuous actions in (-1, 1); without it actions beyond the
            bounds are clipped. For data with many actions at the bounds.
        output_init: start of the linear layers in the decoders: PyTorch's ``"default"`` or ``"orthogonal"``.
        value_head: ``"scalar"``, or a distribution over bins trained by cross-entropy, with targets ``"two_hot"`` or
            ``"hl_gauss"`` (see `ValueBins`). PPO only.
        num_value_bins: number of bins.
        value_limit: largest value of the bins, in the unit in which values are learned.
    """

    type: ClassVar[str] = "agnostic"
    for_any: ClassVar[bool] = True

    d_model: int = 64
    embedding: Literal["s4", "s4d", "gru"] = "s4"
    d_state: int = 16
    num_embedding_layers: int = 1
    num_transformer_layers: int = 0
    num_heads: int = 1
    dim_feedforward: int | None = None
    res_mlp_depth: int = 2
    res_mlp_width: int | None = None
    dropout: float = 0.0
    context: Literal["computed", "embedding", "none"] = "computed"
    share_encoder: bool = False
    encoder_positions: bool = True
    position_codes: int = 32
    descriptions: Descriptions = "id"
    output_gain: float = 2.0
    init_scale: float = 0.1
    state_dependent_std: bool = True
    squash_mean: bool = False
    output_init: Literal["default", "orthogonal"] = "default"
    value_head: Literal["scalar", "two_hot", "hl_gauss"] = "scalar"
    num_value_bins: int = 101
    value_limit: float = 100.0

    def __post_init__(self) -> None:
        """Check the fields."""
        super().__post_init__()
        for name in ("d_model", "d_state"):
            value = getattr(self, name)
            require(isinstance(value, int) and value >= 2 and value % 2 == 0, name, value, "an even whole number >= 2")
        require_whole(self, "num_embedding_layers", "num_heads")
        require_whole(self, "num_transformer_layers", "res_mlp_depth", "position_codes", at_least=0)
        require_whole(self, "num_value_bins", at_least=3)
        for name in ("dim_feedforward", "res_mlp_width"):
            value = getattr(self, name)
            require(value is None or (isinstance(value, int) and value >= 1), name, value, "None or >= 1")
        require_choice(self, "embedding", list(SEQUENCE_EMBEDDINGS))
        require_choice(self, "context", ("computed", "embedding", "none"))
        require_choice(self, "output_init", ("default", "orthogonal"))
        require_choice(self, "descriptions", DESCRIPTIONS)
        require_choice(self, "value_head", VALUE_HEADS)
        divides = self.d_model % self.num_heads == 0
        require(divides, "num_heads", self.num_heads, f"a divisor of d_model={self.d_model}")
        require(self.value_limit > 0, "value_limit", self.value_limit, "> 0")
        require(0.0 <= self.dropout < 1.0, "dropout", self.dropout, "in [0, 1)")
        require(self.output_gain > 0, "output_gain", self.output_gain, "> 0")
        require(self.init_scale > 0, "init_scale", self.init_scale, "> 0 (at 0 no gradient reaches the layers below)")

    @classmethod
    def paper(cls, **changes: Any) -> AgnosticNetConfig:
        """The sizes of the paper's Table 2b, without positions as there; any field can be changed."""
        fields: dict[str, Any] = {
            "d_model": 256, "d_state": 256, "num_embedding_layers": 2, "num_transformer_layers": 2,
            "dim_feedforward": 256, "res_mlp_depth": 2, "res_mlp_width": 256, "dropout": 0.1,
            "encoder_positions": False, "position_codes": 0,
        }  # fmt: skip
        return cls(**(fields | changes))

    @property
    def position_features(self) -> int:
        """Number of position features that are the same in all environments; the first is constant."""
        return _POSITION_FEATURES if self.encoder_positions else 1

    @property
    def position_size(self) -> int:
        """P: number of inputs of the encoder beside each scalar."""
        return self.position_features + self.position_codes

    def of_components(self, interface: Interface) -> Tensor:
        """``[I, P]``, input of the encoder beside each component of an observation.

        For action values ``[I, 2P]``: the components of a continuous action have theirs in the second half, so that
        the encoder sees the first component of an action alike after observations of any length.
        """
        environment = interface.environment if isinstance(interface, StateActionInterface) else interface
        codes = describe_observation(environment, self.position_codes, self.descriptions)
        found = torch.cat([position_features(environment.obs_size, self.position_features), codes], 1)
        if interface is environment:
            return found
        if environment.discrete:
            return F.pad(found, (0, self.position_size))
        codes = describe_actions(environment, self.position_codes, self.descriptions)
        of_action = torch.cat([position_features(environment.action_size, self.position_features), codes], 1)
        return torch.block_diag(found, of_action)

    def of_actions(self, interface: Interface) -> Tensor:
        """``[A, H]`` encodings of the position, and with codes ``[A, 2H]`` and the readouts.

        The readouts are 0 or 2 by `position_codes`, so that an output is the mean of half of the features: each has a
        direction of its own, as in an MLP's last layer, and two have a quarter of the features in common
        (docs/deviations.md, 8).
        """
        known = (interface.action_names, interface.action_measured)
        return self._of_outputs(interface.description, *known, interface.action_size)

    def of_value(self, interface: Interface) -> Tensor:
        """As `of_actions`, of one output."""
        return self._of_outputs(interface.description, VALUE_NAMES, VALUE_MEASURED, 1)

    def _of_outputs(
        self, description: str, names: Sequence[str], measured: Sequence[Sequence[float]], count: int
    ) -> Tensor:
        encoding = sinusoidal_encoding(count, self.d_model)
        if not self.position_codes:
            return encoding
        codes = component_codes(f"{description} output", names, measured, count, self.d_model, self.descriptions)
        return torch.cat([encoding, 1.0 + codes], 1)

    def of_environment(self, interface: Interface) -> Tensor:
        """Nothing: `TaskContext` has the constants of an environment."""
        return torch.zeros(0)

    def build(self, interfaces: Mapping[str, Interface]) -> AgnosticActorCritic:
        """Build the network for these environments; others can be added later."""
        return AgnosticActorCritic(self, interfaces)

    def build_critic(self, interfaces: Mapping[str, Interface], *, num_estimates: int = 2) -> AgnosticActionValues:
        """Build action values for these environments; others can be added later."""
        return AgnosticActionValues(self, interfaces, num_estimates=num_estimates)


class Tower(nn.Module):
    """Encoder (unless shared), context, residual MLP and decoders: of the actor, the critic, or an action value.

    Args:
        config: the sizes.
        decoders: their names.
        with_encoder: whether it has an encoder.
        position_size: position features of the encoder; None for those of the config.
        bins: number of bins that each decoder gives logits for; None if it gives numbers.
    """

    def __init__(
        self,
        config: AgnosticNetConfig,
        decoders: tuple[str, ...],
        *,
        with_encoder: bool = True,
        position_size: int | None = None,
        bins: int | None = None,
    ) -> None:
        super().__init__()
        d_model, dropout = config.d_model, config.dropout

        def trunk() -> SequenceTrunk:
            embedding = SEQUENCE_EMBEDDINGS[config.embedding]
            return SequenceTrunk(
                embedding(d_model, config.d_state, config.num_embedding_layers, dropout),
                lambda: TransformerLayer(d_model, config.num_heads, config.dim_feedforward or d_model, dropout),
                config.num_transformer_layers,
            )

        def decoder() -> DecoderBlock:
            orthogonal = config.output_init == "orthogonal"
            return DecoderBlock(
                d_model, trunk(), config.output_gain, config.init_scale, orthogonal=orthogonal, bins=bins
            )

        positions = position_size or config.position_size
        self.encoder = EncoderBlock(d_model, positions, trunk()) if with_encoder else None
        self.context = TaskContext(config.context, d_model, config.descriptions)
        self.res_mlp = ResidualMLP(d_model, config.res_mlp_depth, config.res_mlp_width or d_model, dropout)
        self.decoders = nn.ModuleDict({name: decoder() for name in decoders})

    def encode(self, scalars: Tensor, layout: Layout, media: Tensor | None) -> Tensor:
        """``[R, H]`` from the packed observations ``[N]`` and what is added for images and text."""
        assert self.encoder is not None
        encoded: Tensor = self.encoder(scalars, layout)
        return encoded if media is None else encoded + media

    def middle(self, encoded: Tensor, layout: Layout) -> Tensor:
        """Add the task context and apply the residual MLP: ``[R, H]`` to ``[R, H]``."""
        rows: Tensor = self.res_mlp(self.context(encoded, layout.order, layout.membership))
        return rows

    def decode(self, name: str, rows: Tensor, outputs: OutputLayout) -> Tensor:
        """``[N]`` (or logits ``[N, K]``) of the decoder ``name``."""
        decoded: Tensor = self.decoders[name](rows, outputs)
        return decoded


class AgnosticActorCritic(ActorCritic):
    """The paper's policy and value networks (section 3.1, Figure 1) with a packed forward.

    The samples of all environments pass together (see `packed`). No parameter belongs to an environment, except with
    ``context="embedding"``. Names in the state dict: ``actor.encoder``, ``actor.res_mlp``,
    ``actor.decoders.{logits,mean,log_std}``, ``critic.encoder`` (absent if shared), ``critic.decoders.value``.

    Log standard deviations lie in (-5, 2) and start at about -0.5; means and logits start near 0.
    """

    def __init__(self, config: AgnosticNetConfig, interfaces: Mapping[str, Interface]) -> None:
        super().__init__()
        self.config = config
        self.shares_encoder = config.share_encoder
        self.actor = Tower(config, ("logits", "mean", "log_std"))
        if config.value_head != "scalar":
            self.value_bins = ValueBins(config.value_head, config.num_value_bins, config.value_limit)
        bins = None if self.value_bins is None else config.num_value_bins
        self.critic = Tower(config, ("value",), with_encoder=not config.share_encoder, bins=bins)
        parts = ("actor",) if config.share_encoder else ("actor", "critic")
        self.encoders = config.encoders(interfaces, config.d_model, parts)
        self.memory = config.memory_of(interfaces, config.d_model)
        self._layouts = LayoutCache(config)
        for env_id, interface in interfaces.items():
            self.add_env(env_id, interface)
        self.world_attention = config.world_attention_of(config.d_model)

    def add_env(self, env_id: str, interface: Interface) -> None:
        """See `ActorCritic.add_env`; only ``context="embedding"`` gets new parameters."""
        super().add_env(env_id, interface)
        for tower in self._towers():
            tower.context.add_env(env_id, interface)

    def remove_env(self, env_id: str) -> None:
        """See `ActorCritic.remove_env`."""
        super().remove_env(env_id)
        for tower in self._towers():
            tower.context.remove_env(env_id)
        self._layouts.clear()

    def _towers(self) -> list[Tower]:
        """Actor and, unless it was dropped, critic."""
        return [tower for tower in (self.actor, getattr(self, "critic", None)) if tower is not None]

    def encode(self, part: Part, obs: Mapping[str, Tensor], media: Tensor | None = None) -> Tensor:
        """See `ActorCritic.encode`."""
        layout = self._layout({env_id: len(value) for env_id, value in obs.items()})
        tower = self.actor if part == "actor" or self.shares_encoder else self.critic
        return tower.encode(layout.pack(obs), layout, media)

    def decode(self, part: Part, rows: Tensor, counts: Mapping[str, int]) -> dict[str, Tensor]:
        """See `ActorCritic.decode`."""
        layout = self._layout(counts)
        if part == "critic":
            values = self.critic.decode("value", self.critic.middle(rows, layout), layout.value)
            return {env_id: value.squeeze(1) for env_id, value in layout.value.split(values).items()}
        rows = self.actor.middle(rows, layout)
        outputs: dict[str, Tensor] = {}
        if layout.logits is not None:
            outputs |= layout.logits.split(self.actor.decode("logits", rows, layout.logits))
        if layout.gaussian is not None:
            outputs |= self._gaussian_outputs(rows, layout.gaussian, outputs)
        return outputs

    def _gaussian_outputs(self, rows: Tensor, outputs: OutputLayout, logits: Mapping[str, Tensor]) -> dict[str, Tensor]:
        means = outputs.split(self.actor.decode("mean", rows, outputs))  # each [B, A]
        if not self.config.state_dependent_std:
            # One row per environment, [E, H]: the residual MLP of the task contexts alone.
            outputs = outputs.of_tasks
            rows = self.actor.res_mlp(self.actor.context.table(outputs.env_ids, rows))
        log_std = outputs.split(bounded_log_std(self.actor.decode("log_std", rows, outputs)))
        squash = self.config.squash_mean
        return {
            e: gaussian_inputs(mean, log_std[e].expand_as(mean), squash_mean=squash, logits=logits.get(e))
            for e, mean in means.items()
        }

    def _layout(self, counts: Mapping[str, int]) -> Layout:
        assert self.actor.encoder is not None
        return self._layouts.get(counts, self.interfaces, self.actor.encoder.lift.weight)


class AgnosticActionValues(ActionValues):
    """Q from the agnostic network's blocks (section 3.1 of the paper), one tower per estimate, without dropout.

    The components of a continuous action are tokens after those of the observation.
    """

    def __init__(self, config: AgnosticNetConfig, interfaces: Mapping[str, Interface], *, num_estimates: int) -> None:
        super().__init__({})
        self.config = config.without_dropout()  # it would make the targets of V noisy
        self.towers = nn.ModuleList(
            Tower(self.config, ("value", "logits"), position_size=2 * config.position_size)
            for _ in range(num_estimates)
        )
        # Images and texts are encoded once for all estimates.
        self.encoders = config.encoders(interfaces, config.d_model, [f"estimate{n}" for n in range(num_estimates)])
        self._layouts = LayoutCache(config)
        for env_id, interface in interfaces.items():
            self.add_env(env_id, interface)

    def add_env(self, env_id: str, interface: Interface) -> None:
        """See `ActionValues.add_env`; only ``context="embedding"`` gets new parameters."""
        Encoders.check(self.encoders, env_id, interface)
        super().add_env(env_id, interface)
        for tower in self._all_towers():
            tower.context.add_env(env_id, interface)

    def remove_env(self, env_id: str) -> None:
        """See `ActionValues.remove_env`."""
        super().remove_env(env_id)
        for tower in self._all_towers():
            tower.context.remove_env(env_id)
        self._layouts.clear()

    def _all_towers(self) -> list[Tower]:
        return [cast(Tower, tower) for tower in self.towers]

    def all_values(self, inputs: Mapping[str, Inputs]) -> dict[str, Tensor]:
        """See `ActionValues.all_values`."""
        counts = {e: len(inputs[e].numbers) for e in sorted(inputs, key=lambda e: self.inputs[e].obs_size)}
        # The only output where actions are inputs comes from the decoder "value", in the layout "gaussian".
        seen = {e: replace(self.inputs[e], discrete=self.interfaces[e].discrete) for e in counts}
        layout = self._layouts.get(counts, seen, next(self.parameters()))
        scalars = layout.pack({env_id: inputs[env_id].numbers for env_id in counts})
        encoded = {} if self.encoders is None else self.encoders.encode(self.interfaces, inputs, counts)
        estimates = []
        for number, tower in enumerate(self._all_towers()):
            media = None if self.encoders is None else self.encoders(f"estimate{number}", encoded)  # [R, H]
            estimates.append(self._estimate(tower, scalars, layout, media))
        return {env_id: torch.stack([estimate[env_id] for estimate in estimates]) for env_id in inputs}

    def _estimate(self, tower: Tower, scalars: Tensor, layout: Layout, media: Tensor | None) -> dict[str, Tensor]:
        """``{env_id: [B, n]}``."""
        rows = tower.middle(tower.encode(scalars, layout, media), layout)
        values: dict[str, Tensor] = {}
        for name, of_decoder in (("value", layout.gaussian), ("logits", layout.logits)):
            if of_decoder is not None:
                values |= of_decoder.split(tower.decode(name, rows, of_decoder))
        return values
