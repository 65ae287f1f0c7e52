"""What uniformly random actions get in an environment: the 0 of the normalised score."""

from __future__ import annotations

import hashlib
import json
import os
import statistics
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rllib_multienv.atomic_files import write_json
from rllib_multienv.evaluation.csv_rows import rounded
from rllib_multienv.evaluation.raw_metrics import RandomScore

if TYPE_CHECKING:
    import gymnasium as gym

    from rllib_multienv.spec import EnvSpec

#: Names the folder of the package's caches, in the place of ``~/.cache/rllib_multienv``.
CACHE_VARIABLE = "MULTIENV_CACHE"

# Packages that bring environments, or their physics: another version may give other returns.
_PACKAGES = ("gymnasium", "mujoco", "box2d", "ale-py", "gymnasium-robotics", "metaworld")


def random_score(
    env_spec: EnvSpec,
    *,
    episodes: int = 100,
    seed: int = 0,
    max_steps: int = 100_000,
    cache_dir: str | Path | None = None,
) -> RandomScore:
    """Measures the return per episode of uniformly random actions (`action_space.sample()`).

    Actions without bounds are drawn as Gymnasium draws them, normally distributed. The environment is one copy
    made by Gymnasium, whatever the spec's `backend`.

    A measurement is kept in a JSON file per environment, settings and versions of the packages that bring
    environments, and read from there the next time. Environments that are named by a module or given as a
    callable are measured every time, since their code may change without a version telling so.

    Args:
        env_spec: The environment.
        episodes: How many episodes.
        seed: Seed of the environment and of the actions.
        max_steps: The measurement ends after so many environment steps altogether. An episode that is cut off
            there does not count, unless it is the first: then its return so far does. So there may be fewer
            episodes than wanted, but at least one. The default is 100 episodes of 1,000 steps.
        cache_dir: Folder of the measurements; default: `random_scores` in ``$MULTIENV_CACHE`` or, without that,
            in ``~/.cache/rllib_multienv``.

    Raises:
        ValueError: If `episodes` or `max_steps` is below 1, or the environment is unknown.
        EnvFailure: If the environment cannot be made, or fails.
    """
    if episodes < 1 or max_steps < 1:
        raise ValueError(f"episodes ({episodes}) and max_steps ({max_steps}) must be at least 1")
    definition = _definition(env_spec, episodes=episodes, seed=seed, max_steps=max_steps)
    if definition is None:
        measured = _measure(env_spec, episodes, seed, max_steps)
    else:
        key = hashlib.sha256(json.dumps(definition, sort_keys=True).encode()).hexdigest()[:16]
        path = _cache_dir(cache_dir) / f"{env_spec.id}-{key}.json"
        cached = _read(path, definition)
        if cached is None:
            cached = _measure(env_spec, episodes, seed, max_steps)
            _write(path, {"definition": definition, "measured": cached})
        measured = cached
    name = env_spec.make if isinstance(env_spec.make, str) else getattr(env_spec.make, "__qualname__", "")
    return RandomScore(
        env_id=env_spec.id,
        env_name=name or env_spec.id,
        episodes=measured["episodes"],
        mean=measured["mean"],
        std=measured["std"],
        versions=measured["versions"],
    )


def _measure(env_spec: EnvSpec, episodes: int, seed: int, max_steps: int) -> dict[str, Any]:
    from rllib_multienv.envs import EnvFailure, make_env
    from rllib_multienv.envs.make import describe

    env = make_env(env_spec, seed=seed)
    returns: list[float] = []
    steps = 0
    what = "reset"
    try:
        while len(returns) < episodes and steps < max_steps:
            what = "reset"
            # The seed is given once more: what the copy was made with has been used up by its first reset.
            env.reset(seed=seed if not returns else None)
            what, total, ended = "step", 0.0, False
            while not ended and steps < max_steps:
                _, reward, terminated, truncated, _ = env.step(env.action_space.sample())
                total += float(reward)
                steps += 1
                ended = terminated or truncated
            if ended or not returns:
                returns.append(total)
        versions = _versions_of(env)
    except Exception as error:
        raise EnvFailure(env_spec.id, what, describe(error)) from error
    finally:
        env.close()
    return {
        "episodes": len(returns),
        "mean": rounded(statistics.fmean(returns)),
        "std": rounded(statistics.pstdev(returns)),
        "versions": versions,
    }


def _versions_of(env: gym.Env) -> str:
    """Gymnasium's version and those of the packages that this environment comes from."""
    modules = [kind.__module__.lower() for kind in type(env.unwrapped).__mro__]
    roots = {module.split(".")[0].replace("_", "-") for module in modules}
    wanted = {"gymnasium", *(name for name in ("mujoco", "box2d") if any(name in module for module in modules)), *roots}
    found = {name: text for name in wanted if (text := _version(name))}
    others = sorted(name for name in found if name != "gymnasium")
    return ", ".join(f"{name} {found[name]}" for name in ["gymnasium", *others] if name in found)


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _definition(env_spec: EnvSpec, **settings: int) -> dict[str, Any] | None:
    """What the measurement depends on, or None where that cannot be written down."""
    if not isinstance(env_spec.make, str) or ":" in env_spec.make:
        return None
    definition: dict[str, Any] = {
        "make": env_spec.make,
        "kwargs": dict(env_spec.kwargs),
        "max_episode_steps": env_spec.max_episode_steps,
        "versions": {name: text for name in _PACKAGES if (text := _version(name))},
        **settings,
    }
    try:
        return dict(json.loads(json.dumps(definition)))
    except TypeError:  # a keyword argument that is no plain value
        return None


def _cache_dir(cache_dir: str | Path | None) -> Path:
    if cache_dir is not None:
        return Path(cache_dir)
    home = os.environ.get(CACHE_VARIABLE)
    return (Path(home) if home else Path.home() / ".cache" / "rllib_multienv") / "random_scores"


def _read(path: Path, definition: Mapping[str, Any]) -> dict[str, Any] | None:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        measured = data["measured"]
        complete = {"episodes", "mean", "std", "versions"} <= set(measured)
        return dict(measured) if complete and data["definition"] == definition else None
    except (OSError, ValueError, KeyError, TypeError):  # none yet, or a damaged one: it is measured again
        return None


def _write(path: Path, data: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, data)
