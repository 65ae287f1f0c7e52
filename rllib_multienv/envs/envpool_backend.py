"""Copies of an environment stepped by EnvPool's C++ threads.

EnvPool's differences from Gymnasium, which are hidden here: only `make(seed=...)` seeds it; its spaces are those of a
single copy; MuJoCo actions are float64; autoreset is NEXT_STEP only. One difference cannot be hidden: an episode that
terminates on the very step of its time limit is reported as truncated, not as both.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from gymnasium import spaces

from rllib_multienv.envs.copies import InfoArrays, VectorStep
from rllib_multienv.envs.errors import EnvFailure, describe
from rllib_multienv.gym_ids import check_envpool_id
from rllib_multienv.spec import EnvSpec

# Environments that backend="auto" gives to EnvPool. The rule: the step is expensive enough to gain by threads, and
# observations, rewards and ends of episodes were compared with Gymnasium's, from the same states under the same
# actions, and are the same (EnvPool 1.2.5, MuJoCo 3.3.0). Not so in Hopper-v4, Ant-v4, Humanoid-v4 and
# HumanoidStandup-v4: equal to rounding until the first contact, they differ in the second digit after it.
# Cheap environments stay with "sync", which can be saved and restored in the middle of an episode.
VERIFIED = frozenset({"HalfCheetah-v4", "Walker2d-v4", "Swimmer-v4"})
# With 8 copies, one thread of EnvPool is slower than stepping in this process, and two are about as fast.
CPUS_THAT_PAY = 4


class EnvPoolCopies:
    """Copies of an environment, with the methods of `copies.SyncCopies` that `EnvCopies` needs.

    Attributes:
        env: EnvPool's own environment.
        single_observation_space: Space of a single copy.
        single_action_space: Space of a single copy, float32 as in Gymnasium.
    """

    def __init__(self, spec: EnvSpec, num_envs: int, seeds: Sequence[int]) -> None:
        self.env_id, self.num_envs = spec.id, num_envs
        self.env = make_envpool(spec, num_envs, seeds)
        self.single_observation_space, self.single_action_space = self.env.observation_space, self.env.action_space
        self._action_dtype = self.single_action_space.dtype
        if isinstance(self.single_action_space, spaces.Box) and self._action_dtype == np.float64:
            low, high = self.single_action_space.low, self.single_action_space.high
            self.single_action_space = spaces.Box(low.astype(np.float32), high.astype(np.float32))
        self._reset_next = np.zeros(num_envs, dtype=bool)  # copies whose next step only resets them

    def __getattr__(self, name: str) -> Any:
        """Everything else, for callbacks, is EnvPool's."""
        return getattr(self.env, name)

    def reset_copies(self, seeds: Any) -> tuple[np.ndarray, Any]:
        """Reset every copy; seeds were given when they were made."""
        try:
            obs, infos = self.env.reset()
        except Exception as error:
            raise EnvFailure(self.env_id, "reset", describe(error)) from error
        self._reset_next = np.zeros(self.num_envs, dtype=bool)
        return obs, InfoArrays(infos)

    def step_copies(self, actions: np.ndarray) -> VectorStep:
        """One step of every copy."""
        try:
            obs, rewards, terminated, truncated, infos = self.env.step(np.asarray(actions, dtype=self._action_dtype))
        except Exception as error:
            raise EnvFailure(self.env_id, "step", describe(error)) from error
        terminated, truncated = np.asarray(terminated, dtype=bool), np.asarray(truncated, dtype=bool)
        is_reset, self._reset_next = self._reset_next, terminated | truncated
        final_obs = {int(b): obs[b].copy() for b in np.flatnonzero(self._reset_next)}
        rewards = np.asarray(rewards, dtype=np.float64)
        return VectorStep(obs, rewards, terminated, truncated, final_obs, is_reset, InfoArrays(infos))

    def close(self) -> None:
        """Close all copies."""
        self.env.close()


def make_envpool(spec: EnvSpec, num_envs: int, seeds: Sequence[int]) -> Any:
    """Make EnvPool's environment.

    Args:
        spec: The environment; its `kwargs` go to `envpool.make`.
        num_envs: Number of copies B.
        seeds: One per copy.

    Raises:
        ValueError: EnvPool is not installed, or does not have the environment.
        EnvFailure: EnvPool refused.
    """
    assert isinstance(spec.make, str)  # EnvSpec refuses a callable here
    check_envpool_id(spec.id, spec.make)
    import envpool

    options: dict[str, Any] = dict(spec.kwargs)
    options.setdefault("num_threads", min(num_envs, cpus()))
    if spec.max_episode_steps is not None:
        options["max_episode_steps"] = spec.max_episode_steps
    try:
        with warnings.catch_warnings():
            # It builds its spaces at the first look, and gymnasium remarks on the precision of their bounds.
            warnings.filterwarnings("ignore", message=".*precision lowered.*")
            env = envpool.make(spec.make, env_type="gymnasium", num_envs=num_envs, seed=list(seeds), **options)
            _ = env.observation_space, env.action_space
        return env
    except Exception as error:
        raise EnvFailure(spec.id, "make", describe(error)) from error


def cpus() -> int:
    """Number of CPUs that this process may use. Ray gives an actor's share through OMP_NUM_THREADS."""
    given = os.environ.get("OMP_NUM_THREADS", "")
    if given.isdigit() and int(given) > 0:
        return int(given)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
