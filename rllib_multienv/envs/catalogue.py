"""What can be trained on here: the registered environments whose spaces are supported."""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass

import gymnasium as gym

from rllib_multienv.gym_ids import nearest_env_ids
from rllib_multienv.spec import EnvSpec, SpaceSpec

__all__ = ["TrainableEnv", "list_trainable", "nearest_env_ids"]

# Hundreds of ids, all of them with images for observations (their RAM variants need keyword arguments).
_IMAGE_NAMESPACES = frozenset({"ALE"})


@dataclass(frozen=True)
class TrainableEnv:
    """One line of the catalogue.

    Attributes:
        id: The Gymnasium id.
        obs_size: Length of the flat observation.
        discrete: Whether actions are discrete.
        action_size: Number of actions, or length of the action vector.
        max_episode_steps: The registered time limit, if there is one.
        older: Older versions of the same environment that can be made here too, newest first.
    """

    id: str
    obs_size: int
    discrete: bool
    action_size: int
    max_episode_steps: int | None
    older: tuple[str, ...] = ()


def list_trainable(*, all_versions: bool = False, time_limit_s: float = 8.0) -> list[TrainableEnv]:
    """The registered Gymnasium environments that can be made here and have supported spaces.

    Every candidate is made once, without kwargs. What cannot be made (a package is missing) is left out, as
    is what has not been looked at when the time is over.

    Args:
        all_versions: Give every version a line of its own, instead of naming it in the newest one's `older`.
        time_limit_s: Stop looking after this many seconds.

    Returns:
        Sorted by id, ignoring case.
    """
    deadline = time.monotonic() + time_limit_s
    found: list[TrainableEnv] = []
    for versions in _families():
        usable: list[TrainableEnv] = []
        for gym_spec in versions:
            if time.monotonic() > deadline:
                break
            spaces = _spaces_of(gym_spec.id)
            if spaces is not None:
                line = TrainableEnv(
                    gym_spec.id,
                    spaces.obs_size,
                    spaces.discrete,
                    spaces.action_size,
                    gym_spec.max_episode_steps,
                )
                usable.append(line)
        if all_versions:
            found += usable
        elif usable:
            newest, older = usable[0], tuple(line.id for line in usable[1:])
            found.append(
                TrainableEnv(
                    newest.id,
                    newest.obs_size,
                    newest.discrete,
                    newest.action_size,
                    newest.max_episode_steps,
                    older,
                )
            )
    return sorted(found, key=lambda line: line.id.lower())


def _families() -> Iterator[list[gym.envs.registration.EnvSpec]]:
    """The registry, one list per environment with its newest version first."""
    families: dict[tuple[str | None, str], list[gym.envs.registration.EnvSpec]] = {}
    for gym_spec in gym.registry.values():
        if gym_spec.namespace not in _IMAGE_NAMESPACES and gym_spec.entry_point is not None:
            families.setdefault((gym_spec.namespace, gym_spec.name), []).append(gym_spec)
    for versions in families.values():
        yield sorted(versions, key=lambda s: s.version or 0, reverse=True)


def _spaces_of(env_id: str) -> SpaceSpec | None:
    from rllib_multienv.envs.make import make_env

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            env = make_env(EnvSpec(env_id))
            try:
                return SpaceSpec.from_spaces(env_id, env.observation_space, env.action_space)
            finally:
                env.close()
        except Exception:  # whatever it is, this environment cannot be trained here as it stands
            return None
