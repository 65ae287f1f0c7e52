"""The agnostic actor-critic: one set of parameters for environments of any observation and action size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from torch import Tensor, nn

from .actor_critic import ActorCritic, Interface
from .blocks import DecoderBlock, EncoderBlock, SequenceTrunk
from .config import NetConfig, require, require_sizes
from .context import TaskContext
from .distributions import gaussian_inputs
from .layout import DecoderLayout, Layout, LayoutCache, build_layout
from .log_std import bounded_log_std
from .positions import encoder_positions
from .residual_mlp import ResidualMLP
from .sequence import SEQUENCE_EMBEDDINGS
from .value_bins import VALUE_HEADS, ValueBins

__all__ = ["AgnosticActorCritic", "AgnosticNetConfig", "Tower"]

_POSITION_FEATURES = 17
_OUTPUT_INITS = ("default", "orthogonal")


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
        context: ``"computed"`` (from the description), ``"embedding"`` (the paper's table, a row per
            environment) or ``"none"``.
        share_encoder: one encoder for actor and critic.
        encoder_positions: whether the encoder sees the position of each observation component.
        position_codes: number of signs that it sees beside that, which are an environment's and a position's own
            (see `position_codes`). With any, decoders read each output from features of its own (`decoder_readouts`);
            0 leaves out both.
        output_gain: factor of the decoders' mean over the features.
        init_scale: start of the decoders' residual branches relative to the usual.
        state_dependent_std: whether the standard deviations of continuous actions depend on the observation, or on
            the task context alone: one for each component of an environment's action.
        squash_mean: whether tanh keeps the means of continuous actions in (-1, 1); without it actions beyond the
            bounds are clipped. For data whose actions often lie at the bounds.
        output_init: start of the linear layers in the decoders: PyTorch's ``"default"`` or ``"orthogonal"``.
        value_head: ``"scalar"``, or a distribution over bins trained by cross-entropy, with targets ``"two_hot"`` or
            ``"hl_gauss"`` (see `ValueBins`); for algorithms that know how, PPO.
        num_value_bins: number of bins.
        value_limit: largest value that bins stand for, in the unit that values are learned in.
    """

    type: ClassVar[str] = "agnostic"

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
        for name in ("d_model", "d_state"):
            value = getattr(self, name)
            require(
                isinstance(value, int) and value >= 2 and value % 2 == 0,
                name,
                value,
                "an even whole number >= 2",
            )
        require_sizes(self, "num_embedding_layers", "num_heads")
        for name in ("num_transformer_layers", "res_mlp_depth", "position_codes"):
            value = getattr(self, name)
            require(isinstance(value, int) and value >= 0, name, value, "a whole number >= 0")
        for name in ("dim_feedforward", "res_mlp_width"):
            value = getattr(self, name)
            require(value is None or (isinstance(value, int) and value >= 1), name, value, "None or >= 1")
        require(
            self.embedding in SEQUENCE_EMBEDDINGS,
            "embedding",
            self.embedding,
            f"in {list(SEQUENCE_EMBEDDINGS)}",
        )
        contexts = ["computed", "embedding", "none"]
        require(self.context in contexts, "context", self.context, f"in {contexts}")
        require(
            self.d_model % self.num_heads == 0,
            "num_heads",
            self.num_heads,
            f"a divisor of d_model={self.d_model}",
        )
        require(self.output_init in _OUTPUT_INITS, "output_init", self.output_init, f"in {list(_OUTPUT_INITS)}")
        require(self.value_head in VALUE_HEADS, "value_head", self.value_head, f"in {list(VALUE_HEADS)}")
        require(
            isinstance(self.num_value_bins, int) and self.num_value_bins >= 3,
            "num_value_bins",
            self.num_value_bins,
            "a whole number >= 3",
        )
        require(self.value_limit > 0, "value_limit", self.value_limit, "> 0")
        require(0.0 <= self.dropout < 1.0, "dropout", self.dropout, "in [0, 1)")
        require(self.output_gain > 0, "output_gain", self.output_gain, "> 0")
        require(
            self.init_scale > 0,
            "init_scale",
            self.init_scale,
            "> 0 (at 0 no gradient reaches the layers below)",
        )

    @classmethod
    def paper(cls, **changes: Any) -> AgnosticNetConfig:
        """The sizes of the paper's Table 2b, its encoder and decoders without positions; any field can be changed."""
        fields: dict[str, Any] = {
            "d_model": 256, "d_state": 256, "num_embedding_layers": 2, "num_transformer_layers": 2,
            "dim_feedforward": 256, "res_mlp_depth": 2, "res_mlp_width": 256, "dropout": 0.1,
            "encoder_positions": False, "position_codes": 0,
        }  # fmt: skip
        return cls(**(fields | changes))

    @property
    def position_features(self) -> int:
        """Number of features of a position that are the same in all environments; the first is constant."""
        return _POSITION_FEATURES if self.encoder_positions else 1

    @property
    def position_size(self) -> int:
        """Number of all that the encoder is given beside each scalar."""
        return self.position_features + self.position_codes

    def encoder_inputs(self, description: str, length: int) -> Tensor:
        """``[length, position_size]``: input of the encoder beside each component of an observation."""
        return encoder_positions(description, length, features=self.position_features, codes=self.position_codes)

    def build(self, interfaces: Mapping[str, Interface]) -> AgnosticActorCritic:
        """Build the network for these environments; others can be added later."""
        return AgnosticActorCritic(self, interfaces)


