"""Environments and data sets with tags, and what patterns of tags select.

A tag is ``key:value`` with further parts after ``/``, such as ``domain:multiagent/atari``. A pattern matches a tag and
everything below it: ``domain:multiagent`` matches ``domain:multiagent/atari``, and ``domain`` alone every domain.
Letter case does not matter.

=================== ===================================================================================================
key                 values
=================== ===================================================================================================
``domain``          control/..., robot/..., image/..., text/..., grid/..., tabular/..., game/..., multiagent/...
``structure``       structured, image, text, multimodal
``representation``  observation/continuous, observation/discrete, observation/binary, action/continuous, action/discrete
``problem``         control, classification, regression
``simulated``       true, false
``objective``       single, none
``observability``   full, partial
``markovian``       true, false
``agents``          single, multiple
``mode``            cooperative, competitive, mixed (of several agents)
``test``            true for environments that are meant for evaluation
=================== ===================================================================================================
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from rllib_multienv.experience.bundled import BUNDLED
from rllib_multienv.gym_ids import FAMILIES, did_you_mean
from rllib_multienv.spec import EnvSpec
from rllib_multienv.tasks import ORIGINALS

__all__ = ["all_tags", "matches", "register_env", "registered_envs", "select", "tags_of"]

_SIMULATED = "simulated:true objective:single test:false problem:control"
_SINGLE = f"{_SIMULATED} agents:single"
_FULL = "observability:full markovian:true"
_NUMBERS = f"{_SINGLE} {_FULL} structure:structured representation:observation/continuous"
_IMAGES = f"{_SINGLE} structure:image observability:partial markovian:false representation:observation/discrete"
_LABELS = "simulated:false objective:none agents:single observability:full markovian:true problem:classification"
_GAME = f"{_SIMULATED} agents:multiple structure:structured representation:observation/binary"

# Tags, the package that is needed, and ids.
_TABLE: tuple[tuple[str, str, str], ...] = (
    (f"domain:control/classic representation:action/discrete {_NUMBERS}", "", "CartPole-v1 Acrobot-v1 MountainCar-v0"),
    (
        f"domain:control/classic representation:action/continuous {_NUMBERS}",
        "",
        "Pendulum-v1 MountainCarContinuous-v0",
    ),
    (f"domain:control/box2d representation:action/discrete {_NUMBERS}", "Box2D", "LunarLander-v3"),
    (f"domain:control/box2d representation:action/continuous {_NUMBERS}", "Box2D", "BipedalWalker-v3"),
    (f"domain:image/box2d domain:control/box2d representation:action/continuous {_IMAGES}", "Box2D", "CarRacing-v3"),
    (
        f"domain:grid/toy representation:action/discrete representation:observation/discrete structure:structured "
        f"{_SINGLE} {_FULL}",
        "",
        "FrozenLake-v1 Taxi-v3 CliffWalking-v1",
    ),
    (
        f"domain:robot/locomotion representation:action/continuous {_NUMBERS}",
        "mujoco",
        "HalfCheetah-v5 Hopper-v5 Walker2d-v5 Ant-v5 Humanoid-v5 Swimmer-v5",
    ),
    (f"domain:robot/manipulation representation:action/continuous {_NUMBERS}", "mujoco", "Reacher-v5 Pusher-v5"),
    (
        f"domain:robot/balance representation:action/continuous {_NUMBERS}",
        "mujoco",
        "InvertedPendulum-v5 InvertedDoublePendulum-v5 HumanoidStandup-v5",
    ),
    (
        f"domain:control/variants {_NUMBERS}",
        "",
        " ".join(f"multienv/{original.partition('-')[0]}Variant-v0" for original in ORIGINALS),
    ),
    (
        f"domain:game/board mode:competitive representation:action/discrete {_GAME} {_FULL}",
        "pettingzoo",
        "pettingzoo.classic.tictactoe_v3 pettingzoo.classic.connect_four_v3",
    ),
    (
        f"domain:multiagent/classic mode:competitive representation:action/discrete {_GAME} {_FULL}",
        "pettingzoo",
        "pettingzoo.classic.tictactoe_v3 pettingzoo.classic.connect_four_v3 pettingzoo.classic.rps_v2",
    ),
    (
        f"domain:multiagent/sisl mode:cooperative representation:action/continuous {_SIMULATED} agents:multiple "
        "structure:structured representation:observation/continuous observability:partial markovian:false",
        "Box2D",
        "pettingzoo.sisl.multiwalker_v9",
    ),
    (
        f"domain:multiagent/atari domain:image/atari mode:competitive representation:action/discrete "
        f"{_IMAGES.replace('agents:single', 'agents:multiple')}",
        "multi_agent_ale_py",
        "pettingzoo.atari.mario_bros_v3 pettingzoo.atari.pong_v3",
    ),
)
_FAMILY_TAGS = {
    "ale_py": f"domain:image/atari domain:game/atari representation:action/discrete {_IMAGES}",
    "minigrid": f"domain:grid/minigrid domain:text/instructions structure:multimodal representation:action/discrete "
    f"representation:observation/discrete {_SINGLE} observability:partial markovian:false",
    "gymnasium_robotics": f"domain:robot/robotics representation:action/continuous {_NUMBERS}",
    "metaworld": f"domain:robot/manipulation representation:action/continuous {_NUMBERS}",
}
_BUNDLED_TAGS = {
    "Digits": "domain:image/digits structure:image representation:observation/discrete representation:action/discrete",
    "Iris": "domain:tabular/biology structure:structured",
    "Wine": "domain:tabular/chemistry structure:structured",
    "BreastCancer": "domain:tabular/medicine structure:structured",
    "Diabetes": "domain:tabular/medicine structure:structured",
    "Linnerud": "domain:tabular/medicine structure:structured",
}
_REGRESSIONS = ("Diabetes", "Linnerud")


def _built_in() -> Iterator[tuple[EnvSpec, str]]:
    """Environments with all their tags, and the package that each needs; one may come several times."""
    for tags, package, ids in _TABLE:
        for make in ids.split():
            yield _spec(make, tags), package
    for family in FAMILIES:
        if family.kwargs is None:
            for make in family.ids:
                yield _spec(make, _FAMILY_TAGS[family.package]), family.package
    for name in BUNDLED:
        kind = "regression" if name in _REGRESSIONS else "classification"
        action = "continuous" if name in _REGRESSIONS else "discrete"
        tags = f"{_BUNDLED_TAGS[name]} {_LABELS.replace('classification', kind)} representation:action/{action}"
        tags += "" if name == "Digits" else " representation:observation/continuous"
        env_id = re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()
        make = f"multienv/{name}-v0"
        for split, suffix, is_test in (("train", "", "false"), ("test", "-test", "true")):
            kwargs = {} if split == "train" else {"split": split}
            yield EnvSpec(env_id + suffix, make=make, kwargs=kwargs, tags=(*tags.split(), f"test:{is_test}")), "sklearn"


def _spec(make: str, tags: str) -> EnvSpec:
    if make.startswith("pettingzoo."):
        return EnvSpec(make.rpartition(".")[2], make=make, tags=tuple(tags.split()))
    return EnvSpec(make, tags=tuple(tags.split()))


_registry: dict[str, tuple[EnvSpec, str]] = {}


def _entries() -> dict[str, tuple[EnvSpec, str]]:
    if not _registry:
        for spec, package in _built_in():
            known = _registry.get(spec.id)
            tags = spec.tags if known is None else tuple(dict.fromkeys((*known[0].tags, *spec.tags)))
            _registry[spec.id] = replace(spec, tags=tags), package
    return _registry


def register_env(env: Any, tags: Iterable[str] = ()) -> EnvSpec:
    """Add an environment of your own; one of the same id is replaced.

    Args:
        env: An id, an EnvSpec, a `DatasetEnv`, or whatever else ``environment(envs=[...])`` takes.
        tags: Its tags, beside those that it has.

    Returns:
        What is registered.

    Raises:
        ValueError: A tag is not ``key:value``.
    """
    spec = EnvSpec.of(env)
    spec = replace(spec, tags=tuple(dict.fromkeys((*spec.tags, *tags))))
    for tag in spec.tags:
        if not re.fullmatch(r"[^:\s]+:[^:\s]+", tag):
            raise ValueError(f"Environment {spec.id!r}: the tag {tag!r} must be key:value, such as 'domain:image'.")
    _entries()[spec.id] = spec, ""
    return spec


def registered_envs(
    include: Iterable[str] = (), exclude: Iterable[str] = (), *, installed: bool = True
) -> tuple[EnvSpec, ...]:
    """Registered environments and data sets by tags, in the order of their registration.

    Args:
        include: Patterns, of which one must match; none: all.
        exclude: Patterns, of which none may match.
        installed: Whether those are left out whose package is not installed.
    """
    found = [
        spec
        for spec, package in _entries().values()
        if not installed or not package or importlib.util.find_spec(package) is not None
    ]
    return select(found, include, exclude)


def tags_of(spec: EnvSpec) -> tuple[str, ...]:
    """Tags of an environment: its own, or those of the registered one with the same `make`, whatever the version."""
    if spec.tags:
        return spec.tags
    if not isinstance(spec.make, str):
        return ()
    name = re.sub(r"[-_]v\d+$", "", spec.make)
    for known, _ in _entries().values():
        if re.sub(r"[-_]v\d+$", "", str(known.make)) == name:
            return known.tags
    return ()


def matches(tags: Iterable[str], pattern: str) -> bool:
    """Whether one of the tags is the pattern or below it."""
    pattern = pattern.lower()
    return any(f"{tag.lower()}/".startswith(f"{pattern}/") or tag.lower().startswith(f"{pattern}:") for tag in tags)


def select(specs: Sequence[EnvSpec], include: Iterable[str] = (), exclude: Iterable[str] = ()) -> tuple[EnvSpec, ...]:
    """The environments that patterns of tags select, in the given order.

    Environments without tags are not selected where there is something to include, and else are.

    Args:
        specs: The environments.
        include: Patterns, of which one must match; none: all.
        exclude: Patterns, of which none may match.

    Raises:
        ValueError: Nothing is left.
    """
    include, exclude = _patterns("include", include), _patterns("exclude", exclude)
    if not include and not exclude:
        return tuple(specs)
    found = []
    for spec in specs:
        tags = tags_of(spec)
        wanted = not include or any(matches(tags, pattern) for pattern in include)
        if wanted and not any(matches(tags, pattern) for pattern in exclude):
            found.append(spec)
    if not found:
        known = sorted({part for spec in specs for tag in tags_of(spec) for part in _parents(tag)})
        hints = [did_you_mean(pattern, known) for pattern in include if pattern not in known]
        raise ValueError(
            f"No environment is selected by include={list(include)} and exclude={list(exclude)}.{''.join(hints)}"
        )
    return tuple(found)


def all_tags() -> list[str]:
    """All tags of registered environments, sorted."""
    return sorted({tag for spec, _ in _entries().values() for tag in spec.tags})


def _patterns(name: str, patterns: Iterable[str]) -> tuple[str, ...]:
    if isinstance(patterns, str) or not all(isinstance(pattern, str) for pattern in patterns):
        raise TypeError(f"{name} must be a list of patterns such as ['domain:image'], not {patterns!r}.")
    return tuple(patterns)


def _parents(tag: str) -> Iterator[str]:
    """``"a:b/c"`` gives ``a``, ``a:b`` and itself."""
    yield tag.partition(":")[0]
    parts = tag.split("/")
    for count in range(1, len(parts) + 1):
        yield "/".join(parts[:count])
