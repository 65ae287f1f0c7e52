"""Makes one copy of an environment from its EnvSpec; time limits, and seeds for copies."""

from __future__ import annotations

import contextlib
import inspect
import os
import string
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from rllib_multienv.envs import atari
from rllib_multienv.envs.agents import agents_env
from rllib_multienv.envs.errors import ENV_ERRORS, EnvFailure, describe
from rllib_multienv.envs.trials import Trial
from rllib_multienv.gym_ids import find_env
from rllib_multienv.spec import EnvSpec
from rllib_multienv.tasks.family import family_of

#: Longest mission of BabyAI's environments that is not cut off, in letters.
BABYAI_MISSION = 192


def make_env(spec: EnvSpec, *, render_mode: str | None = None, seed: int | None = None) -> Any:
    """Make one copy of an environment: a `gymnasium.Env`, or an `AgentsEnv` where there are several agents.

    Gymnasium's `TimeLimit` and `OrderEnforcing` are applied as in `gym.make`; its passive checker is left out (it
    checks only the first step, and only warns). `max_episode_steps` replaces a registered limit; an environment made
    by a class or callable gets a `TimeLimit` around whatever it limits itself. With `trial_episodes` the outermost
    wrapper is a `Trial`.

    Args:
        spec: What to make.
        render_mode: ``"rgb_array"`` for video. Without a display MuJoCo is told to render through EGL.
        seed: If given, the environment and its action space are seeded, and it is reset once.

    Raises:
        EnvFailure: The environment's constructor (or that first reset) raised, or returned no `gymnasium.Env`.
        ValueError: The environment is unknown, or cannot render.
    """
    if render_mode is not None and not os.environ.get("DISPLAY"):
        os.environ.setdefault("MUJOCO_GL", "egl")
    assert spec.make is not None  # EnvSpec fills it in
    if atari.is_preprocessed(spec):
        return _finished(spec, atari.AtariEnv(spec, render_mode), seed)
    target = find_env(spec.make) if isinstance(spec.make, str) else spec.make
    kwargs: dict[str, Any] = dict(spec.kwargs)
    if render_mode is not None:
        if not isinstance(target, str):
            _check_takes_render_mode(spec.id, target)
        kwargs["render_mode"] = render_mode
    try:
        with contextlib.chdir(os.getcwd()), warnings.catch_warnings():  # a constructor may change the working directory
            if isinstance(target, str):
                # A user who asks for HalfCheetah-v4 knows that there is a v5; every copy would say so again.
                warnings.filterwarnings("ignore", message=".*is out of date.*")
                env = gym.make(target, max_episode_steps=spec.max_episode_steps, disable_env_checker=True, **kwargs)
            else:
                env = target(**kwargs)
                if (agents := agents_env(env, spec.max_episode_steps, spec.agent_index)) is not None:
                    if spec.trial_episodes is not None:
                        raise ValueError("trial_episodes is for environments with one agent; leave it out")
                    return agents
                if not isinstance(env, gym.Env):
                    is_vector = isinstance(env, gym.vector.VectorEnv)
                    raise TypeError(
                        f"{target!r} returned {type(env).__name__}, but it must return a gymnasium.Env or a PettingZoo "
                        "environment" + (" (vector environments are made by this package)" if is_vector else "")
                    )
                if spec.max_episode_steps is not None:
                    env = gym.wrappers.TimeLimit(env, spec.max_episode_steps)
    except ENV_ERRORS as error:
        raise EnvFailure(spec.id, "make", describe(error)) from error
    _declare_mission(env)
    return _finished(spec, env, seed)


def _declare_mission(env: gym.Env) -> None:
    """Declare the missions of MiniGrid, whose space is of a kind of its own, as text."""
    space = env.observation_space
    mission: Any = space.get("mission") if isinstance(space, spaces.Dict) else None
    if "MissionSpace" in [kind.__name__ for kind in type(mission).__mro__]:
        longest = [max(words, key=len) for words in mission.ordered_placeholders or ()]
        # BabyAI does not declare its missions.
        length = len(mission.mission_func(*longest)) if type(mission).__name__ == "MissionSpace" else BABYAI_MISSION
        text = spaces.Text(length, min_length=0, charset=string.printable)
        env.observation_space = spaces.Dict({**space.spaces, "mission": text})  # type: ignore[attr-defined]


