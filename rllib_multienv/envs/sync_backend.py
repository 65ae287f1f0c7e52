"""Copies of an environment stepped one after another in this process, with little overhead.

Gymnasium's `SyncVectorEnv` spends, for cheap environments, as much time on batching as the environments
spend on their steps: it copies every array twice, and merges the copies' info dictionaries key by key.
This one writes observations straight into a fresh array and merges infos only for who looks at them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space

from rllib_multienv.envs.errors import EnvFailure
from rllib_multienv.envs.make import describe, make_env
from rllib_multienv.spec import EnvSpec, SpaceSpec

# obs [B, ...], rewards [B], terminated [B], truncated [B], {copy: final obs}, {copy: (final info | None,
# info)}
CopiesStep = tuple[
    np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[int, np.ndarray], list[tuple[dict | None, dict]]
]

_STEP_HINT = "step() must return (observation, reward, terminated, truncated, info)"
_RESET_HINT = "reset() must return (observation, info)"


class SyncCopiesEnv(gym.vector.VectorEnv):
    """A `gymnasium.vector.VectorEnv` with SAME_STEP autoreset; `envs` holds the copies.

    Args:
        spec: The environment.
        num_envs: Number of copies B.

    Raises:
        EnvFailure: A copy cannot be made, or has other spaces than the first.
        UnsupportedSpaceError: The spaces are of an unsupported kind.
    """

    def __init__(self, spec: EnvSpec, num_envs: int) -> None:
        super().__init__()
        self.num_envs = num_envs
        self.env_id = spec.id
        self.envs: list[gym.Env] = []
        try:
            for copy in range(num_envs):
                self.envs.append(make_env(spec))
                self._check_spaces(copy)
        except Exception:
            self.close()
            raise
        first = self.envs[0]
        self.space_spec = SpaceSpec.from_spaces(spec.id, first.observation_space, first.action_space)
        self.metadata = {**first.metadata, "autoreset_mode": AutoresetMode.SAME_STEP}
        self.render_mode = first.render_mode
        self.single_observation_space = first.observation_space
        self.single_action_space = first.action_space
        self.observation_space = batch_space(first.observation_space, num_envs)
        self.action_space = batch_space(first.action_space, num_envs)
        self._obs_shape = (num_envs, *(first.observation_space.shape or ()))
        self._obs_dtype = first.observation_space.dtype

    def _check_spaces(self, copy: int) -> None:
        first, env = self.envs[0], self.envs[copy]
        for name in ("observation_space", "action_space"):
            mine, expected = getattr(env, name), getattr(first, name)
            if mine != expected:
                raise EnvFailure(
                    self.env_id,
                    "make",
                    f"its {name} is {mine}, but copy 0 has {expected}; copies must be alike",
                    copy,
                )

    # -- stepping -----------------------------------------------------------------------------------------

    def step_copies(self, actions: np.ndarray) -> CopiesStep:
        """One step of every copy; a copy that is done is reset within the step.

        Args:
            actions: ``[B, ...]`` in the environment's own terms.

        Returns:
            obs ``[B, ...]``, rewards float64 ``[B]``, terminated and truncated bool ``[B]``, the final
            observation of each copy that is done, and (final info or None, info) of every copy.

        Raises:
            EnvFailure: A copy's step or reset raised, or returned nonsense.
        """
        obs = np.empty(self._obs_shape, self._obs_dtype)
        rewards: list[float] = []
        terminated: list[bool] = []
        truncated: list[bool] = []
        infos: list[tuple[dict | None, dict]] = []
        final_obs: dict[int, np.ndarray] = {}
        copy, result = 0, None
        try:
            for copy, env in enumerate(self.envs):
                result = env.step(actions[copy])
                ob, reward, term, trunc, info = result
                obs[copy] = ob
                rewards.append(float(reward))
                terminated.append(bool(term))
                truncated.append(bool(trunc))
                if term or trunc:
                    final_obs[copy] = obs[copy].copy()
                    infos.append((info, self._reset_copy(copy, obs, None, None)))
                else:
                    infos.append((None, info))
        except EnvFailure:
            raise
        except Exception as error:
            # What was raised in this very frame is about the result's form; anything else is the environment's own.
            here = error.__traceback__ is not None and error.__traceback__.tb_next is None
            fits = isinstance(result, tuple) and len(result) == 5
            hint = f" ({_STEP_HINT})" if here and not fits else ""
            raise EnvFailure(self.env_id, "step", describe(error) + hint, copy) from error
        return obs, np.array(rewards), np.array(terminated), np.array(truncated), final_obs, infos

    def reset_copies(self, seeds: Sequence[int] | None = None, options: dict | None = None) -> tuple[np.ndarray, list]:
        """Reset every copy; returns obs ``[B, ...]`` and the copies' infos."""
        obs = np.empty(self._obs_shape, self._obs_dtype)
        infos = [
            self._reset_copy(copy, obs, None if seeds is None else seeds[copy], options)
            for copy in range(self.num_envs)
        ]
        return obs, infos

    def _reset_copy(self, copy: int, out: np.ndarray, seed: int | None, options: dict | None) -> dict:
        """Reset one copy into its row of `out`, checking what it gives; resets are rare enough for that."""
        result: Any = None
        try:
            result = self.envs[copy].reset(seed=seed, options=options)
            ob, info = result
            ob = np.asarray(ob)
            if ob.shape != out.shape[1:]:
                raise ValueError(f"observation has shape {ob.shape}, but its space says {out.shape[1:]}")
            if not np.can_cast(ob.dtype, out.dtype, "same_kind"):
                raise TypeError(f"observation has dtype {ob.dtype}, but its space says {out.dtype}")
            out[copy] = ob
            return info
        except Exception as error:
            hint = "" if isinstance(result, tuple) and len(result) == 2 else f" ({_RESET_HINT})"
            raise EnvFailure(
                self.env_id, "reset", describe(error) + (hint if result is not None else ""), copy
            ) from error

    # -- the usual VectorEnv interface, for callbacks and tools ---------------------------------------------

    def step(self, actions: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """As Gymnasium has it, with ``final_obs`` and ``final_info`` among the infos of a done copy."""
        obs, rewards, terminated, truncated, final_obs, infos = self.step_copies(np.asarray(actions))
        return obs, rewards, terminated, truncated, self.merge_infos(final_obs, infos)

    def reset(
        self, *, seed: int | list[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """As Gymnasium has it: one seed counts up over the copies."""
        seeds: Any = [seed + i for i in range(self.num_envs)] if isinstance(seed, int) else seed
        obs, infos = self.reset_copies(seeds, options)
        merged: dict[str, Any] = {}
        for copy, info in enumerate(infos):
            merged = self._add_info(merged, info, copy)
        return obs, merged

    def merge_infos(self, final_obs: dict[int, np.ndarray], infos: list[tuple[dict | None, dict]]) -> dict[str, Any]:
        """The copies' infos in Gymnasium's form, a dictionary of arrays."""
        merged: dict[str, Any] = {}
        for copy, (final_info, info) in enumerate(infos):
            if final_info is not None:
                merged = self._add_info(merged, {"final_obs": final_obs[copy], "final_info": final_info}, copy)
            if info:
                merged = self._add_info(merged, info, copy)
        return merged

    def call(self, name: str, *args: Any, **kwargs: Any) -> tuple[Any, ...]:
        """Call a method (or read an attribute) of every copy."""
        found = [env.get_wrapper_attr(name) for env in self.envs]
        return tuple(f(*args, **kwargs) if callable(f) else f for f in found)

    def get_attr(self, name: str) -> tuple[Any, ...]:
        """Read an attribute of every copy."""
        return self.call(name)

    def set_attr(self, name: str, values: Any) -> None:
        """Set an attribute of every copy, to one value or to one of a list each."""
        if not isinstance(values, list | tuple):
            values = [values] * self.num_envs
        for env, value in zip(self.envs, values, strict=True):
            env.set_wrapper_attr(name, value)

    def render(self) -> tuple[Any, ...]:
        """Render every copy."""
        return tuple(env.render() for env in self.envs)

    def close_extras(self, **kwargs: Any) -> None:
        """Close every copy; one that fails does not keep the others open."""
        for env in self.envs:
            try:
                env.close()
            except Exception as error:
                gym.logger.warn(f"Environment {self.env_id!r} failed while closing: {describe(error)}")
