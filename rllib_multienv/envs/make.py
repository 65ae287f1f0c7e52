"""Making one copy of an environment from its EnvSpec."""

from __future__ import annotations

import contextlib
import inspect
import os
import warnings
from collections.abc import Callable
from typing import Any

import gymnasium as gym

from rllib_multienv.envs.errors import EnvFailure
from rllib_multienv.gym_ids import find_env
from rllib_multienv.spec import EnvSpec, SpaceSpec


def make_env(spec: EnvSpec, *, render_mode: str | None = None, seed: int | None = None) -> gym.Env:
    """Make one copy of an environment.

    Gymnasium's `TimeLimit` and `OrderEnforcing` stand where `gym.make` puts them; its passive checker is left
    out (it only checks the first step, with warnings). `max_episode_steps` replaces a registered limit; an
    environment made by a class or callable gets a `TimeLimit` around whatever it limits itself.

    Args:
        spec: What to make.
        render_mode: ``"rgb_array"`` for video. Without a display MuJoCo is told to render through EGL.
        seed: If given, the environment and its action space are seeded and it is reset once.

    Raises:
        EnvFailure: The environment's constructor (or that first reset) raised, or gave no `gymnasium.Env`.
        ValueError: The environment is unknown, or cannot render.
    """
    if render_mode is not None and not os.environ.get("DISPLAY"):
        os.environ.setdefault("MUJOCO_GL", "egl")
    assert spec.make is not None  # EnvSpec fills it in
    target = find_env(spec.make) if isinstance(spec.make, str) else spec.make
    kwargs: dict[str, Any] = dict(spec.kwargs)
    try:
        with contextlib.chdir(os.getcwd()):  # a constructor may change the working directory
            if isinstance(target, str):
                if render_mode is not None:
                    kwargs["render_mode"] = render_mode
                with warnings.catch_warnings():
                    # Who asks for HalfCheetah-v4 knows that there is a v5; every copy would say so again.
                    warnings.filterwarnings("ignore", message=".*is out of date.*")
                    env = gym.make(target, max_episode_steps=spec.max_episode_steps, disable_env_checker=True, **kwargs)
            else:
                if render_mode is not None:
                    _check_takes_render_mode(spec.id, target)
                    kwargs["render_mode"] = render_mode
                env = target(**kwargs)
                if not isinstance(env, gym.Env):
                    raise TypeError(
                        f"{target!r} returned {type(env).__name__}, but it must return a gymnasium.Env"
                        + (" (vector environments are made by this package)" if _is_vector(env) else "")
                    )
                if spec.max_episode_steps is not None:
                    env = gym.wrappers.TimeLimit(env, spec.max_episode_steps)
    except Exception as error:
        raise EnvFailure(spec.id, "make", describe(error)) from error
    if seed is not None:
        try:
            env.reset(seed=seed)
            env.action_space.seed(seed)
        except Exception as error:
            raise EnvFailure(spec.id, "reset", describe(error)) from error
    return env


def probe_spaces(spec: EnvSpec) -> SpaceSpec:
    """Read an environment's spaces: makes one copy and closes it.

    Raises:
        EnvFailure: The environment cannot be made.
        UnsupportedSpaceError: Its spaces are of an unsupported kind.
    """
    if spec.backend == "envpool":
        from rllib_multienv.envs.envpool_backend import probe_envpool_spaces

        return probe_envpool_spaces(spec)
    env = make_env(spec)
    try:
        return SpaceSpec.from_spaces(spec.id, env.observation_space, env.action_space, description=spec.description)
    finally:
        env.close()


def episode_limit(spec: EnvSpec) -> int | None:
    """Steps after which an environment cuts an episode, as far as that is registered; None where it is not known."""
    if spec.max_episode_steps is not None or not isinstance(spec.make, str):
        return spec.max_episode_steps
    target = find_env(spec.make)
    if not isinstance(target, str):
        return None
    try:
        return gym.spec(target).max_episode_steps
    except gym.error.Error:  # a name without a version: making it finds the newest
        env = make_env(spec)
        env.close()
        return env.spec.max_episode_steps if env.spec is not None else None


def describe(error: BaseException) -> str:
    """``"ValueError: bad"``: an exception in one line, for messages that wrap it."""
    text = str(error).strip()
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _check_takes_render_mode(env_id: str, target: Callable[..., Any]) -> None:
    try:
        parameters = inspect.signature(target).parameters.values()
    except (TypeError, ValueError):  # no signature to read, as with some C functions: let it try
        return
    if not any(p.name == "render_mode" or p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters):
        raise ValueError(f"{env_id!r} cannot render: {target!r} takes no argument 'render_mode'.")


def _is_vector(env: Any) -> bool:
    return isinstance(env, gym.vector.VectorEnv)
