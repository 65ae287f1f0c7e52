"""Copies of a task family that are stepped as arrays (`tasks.family.VectorFamily`)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np

from rllib_multienv.envs import snapshot
from rllib_multienv.envs.copies import VectorStep
from rllib_multienv.envs.errors import ENV_ERRORS, EnvFailure, describe
from rllib_multienv.gym_ids import find_env
from rllib_multienv.spaces.actions import ActionWriter
from rllib_multienv.spaces.observations import ObservationReader
from rllib_multienv.spec import EnvSpec
from rllib_multienv.tasks.family import VectorFamily, vector_family


def is_vector_family(spec: EnvSpec) -> bool:
    """Whether an environment is registered as a `VectorFamily` (`tasks.family.register_vector_family`)."""
    target = find_env(spec.make) if isinstance(spec.make, str) else None
    registered = gym.registry.get(target) if isinstance(target, str) else None
    name = f"{vector_family.__module__}:{vector_family.__name__}"
    return registered is not None and registered.vector_entry_point == name


class FamilyCopies:
    """Copies of a task family, with the methods of `copies.SyncCopies` that `EnvCopies` needs.

    Attributes:
        env: The `VectorFamily`.
        single_observation_space: Space of a single copy.
        single_action_space: Space of a single copy.
        texts_cut: 0; no family has texts.

    Raises:
        EnvFailure: The family refuses its arguments.
    """

    texts_cut = 0

    def __init__(self, spec: EnvSpec, num_envs: int) -> None:
        self.env_id, self.num_envs = spec.id, num_envs
        registered = gym.registry[str(find_env(str(spec.make)))]
        options = {**registered.kwargs, **spec.kwargs, "max_episode_steps": spec.max_episode_steps}
        self._has_trials = spec.trial_episodes is not None
        try:
            self.env: VectorFamily = vector_family(
                num_envs=num_envs, trial_episodes=spec.trial_episodes or 1, **options
            )
        except ENV_ERRORS as error:
            raise EnvFailure(spec.id, "make", describe(error)) from error
        self.single_observation_space = self.env.single_observation_space
        self.single_action_space = self.env.single_action_space
        actions = ActionWriter(spec.id, self.single_action_space).layout
        self._reader = ObservationReader(spec.id, self.single_observation_space, actions)
        self._no_reset = np.zeros(num_envs, dtype=bool)
        self._infos: list[dict[str, Any]] = [{}] * num_envs

    def __getattr__(self, name: str) -> Any:
        """Everything else, for callbacks, is the family's."""
        if name == "env":  # its constructor failed
            raise AttributeError(name)
        return getattr(self.env, name)

    def reset_copies(self, seeds: Sequence[int | None]) -> tuple[np.ndarray, list[Any]]:
        """See `SyncCopies.reset_copies`."""
        try:
            return self._reader.batch(self.env.reset_seeded(seeds)), self._infos
        except ENV_ERRORS as error:
            raise EnvFailure(self.env_id, "reset", describe(error)) from error

    def begin_copies(self, copies: Sequence[int]) -> tuple[np.ndarray, list[Any]]:
        """See `SyncCopies.begin_copies`."""
        chosen = np.array(copies, np.int64)
        try:
            self.env.begin_trials(chosen)
            return self._reader.batch(self.env.observe_all())[chosen], self._infos[: len(chosen)]
        except ENV_ERRORS as error:
            raise EnvFailure(self.env_id, "reset", describe(error)) from error

    def step_copies(self, actions: Any) -> VectorStep:
        """See `SyncCopies.step_copies`."""
        try:
            step = self.env.step_all(actions)
            obs = self._reader.batch(step.obs)
            final_obs: dict[int, np.ndarray] = {}
            if step.last is not None:
                last = self._reader.batch(step.last)
                final_obs = {b: last[b] for b in np.flatnonzero(step.terminated | step.truncated).tolist()}
        except ENV_ERRORS as error:
            raise EnvFailure(self.env_id, "step", describe(error)) from error
        return VectorStep(
            obs,
            step.rewards,
            step.terminated,
            step.truncated,
            final_obs,
            self._no_reset,
            self._infos,
            episode_ends=step.episode_ends if self._has_trials else None,
        )

    def set_split(self, split: str) -> None:
        """See `SyncCopies.set_split`."""
        self.env.split = split  # type: ignore[assignment]

    def restore(self, states: Sequence[bytes]) -> None:
        """See `SyncCopies.restore`."""
        try:
            self.env.restore(states)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise snapshot.SnapshotError("it was captured from another environment, or stepped otherwise") from error

    def close(self) -> None:
        """Close all copies."""
        self.env.close()
