"""DREAM's network (Liu et al. 2020, arXiv 2008.02790): a policy that explores a task, and one that exploits it.

A trial's first episode is the explorer's. What it has seen is inferred to be an embedding of the task, on which the
exploiter of all later episodes is conditioned. In training trials that are told their task, the embedding is that of
the task's label instead. `algorithms.dream` trains it.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, NamedTuple, Self, cast

import torch
from torch import Tensor, nn

from rllib_multienv.spaces.previous import INPUTS
from rllib_multienv.spaces.rows import ObservationRow

from .actor_critic import ActorCritic, Outputs, Part
from .config import NetConfig, net_config_from_dict, require, require_whole
from .generated import GeneratedNetConfig
from .interface import Inputs, Interface
from .memory import GRUReadout, NetworkMemory, State

__all__ = ["DreamActorCritic", "DreamNetConfig", "Label"]

#: Columns of `Outputs.extra`.
EXPLORING, KNOWN, INFERRED = "exploring", "known", "inferred"
_CODE = 16


class Label(NamedTuple):
    """Labels of the tasks of N rows, for training.

    Attributes:
        task: ``[N, D]``, for an environment's own D.
        noise: ``[N, Z]``, standard normal, the same in all steps of a trial.
        told: bool ``[N]``, the exploiter is conditioned on the label's embedding, not on what is inferred.
    """

    task: Tensor
    noise: Tensor
    told: Tensor


@dataclass(frozen=True, kw_only=True)
class DreamNetConfig(NetConfig):
    """Config of `DreamActorCritic`.

    Attributes:
        policy: network of the explorer, of the exploiter, and of what infers the task; its ``memory`` is that of both
            policies, by default ``"gru"``.
        embedding_size: Z, length of the embedding of a task.
        noise: deviation of what is added to the embedding of a label.
    """

    type: ClassVar[str] = "dream"
    for_any: ClassVar[bool] = True
    memories: ClassVar[tuple[str, ...]] = ("dream",)

    policy: NetConfig = field(default_factory=GeneratedNetConfig)
    embedding_size: int = 64
    noise: float = 0.1
    memory: Literal["gru", "s4", "belief", "posterior", "dream"] | None = "dream"
    inputs: tuple[str, ...] = INPUTS

    def __post_init__(self) -> None:
        """Check the fields; the policy's network may be given as a mapping of its fields."""
        policy = net_config_from_dict(self.policy) if isinstance(self.policy, Mapping) else self.policy
        require(isinstance(policy, NetConfig), "policy", policy, "a network config")
        remembers = policy.memory in (None, "gru", "s4")
        require(remembers, "memory", policy.memory, "None, 'gru' or 's4' in DREAM's policies")
        require(set(policy.inputs) <= set(INPUTS), "inputs", policy.inputs, f"left out: DREAM's policies see {INPUTS}")
        object.__setattr__(self, "policy", dataclasses.replace(policy, memory=policy.memory or "gru", inputs=()))
        super().__post_init__()
        for name in ("image_encoder", "text_encoder"):
            require(getattr(self, name) is None, name, getattr(self, name), "set in policy")
        require(self.memory == "dream", "memory", self.memory, "'dream'; that of the policies is set in policy")
        require(self.inputs == INPUTS, "inputs", self.inputs, f"{INPUTS}")
        require(not self.world_attention, "world_attention", self.world_attention, "False")
        require_whole(self, "embedding_size")
        require(self.noise >= 0, "noise", self.noise, ">= 0")

    def build(self, interfaces: Mapping[str, Interface]) -> DreamActorCritic:
        """Build the networks for these environments; others can be added later."""
        return DreamActorCritic(self, interfaces)

    def for_environments(self, interfaces: Mapping[str, Interface]) -> Self:
        """See `NetConfig.for_environments`."""
        return dataclasses.replace(self, policy=self.policy.for_environments(interfaces))

    def check_environments(self, interfaces: Mapping[str, Interface]) -> None:
        """See `NetConfig.check_environments`."""
        self.policy.check_environments(interfaces)

    @property
    def needs_measurements(self) -> bool:
        """See `NetConfig.needs_measurements`."""
        return self.policy.needs_measurements

    def without_dropout(self) -> Self:
        """See `NetConfig.without_dropout`."""
        return dataclasses.replace(self, policy=self.policy.without_dropout())

    def to_dict(self) -> dict[str, Any]:
        """See `NetConfig.to_dict`."""
        return {**super().to_dict(), "policy": self.policy.to_dict()}