def _finished(spec: EnvSpec, env: gym.Env, seed: int | None) -> gym.Env:
    """The environment in trials where the spec has them, seeded."""
    if spec.trial_episodes is not None:
        explored = spec.kwargs.get("exploration_episodes", 0)  # of task families
        if isinstance(explored, int) and 1 < spec.trial_episodes <= explored:
            raise ValueError(
                f"EnvSpec {spec.id!r}: exploration_episodes={explored} leave no episode with rewards in trials of "
                f"trial_episodes={spec.trial_episodes}. Set trial_episodes to at least {explored + 1}."
            )
        env = Trial(env, spec.trial_episodes)
    if seed is not None:
        try:
            env.reset(seed=seed)
            env.action_space.seed(seed)
        except ENV_ERRORS as error:
            raise EnvFailure(spec.id, "reset", describe(error)) from error
    return env


def _check_takes_render_mode(env_id: str, target: Callable[..., Any]) -> None:
    try:
        parameters = inspect.signature(target).parameters.values()
    except (TypeError, ValueError):  # no signature to read, as with some C functions: let it try
        return
    if not any(p.name == "render_mode" or p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters):
        raise ValueError(f"{env_id!r} cannot render: {target!r} takes no argument 'render_mode'.")


def close_env(env_id: str, env: Any) -> None:
    """Close an environment; a failure is a warning that names it."""
    try:
        env.close()
    except ENV_ERRORS as error:
        warnings.warn(f"Environment {env_id!r} failed in close(): {describe(error)}", UserWarning, stacklevel=2)


@contextlib.contextmanager
def opened(spec: EnvSpec, **options: Any) -> Iterator[gym.Env]:
    """One copy of an environment, which is closed afterwards; `options` are those of `make_env`."""
    env = make_env(spec, **options)
    try:
        yield env
    finally:
        close_env(spec.id, env)


def is_task_family(spec: EnvSpec) -> bool:
    """Whether an environment has tasks (`tasks.TaskFamily`); makes one copy to see."""
    with opened(spec) as env:
        return family_of(env) is not None


def episode_limit(spec: EnvSpec) -> int | None:
    """Steps after which an environment cuts an episode; None where it is neither registered nor an attribute.

    Task families and MiniWorld have the attribute ``max_episode_steps``.
    """
    if atari.is_preprocessed(spec):
        return atari.max_episode_steps(spec)
    if spec.max_episode_steps is not None or not isinstance(spec.make, str):
        return spec.max_episode_steps
    target = find_env(spec.make)
    if not isinstance(target, str):
        return None
    with contextlib.suppress(gym.error.Error):  # a name without a version: making it finds the newest
        if (limit := gym.spec(target).max_episode_steps) is not None:
            return limit
    with opened(spec) as env:
        limit = env.spec.max_episode_steps if env.spec is not None else None
        return getattr(env.unwrapped, "max_episode_steps", None) if limit is None else limit


def copy_seeds(seed: int | None, num_envs: int) -> list[int]:
    """One seed per copy, all different, from one seed.

    The first n of m > n seeds are the n seeds of the same `seed`. They fit into a signed 32-bit integer, which is all
    that EnvPool takes.

    Args:
        seed: Their source; None for fresh entropy.
        num_envs: Number of seeds.
    """
    sequence = np.random.SeedSequence(seed)
    drawn = num_envs
    while True:
        # Two equal ones among 2**31 are improbable but possible; then draw further along the same stream.
        seeds = list(dict.fromkeys((sequence.generate_state(drawn) >> 1).tolist()))
        if len(seeds) >= num_envs:
            return seeds[:num_envs]
        drawn += num_envs - len(seeds)
