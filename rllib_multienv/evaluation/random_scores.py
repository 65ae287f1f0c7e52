"""Returns of uniformly random actions: the 0 of normalised scores."""

from __future__ import annotations

import hashlib
import json
import os
import statistics
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rllib_multienv.atomic_files import write_json

if TYPE_CHECKING:
    from rllib_multienv.spec import EnvSpec

#: Names the folder of the package's caches, instead of ``~/.cache/rllib_multienv``.
CACHE_VARIABLE = "MULTIENV_CACHE"
_DEFAULTS = {"episodes": 100, "seed": 0, "max_steps": 100_000}
# Packages with environments or their physics: another version may give other returns.
_PACKAGES = ("gymnasium", "mujoco", "box2d", "ale-py", "gymnasium-robotics", "metaworld", "minigrid")


@dataclass(frozen=True, kw_only=True)
class RandomScore:
    """Returns of random actions in an environment: its id and what it is made from, episodes, mean and deviation."""

    env_id: str
    env_name: str
    episodes: int
    mean: float
    std: float


def random_score(
    env_spec: EnvSpec,
    *,
    episodes: int = _DEFAULTS["episodes"],
    seed: int = _DEFAULTS["seed"],
    max_steps: int = _DEFAULTS["max_steps"],
    cache_dir: str | Path | None = None,
) -> RandomScore:
    """Measures the return per episode of uniformly random actions (`action_space.sample()`).

    Where there is an action mask, they are among those that it allows. The environment is one copy made by Gymnasium,
    whatever the spec's `backend`. A measurement is cached in a JSON file per environment, settings and package
    versions. Environments that are named by a module or given as a callable are measured every time: their code may
    change without a new version.

    Args:
        env_spec: The environment.
        episodes: Number of episodes.
        seed: Seed of the environment and of the actions.
        max_steps: The measurement ends after this many steps altogether. The episode that is cut off there does not
            count, unless it is the first.
        cache_dir: Folder of the cache; default: `random_scores` in ``$MULTIENV_CACHE`` or ``~/.cache/rllib_multienv``.

    Raises:
        ValueError: `episodes` or `max_steps` is below 1, or the environment is unknown.
        EnvFailure: The environment cannot be made, or fails.
    """
    if episodes < 1 or max_steps < 1:
        raise ValueError(f"episodes ({episodes}) and max_steps ({max_steps}) must be at least 1")
    definition = _definition(env_spec, episodes=episodes, seed=seed, max_steps=max_steps)
    path = None if definition is None else _cache_file(env_spec, definition, cache_dir)
    measured = None if path is None else _read(path)
    if measured is None:
        measured = _measure(env_spec, episodes, seed, max_steps)
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_json(path, {"definition": definition, "measured": measured})
    name = env_spec.make if isinstance(env_spec.make, str) else getattr(env_spec.make, "__qualname__", "")
    return RandomScore(env_id=env_spec.id, env_name=name or env_spec.id, **measured)


def known_returns(env_specs: Iterable[EnvSpec]) -> dict[str, dict[str, float]]:
    """Returns to compare with, as far as they are known without measuring, by label and env id.

    "random actions": from the cache of `random_score`, with its default settings. "solved": Gymnasium's threshold.
    """
    import gymnasium as gym

    found: dict[str, dict[str, float]] = {"random actions": {}, "solved": {}}
    for spec in env_specs:
        definition = _definition(spec, **_DEFAULTS)
        measured = None if definition is None else _read(_cache_file(spec, definition, None))
        if measured is not None:
            found["random actions"][spec.id] = measured["mean"]
        registered = gym.registry.get(spec.make) if isinstance(spec.make, str) else None
        threshold = getattr(registered, "reward_threshold", None)
        if threshold is not None and not spec.kwargs and spec.max_episode_steps is None:
            found["solved"][spec.id] = float(threshold)
    return found


def _measure(env_spec: EnvSpec, episodes: int, seed: int, max_steps: int) -> dict[str, Any]:
    from rllib_multienv.envs.errors import ENV_ERRORS, EnvFailure, describe, take_reward
    from rllib_multienv.envs.make import close_env, make_env
    from rllib_multienv.spaces.leaves import ACTION_MASK
    from rllib_multienv.spec import SpaceSpec

    env = make_env(env_spec, seed=seed)
    generator = np.random.default_rng(seed)

    def draw(obs: Any, info: Any) -> Any:
        """An action of the space, among those that a mask allows."""
        mask = info.get(ACTION_MASK)
        if mask is None and not (isinstance(obs, Mapping) and ACTION_MASK in obs):
            return env.action_space.sample()
        spaces = SpaceSpec.from_spaces(
            env_spec.id, env.observation_space, env.action_space, mask_in_info=mask is not None
        )
        raw, _ = spaces.reader.given(obs, mask)
        rows = spaces.writer.random_rows(1, generator, spaces.reader.actions_allowed(raw))
        return spaces.action_to_env(rows)[0]

    returns: list[float] = []
    steps = 0
    what = "reset"
    try:
        while len(returns) < episodes and steps < max_steps:
            what = "reset"
            # The seed is given once more: making the copy has used up the first.
            obs, info = env.reset(seed=seed if not returns else None)
            what, total, ended = "step", 0.0, False
            while not ended and steps < max_steps:
                obs, reward, terminated, truncated, info = env.step(draw(obs, info))
                total += take_reward(reward)
                steps += 1
                ended = terminated or truncated
            if ended or not returns:
                returns.append(total)
    except ENV_ERRORS as error:
        raise EnvFailure(env_spec.id, what, describe(error)) from error
    finally:
        close_env(env_spec.id, env)
    # 6 digits, as in the files of raw metrics.
    mean, std = (float(f"{value:.6g}") for value in (statistics.fmean(returns), statistics.pstdev(returns)))
    return {"episodes": len(returns), "mean": mean, "std": std}


def _definition(env_spec: EnvSpec, **settings: int) -> dict[str, Any] | None:
    """Everything that the measurement depends on; None if that cannot be written as JSON."""
    if not isinstance(env_spec.make, str) or ":" in env_spec.make:
        return None
    versions = {}
    for package in _PACKAGES:
        with suppress(PackageNotFoundError):
            versions[package] = version(package)
    definition: dict[str, Any] = {
        "make": env_spec.make,
        "kwargs": dict(env_spec.kwargs),
        "max_episode_steps": env_spec.max_episode_steps,
        **({} if env_spec.trial_episodes is None else {"trial_episodes": env_spec.trial_episodes}),
        "versions": versions,
        **settings,
    }
    try:
        return dict(json.loads(json.dumps(definition)))
    except TypeError:  # a keyword argument that is not a plain value
        return None


def _cache_file(env_spec: EnvSpec, definition: Mapping[str, Any], cache_dir: str | Path | None) -> Path:
    key = hashlib.sha256(json.dumps(definition, sort_keys=True).encode()).hexdigest()[:16]
    home = Path(os.environ.get(CACHE_VARIABLE) or Path.home() / ".cache" / "rllib_multienv")
    return Path(cache_dir or home / "random_scores") / f"{env_spec.id}-{key}.json"


def _read(path: Path) -> dict[str, Any] | None:
    try:
        measured = json.loads(path.read_text(encoding="utf-8"))["measured"]
        return {key: measured[key] for key in ("episodes", "mean", "std")}
    except (OSError, ValueError, KeyError, TypeError):  # none yet, or a damaged one
        return None
