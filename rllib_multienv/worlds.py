"""Worlds: environments that one policy sees at the same time."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field, fields, replace
from typing import Any, Literal

from rllib_multienv.gym_ids import did_you_mean
from rllib_multienv.spec import EnvSpec, resolve_env_specs

__all__ = ["WorldSpec", "join_worlds", "resolve_worlds"]


@dataclass(frozen=True)
class WorldSpec:
    """A world: its environments are stepped together, and with ``world_attention=True`` their policies see one another.

    ``num_envs`` of its environments is the number of copies of the whole world.

    Attributes:
        envs: Its members, each as in ``environment(envs=[...])``, or the id of one that is given there.
        copies: Copies of a member in one world, by env id; one where not given.
        share_task: Whether the members, task families with the same tasks, have the same task at the same time: a new
            one when their episodes (with ``trial_episodes``, trials) begin. Members with episodes of another length
            have their n-th episodes in common.
        credit: Rewards that members learn from. ``"own"``: each its own. ``"joint"``: all the weighted sum of the
            members' rewards in a time step, each divided by its running scale.
        weights: Factors in that sum by env id; one where not given.
    """

    envs: Sequence[Any]
    _: KW_ONLY
    copies: Mapping[str, int] = field(default_factory=dict)
    share_task: bool = False
    credit: Literal["own", "joint"] = "own"
    weights: Mapping[str, float] = field(default_factory=dict)

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

    @property
    def env_ids(self) -> list[str]:
        """Ids of the members."""
        return [EnvSpec.of(env).id for env in self.envs]

    def without(self, env_ids: Iterable[str]) -> WorldSpec | None:
        """This world without some members; None if no other is left."""
        gone = set(env_ids)
        left = [env for env, env_id in zip(self.envs, self.env_ids, strict=True) if env_id not in gone]
        kept: Any = {n: {e: v for e, v in getattr(self, n).items() if e not in gone} for n in ("copies", "weights")}
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
        ValueError: An environment is a member of two worlds; or ``copies`` or ``weights`` name another one.
    """
    found = {spec.id: replace(spec, world="", world_copies=1) if spec.world else spec for spec in envs}
    for name, world in worlds.items():
        given = [EnvSpec.of(env) for env in world.envs]
        ids = [spec.id for spec in given]
        members = [found.get(s.id, s) if isinstance(env, str) else s for env, s in zip(world.envs, given, strict=True)]
        for env_id in (*world.copies, *world.weights):
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
