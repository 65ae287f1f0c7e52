"""A posterior over tasks: a product of Gaussian factors, one for each transition (PEARL, Rakelly et al. 2019).

An encoder that all environments share gives mean and variance of a factor from what was seen before and after a step,
its action and its reward. A product of Gaussians is a sum of precisions and of means in units of them, so that order
and number of transitions do not matter, and the memory of an acting agent is these sums. At the beginning of each
episode of a trial a latent z is drawn from the posterior of the moment. Policy and values see z as numbers beside the
observation, and unless asked for nothing else of the past.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, NamedTuple, Self, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rllib_multienv.spaces.previous import INPUTS
from rllib_multienv.spaces.space_spec import SpaceSpec

from .action_values import ActionValues
from .actor_critic import ActorCritic, Outputs, Part
from .config import NetConfig, net_config_from_dict, require, require_whole
from .generated import GeneratedNetConfig
from .interface import Inputs, Interface
from .memory import Memory, NetworkMemory, State
from .packed import Segments

__all__ = ["Posterior", "PosteriorActorCritic", "PosteriorMemory", "PosteriorNetConfig"]

_LEAST_VARIANCE = 1e-7


class Posterior(NamedTuple):
    """Diagonal Gaussians over latents.

    Attributes:
        mean, variance: ``[..., D]``.
    """

    mean: Tensor
    variance: Tensor

    @classmethod
    def of(cls, precision: Tensor, weighted: Tensor) -> Posterior:
        """From sums of factors' precisions, and of their means times precisions; N(0, 1) where there is no factor."""
        seen = precision > 0
        variance = torch.where(seen, 1.0 / precision.clamp(min=torch.finfo(precision.dtype).tiny), 1.0)
        return cls(torch.where(seen, weighted * variance, 0.0), variance)

    def sample(self, noise: Tensor) -> Tensor:
        """Latents ``[..., D]`` made of standard normal numbers."""
        return self.mean + self.variance.sqrt() * noise

    def kl_to_prior(self) -> Tensor:
        """``[...]``, KL divergence from N(0, I)."""
        return 0.5 * (self.variance + self.mean.square() - 1.0 - self.variance.log()).sum(-1)


class _PosteriorCore(Memory):
    """Sums of factors over a trial, and the present latent.

    A state has, one after the other: the last encoded row [H]; sums of precisions [D] and of weighted means [D]; the
    latent [D]; how many episodes of the trial are over; and whether there was a row at all.
    """

    def __init__(self, width: int, latent: int, exploration_episodes: int) -> None:
        super().__init__()
        self.width, self.latent, self.exploration_episodes = width, latent, exploration_episodes
        self.of_steps = nn.Sequential(
            nn.Linear(3 * width, width), nn.GELU(), nn.Linear(width, width), nn.GELU(), nn.Linear(width, 2 * latent)
        )

    def initial_state(self, batch_size: int) -> Tensor:
        """Zeros ``[B, H + 3 D + 2]``."""
        weight: Any = self.of_steps[0].weight
        return weight.new_zeros(batch_size, self.width + 3 * self.latent + 2)

    def factors(self, before: Tensor, after: Tensor) -> tuple[Tensor, Tensor]:
        """Precisions of the factors of transitions, and their means times these, each ``[..., D]``.

        Args:
            before, after: ``[..., H]``, the encoded rows that were seen.
        """
        # A step changes little, and how it changed the reward tells most about the task: differences are scaled up.
        change = F.layer_norm(after - before, after.shape[-1:])  # [..., H]
        mean, raw = self.of_steps(torch.cat([before, after, change], -1)).float().chunk(2, -1)  # [..., D] each
        precision = 1.0 / F.softplus(raw).clamp(min=_LEAST_VARIANCE)
        return precision, precision * mean

    def forward(self, rows: Tensor, state: Tensor, pieces: Segments) -> tuple[Tensor, Tensor]:
        """Latents ``[N, D]`` and next states; see `Memory.forward`.

        Args:
            rows: ``[N, H + 1 + D]``, encoded rows, whether an episode within the trial has ended, noise.
            state: See the class.
            pieces: Single time steps.

        Raises:
            ValueError: There are sequences.
        """
        if pieces.max_length > 1:
            raise ValueError("memory='posterior': has no sequences; PEARL's learner encodes sets of transitions.")
        d = self.latent
        encoded, ended, noise = rows.split([self.width, 1, d], 1)
        before, precision, weighted, z, episodes, started = state.split([self.width, d, d, d, 1, 1], 1)
        of_step, of_mean = self.factors(before, encoded)  # [N, D] each
        precision, weighted = precision + started * of_step, weighted + started * of_mean
        episodes = episodes + ended
        explores = episodes < self.exploration_episodes  # [N, 1]
        posterior = Posterior.of(precision.masked_fill(explores, 0.0), weighted)
        begins = (started == 0) | (ended > 0)  # [N, 1]
        z = torch.where(begins, posterior.sample(noise), z)
        after = [encoded, precision, weighted, z, episodes, torch.ones_like(started)]
        return z, torch.cat(after, 1)