class Tower(nn.Module):
    """Encoder (unless shared), context, residual MLP and decoders: of the actor, the critic, or an action value.

    Args:
        config: the sizes.
        decoders: their names.
        with_encoder: whether it has an encoder of its own.
        position_size: position features of the encoder; None for those of the config.
        bins: number of bins that each decoder gives logits for; None where it gives numbers.
    """

    def __init__(
        self,
        config: AgnosticNetConfig,
        decoders: tuple[str, ...],
        *,
        with_encoder: bool,
        position_size: int | None = None,
        bins: int | None = None,
    ) -> None:
        super().__init__()
        d_model = config.d_model

        def trunk() -> SequenceTrunk:
            return SequenceTrunk(
                d_model=d_model,
                embedding=config.embedding,
                d_state=config.d_state,
                num_embedding_layers=config.num_embedding_layers,
                num_transformer_layers=config.num_transformer_layers,
                num_heads=config.num_heads,
                dim_feedforward=config.dim_feedforward or d_model,
                dropout=config.dropout,
            )

        positions = position_size or config.position_size
        self.encoder = EncoderBlock(d_model, positions, trunk()) if with_encoder else None
        self.context = TaskContext(config.context, d_model)
        self.res_mlp = ResidualMLP(d_model, config.res_mlp_depth, config.res_mlp_width or d_model, config.dropout)
        self.decoders = nn.ModuleDict(
            {
                name: DecoderBlock(
                    d_model,
                    trunk(),
                    config.output_gain,
                    config.init_scale,
                    orthogonal=config.output_init == "orthogonal",
                    bins=bins,
                )
                for name in decoders
            }
        )

    def encode(self, scalars: Tensor, layout: Layout) -> Tensor:
        """``[R, H]`` from the packed observations."""
        assert self.encoder is not None
        encoded: Tensor = self.encoder(scalars, layout.positions, layout.blocks, layout.segments)
        return encoded

    def middle(self, encoded: Tensor, layout: Layout) -> Tensor:
        """Add the task context and pass the residual MLP, ``[R, H]``."""
        rows: Tensor = self.res_mlp(self.context(encoded, layout.order, layout.membership))
        return rows

    def middle_of_tasks(self, env_ids: Sequence[str], like: Tensor) -> Tensor:
        """Pass the task contexts alone through the residual MLP, ``[E, H]``."""
        rows: Tensor = self.res_mlp(self.context.table(env_ids, like))
        return rows

    def decode(self, name: str, rows: Tensor, layout: DecoderLayout) -> Tensor:
        """``[num_tokens]`` (or logits ``[num_tokens, K]``) of the decoder ``name``."""
        decoded: Tensor = self.decoders[name](rows, layout.positions, layout.sources, layout.segments, layout.readouts)
        return decoded


