"""The policy of a checkpoint: the network, and what it knows of environments, for batches of raw observations."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch

from rllib_multienv.checkpoints import AgentCheckpoint, read_checkpoint
from rllib_multienv.envs.measure import with_measurements
from rllib_multienv.envs.probe import probe_roles
from rllib_multienv.inner_loop import TASK_LATENTS, StepSizes
from rllib_multienv.nets import ActorCritic, distribution_for
from rllib_multienv.normalization import ObservationNormalizer
from rllib_multienv.spec import EnvSpec, SpaceSpec, resolve_env_specs
from rllib_multienv.transfer import random_moments


class AgentPolicy:
    """The network of a checkpoint, with each environment's spaces and observation statistics.

    It acts in the environments that it was trained on and, if no parameter of its network belongs to an environment, in
    any other environment of a supported kind; there it normalises observations by statistics of a short random rollout.

    Attributes:
        checkpoint: The checkpoint.
        device: Where the network is.
        env_specs: Environments that it can make, by env id.
        space_specs: Spaces of all known environments, by env id; grows with each new environment.
        network: The network.
    """

    def __init__(self, checkpoint: AgentCheckpoint, *, device: str | torch.device = "cpu") -> None:
        """Build the network of ``checkpoint``, which must have its weights, on ``device``."""
        self.checkpoint = checkpoint
        self.device = torch.device(device)
        self.env_specs: dict[str, EnvSpec] = dict(checkpoint.env_specs)
        self.space_specs: dict[str, SpaceSpec] = dict(checkpoint.space_specs)
        self.network: ActorCritic = checkpoint.network.build(self.space_specs)
        given = checkpoint.weights or {}
        weights = {name: value for name, value in given.items() if not name.startswith(f"{TASK_LATENTS}.")}
        if not any(name.startswith(f"{child}.") for child in self.network.critic_only for name in weights):
            self.network.drop_critic()  # a runner's weights
        checkpoint.network.check_memory(self.network)
        StepSizes.add_where_in(self.network, weights)
        self.network.load_state_dict(weights)
        self.network.to(self.device).eval()
        self._normalizers = {
            env_id: ObservationNormalizer.of(moments) for env_id, moments in checkpoint.obs_moments.items()
        }

    @classmethod
    def from_checkpoint(cls, path: str | Path, *, device: str | torch.device = "cpu") -> Self:
        """Load an agent.

        Args:
            path: A checkpoint folder; the folder of a run or a trial, of which the newest checkpoint is taken; or the
                name of an agent that the package ships, ``"quickstart"``.
            device: Device of the network.

        Raises:
            FileNotFoundError: There is no such folder.
            ValueError: The folder is not a checkpoint of this package.
        """
        return cls(read_checkpoint(path), device=device)

    def add_env(self, env: str | EnvSpec | Mapping[str, Any]) -> str:
        """Make an environment known, if it is not known yet, and return its id.

        A known id may come with another specification, which then makes the environment: with other ``kwargs``, or
        because the checkpoint could not hold the function that makes it. Its spaces must be the same; the network keeps
        the description that it was trained with.

        Raises:
            ValueError: It does not exist, its spaces are not supported, or they differ from those known by this id; or
                it is new, and the network has parameters for each environment.
        """
        if isinstance(env, str) and env in self.space_specs:
            return env
        spec = EnvSpec.of(env)
        if self.env_specs.get(spec.id) == spec:
            return spec.id
        try:
            (spec,) = resolve_env_specs([spec])
        except ValueError as error:
            raise ValueError(f"{error} This agent knows {', '.join(self.space_specs)}.") from error
        (spec, spaces), *roles = probe_roles(spec)
        for role, of_role in roles:
            self._add(role, of_role)
        return self._add(spec, spaces)

    def _add(self, spec: EnvSpec, spaces: SpaceSpec) -> str:
        known, spaces = self.space_specs.get(spec.id), spaces.with_inputs(self.checkpoint.network.inputs)
        if known is None:
            self._check_for_any(spec.id)
            squashed = any(of_known.squashed for of_known in self.checkpoint.space_specs.values())
            spaces = replace(spaces, squashed=squashed)
            if self.checkpoint.network.needs_measurements:
                spaces = with_measurements(spec, spaces)
            if self._normalizers:
                self._normalizers[spec.id] = ObservationNormalizer.of(random_moments(spec, spaces)[0])
            self.network.add_env(spec.id, spaces)
            self.space_specs[spec.id] = spaces
        elif not known.has_spaces_of(spaces):
            raise ValueError(
                f"{spec.id!r} is the id of an environment with observations {known.observation_space} and actions "
                f"{known.action_space}; this one has {spaces.observation_space} and {spaces.action_space}. Give it "
                "another id."
            )
        self.env_specs[spec.id] = spec
        return spec.id

    def _check_for_any(self, env_id: str) -> None:
        """Raise a ValueError if the network has parameters that belong to single environments."""
        if not self.network.knows_any:
            raise ValueError(
                f"{env_id}: this agent's network (type {self.checkpoint.network.type!r}) has parameters for each "
                f"environment, and none for this one; it would act at random. It knows "
                f"{', '.join(self.checkpoint.space_specs)}. To train it on others: config.initialize_from(path)."
            )

    def initial_state(self, count: int) -> torch.Tensor | None:
        """The memory's states ``[count, D]`` at the beginning of episodes; None without memory."""
        return None if self.network.memory is None else self.network.memory.initial_state(count)

    def begun(self, state: torch.Tensor | None, rows: np.ndarray) -> torch.Tensor | None:
        """The memory's states ``[B, D]``, where rows in bool ``[B]`` begin episodes."""
        if state is None or not rows.any():
            return state
        fresh: Any = self.initial_state(len(state))
        return torch.where(torch.from_numpy(rows)[:, None].to(self.device), fresh, state)

    def act_on_raw(
        self,
        env_id: str,
        raw: np.ndarray,
        explore: bool = False,
        generator: torch.Generator | None = None,
        state: torch.Tensor | None = None,
    ) -> tuple[Any, torch.Tensor | None]:
        """Actions for a batch of raw observations ``[B, ...]`` (`spaces.observations`, with previous inputs).

        Args:
            env_id: A known environment.
            raw: The observations.
            explore: Draw from the policy's distribution instead of taking its mode.
            generator: Source of the draws; torch's global one by default.
            state: ``[B, D]``, what the memory holds; None: episodes begin.

        Returns:
            Actions that ``env.step`` takes, B of them, and the memory's next state; None without memory.
        """
        states = {} if state is None else {env_id: state}
        actions, states = self.actions({env_id: raw}, explore, generator, states, apart=True)
        return actions[env_id], states.get(env_id)

    @torch.no_grad()
    def actions(
        self,
        raws: Mapping[str, np.ndarray],
        explore: bool,
        generator: torch.Generator | None,
        states: Mapping[str, torch.Tensor],
        *,
        apart: bool,
        present: Mapping[str, np.ndarray] | None = None,
    ) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
        """Actions and next states by env id, by one pass of the network; see `act_on_raw`.

        Args:
            raws: Raw observations ``[B, ...]`` by env id.
            explore, generator: As in `act_on_raw`.
            states: ``[B, D]`` by env id; episodes begin where there is none.
            apart: Whether environments of a world do not see each other.
            present: bool ``[B]`` by env id, the rows that are in their world; None for all.
        """
        actions, rows = {}, {env_id: self.rows(env_id, raw) for env_id, raw in raws.items()}
        seen = {env_id: torch.from_numpy(own).to(self.device) for env_id, own in (present or {}).items()}
        outputs = self.network(rows, states or None, parts=("actor",), apart=apart, present=seen)
        for env_id, logits in outputs.policy.items():
            spaces = self.space_specs[env_id]
            distribution = distribution_for(spaces).from_logits(logits)
            drawn = distribution.sample(generator=generator) if explore else distribution.to_deterministic().sample()
            actions[env_id] = spaces.action_to_env(drawn.cpu().numpy())
        return actions, dict(outputs.state)

    def rows(self, env_id: str, raw: np.ndarray) -> torch.Tensor:
        """Raw observations ``[B, ...]`` as the network sees them, ``[B, width]``."""
        spaces = self.space_specs[env_id]
        numbers, extra = spaces.reader.split(raw)
        if env_id in self._normalizers:
            numbers = self._normalizers[env_id](numbers)
        return torch.from_numpy(spaces.observation.join(numbers, extra)).to(self.device)

    def generator(self, seed: int | None) -> torch.Generator:
        """A source of draws for actions; of fresh entropy without a seed."""
        generator = torch.Generator(device=self.device)
        if seed is None:
            generator.seed()
        else:
            generator.manual_seed(seed)
        return generator

    @property
    def num_parameters(self) -> int:
        """Size of the network, critic included."""
        return sum(parameter.numel() for parameter in self.network.parameters())

    def __repr__(self) -> str:
        """Network, parameters and environments."""
        network = f"{self.checkpoint.network.type} network with {self.num_parameters:,} parameters"
        return f"{type(self).__name__}({network}; environments: {', '.join(self.space_specs)})"
