"""Copies of an environment stepped by EnvPool's C++ threads.

EnvPool's habits that differ from Gymnasium's, and are hidden here: only `make(seed=...)` seeds it; its spaces
are those of a single copy; MuJoCo actions are float64; autoreset is NEXT_STEP only.
One difference cannot be hidden: an episode that terminates on the very step of its time limit is reported as
truncated, not as both.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from rllib_multienv.envs.errors import EnvFailure
from rllib_multienv.gym_ids import check_envpool_id
from rllib_multienv.spec import EnvSpec, SpaceSpec

# What backend="auto" hands to EnvPool. The rule: the step is expensive enough to gain by threads, and
# observations, rewards and ends of episodes were compared with Gymnasium's, from the same states under the
# same actions, and are the same (EnvPool 1.2.5, MuJoCo 3.3.0). Not so in Hopper-v4, Ant-v4, Humanoid-v4 and
# HumanoidStandup-v4: equal to rounding until the first contact, they differ in the second digit after it.
# Cheap environments stay with "sync", which can be saved and restored in the middle of an episode.
VERIFIED = frozenset({"HalfCheetah-v4", "Walker2d-v4", "Swimmer-v4"})
# With 8 copies, one thread of EnvPool is slower than stepping in this process, and two are about as fast.
CPUS_THAT_PAY = 4


def make_envpool(spec: EnvSpec, num_envs: int, seeds: Sequence[int]) -> Any:
    """Make the copies.

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
        raise EnvFailure(spec.id, "make", f"{type(error).__name__}: {error}") from error


def probe_envpool_spaces(spec: EnvSpec) -> SpaceSpec:
    """The spaces of an environment that EnvPool makes."""
    env = make_envpool(spec, 1, [0])
    try:
        return space_spec_of(spec, env)
    finally:
        env.close()


def space_spec_of(spec: EnvSpec, env: Any) -> SpaceSpec:
    """Spaces of EnvPool's environment, with float32 actions as Gymnasium has them."""
    action_space: gym.Space = env.action_space
    if isinstance(action_space, spaces.Box) and action_space.dtype == np.float64:
        low, high = action_space.low.astype(np.float32), action_space.high.astype(np.float32)
        action_space = spaces.Box(low, high, dtype=np.float32)
    return SpaceSpec.from_spaces(spec.id, env.observation_space, action_space, description=spec.description)


def cpus() -> int:
    """How many CPUs this process may use. Ray says how many an actor was given through OMP_NUM_THREADS."""
    given = os.environ.get("OMP_NUM_THREADS", "")
    if given.isdigit() and int(given) > 0:
        return int(given)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
