"""Base classes of networks: policies and values of several environments from their observations."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, ClassVar, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from .encoders import Encoders
from .functional import functional
from .heads import ValueBins, mask_logits
from .interface import Inputs, Interface
from .memory import NetworkMemory, State
from .parameters import owning_environments
from .world_attention import WorldAttention, world_rows

__all__ = ["ActorCritic", "OneEnvironmentActorCritic", "Outputs", "Part"]

Part = Literal["actor", "critic"]


class Outputs(NamedTuple):
    """Result of `ActorCritic.forward`.

    Attributes:
        policy: distribution inputs ``[B, num_inputs]`` by environment (see `ActionRow`). Logits of actions that are
            forbidden by an action mask are a large negative number.
        values: ``[B]`` by environment, or logits ``[B, K]`` over `ActorCritic.value_bins`; see
            `ActorCritic.read_values`.
        state: memory state after the last time step; empty without memory.
        extra: what else learners of a network want of each row, by environment.
    """

    policy: dict[str, Tensor]
    values: dict[str, Tensor]
    state: State
    extra: Mapping[str, Mapping[str, Tensor]] = MappingProxyType({})


class ActorCritic(nn.Module, ABC):
    """Policy and value function for several environments at once: ``encode -> attend -> remember -> decode``.

    Observations come as rows ``{env_id: [B, width]}`` (see `ObservationRow`) with any subset of the known environments;
    batch sizes may differ between environments. A subclass implements `encode` and `decode`, each for the parts
    ``"actor"`` and ``"critic"``, and has the parameters of the critic in the child ``critic``.

    Attributes:
        interfaces: the known environments by id; not part of the state dict.
        value_bins: bins over which values are a distribution; None if values are numbers.
        memory: from `NetConfig.memory_of`; None without memory.
        world_attention: from `NetConfig.world_attention_of`; None without.
        encoders: encoders of images and text, from `NetConfig.encoders`; None without.
        shares_encoder: whether actor and critic use the same encoded rows (those of the actor).
        critic_only: dotted names of the children that only values need; see `drop_critic`.
        twice_differentiable: whether policies have second derivatives, and can be computed with parameters of its own
            for each row (`policies_with`).
    """

    twice_differentiable: ClassVar[bool] = False
    critic_only: ClassVar[tuple[str, ...]] = ("critic", "memory.critic", "encoders.critic", "world_attention.critic")

    def __init__(self) -> None:
        super().__init__()
        self.interfaces: dict[str, Interface] = {}
        self.value_bins: ValueBins | None = None
        self.memory: NetworkMemory | None = None
        self.world_attention: WorldAttention | None = None
        self.encoders: Encoders | None = None
        self.shares_encoder = False

    @abstractmethod
    def encode(self, part: Part, obs: Mapping[str, Tensor], media: Tensor | None = None) -> Tensor:
        """Encode observations.

        Args:
            part: ``"actor"`` or ``"critic"``.
            obs: numbers ``[B, I]`` by environment, each with at least one row, in the order of their sizes I.
            media: encoded images and text of all rows, ``[R, H]``, to be added to what the first layer makes of the
                numbers; given only if some environment has any.

        Returns:
            ``[R, H]``, the rows of all environments one after the other in the order of ``obs``.
        """

    @abstractmethod
    def decode(self, part: Part, rows: Tensor, counts: Mapping[str, int]) -> dict[str, Tensor]:
        """Compute the outputs of a part.

        Args:
            part: ``"actor"`` or ``"critic"``.
            rows: ``[R, H]``, as `encode` returns them.
            counts: number of rows of each environment, in their order.

        Returns:
            `Outputs.policy` of the actor or `Outputs.values` of the critic.
        """

    def forward(
        self,
        obs: Mapping[str, Tensor | Inputs],
        state: State | None = None,
        first: Mapping[str, Tensor] | None = None,
        valid: Mapping[str, Tensor] | None = None,
        *,
        parts: Sequence[Part] = ("actor", "critic"),
        apart: bool = False,
        present: Mapping[str, Tensor] | None = None,
        **options: Any,
    ) -> Outputs:
        """Policies and values.

        Args:
            obs: ``[B, width]`` by environment, or taken apart already; with ``first`` or ``valid`` the rows of
                sequences, time first. The environments of a world have the same number of worlds and time steps (see
                `world_rows`).
            state: memory state ``[B, D]`` before the first time step; an environment that is missing starts afresh.
            first: bool ``[T, B]`` by environment, whether memory is reset before this time step; None for one time step
                without resets.
            valid: bool ``[T, B]`` by environment, the time steps that have a row in ``obs``; None for all.
            parts: the outputs that are wanted; the others are empty.
            apart: whether all rows are alone, also those of environments that are in a world.
            present: bool ``[B]`` by environment, the rows that are in their world; the others are alone. None for all.
            options: further arguments of the network's `run`.

        Raises:
            KeyError: an environment is not known.
            ValueError: observations have another shape than ``[B, width]``; or environments of one world do not have
                the same number of worlds and time steps.
        """
        inputs = {env_id: Inputs.of(env_id, self._known(env_id).observation, rows) for env_id, rows in obs.items()}
        return self.run(inputs, state, first, valid, parts=parts, apart=apart, present=present, **options)

    def run(
        self,
        inputs: Mapping[str, Inputs],
        state: State | None = None,
        first: Mapping[str, Tensor] | None = None,
        valid: Mapping[str, Tensor] | None = None,
        *,
        parts: Sequence[Part] = ("actor", "critic"),
        apart: bool = False,
        present: Mapping[str, Tensor] | None = None,
    ) -> Outputs:
        """As `forward`, of observations that were taken apart already."""
        # Ordered by size, so that equal lengths are neighbours.
        order = sorted(inputs, key=lambda env_id: inputs[env_id].numbers.shape[1])
        numbers = {env_id: inputs[env_id].numbers for env_id in order if len(inputs[env_id].numbers)}
        counts = {env_id: len(value) for env_id, value in numbers.items()}
        outputs: dict[Part, dict[str, Tensor]] = {"actor": {}, "critic": {}}
        next_state: dict[str, Tensor] = {}
        rows: Tensor | None = None
        remembered: Tensor | None = None
        encoded = self._encoded_media(inputs, counts)
        worlds: list[Tensor] = []
        if numbers and self.world_attention is not None and not apart:
            worlds = world_rows(self.interfaces, counts, valid, present, next(iter(numbers.values())).device)

        def rows_of(part: Part) -> Tensor:
            own = self._rows(part, numbers, encoded)
            return own if self.world_attention is None or not worlds else self.world_attention(part, own, worlds)

        if numbers and self.memory is not None:
            rows = rows_of("actor")
            seen = {env_id: inputs[env_id] for env_id in counts}
            remembered, next_state = self.memory.remember(rows, seen, counts, state, first, valid)
        for part in parts if numbers else ():
            if rows is None or not (self.shares_encoder or (part == "actor" and remembered is not None)):
                rows = rows_of("actor" if self.shares_encoder else part)
            own = rows
            if self.memory is not None and remembered is not None:
                joined = self.memory.for_actor if part == "actor" else self.memory.for_critic
                own = joined(rows, remembered)
            outputs[part] = self.decode(part, own, counts)
        for env_id, found in outputs["actor"].items():
            if (mask := inputs[env_id].mask) is not None:
                outputs["actor"][env_id] = mask_logits(found, mask)
        if len(numbers) < len(inputs):
            for part in parts:
                outputs[part] |= {e: self._no_output(part, e) for e in inputs if e not in numbers}
        return Outputs(outputs["actor"], outputs["critic"], next_state)

    def encode_inputs(self, inputs: Mapping[str, Inputs]) -> Tensor:
        """The actor's encoded rows ``[R, H]`` of observations in the order of their sizes, none without a row."""
        present = {env_id: own.numbers for env_id, own in inputs.items()}
        counts = {env_id: len(value) for env_id, value in present.items()}
        return self._rows("actor", present, self._encoded_media(inputs, counts))

    def _encoded_media(self, inputs: Mapping[str, Inputs], counts: Mapping[str, int]) -> dict[str, Tensor]:
        return {} if self.encoders is None else self.encoders.encode(self.interfaces, inputs, counts)

    def _rows(self, part: Part, present: Mapping[str, Tensor], encoded: Mapping[str, Tensor]) -> Tensor:
        media = None if self.encoders is None else self.encoders(part, encoded)  # [R, H]
        return self.encode(part, present, media)

    def policy(self, obs: Mapping[str, Tensor | Inputs]) -> dict[str, Tensor]:
        """Distribution inputs of every environment in ``obs``."""
        return self.forward(obs, parts=("actor",)).policy

    def policy_with(self, parameters: Mapping[str, Tensor], env_id: str, obs: Tensor) -> Tensor:
        """Distribution inputs ``[B, num_inputs]`` of an environment's observations with other parameters, by name."""
        with functional():
            outputs: Outputs = functional_call(self, dict(parameters), ({env_id: obs},), {"parts": ("actor",)})
        return outputs.policy[env_id]

    def policies_with(self, parameters: Mapping[str, Tensor], env_id: str, obs: Tensor) -> Tensor:
        """As `policy_with`, each row with parameters of its own, ``[B, ...]`` by name."""

        def one(own: dict[str, Tensor], row: Tensor) -> Tensor:
            return self.policy_with(own, env_id, row[None])[0]  # [num_inputs]

        if self.twice_differentiable and not self._known(env_id).observation.packed:
            policies: Tensor = vmap(one)(dict(parameters), obs)  # [B, num_inputs]
            return policies
        owners = [{name: value[b] for name, value in parameters.items()} for b in range(len(obs))]
        return torch.stack([one(own, row) for own, row in zip(owners, obs, strict=True)])

    def value(self, obs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Values ``[B]`` of every environment in ``obs``."""
        return self.read_values(self.forward(obs, parts=("critic",)).values)

    def read_values(self, outputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Values ``[B]`` from `Outputs.values`."""
        if self.value_bins is None:
            return dict(outputs)
        return {env_id: self.value_bins.read(logits) for env_id, logits in outputs.items()}

    def initial_state(self, batch_sizes: Mapping[str, int]) -> State:
        """Memory state of each environment's copies before their first time step; ``{}`` without memory."""
        if self.memory is None:
            return {}
        return {env_id: self.memory.initial_state(size) for env_id, size in batch_sizes.items()}

    def add_env(self, env_id: str, interface: Interface) -> None:
        """Make an environment known.

        Raises:
            ValueError: the id is known already, with another interface; or it has images or text, and the network has
                no encoder of these.
        """
        known = self.interfaces.get(env_id)
        if known is not None and known != interface:
            raise ValueError(f"environment {env_id!r} is known already with another interface; remove it first")
        Encoders.check(self.encoders, env_id, interface)
        self.interfaces[env_id] = interface
        if self.memory is not None:
            self.memory.add_env(env_id, interface)

    def remove_env(self, env_id: str) -> None:
        """Remove an environment.

        Raises:
            KeyError: the id is not known.
        """
        self._known(env_id)
        del self.interfaces[env_id]
        if self.memory is not None:
            self.memory.remove_env(env_id)

    @property
    def knows_any(self) -> bool:
        """Whether it acts in environments that it was not trained on: no parameter belongs to one alone."""
        return not owning_environments(self.state_dict())

    def drop_critic(self) -> None:
        """Delete the children that only values need."""
        for name in self.critic_only:
            parent, _, child = name.rpartition(".")
            owner = getattr(self, parent) if parent else self
            if hasattr(owner, child):
                delattr(owner, child)

    def actor_parameters(self) -> list[nn.Parameter]:
        """Parameters of the policy, and those that policy and values share."""
        return [p for name, p in self.named_parameters() if not self._of_critic(name)]

    def critic_parameters(self) -> list[nn.Parameter]:
        """The other parameters."""
        return [p for name, p in self.named_parameters() if self._of_critic(name)]

    def _of_critic(self, name: str) -> bool:
        return any(name.startswith(f"{child}.") for child in self.critic_only)

    def _known(self, env_id: str) -> Interface:
        interface = self.interfaces.get(env_id)
        if interface is None:
            raise KeyError(f"unknown environment {env_id!r}; known: {sorted(self.interfaces)}")
        return interface

    def _no_output(self, part: Part, env_id: str) -> Tensor:
        """The output for no rows."""
        interface, like = self.interfaces[env_id], next(self.parameters())
        if part == "actor":
            return like.new_zeros(0, interface.action.num_inputs)
        return like.new_zeros(0) if self.value_bins is None else like.new_zeros(0, len(self.value_bins.values))


class OneEnvironmentActorCritic(ActorCritic):
    """Base of networks that have the sizes of their only environment.

    Raises:
        ValueError: there is no environment, or there are several.
    """

    #: Name of this kind of network in errors.
    name: ClassVar[str]

    def __init__(self, interfaces: Mapping[str, Interface]) -> None:
        super().__init__()
        if len(interfaces) != 1:
            raise ValueError(
                f"{self.name} is for exactly one environment, got {len(interfaces)}: {sorted(interfaces)}; use a "
                "network for several, such as AgnosticNetConfig or SpecificNetConfig"
            )
        ((self.env_id, self.interface),) = interfaces.items()
        self.interfaces[self.env_id] = self.interface

    def add_env(self, env_id: str, interface: Interface) -> None:
        """Check that it is the environment that the network was built for.

        Raises:
            ValueError: it is another environment, or has another interface.
        """
        if env_id != self.env_id:
            raise ValueError(f"{self.name} has one environment, {self.env_id!r}; cannot add {env_id!r}")
        super().add_env(env_id, interface)

    def remove_env(self, env_id: str) -> None:
        """Fail: all parameters are that environment's.

        Raises:
            ValueError: always.
        """
        raise ValueError(f"{self.name} cannot lose its only environment ({env_id!r})")
