"""What an environment is to this package: a name, a way to make it, and how many copies of it to run."""

from __future__ import annotations

import inspect
import pickle
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import KW_ONLY, dataclass, field, fields
from typing import Any, Literal, cast, get_args

import cloudpickle
import gymnasium as gym

from rllib_multienv.gym_ids import did_you_mean, find_env
from rllib_multienv.space_spec import SpaceSpec, UnsupportedSpaceError

__all__ = ["Backend", "EnvSpec", "SpaceSpec", "UnsupportedSpaceError", "resolve_env_specs"]

Backend = Literal["auto", "sync", "async", "envpool"]
MakeEnv = Callable[..., gym.Env]

# What RLlib refuses in a ModuleID (they become file names), and names that mean something else there.
_FORBIDDEN = re.compile(r'[<>:"/\\|?*\x00-\x1f]')
_RESERVED = ("shared", "__all_modules__", "__all__", "default_policy")


@dataclass(frozen=True)
class EnvSpec:
    """One environment to train on.

    ``EnvSpec("CartPole-v1")`` is a Gymnasium id; ``EnvSpec("long", make="CartPole-v1",
    max_episode_steps=1000)`` is the same environment under a name of its own, so that one environment can
    be trained on twice with different settings.

    Attributes:
        id: The key of every metric, override and checkpoint. Without `make` it is also the Gymnasium id; a
            Gymnasium id that cannot be a key (``ALE/Pong-v5``) becomes one with ``-`` (``ALE-Pong-v5``).
        make: A Gymnasium id, ``"module:EnvId-v0"``, ``"package.module:ClassName"``, or a callable that
            returns a `gymnasium.Env`. Defaults to `id`.
        kwargs: Keyword arguments for the environment's constructor. Not to be changed afterwards.
        num_envs: Number of copies to step together; None for the run's `num_envs_per_env_runner`.
        backend: How the copies are stepped: ``"sync"`` one after another in this process, ``"async"`` each in
            a process of its own, ``"envpool"`` by EnvPool's threads, ``"auto"`` whichever is known to be
            best.
        max_episode_steps: Time limit that replaces the registered one; None keeps that.
        tags: Words to select environments by.
    """

    id: str
    _: KW_ONLY
    make: str | MakeEnv | None = None
    kwargs: Mapping[str, Any] = field(default_factory=dict, hash=False)
    num_envs: int | None = None
    backend: Backend = "auto"
    max_episode_steps: int | None = None
    tags: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Check every field, and fill in `make`."""
        if not isinstance(self.id, str):
            raise TypeError(f"EnvSpec.id must be a string, not {self.id!r}; for a class: EnvSpec.of(YourEnv).")
        if self.make is None:
            object.__setattr__(self, "make", self.id)
            object.__setattr__(self, "id", _FORBIDDEN.sub("-", self.id))
        _check_id(self.id)
        if not (isinstance(self.make, str) and self.make) and not callable(self.make):
            raise TypeError(
                f"EnvSpec {self.id!r}: make must be a Gymnasium id, 'module:Name' or a callable, not {self.make!r}."
            )
        if not isinstance(self.kwargs, Mapping) or not all(isinstance(key, str) for key in self.kwargs):
            raise TypeError(f"EnvSpec {self.id!r}: kwargs must map argument names to values, not {self.kwargs!r}.")
        object.__setattr__(self, "kwargs", dict(self.kwargs))
        for name in ("num_envs", "max_episode_steps"):
            _check_positive(self.id, name, getattr(self, name))
        if self.backend not in get_args(Backend):
            hint = did_you_mean(str(self.backend), get_args(Backend))
            expected = ", ".join(get_args(Backend))
            raise ValueError(f"EnvSpec {self.id!r}: unknown backend {self.backend!r}; one of {expected}.{hint}")
        if self.backend == "envpool" and callable(self.make):
            raise ValueError(f"EnvSpec {self.id!r}: EnvPool has its own environments and cannot run a callable.")
        if isinstance(self.tags, str) or not all(isinstance(tag, str) for tag in self.tags):
            raise TypeError(f"EnvSpec {self.id!r}: tags must be a sequence of strings, not {self.tags!r}.")
        object.__setattr__(self, "tags", tuple(self.tags))

    @classmethod
    def of(cls, value: str | EnvSpec | Mapping[str, Any] | MakeEnv) -> EnvSpec:
        """Make an EnvSpec of what a user may write for one.

        Args:
            value: An id, an EnvSpec, a mapping of its keyword arguments (as in a YAML file; ``id`` may be
                left out where ``make`` is a string), or an environment class or factory function, whose name
                becomes the id.

        Raises:
            ValueError: A key is unknown (the nearest known one is named), or a value is not allowed.
            TypeError: A value is of the wrong type.
        """
        if isinstance(value, EnvSpec):
            return value
        if isinstance(value, str):
            return cls(value)
        if isinstance(value, Mapping):
            return cls._of_mapping(value)
        if callable(value):
            name = getattr(value, "__name__", "")
            if not name or name == "<lambda>":
                raise ValueError(f'{value!r} has no name to use as an id: write EnvSpec("a-name", make=...).')
            return cls(name, make=value)
        raise TypeError(f"An environment is a Gymnasium id, an EnvSpec, a mapping or a callable, not {value!r}.")

    @classmethod
    def _of_mapping(cls, value: Mapping[str, Any]) -> EnvSpec:
        known = [f.name for f in fields(cls)]
        for key in value:
            if key not in known:
                raise ValueError(
                    f"Environment {value.get('id', dict(value))!r}: unknown key {key!r}."
                    f"{did_you_mean(str(key), known)} Known keys: {', '.join(known)}."
                )
        arguments = {key: item for key, item in value.items() if item is not None}
        if "id" in arguments:
            return cls(**arguments)
        make = arguments.pop("make", None)
        if not isinstance(make, str):
            raise ValueError(f"Environment {dict(value)!r} needs an 'id'.")
        # Through `id`, so that a `make` that cannot be a key is turned into one.
        return cls(make, **arguments)

    def to_dict(self) -> dict[str, Any]:
        """A mapping of what differs from the defaults, JSON-able if `kwargs` is; `from_dict` reads it.

        Raises:
            ValueError: `make` is a callable that cannot be imported by name.
        """
        data: dict[str, Any] = {"id": self.id}
        make = self.make if isinstance(self.make, str) else _importable_name(self.id, cast(MakeEnv, self.make))
        if make != self.id:
            data["make"] = make
        if self.kwargs:
            data["kwargs"] = dict(self.kwargs)
        for name in ("num_envs", "max_episode_steps"):
            if getattr(self, name) is not None:
                data[name] = getattr(self, name)
        if self.backend != "auto":
            data["backend"] = self.backend
        if self.tags:
            data["tags"] = list(self.tags)
        return data

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> EnvSpec:
        """Build from `to_dict`'s result."""
        return cls._of_mapping(data)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle by value where `make` is a lambda or a local function, which plain pickle refuses."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        if callable(self.make):
            values["make"] = cloudpickle.dumps(self.make)
        return _unpickle, (values,)