class AgnosticActorCritic(ActorCritic):
    """The paper's policy and value networks (section 3.1, Figure 1) with a packed forward.

    The samples of all environments pass together; see `Segments`. No parameter belongs to an environment,
    except with ``context="embedding"``. Names in the state dict: ``actor.encoder``, ``actor.res_mlp``,
    ``actor.decoders.{logits,mean,log_std}``, ``critic.encoder`` (absent if shared),
    ``critic.decoders.value``.

    Log standard deviations lie in (-5, 2) and start at about -0.5; means and logits start near 0.
    """

    def __init__(self, config: AgnosticNetConfig, interfaces: Mapping[str, Interface]) -> None:
        super().__init__()
        self.config = config
        self.actor = Tower(config, ("logits", "mean", "log_std"), with_encoder=True)
        if config.value_head != "scalar":
            self.value_bins = ValueBins(config.value_head, config.num_value_bins, config.value_limit)
        bins = None if self.value_bins is None else config.num_value_bins
        self.critic = Tower(config, ("value",), with_encoder=not config.share_encoder, bins=bins)
        self._layouts = LayoutCache()
        for env_id, interface in interfaces.items():
            self.add_env(env_id, interface)

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
        """Actor and, unless this network was reduced to its policy, critic."""
        return [tower for tower in (self.actor, getattr(self, "critic", None)) if tower is not None]

    def policy(self, obs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """See `ActorCritic.policy`."""
        layout = self._layout(obs)
        if not layout.order:
            return self._policy_outputs(None, layout)
        return self._policy_outputs(self.actor.encode(layout.pack(obs), layout), layout)

    def value(self, obs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """See `ActorCritic.value`."""
        layout = self._layout(obs)
        if not layout.order:
            return self.read_values(self._value_outputs(None, layout))
        encoder = self.actor if self.config.share_encoder else self.critic
        return self.read_values(self._value_outputs(encoder.encode(layout.pack(obs), layout), layout))

    def forward(self, obs: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """See `ActorCritic.forward`."""
        layout = self._layout(obs)
        if not layout.order:
            return self._policy_outputs(None, layout), self._value_outputs(None, layout)
        scalars = layout.pack(obs)
        encoded = self.actor.encode(scalars, layout)
        for_critic = encoded if self.config.share_encoder else self.critic.encode(scalars, layout)
        return self._policy_outputs(encoded, layout), self._value_outputs(for_critic, layout)

    def actor_parameters(self) -> list[nn.Parameter]:
        """See `ActorCritic.actor_parameters`."""
        return list(self.actor.parameters())

    def critic_parameters(self) -> list[nn.Parameter]:
        """See `ActorCritic.critic_parameters`."""
        return list(self.critic.parameters())

    def _policy_outputs(self, encoded: Tensor | None, layout: Layout) -> dict[str, Tensor]:
        outputs: dict[str, Tensor] = {}
        if encoded is not None:
            rows = self.actor.middle(encoded, layout)
            if layout.logits is not None:
                outputs |= layout.logits.split(self.actor.decode("logits", rows, layout.logits))
            if layout.gaussian is not None:
                outputs |= self._gaussian_outputs(rows, layout.gaussian)
        for env_id in layout.empty:
            interface = self.interfaces[env_id]
            width = interface.action_size * (1 if interface.discrete else 2)
            outputs[env_id] = layout.positions.new_zeros(0, width)
        return outputs

    def _gaussian_outputs(self, rows: Tensor, layout: DecoderLayout) -> dict[str, Tensor]:
        mean = layout.split(self.actor.decode("mean", rows, layout))
        if not self.config.state_dependent_std:
            layout = layout.of_tasks
            rows = self.actor.middle_of_tasks([env_id for env_id, *_ in layout.outputs], rows)
        log_std = layout.split(bounded_log_std(self.actor.decode("log_std", rows, layout)))
        squash = self.config.squash_mean
        return {e: gaussian_inputs(m, log_std[e].expand_as(m), squash_mean=squash) for e, m in mean.items()}

    def _value_outputs(self, encoded: Tensor | None, layout: Layout) -> dict[str, Tensor]:
        outputs: dict[str, Tensor] = {}
        if encoded is not None and layout.value is not None:
            values = layout.value.split(self.critic.decode("value", self.critic.middle(encoded, layout), layout.value))
            outputs = {env_id: value.squeeze(1) for env_id, value in values.items()}
        shape = (0,) if self.value_bins is None else (0, self.config.num_value_bins)
        return outputs | {env_id: layout.positions.new_zeros(shape) for env_id in layout.empty}

    def _positions(self, env_id: str) -> Tensor:
        interface = self.interfaces[env_id]
        return self.config.encoder_inputs(interface.description, interface.obs_size)

    def _layout(self, obs: Mapping[str, Tensor]) -> Layout:
        self.check_observations(obs)
        like = next(self.actor.parameters())
        counts = {env_id: value.shape[0] for env_id, value in obs.items()}
        return self._layouts.get(
            counts,
            like,
            lambda: build_layout(
                counts,
                self.interfaces,
                d_model=self.config.d_model,
                positions_of=self._positions,
                with_readouts=self.config.position_codes > 0,
                like=like.detach(),
            ),
        )
