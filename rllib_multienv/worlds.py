"""Worlds: environments that one policy sees at the same time."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field, fields, replace
from typing import Any, Literal

import numpy as np

from rllib_multienv.gym_ids import did_you_mean
from rllib_multienv.spec import EnvSpec, resolve_env_specs

__all__ = ["WorldSpec", "join_worlds", "resolve_worlds"]

#: Fields of a `WorldSpec` that have a value for each member.
_BY_MEMBER = ("copies", "weights", "starts", "stops")


@dataclass(frozen=True)
class WorldSpec:
    """A world: its environments are stepped together, and with ``world_attention=True`` their policies see one another.

    ``num_envs`` of its environments is the number of copies of the whole world.

    Attributes:
        envs: Its members, each as in ``environment(envs=[...])``, or the id of one that is given there.
        copies: Copies of a member in one world, by env id; one where not given.
        share_task: Whether the members, task families with the same tasks, have the same task at the same time: a new
            one when their episodes (with ``trial_episodes``, trials) begin. Members with episodes of another length
            have their n-th episodes in common. With ``stops`` they have one task for a whole life of the world.
        credit: Rewards that members learn from. ``"own"``: each its own. ``"joint"``: all the weighted sum of the
            members' rewards in a time step, each divided by its running scale.
        weights: Factors in that sum by env id; one where not given.
        starts: Time steps of the world's life at which members join: a number for all, a list of one for each (copies
            side by side), or by env id a number or a list of one for each copy; 0 where not given. Before, nobody sees
            a member, and nothing is learned from it. A member that joins begins an episode.
        stops: Time steps at which members leave, in the same form: their episodes end there as by a time limit. When
            the last has left, another life of the world begins. Members that are not given are the last to leave; with
            none, the world lives on, and members that have joined stay.
    """

    envs: Sequence[Any]
    _: KW_ONLY
    copies: Mapping[str, int] = field(default_factory=dict)
    share_task: bool = False
    credit: Literal["own", "joint"] = "own"
    weights: Mapping[str, float] = field(default_factory=dict)
    starts: Any = ()
    stops: Any = ()

    def __post_init__(self) -> None:
        """Check every field."""
        if isinstance(self.envs, str | Mapping) or not isinstance(self.envs, Iterable) or not list(self.envs):
            raise ValueError(f"WorldSpec: envs={self.envs!r} must be a list of environments.")
        object.__setattr__(self, "envs", tuple(self.envs))
        if not isinstance(self.share_task, bool):
            raise ValueError(f"WorldSpec: share_task={self.share_task!r} must be True or False.")
        if self.credit not in ("own", "joint"):
            raise ValueError(f"WorldSpec: credit={self.credit!r} must be 'own' or 'joint'.")
        for name, known in (("copies", int), ("weights", (int, float))):
            values = getattr(self, name)
            if not isinstance(values, Mapping) or not all(isinstance(v, known) and v > 0 for v in values.values()):
                raise ValueError(f"WorldSpec: {name}={values!r} must map env ids to numbers above 0.")
            object.__setattr__(self, name, dict(values))
        for name in ("starts", "stops"):
            object.__setattr__(self, name, self._by_copy(name))
        for env_id, times in (self.times or {}).items():
            if env_id in self.stops and any(start >= stop for start, stop in times):
                raise ValueError(
                    f"WorldSpec: stops={self.stops!r}: {env_id!r} joins at {self.starts.get(env_id, 0)!r}; "
                    "it must leave later."
                )
        if self.share_task and self.starts and not self.stops:
            raise ValueError(
                f"WorldSpec: starts={self.starts!r} with share_task=True needs stops: there is a new task when all "
                "members have left."
            )

    def _by_copy(self, name: str) -> dict[str, tuple[int, ...]]:
        """Time steps of `starts` or `stops` by env id, one for each copy; members that are not given are missing."""
        value = getattr(self, name)
        sizes = {env_id: self.copies.get(env_id, 1) for env_id in self.env_ids}
        if isinstance(value, int):
            value = dict.fromkeys(sizes, value)
        elif not isinstance(value, Mapping):
            given, total = list(value) if isinstance(value, Iterable) else [value], sum(sizes.values())
            if len(given) not in (0, total):
                raise ValueError(f"WorldSpec: {name}={value!r} must have one number for each of {total} members.")
            ends = np.cumsum([*sizes.values()]).tolist() if given else []
            value = {e: given[end - sizes[e] : end] for e, end in zip(sizes, ends, strict=False)}
        found = {}
        for env_id, times in value.items():
            k = sizes.get(env_id, 1)
            own = [times] * k if isinstance(times, int) else list(times)
            least = 0 if name == "starts" else 1
            if len(own) != k or not all(isinstance(t, int) and t >= least for t in own):
                raise ValueError(
                    f"WorldSpec: {name}={value!r}: {env_id!r} must have a whole number of at least {least}, or one for "
                    f"each of its copies, of which there are {k}."
                )
            found[env_id] = tuple(own)
        return found

    @classmethod
    def staggered(cls, envs: Sequence[Any], *, every: int, stay: int, **fields: Any) -> WorldSpec:
        """Staggered lifelong learning: members with one hidden task join one after another, and leave in that order.

        Args:
            envs: Its members.
            every: Time steps between two that join; copies of one environment count each.
            stay: Time steps for which each stays.
            fields: Further ones, such as ``copies={"bandit": 3}``.
        """
        world = cls(envs, **fields)
        starts = [every * number for number in range(sum(world.copies.get(e, 1) for e in world.env_ids))]
        shared: Any = {"share_task": True, **fields}
        return cls(envs, **shared, starts=starts, stops=[start + stay for start in starts])

    @classmethod
    def parallel_domains(cls, env: Any, copies: int, **fields: Any) -> WorldSpec:
        """Parallel randomised domains: copies of one environment with the same hidden parameters.

        Args:
            env: The environment, a task family.
            copies: Copies of it in one world.
            fields: Further ones.
        """
        return cls([env], copies={EnvSpec.of(env).id: copies}, share_task=True, **fields)

    @property
    def env_ids(self) -> list[str]:
        """Ids of the members."""
        return [EnvSpec.of(env).id for env in self.envs]

    @property
    def life(self) -> int | None:
        """Time steps after which the world begins again; None: it never does."""
        return max((stop for stops in self.stops.values() for stop in stops), default=None)

    @property
    def times(self) -> dict[str, list[tuple[int, float]]] | None:
        """For each copy of each member the time step at which it joins and that at which it leaves; None: all stay."""
        if not self.starts and not self.stops:
            return None
        end = math.inf if self.life is None else self.life
        sizes = {env_id: self.copies.get(env_id, 1) for env_id in self.env_ids}
        starts = {env_id: self.starts.get(env_id, (0,) * k) for env_id, k in sizes.items()}
        return {e: list(zip(starts[e], self.stops.get(e, (end,) * k), strict=True)) for e, k in sizes.items()}

    def having(self, env: EnvSpec) -> WorldSpec:
        """This world with one more member, which is there from the beginning of each life to its end."""
        return replace(self, envs=[*self.envs, env], copies={**self.copies, env.id: env.world_copies})

    def without(self, env_ids: Iterable[str]) -> WorldSpec | None:
        """This world without some members; None if no other is left."""
        gone = set(env_ids)
        left = [env for env, env_id in zip(self.envs, self.env_ids, strict=True) if env_id not in gone]
        kept: Any = {n: {e: v for e, v in getattr(self, n).items() if e not in gone} for n in _BY_MEMBER}
        return replace(self, envs=left, **kept) if left else None


def resolve_worlds(value: Any) -> dict[str, WorldSpec]:
    """The worlds of a run by name.

    Args:
        value: A list of worlds, or a mapping of names to worlds; a world is a list of environments, a `WorldSpec`, or a
            mapping of its fields. Without a name it has the ids of its members, such as ``"oracle+guess"``.

    Raises:
        ValueError: A field is unknown or wrong.
        TypeError: It is nothing of that kind.
    """
    if not isinstance(value, Mapping | Sequence) or isinstance(value, str):
        raise TypeError(f"worlds must be a list of worlds, or a mapping of names to worlds, not {value!r}.")
    if isinstance(value, Mapping):
        return {str(name): _world(world) for name, world in value.items()}
    worlds = [_world(world) for world in value]
    return {"+".join(world.env_ids): world for world in worlds}


def _world(value: Any) -> WorldSpec:
    if isinstance(value, WorldSpec):
        return value
    if not isinstance(value, Mapping):
        return WorldSpec(value)
    known = [f.name for f in fields(WorldSpec) if f.name != "_"]
    for key in value:
        if key not in known:
            raise ValueError(f"World {dict(value)!r}: unknown key {key!r}.{did_you_mean(str(key), known)}")
    return WorldSpec(**value)


def join_worlds(envs: Sequence[EnvSpec], worlds: Mapping[str, WorldSpec]) -> tuple[EnvSpec, ...]:
    """All environments of a run, each with the world that it is a member of.

    Args:
        envs: Environments; members of worlds that are not among them are added.
        worlds: Worlds by name.

    Raises:
        ValueError: An environment is a member of two worlds; or a field names another one.
    """
    found = {spec.id: replace(spec, world="", world_copies=1) if spec.world else spec for spec in envs}
    for name, world in worlds.items():
        given = [EnvSpec.of(env) for env in world.envs]
        ids = [spec.id for spec in given]
        for env, spec in zip(world.envs, given, strict=True):
            if isinstance(env, str) and env not in found:
                try:
                    resolve_env_specs([spec])
                except ValueError as error:
                    others = f" Environments of the run: {', '.join(found)}." if found else ""
                    raise ValueError(f"World {name!r}: {error}{others}") from error
        members = [found.get(s.id, s) if isinstance(env, str) else s for env, s in zip(world.envs, given, strict=True)]
        for env_id in (e for field_name in _BY_MEMBER for e in getattr(world, field_name)):
            if env_id not in ids:
                raise ValueError(
                    f"World {name!r} has no environment {env_id!r}; it has {', '.join(ids)}.{did_you_mean(env_id, ids)}"
                )
        for spec in members:
            taken, spec = found.get(spec.id, spec), replace(spec, world="", world_copies=1)
            if taken.world or taken != spec:
                other = f"also in world {taken.world!r}" if taken.world else "given twice, with different settings"
                raise ValueError(f"World {name!r}: environment {spec.id!r} is {other}. Give it another id.")
            found[spec.id] = replace(spec, world=name, world_copies=world.copies.get(spec.id, 1))
    return resolve_env_specs(tuple(found.values()))