@dataclass(frozen=True)
class _WithEmbedding:
    """An environment whose observations end with an embedding of the task."""

    environment: Interface
    size: int

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name == "environment":  # it is being copied
            raise AttributeError(name)
        return getattr(self.environment, name)

    @property
    def observation(self) -> ObservationRow:
        row = self.environment.observation
        return dataclasses.replace(row, numbers=row.numbers + self.size)

    @property
    def obs_size(self) -> int:
        return self.environment.obs_size + self.size

    @property
    def obs_names(self) -> Sequence[str]:
        names = self.environment.obs_names
        return names and (*names, *(f"task embedding {i}" for i in range(self.size)))

    @property
    def obs_measured(self) -> Sequence[Sequence[float]]:
        known = self.environment.obs_measured
        return known and (*known, *[(0.0,) * len(known[0])] * self.size)


class LabelEmbedding(nn.Module):
    """Embeds labels of tasks of any size (f in the paper) by an MLP.

    Its first layer has a row for each place, made of the place's code, so that no parameter belongs to a family.

    Args:
        size: Z.
        hidden: its units.
    """

    def __init__(self, size: int, hidden: int = 128) -> None:
        super().__init__()
        self.places = nn.Sequential(nn.Linear(_CODE, hidden), nn.GELU(), nn.Linear(hidden, hidden))
        self.skip = nn.Linear(_CODE, hidden)
        self.hidden = nn.Sequential(nn.GELU(), nn.Linear(hidden, hidden), nn.LayerNorm(hidden), nn.GELU())
        self.out = nn.Linear(hidden, size)

    def forward(self, task: Tensor) -> Tensor:
        """``[N, Z]`` from labels ``[N, D]``."""
        place = torch.arange(task.shape[1], device=task.device, dtype=task.dtype)[:, None]
        angles = (place + 1.0) * torch.linspace(0.1, math.pi, _CODE // 2, device=task.device)  # [D, code / 2]
        codes = torch.cat([angles.sin(), angles.cos()], 1)  # [D, code]
        weights = self.places(codes) + self.skip(codes)  # [D, hidden]
        embedded: Tensor = self.out(self.hidden(task @ weights))
        return embedded


class DreamMemory(NetworkMemory):
    """What is carried through a trial, and the inference of its task from the exploration episode (g in the paper).

    A state ``[B, D]`` has the number of episodes that are over, the states of explorer and exploiter, and the units of
    the inference.

    Args:
        network: encodes observations for the inference.
        width: features of its rows.
        size: units of the GRU; None: ``width``.
        embedding: Z.
        policies: sizes of the states of explorer and exploiter.
    """

    def __init__(
        self, network: ActorCritic, width: int, size: int | None, embedding: int, policies: Sequence[int]
    ) -> None:
        core = GRUReadout(width, size, 1, embedding)
        super().__init__(core, width)
        network.drop_critic()
        self.network = network
        self.critic = nn.Identity()
        self.sizes = (1, *policies, core.gru.hidden_size)

    def initial_state(self, batch_size: int) -> Tensor:
        """See `NetworkMemory.initial_state`."""
        return self.core.initial_state(1).new_zeros(batch_size, sum(self.sizes))

    def add_env(self, env_id: str, interface: Interface) -> None:
        """See `NetworkMemory.add_env`."""
        self.network.add_env(env_id, interface)

    def remove_env(self, env_id: str) -> None:
        """See `NetworkMemory.remove_env`."""
        self.network.remove_env(env_id)

    def infer(
        self, steps: Mapping[str, _Steps], inputs: Mapping[str, Inputs]
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """What is inferred at each row ``[N, Z]``, and the units ``[B, units]`` after the last ones.

        After the exploration episode nothing is added to what it told: its last inference holds.
        """
        seen = {e: _chosen(inputs[e], own.informs[own.valid]) for e, own in steps.items() if own.informs.any()}
        counts = {env_id: len(own.numbers) for env_id, own in seen.items()}
        states = {env_id: own.states[2] for env_id, own in steps.items()}
        found, after = dict[str, Tensor](), dict[str, Tensor]()
        if seen:
            rows = self.network.encode_inputs(seen)
            first, valid = {e: own.begins[0] for e, own in steps.items()}, {e: own.informs for e, own in steps.items()}
            flat, after = self(rows, counts, states, first, valid)  # [R, Z]
            found = dict(zip(counts, flat.split(list(counts.values())), strict=True))
        inferred = {}
        for env_id, own in steps.items():
            before = cast(GRUReadout, self.core).linear(own.states[2])  # [B, Z]
            over_time = before.new_zeros(*own.valid.shape, before.shape[1])  # [T, B, Z]
            if env_id in found:
                over_time = over_time.masked_scatter(own.informs[..., None], found[env_id])
            over_time = torch.cat([before[None], over_time])  # [1 + T, B, Z]
            number = torch.arange(1, len(over_time), device=before.device)[:, None]
            latest = torch.where(own.informs, number, 0).cummax(0).values  # [T, B]
            inferred[env_id] = over_time.gather(0, latest[..., None].expand(-1, -1, before.shape[1]))[own.valid]
        return inferred, {**states, **after}


class DreamActorCritic(ActorCritic):
    """Explorer and exploiter, each a network of its own, the inference of the task, and the embedding of its label.

    The phase of a trial follows from the previous end flags, which are the last numbers of observations.
    """

    def __init__(self, config: DreamNetConfig, interfaces: Mapping[str, Interface]) -> None:
        super().__init__()
        self.config = config
        size = config.embedding_size
        self.explorer = config.policy.build(interfaces)
        self.exploiter = config.policy.build({e: _with_embedding(one, size) for e, one in interfaces.items()})
        memories = [network.memory for network in (self.explorer, self.exploiter) if network.memory is not None]
        sizes = [memory.initial_state(1).shape[1] for memory in memories]
        network = dataclasses.replace(config.policy, memory=None).build(interfaces)
        self.memory = DreamMemory(network, memories[0].width, config.policy.memory_size, size, sizes)
        self.labels = LabelEmbedding(size)
        self.value_bins = self.explorer.value_bins
        self.critic_only = tuple(  # type: ignore[misc]
            f"{name}.{part}" for name in ("explorer", "exploiter") for part in getattr(self, name).critic_only
        )
        self.interfaces.update(interfaces)

    def add_env(self, env_id: str, interface: Interface) -> None:
        """See `ActorCritic.add_env`."""
        super().add_env(env_id, interface)
        self.explorer.add_env(env_id, interface)
        self.exploiter.add_env(env_id, _with_embedding(interface, self.config.embedding_size))

    def remove_env(self, env_id: str) -> None:
        """See `ActorCritic.remove_env`."""
        super().remove_env(env_id)
        self.explorer.remove_env(env_id)
        self.exploiter.remove_env(env_id)

    def drop_critic(self) -> None:
        """See `ActorCritic.drop_critic`."""
        self.explorer.drop_critic()
        self.exploiter.drop_critic()

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
        labels: Mapping[str, Label] | None = None,
    ) -> Outputs:
        """See `ActorCritic.run`; ``labels`` are those of the rows of environments that have any.

        `Outputs.extra` has ``"exploring"`` bool ``[N]`` and ``"inferred"`` ``[N, Z]``, and with labels their embedding
        ``"known"`` ``[N, Z]``. Nothing that policies or values give has a gradient into what is inferred.
        """
        memory = cast(DreamMemory, self.memory)
        steps: dict[str, _Steps] = {}
        for env_id in sorted(inputs, key=lambda env_id: inputs[env_id].numbers.shape[1]):
            numbers = inputs[env_id].numbers
            resets = numbers.new_zeros(1, len(numbers), dtype=torch.bool) if first is None else first[env_id]
            has_row = (valid or {}).get(env_id, torch.ones_like(resets))
            held = (state or {}).get(env_id)
            parts_before = (memory.initial_state(resets.shape[1]) if held is None else held).split(memory.sizes, 1)
            steps[env_id] = _Steps.of(numbers[:, -1] > 0, resets, has_row, parts_before)
        inferred, units = memory.infer(steps, inputs)
        known = {env_id: self.labels(label.task) for env_id, label in (labels or {}).items()}  # [N, Z] each
        explored, exploited, extra = dict[str, Inputs](), dict[str, Inputs](), dict[str, dict[str, Tensor]]()
        for env_id, own in steps.items():
            exploring = own.of_policy[0][own.valid]  # [N]
            extra[env_id] = {EXPLORING: exploring, INFERRED: inferred[env_id]}
            embedding = inferred[env_id].detach()
            if labels is not None and env_id in labels:
                extra[env_id][KNOWN] = known[env_id]
                noisy = known[env_id] + self.config.noise * labels[env_id].noise
                embedding = torch.where(labels[env_id].told[:, None], noisy, embedding)  # [N, Z]
            explored[env_id] = _chosen(inputs[env_id], exploring)
            other = _chosen(inputs[env_id], ~exploring)
            exploited[env_id] = other._replace(numbers=torch.cat([other.numbers, embedding[~exploring]], 1))
        outputs = []
        for number, (network, seen) in enumerate(((self.explorer, explored), (self.exploiter, exploited))):
            before, begins, exists = (
                {env_id: getattr(own, name)[number] for env_id, own in steps.items()}
                for name in ("states", "begins", "of_policy")
            )
            outputs.append(network.run(seen, before, begins, exists, parts=parts, apart=apart))
        explorer, exploiter = outputs
        policy, values = (
            {e: _joined(extra[e][EXPLORING], own, others[e]) for e, own in found.items()}
            for found, others in ((explorer.policy, exploiter.policy), (explorer.values, exploiter.values))
        )
        after = {}
        for env_id, own in steps.items():
            states = [out.state.get(env_id, before) for out, before in zip(outputs, own.states[:2], strict=True)]
            after[env_id] = torch.cat([own.over[-1, :, None], *states, units[env_id]], 1)  # [B, D]
        return Outputs(policy, values, after, extra)

    def encode(self, part: Part, obs: Mapping[str, Tensor], media: Tensor | None = None) -> Tensor:
        """Of the explorer; see `ActorCritic.encode`."""
        return self.explorer.encode(part, obs, media)

    def decode(self, part: Part, rows: Tensor, counts: Mapping[str, int]) -> dict[str, Tensor]:
        """Of the explorer; see `ActorCritic.decode`."""
        return self.explorer.decode(part, rows, counts)


class _Steps(NamedTuple):
    """Time steps of one environment's copies, each ``[T, B]``; pairs are those of explorer and exploiter.

    Attributes:
        valid: The time step has a row.
        over: Episodes of the trial that are over.
        of_policy: It is a valid step of the first episode; of a later one.
        begins: The explorer's episode begins; one of the exploiter's does.
        informs: It shows something of the exploration episode: the first step after it shows its last reward.
        states: Those of explorer, exploiter and inference before the first time step, ``[B, D]`` each.
    """

    valid: Tensor
    over: Tensor
    of_policy: tuple[Tensor, Tensor]
    begins: tuple[Tensor, Tensor]
    informs: Tensor
    states: tuple[Tensor, ...]

    @classmethod
    def of(cls, done: Tensor, first: Tensor, valid: Tensor, state: Sequence[Tensor]) -> _Steps:
        """From the end flags ``[N]`` of the valid steps, and the parts of the memory's state."""
        before, *states = state
        ends = torch.zeros_like(valid).masked_scatter(valid, done)  # [T, B]
        so_far = ends.cumsum(0)
        over = so_far - torch.where(first, so_far, -before[:, 0].long()).cummax(0).values
        exploring = over == 0
        of_policy, informs = (valid & exploring, valid & ~exploring), valid & (exploring | (ends & (over == 1)))
        return cls(valid, over, of_policy, (first, ends), informs, tuple(states))


def _with_embedding(interface: Interface, size: int) -> Interface:
    return cast(Interface, _WithEmbedding(interface, size))


def _chosen(inputs: Inputs, rows: Tensor) -> Inputs:
    """The inputs of some rows, bool ``[N]``."""
    return Inputs(*(None if part is None else part[rows] for part in inputs))  # type: ignore[arg-type]


def _joined(rows: Tensor, of_rows: Tensor, of_others: Tensor) -> Tensor:
    """``[N, ...]`` from what is of the rows in bool ``[N]`` and what is of the others."""
    joined = of_rows.new_zeros(len(rows), *of_rows.shape[1:])
    joined[rows], joined[~rows] = of_rows, of_others
    return joined
