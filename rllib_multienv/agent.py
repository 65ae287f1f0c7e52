"""Acting with a trained agent, without Ray."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch

from rllib_multienv.checkpoints import AgentCheckpoint, read_checkpoint
from rllib_multienv.envs.errors import MAX_EPISODE_STEPS, endless
from rllib_multienv.envs.make import make_env
from rllib_multienv.envs.measure import with_measurements
from rllib_multienv.envs.vector import EnvCopies, probe_spaces
from rllib_multienv.envs.video import check_video, record_episode
from rllib_multienv.evaluation.table import EvaluationResult
from rllib_multienv.nets import distribution_for, owning_environments
from rllib_multienv.normalization import ObservationNormalizer
from rllib_multienv.spaces.observations import ACTION_MASK
from rllib_multienv.spec import EnvSpec, SpaceSpec, resolve_env_specs
from rllib_multienv.transfer import random_moments


class MultiEnvAgent:
    """An agent from a checkpoint: the network, and each environment's spaces and observation statistics.

    It acts in the environments that it was trained on and, if no parameter of its network belongs to an environment, in
    any other environment of a supported kind; there it normalises observations by statistics of a short random rollout.

    Attributes:
        checkpoint: The checkpoint.
        env_specs: Environments that it can make, by env id.
        space_specs: Spaces of all known environments, by env id; grows with each new environment.
    """

    def __init__(self, checkpoint: AgentCheckpoint, *, device: str | torch.device = "cpu") -> None:
        """Build the network of ``checkpoint``, which must have its weights, on ``device``."""
        self.checkpoint = checkpoint
        self.device = torch.device(device)
        self.env_specs: dict[str, EnvSpec] = dict(checkpoint.env_specs)
        self.space_specs: dict[str, SpaceSpec] = dict(checkpoint.space_specs)
        self._network = checkpoint.network.build(self.space_specs)
        self._network.load_state_dict(dict(checkpoint.weights or {}))
        self._network.to(self.device).eval()
        self._normalizers = {
            env_id: ObservationNormalizer.of(moments) for env_id, moments in checkpoint.obs_moments.items()
        }

    @classmethod
    def from_checkpoint(cls, path: str | Path, *, device: str | torch.device = "cpu") -> Self:
        """Load an agent.

        Args:
            path: A checkpoint folder, or the folder of a run or a trial, of which the newest checkpoint is taken.
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
        (spec,) = resolve_env_specs([spec])
        spaces = probe_spaces(spec)
        known = self.space_specs.get(spec.id)
        if known is None:
            self._check_for_any(spec.id)
            if self.checkpoint.network.needs_measurements:
                spaces = with_measurements(spec, spaces)
            if self._normalizers:
                self._normalizers[spec.id] = ObservationNormalizer.of(random_moments(spec, spaces)[0])
            self._network.add_env(spec.id, spaces)
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
        if owning_environments(self._network.state_dict()):
            raise ValueError(
                f"{env_id}: this agent's network (type {self.checkpoint.network.type!r}) has parameters for each "
                f"environment, and none for this one; it would act at random. It knows "
                f"{', '.join(self.checkpoint.space_specs)}. To train it on others: config.initialize_from(path)."
            )

    def act(
        self,
        env: str | EnvSpec | Mapping[str, Any],
        obs: Any,
        explore: bool = False,
        generator: torch.Generator | None = None,
        action_mask: Any = None,
    ) -> Any:
        """Choose an action for an observation, or actions for a batch.

        Args:
            env: An env id or specification; a new one is added.
            obs: One observation as the environment gives it; or a batch of B along a new first axis (of every array in
                a Dict or Tuple), or, in a Dict or Tuple space, a list of B observations.
            explore: Draw from the policy's distribution instead of taking its mode.
            generator: Source of the draws; torch's global one by default.
            action_mask: ``info["action_mask"]`` (or B of them) of an environment whose infos have one.

        Returns:
            An action that ``env.step`` takes (in the space's bounds, shape and dtype), or B of them: an array, or a
            list where the action space is a Dict or a Tuple.

        Raises:
            ValueError: The observation is outside of the environment's space.
        """
        env_id = self.add_env(env)
        spaces = self.space_specs[env_id]
        raw, single = spaces.reader.given(obs, action_mask)
        actions = self.act_on_raw(env_id, raw, explore, generator)
        return actions[0] if single else actions

    def act_on_raw(
        self, env_id: str, raw: np.ndarray, explore: bool = False, generator: torch.Generator | None = None
    ) -> Any:
        """`act` on raw observations ``[B, ...]`` (see `spaces.observations`) of a known environment."""
        return self.space_specs[env_id].action_to_env(self._actions(env_id, raw, explore, generator))

    @torch.no_grad()
    def _actions(self, env_id: str, obs: np.ndarray, explore: bool, generator: torch.Generator | None) -> np.ndarray:
        """The network's actions for a batch of raw observations [B, ...]."""
        spaces = self.space_specs[env_id]
        numbers, extra = spaces.reader.split(obs)
        if env_id in self._normalizers:
            numbers = self._normalizers[env_id](numbers)
        rows = torch.from_numpy(spaces.observation.join(numbers, extra)).to(self.device)
        inputs = self._network.policy({env_id: rows})[env_id]
        distribution = distribution_for(spaces).from_logits(inputs)
        if explore:
            return distribution.sample(generator=generator).cpu().numpy()
        return distribution.to_deterministic().sample().cpu().numpy()

    def evaluate(
        self,
        env: str | EnvSpec | Mapping[str, Any],
        episodes: int = 20,
        *,
        seed: int | None = 0,
        explore: bool = False,
        max_steps: int = MAX_EPISODE_STEPS,
        video_dir: str | Path | None = None,
        video_format: str = "mp4",
    ) -> EvaluationResult:
        """Play whole episodes.

        Args:
            env: An env id or specification; a new one is added.
            episodes: Number of episodes; a data set shows each row of its test split once instead.
            seed: Seed of the environment and of the draws; None for fresh entropy.
            explore: Draw actions instead of taking the mode.
            max_steps: Limit of an episode's length: in an environment without a time limit a deterministic policy may
                never end an episode.
            video_dir: Also record an episode as a video in this folder.
            video_format: ``"mp4"``, which needs the extra ``video``, or ``"gif"``.

        Returns:
            Return (undiscounted sum of raw rewards) and length of each episode; a list with their ``mean``, ``std`` and
            so on.

        Raises:
            ValueError: The environment cannot be made from the checkpoint alone, or ``episodes`` is not positive.
            ImportError: The video needs a package that is not installed.
            EnvFailure: The environment raised, or an episode is longer than ``max_steps``.
        """
        if episodes < 1:
            raise ValueError(f"episodes={episodes}: must be at least 1.")
        if video_dir is not None:
            check_video(video_format)
        env_id = self.add_env(env)
        if env_id not in self.env_specs:
            raise ValueError(
                f"Environment {env_id!r} was made by a function that the checkpoint does not hold: pass an EnvSpec "
                "that makes it."
            )
        generator = torch.Generator(device=self.device)
        if seed is None:
            generator.seed()
        else:
            generator.manual_seed(seed)
        num_envs = min(episodes, 10)
        spaces = self.space_specs[env_id]
        copies = EnvCopies(
            self.env_specs[env_id], num_envs, seed=seed, mask_in_info=spaces.mask_in_info, evaluation=True
        )
        episodes = copies.evaluation_episodes or episodes
        # Each copy plays a fixed number of episodes: taking the first ones that end would favour short episodes.
        left = [(episodes + num_envs - 1 - b) // num_envs for b in range(num_envs)]
        result = EvaluationResult(env_id)
        try:
            obs = copies.reset()
            returns, lengths = np.zeros(num_envs), np.zeros(num_envs, dtype=int)
            while any(left):
                step = copies.step(self.act_on_raw(env_id, obs, explore, generator))
                returns += step.rewards
                lengths += ~step.is_reset
                if lengths.max() > max_steps:
                    raise endless(env_id, max_steps, ", or pass a larger max_steps")
                for b in np.flatnonzero(step.terminated | step.truncated):
                    if left[b]:
                        result.append((float(returns[b]), int(lengths[b])))
                        left[b] -= 1
                    returns[b], lengths[b] = 0.0, 0
                obs = step.obs
        finally:
            copies.close()
        if video_dir is not None:
            rendered = make_env(self.env_specs[env_id], render_mode="rgb_array")
            path = Path(video_dir) / f"{env_id.replace('/', '-')}.{video_format}"

            def act(obs: Any, info: Any) -> Any:
                return self.act(env_id, obs, explore, action_mask=info.get(ACTION_MASK))

            record_episode(rendered, act, path, seed=seed, max_steps=max_steps)
        return result

    @property
    def num_parameters(self) -> int:
        """Size of the network, critic included."""
        return sum(parameter.numel() for parameter in self._network.parameters())

    def __repr__(self) -> str:
        """Network, parameters and environments."""
        network = f"{self.checkpoint.network.type} network with {self.num_parameters:,} parameters"
        return f"MultiEnvAgent({network}; environments: {', '.join(self.space_specs)})"