def _unpickle(values: dict[str, Any]) -> EnvSpec:
    if isinstance(values["make"], bytes):
        values = {**values, "make": pickle.loads(values["make"])}
    return EnvSpec(**values)


def _check_id(env_id: str) -> None:
    problem = None
    if not env_id.strip():
        problem = "it is empty"
    elif _FORBIDDEN.search(env_id):
        problem = f"it contains {_FORBIDDEN.search(env_id)[0]!r}"  # type: ignore[index]
    elif env_id[-1] in ". " or env_id[0] == " ":
        problem = "it starts with a space, or ends with one or with a dot"
    elif env_id in _RESERVED:
        problem = "it is a reserved name"
    if problem:
        suggestion = _FORBIDDEN.sub("-", env_id).strip(" ").rstrip(". ")
        better = f" Use for instance {suggestion!r}." if suggestion and suggestion != env_id else ""
        raise ValueError(
            f"{env_id!r} cannot be an environment's id, because {problem}; ids name modules and files, so "
            f'they may not contain any of < > : " / \\ | ? *.{better}'
        )


def _check_positive(env_id: str, name: str, value: Any) -> None:
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"EnvSpec {env_id!r}: {name} must be a whole number or None, not {value!r}.")
    if value < 1:
        raise ValueError(f"EnvSpec {env_id!r}: {name} must be at least 1, not {value}.")


def _importable_name(env_id: str, make: MakeEnv) -> str:
    module, qualname = getattr(make, "__module__", None), getattr(make, "__qualname__", "")
    found = getattr(inspect.getmodule(make), qualname, None) if qualname.isidentifier() else None
    if not module or module == "__main__" or found is not make:
        raise ValueError(
            f"EnvSpec {env_id!r}: {make!r} cannot be written down, because it cannot be imported by name. "
            "Define it at the top level of a module, or give make as a string 'module:Name'."
        )
    return f"{module}:{qualname}"


def resolve_env_specs(envs: Any) -> tuple[EnvSpec, ...]:
    """The environments of a run, checked.

    Args:
        envs: One of, or an iterable of, what `EnvSpec.of` takes.

    Returns:
        One EnvSpec per environment, in the given order.

    Raises:
        ValueError: There is none; two have one id; an id is unknown to Gymnasium (the nearest are named).
        ModuleNotFoundError: The module of a ``"module:Name"`` cannot be imported.
    """
    single = isinstance(envs, str | EnvSpec | Mapping) or callable(envs)
    if not single and not isinstance(envs, Iterable):
        raise TypeError(f"envs must be a list of environments, not {envs!r}.")
    specs = tuple(EnvSpec.of(value) for value in ([envs] if single else envs))
    if not specs:
        raise ValueError('No environment was given: envs=["CartPole-v1", ...] names at least one.')
    seen: set[str] = set()
    for spec in specs:
        if spec.id in seen:
            make = f'"{spec.make}"' if isinstance(spec.make, str) else "..."
            raise ValueError(
                f"Two environments have the id {spec.id!r}. To train on one environment twice, give it two "
                f'ids: EnvSpec("{spec.id}-a", make={make}), EnvSpec("{spec.id}-b", make={make}).'
            )
        seen.add(spec.id)
        if isinstance(spec.make, str):
            if spec.backend == "envpool":
                from rllib_multienv.envs.envpool_backend import check_available

                check_available(spec)
            else:
                find_env(spec.make)
    return specs