class PosteriorMemory(NetworkMemory):
    """Encodes transitions and remembers the product of their factors.

    Args:
        network: Encodes observations with the previous inputs; its critic is dropped.
        interfaces: The environments.
        width: Features H of its rows.
        latent: D.
        exploration_episodes: See `PosteriorNetConfig`.
        seen: Previous inputs that the encoder sees.
    """

    core: _PosteriorCore

    def __init__(
        self,
        network: ActorCritic,
        interfaces: Mapping[str, Interface],
        width: int,
        latent: int,
        exploration_episodes: int,
        seen: Sequence[str],
    ) -> None:
        super().__init__(_PosteriorCore(width, latent, exploration_episodes), width)
        self._seen = tuple(seen)
        self.critic = nn.Identity()  # what is remembered are numbers of observations
        network.drop_critic()
        self.network = network
        self._spaces = {env_id: _spaces(interface) for env_id, interface in interfaces.items()}

    @property
    def latent(self) -> int:
        """D."""
        return self.core.latent

    def add_env(self, env_id: str, interface: Interface) -> None:
        """See `NetworkMemory.add_env`."""
        self._spaces[env_id] = _spaces(interface)
        self.network.add_env(env_id, _spaces(interface).with_inputs(self._seen))

    def remove_env(self, env_id: str) -> None:
        """See `NetworkMemory.remove_env`."""
        del self._spaces[env_id]
        self.network.remove_env(env_id)

    def _encode(self, inputs: Mapping[str, Inputs]) -> Tensor:
        """Rows ``[R, H]`` of observations, with what the encoder sees of the last step."""
        return self.network.encode_inputs(
            {env_id: _seeing(self._spaces[env_id], own, self._seen) for env_id, own in inputs.items()}
        )

    @torch.no_grad()
    def remember(
        self,
        rows: Tensor,
        inputs: Mapping[str, Inputs],
        counts: Mapping[str, int],
        state: State | None,
        first: Mapping[str, Tensor] | None,
        valid: Mapping[str, Tensor] | None,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Latents ``[R, D]`` without gradient; see `NetworkMemory.remember`."""
        encoded = self._encode(inputs)
        ended = torch.cat(
            [own.numbers[:, self._spaces[env_id].columns_of("previous_done")] for env_id, own in inputs.items()]
        )
        noise = torch.cat([own.numbers[:, -self.latent :] for own in inputs.values()])
        # Normalised or not, the flag is above 0 where an episode has ended and nowhere else.
        seen = torch.cat([encoded, (ended > 0).to(encoded), noise.to(encoded)], 1)  # [R, H + 1 + D]
        return self(seen, counts, state, first, valid)

    def infer(
        self, before: Mapping[str, Inputs], after: Mapping[str, Inputs], valid: Mapping[str, Tensor]
    ) -> dict[str, Posterior]:
        """Posteriors ``[M, D]`` from sets of transitions of M tasks, by environment.

        Args:
            before: Observations ``[M * C]``, of C transitions of each task.
            after: Those after these, with action and reward.
            valid: bool ``[M, C]``, the transitions that there are.
        """
        order = sorted(before, key=lambda env_id: before[env_id].numbers.shape[1])
        seen, following = (self._encode({env_id: inputs[env_id] for env_id in order}) for inputs in (before, after))
        sizes = [valid[env_id].numel() for env_id in order]
        factors = zip(*(part.split(sizes) for part in self.core.factors(seen, following)), strict=True)
        posteriors = {}
        for env_id, of_env in zip(order, factors, strict=True):
            exists = valid[env_id]
            sums = [part.unflatten(0, exists.shape).masked_fill(~exists[..., None], 0.0).sum(1) for part in of_env]
            posteriors[env_id] = Posterior.of(*sums)  # [M, D]
        return posteriors


@dataclass(frozen=True, kw_only=True)
class PosteriorNetConfig(NetConfig):
    """Config of `PosteriorActorCritic`. `MultiEnvPEARLConfig` makes it from the network that is given.

    ``belief_size`` is D, the numbers of a latent; the inputs follow from it.

    Attributes:
        network: network of policy, values, action values and, with parameters of its own, of the encoder. Its
            ``inputs`` are the previous inputs that policy and values see; the encoder sees all.
        exploration_episodes: first episodes of a trial whose latents are drawn from the prior N(0, I).
        encoder_sees_reward: whether the encoder sees the rewards of transitions.
    """

    type: ClassVar[str] = "posterior"
    memories: ClassVar[tuple[str, ...]] = ("posterior",)

    network: NetConfig = field(default_factory=GeneratedNetConfig)
    exploration_episodes: int = 1
    encoder_sees_reward: bool = True
    memory: Literal["gru", "s4", "belief", "posterior", "dream"] | None = "posterior"

    def __post_init__(self) -> None:
        """Check the fields; the network may be given as a mapping of its fields."""
        if isinstance(self.network, Mapping):
            object.__setattr__(self, "network", net_config_from_dict(self.network))
        object.__setattr__(self, "inputs", (*INPUTS, f"noise:{self.belief_size}"))
        super().__post_init__()
        require_whole(self, "exploration_episodes")
        own = self.network
        require(isinstance(own, NetConfig), "network", own, "a network config")
        for name, off in (("memory", None), ("world_attention", False)):
            require(getattr(own, name) == off, name, getattr(own, name), f"{off!r} in PEARL's network")
        require(set(own.inputs) <= set(INPUTS), "inputs", own.inputs, f"some of {INPUTS} in PEARL's network")
        known = [name for name in ("measured", "auto+measured") if getattr(own, "descriptions", "") == name]
        require(not known, "descriptions", known, "'id' or 'auto' in PEARL's network: latents cannot be measured")
        for name in ("image_encoder", "text_encoder"):
            require(getattr(self, name) is None, name, getattr(self, name), "set in network")

    def build(self, interfaces: Mapping[str, Interface]) -> PosteriorActorCritic:
        """Build the networks for these environments."""
        return PosteriorActorCritic(self, interfaces)

    def build_critic(self, interfaces: Mapping[str, Interface], *, num_estimates: int = 2) -> ActionValues:
        """Action values of observations with latents (`told`)."""
        return self.network.build_critic(self.told(interfaces), num_estimates=num_estimates)

    def told(self, interfaces: Mapping[str, Interface]) -> dict[str, Interface]:
        """The environments as policy and values see them: own numbers, the network's inputs, the latent."""
        inputs = (*self.network.inputs, f"latent:{self.belief_size}")
        return {env_id: _spaces(one).with_inputs(inputs) for env_id, one in interfaces.items()}

    def for_environments(self, interfaces: Mapping[str, Interface]) -> Self:
        """See `NetConfig.for_environments`."""
        return dataclasses.replace(self, network=self.network.for_environments(interfaces))

    def check_environments(self, interfaces: Mapping[str, Interface]) -> None:
        """See `NetConfig.check_environments`."""
        self.network.check_environments(interfaces)

    def without_dropout(self) -> Self:
        """See `NetConfig.without_dropout`."""
        return dataclasses.replace(self, network=self.network.without_dropout())

    def to_dict(self) -> dict[str, Any]:
        """See `NetConfig.to_dict`."""
        return {**super().to_dict(), "network": self.network.to_dict()}


class PosteriorActorCritic(ActorCritic):
    """Policy and values that see a latent (``policy_network``), and the encoder that infers it (``memory``)."""

    memory: PosteriorMemory

    def __init__(self, config: PosteriorNetConfig, interfaces: Mapping[str, Interface]) -> None:
        super().__init__()
        self.config = config
        self.policy_network = config.network.build(config.told(interfaces))
        seen = [name for name in INPUTS if config.encoder_sees_reward or name != "previous_reward"]
        encoder = config.network.build({e: _spaces(one).with_inputs(seen) for e, one in interfaces.items()})
        self.memory = PosteriorMemory(
            encoder, interfaces, _width(encoder), config.belief_size, config.exploration_episodes, seen
        )
        self.value_bins = self.policy_network.value_bins
        self.critic_only = tuple(f"policy_network.{name}" for name in self.policy_network.critic_only)  # type: ignore[misc]
        self.interfaces.update(interfaces)

    def add_env(self, env_id: str, interface: Interface) -> None:
        """See `ActorCritic.add_env`."""
        self.policy_network.add_env(env_id, self.config.told({env_id: interface})[env_id])
        self.memory.add_env(env_id, interface)
        self.interfaces[env_id] = interface

    def remove_env(self, env_id: str) -> None:
        """See `ActorCritic.remove_env`."""
        super().remove_env(env_id)
        self.policy_network.remove_env(env_id)

    def drop_critic(self) -> None:
        """See `ActorCritic.drop_critic`."""
        self.policy_network.drop_critic()

    def told(self, env_id: str, inputs: Inputs, latents: Tensor) -> Inputs:
        """Observations ``[R]`` with latents ``[R, D]``, as policy and action values see them."""
        seen = _seeing(_spaces(self._known(env_id)), inputs, self.config.network.inputs)
        return seen._replace(numbers=torch.cat([seen.numbers, latents.to(seen.numbers)], 1))

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
        """See `ActorCritic.run`."""
        order = sorted(inputs, key=lambda env_id: inputs[env_id].numbers.shape[1])
        counts = {env_id: len(inputs[env_id].numbers) for env_id in order if len(inputs[env_id].numbers)}
        latents, next_state = dict[str, Tensor](), dict[str, Tensor]()
        if counts:
            given = {env_id: inputs[env_id] for env_id in counts}
            numbers = next(iter(given.values())).numbers
            found, next_state = self.memory.remember(numbers, given, counts, state, first, valid)
            latents = dict(zip(counts, found.split(list(counts.values())), strict=True))
        none = next(self.parameters()).new_zeros(0, self.memory.latent)
        seen = {env_id: self.told(env_id, own, latents.get(env_id, none)) for env_id, own in inputs.items()}
        outputs = self.policy_network.run(seen, parts=parts, apart=apart, present=present)
        return outputs._replace(state=next_state)

    def encode(self, part: Part, obs: Mapping[str, Tensor], media: Tensor | None = None) -> Tensor:
        """Of observations with latents; see `ActorCritic.encode`."""
        return self.policy_network.encode(part, obs, media)

    def decode(self, part: Part, rows: Tensor, counts: Mapping[str, int]) -> dict[str, Tensor]:
        """See `ActorCritic.decode`."""
        return self.policy_network.decode(part, rows, counts)

    def actor_parameters(self) -> list[nn.Parameter]:
        """Parameters of the policy."""
        return self.policy_network.actor_parameters()


def _spaces(interface: Interface) -> SpaceSpec:
    return cast(SpaceSpec, interface)


def _seeing(spaces: SpaceSpec, inputs: Inputs, names: Sequence[str]) -> Inputs:
    """Observations with only these of the previous inputs."""
    numbers = inputs.numbers
    own = numbers[:, : spaces.without_inputs.obs_size]
    return inputs._replace(numbers=torch.cat([own, *(numbers[:, spaces.columns_of(name)] for name in names)], 1))


@torch.no_grad()
def _width(network: ActorCritic) -> int:
    """Features of a network's rows."""
    env_id, interface = next(iter(network.interfaces.items()))
    row = interface.observation
    like = next(network.parameters())
    obs = torch.zeros(1, row.width, dtype=torch.uint8) if row.packed else like.new_zeros(1, row.width)
    return network.encode_inputs({env_id: Inputs.of(env_id, row, obs.to(like.device))}).shape[1]
