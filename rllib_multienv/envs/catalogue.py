"""The catalogue of environments that can be trained on: registered here, or installed by an extra."""

from __future__ import annotations

import contextlib
import fnmatch
import io
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace

import gymnasium as gym

from rllib_multienv.envs.errors import ENV_ERRORS
from rllib_multienv.envs.probe import probe_roles
from rllib_multienv.gym_ids import FAMILIES, nearest_env_ids, pettingzoo_modules
from rllib_multienv.spec import EnvSpec, SpaceSpec

__all__ = ["TrainableEnv", "list_trainable", "nearest_env_ids"]


@dataclass(frozen=True)
class TrainableEnv:
    """One line of the catalogue.

    Attributes:
        id: The Gymnasium id.
        observations: Their number, or what they are: ``"4"``, ``"16 + text"``, ``"image 84x84x4"``.
        actions: Choices and components: ``"6 discrete"``, ``"3x4 discrete + 2 continuous"``.
        max_episode_steps: The registered time limit, if there is one.
        older: Older versions of the same environment that can be made here too, newest first.
        needs: An extra or keyword arguments without which it cannot be made; sizes are unknown then.
    """

    id: str
    observations: str = ""
    actions: str = ""
    max_episode_steps: int | None = None
    older: tuple[str, ...] = ()
    needs: str | None = None


def list_trainable(pattern: str = "", *, all_versions: bool = False, time_limit_s: float = 8.0) -> list[TrainableEnv]:
    """The Gymnasium environments with supported spaces.

    Every candidate is made once, without kwargs. Those that cannot be made are left out, as are those that are not
    reached within the time limit. With a pattern also the environments of extras are listed, installed or not.

    Args:
        pattern: Part of the id, ignoring case; ``*`` and ``?`` stand for any text and any letter.
        all_versions: Give every version its own line, instead of naming it in the newest one's `older`.
        time_limit_s: Time limit.

    Returns:
        Sorted by id, ignoring case.
    """
    deadline = time.monotonic() + time_limit_s
    found: list[TrainableEnv] = []
    families = FAMILIES if pattern else ()
    for family in families:
        if family.installed:
            with contextlib.redirect_stderr(io.StringIO()):  # notices about single environments
                family.register()
    for versions in _families(pattern):
        usable: list[TrainableEnv] = []
        for gym_spec in versions:
            if time.monotonic() > deadline:
                break
            spaces = _spaces_of(gym_spec.id)
            if spaces is None:
                continue
            if usable and not all_versions:
                usable[0] = replace(usable[0], older=(*usable[0].older, gym_spec.id))
            else:
                limit = gym_spec.max_episode_steps
                usable.append(TrainableEnv(gym_spec.id, *_words(spaces), limit))
        found += usable
    for module, extra in pettingzoo_modules().items() if pattern else ():
        if _matches(module, pattern):
            spaces = _spaces_of(module) if time.monotonic() < deadline else None
            if spaces is None:
                found.append(TrainableEnv(module, needs=f"the extra '{extra}'"))
            else:
                found.append(TrainableEnv(module, *_words(spaces)))
    known = {line.id for line in found}
    for family in families:
        needs = f"kwargs: {family.kwargs}" if family.installed else f"the extra '{family.extra}'"
        others = [env_id for env_id in family.ids if env_id not in known and _matches(env_id, pattern)]
        if not family.installed or family.kwargs:
            found += [TrainableEnv(env_id, needs=needs) for env_id in others]
    return sorted(found, key=lambda line: line.id.lower())


def _words(spaces: SpaceSpec) -> tuple[str, str]:
    """Observations and actions in words."""
    row = spaces.observation
    seen = [f"image {image.height}x{image.width}x{image.channels}" for image in row.images] + ["text"] * len(row.texts)
    if not seen or row.numbers > 1:  # next to images, a single number may be a constant that fills the place
        seen.insert(0, str(row.numbers))
    kinds = {"categorical": "discrete", "bernoulli": "binary", "continuous": "continuous"}
    sizes: dict[str, list[str]] = {}
    for part in spaces.action.parts:
        sizes.setdefault(kinds[part.kind], []).append(str(part.size))
    return " + ".join(seen), " + ".join(f"{'x'.join(found)} {kind}" for kind, found in sizes.items())


def _matches(env_id: str, pattern: str) -> bool:
    return fnmatch.fnmatch(env_id.lower(), f"*{pattern.lower()}*")


def _families(pattern: str) -> Iterator[list[gym.envs.registration.EnvSpec]]:
    """The registry, one list per environment with its newest version first."""
    families: dict[tuple[str | None, str], list[gym.envs.registration.EnvSpec]] = {}
    of_extras = tuple(f"{family.package}." for family in FAMILIES)
    for gym_spec in gym.registry.values():
        wanted = _matches(gym_spec.id, pattern) if pattern else not str(gym_spec.entry_point).startswith(of_extras)
        if wanted and gym_spec.entry_point is not None:
            families.setdefault((gym_spec.namespace, gym_spec.name), []).append(gym_spec)
    for versions in families.values():
        yield sorted(versions, key=lambda s: s.version or 0, reverse=True)


def _spaces_of(env_id: str) -> SpaceSpec | None:
    """Spaces of an environment (of its first role); None where it cannot be made here, or has unsupported ones."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return probe_roles(EnvSpec(env_id))[0][1]
    except ENV_ERRORS:
        return None
