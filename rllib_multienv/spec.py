"""Environment specifications: id, constructor, arguments, number of copies, and the description for networks."""

from __future__ import annotations

import functools
import importlib
import json
import pickle
import re
import sys
import warnings
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field, fields, replace
from pathlib import Path, PurePath
from typing import Any, Literal, get_args

import cloudpickle
import gymnasium as gym
import numpy as np

from rllib_multienv.gym_ids import SUITES, check_envpool_id, did_you_mean, find_env, register_missing, registrations
from rllib_multienv.spaces.space_spec import SpaceSpec, UnsupportedSpaceError

__all__ = ["Backend", "EnvSpec", "SpaceSpec", "UnsupportedSpaceError", "environment_keys", "resolve_env_specs"]

Backend = Literal["auto", "sync", "async", "envpool", "atari_vector", "vector"]
MakeEnv = Callable[..., gym.Env]

# Characters that RLlib refuses in a ModuleID (they become file names), and names that it uses itself.
_FORBIDDEN = re.compile(r'[<>:"/\\|?*\x00-\x1f]')
#: Bytes from which a pickled `make` or `kwargs` is worth a warning.
LARGE_SPEC = 2**20
_WHOLE_NUMBERS = ("num_envs", "max_episode_steps", "trial_episodes")
_RESERVED = ("shared", "__all_modules__", "__all__", "default_policy")


@dataclass(frozen=True)
class EnvSpec:
    """One environment to train on.

    ``EnvSpec("CartPole-v1")`` is a Gymnasium id; ``EnvSpec("long", make="CartPole-v1",
    max_episode_steps=1000)`` is the same environment under another id, so that one environment can be trained
    on twice with different settings.

    Attributes:
        id: The key of every metric, override and checkpoint; a label only. Without `make` it is also the Gymnasium
            id; a Gymnasium id that cannot be a key (``ALE/Pong-v5``) becomes one with ``-`` (``ALE-Pong-v5``).
        make: A Gymnasium id, ``"module:EnvId-v0"``, ``"package.module:ClassName"``, a module of PettingZoo such as
            ``"pettingzoo.classic.connect_four_v3"``, or a callable that returns a `gymnasium.Env`, a PettingZoo
            environment or RLlib's `MultiAgentEnv`. Defaults to `id`.
        kwargs: Keyword arguments for the environment's constructor. Not to be changed afterwards.
        num_envs: Number of copies to step together; None for the run's `num_envs_per_env_runner`.
        backend: Way of stepping the copies: ``"sync"`` one after another in this process, ``"async"`` in one
            process each, ``"envpool"`` by EnvPool's threads, ``"atari_vector"`` by ale-py's threads, ``"vector"`` as
            arrays (task families of this package), ``"auto"`` by the one that is known to be best.
        max_episode_steps: Time limit that replaces the registered one; None keeps the registered one.
        tags: Words to select environments by.
        description: The text by which networks tell environments apart, whatever their ids: position codes and task
            contexts are hashed from it. Default: `make` with `kwargs`, such as ``"CartPole-v1"`` or
            ``"Hopper-v4(frame_skip=2)"``; the id where `make` cannot be imported by name or `kwargs` are no plain
            values. Two environments may have the same description, and are then the same to agnostic networks.
        descriptors: A few words for each component, under ``"observation"`` and ``"action"``, for networks with
            ``descriptions="auto"``, such as ``{"observation": ["position cart", ...]}``. Default: those of the MuJoCo
            model, or of Gymnasium's classic and Box2D environments; none for others.
        role: The agents of a multi-agent environment that this is, where not all have equal spaces. Not to be given: an
            environment with several roles becomes one EnvSpec for each, with the ids ``id@role``.
        agent_index: Whether each agent of a multi-agent environment sees which one it is (one-hot).
        trial_episodes: Episodes K of a trial: K episodes of one task, which count as one episode everywhere (memory,
            advantages, evaluation); a family of tasks draws a new task for each trial (`envs.trials`). None: no trials.
        world: Name of the world that the environment is a member of. Not to be given: ``environment(worlds=...)`` says.
        world_copies: Copies in one world, also given there. There are ``num_envs * world_copies`` copies in all.
    """

    id: str
    _: KW_ONLY
    make: str | MakeEnv | None = None
    kwargs: Mapping[str, Any] = field(default_factory=dict, hash=False)
    num_envs: int | None = None
    backend: Backend = "auto"
    max_episode_steps: int | None = None
    tags: tuple[str, ...] = ()
    description: str = ""
    descriptors: Mapping[str, Sequence[str]] = field(default_factory=dict, hash=False)
    role: str = ""
    agent_index: bool = False
    trial_episodes: int | None = None
    world: str = ""
    world_copies: int = 1

    @property
    def group(self) -> str:
        """A key of the environments that are stepped together: the members of a world, or roles of one environment."""
        return f"world:{self.world}" if self.world else self.base_id

    @property
    def base_id(self) -> str:
        """The id of the environment that this is a role of."""
        return self.id.removesuffix(f"@{self.role}") if self.role else self.id

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
        for name in _WHOLE_NUMBERS:
            _check_positive(self.id, name, getattr(self, name))
        if self.backend not in get_args(Backend):
            hint = did_you_mean(str(self.backend), get_args(Backend))
            expected = ", ".join(get_args(Backend))
            raise ValueError(f"EnvSpec {self.id!r}: unknown backend {self.backend!r}; one of {expected}.{hint}")
        if self.trial_episodes is not None and self.backend in ("envpool", "atari_vector"):
            raise ValueError(
                f"EnvSpec {self.id!r}: trial_episodes={self.trial_episodes}: backend {self.backend!r} has no trials. "
                "Leave the backend out."
            )
        if self.backend == "envpool" and callable(self.make):
            raise ValueError(f"EnvSpec {self.id!r}: EnvPool has its own environments and cannot run a callable.")
        if isinstance(self.tags, str) or not all(isinstance(tag, str) for tag in self.tags):
            raise TypeError(f"EnvSpec {self.id!r}: tags must be a sequence of strings, not {self.tags!r}.")
        object.__setattr__(self, "tags", tuple(self.tags))
        if not isinstance(self.description, str):
            raise TypeError(f"EnvSpec {self.id!r}: description must be a string, not {self.description!r}.")
        if not self.description:
            object.__setattr__(self, "description", self._default_description())
        if not isinstance(self.descriptors, Mapping) or not self.descriptors.keys() <= {"observation", "action"}:
            raise ValueError(
                f"EnvSpec {self.id!r}: descriptors must map 'observation' and 'action' to lists of words, not "
                f"{self.descriptors!r}."
            )
        object.__setattr__(self, "descriptors", {key: tuple(names) for key, names in self.descriptors.items()})

    @classmethod
    def of(cls, value: str | EnvSpec | Mapping[str, Any] | MakeEnv | gym.Env) -> EnvSpec:
        """Make an EnvSpec from any form that a user may write.

        Args:
            value: An id, an EnvSpec, a mapping of its keyword arguments (as in a YAML file; ``id`` may be
                left out where ``make`` is a string), an environment class or factory function, whose name
                becomes the id, or an environment that `gym.make` made or that has a method ``env_spec()``.

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
        if isinstance(value, gym.Env):
            return cls._of_env(value)
        if callable(value):
            name = getattr(value, "__name__", "")
            if not name or name == "<lambda>":
                raise ValueError(f'{value!r} has no name to use as an id: write EnvSpec("a-name", make=...).')
            return cls(name, make=value)
        raise TypeError(f"An environment is a Gymnasium id, an EnvSpec, a mapping or a callable, not {value!r}.")

    @classmethod
    def _of_env(cls, env: gym.Env) -> EnvSpec:
        own = getattr(env.unwrapped, "env_spec", None)
        if callable(own):
            return own()
        if env.spec is None:
            raise ValueError(
                f'{env} was not made by gym.make, so no copies of it can be made: write EnvSpec("a-name", make=...).'
            )
        registered, limit = gym.registry.get(env.spec.id), env.spec.max_episode_steps
        given = {key: value for key, value in env.spec.kwargs.items() if key != "render_mode"}
        defaults = {} if registered is None else registered.kwargs
        kwargs = {key: value for key, value in given.items() if key not in defaults or not _same(value, defaults[key])}
        is_default = registered is not None and limit == registered.max_episode_steps
        return cls(env.spec.id, kwargs=kwargs, max_episode_steps=None if is_default else limit)

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

    def of_role(self, role: str) -> EnvSpec:
        """The same environment for the agents of one role, ``id@role``."""
        is_default = self.description == self._default_description()
        description = "" if is_default else f"{self.description}@{role}"
        return replace(self, id=f"{self.base_id}@{role}", make=self.make, role=role, description=description)

    def space_spec(
        self,
        observation_space: gym.Space,
        action_space: gym.Space,
        *,
        obs_names: Sequence[str] = (),
        action_names: Sequence[str] = (),
        **options: Any,
    ) -> SpaceSpec:
        """The spaces of one copy, with the description and `descriptors` of this environment.

        Args:
            observation_space: Of one copy.
            action_space: Of one copy.
            obs_names, action_names: Names of components where there are no `descriptors`.
            options: ``mask_in_info`` and ``agents`` of `SpaceSpec.from_spaces`.
        """
        return SpaceSpec.from_spaces(
            self.id,
            observation_space,
            action_space,
            description=self.description,
            obs_names=self.descriptors.get("observation", obs_names),
            action_names=self.descriptors.get("action", action_names),
            **options,
        )

    def to_dict(self) -> dict[str, Any]:
        """A JSON-able mapping of the fields that differ from their defaults, which `from_dict` reads.

        NumPy numbers and tuples in `kwargs` come back as Python's numbers and lists, arrays and paths as they were.

        Raises:
            ValueError: `make` is a callable that cannot be imported by name, or `kwargs` hold another kind of value.
        """
        data: dict[str, Any] = {"id": self.id}
        make = self._make_by_name()
        if make is None:
            raise ValueError(
                f"EnvSpec {self.id!r}: {self.make!r} cannot be written down, because it cannot be imported by name. "
                "Define it at the top level of a module, or give make as a string 'module:Name'."
            )
        if make != self.id:
            data["make"] = make
        if self.kwargs:
            data["kwargs"] = _to_json(f"EnvSpec {self.id!r}: kwargs", self.kwargs)
        for name in _WHOLE_NUMBERS:
            if getattr(self, name) is not None:
                data[name] = getattr(self, name)
        if self.backend != "auto":
            data["backend"] = self.backend
        if self.tags:
            data["tags"] = list(self.tags)
        if self.description != self._default_description():
            data["description"] = self.description
        if self.role:
            data["role"] = self.role
        if self.world:
            data |= {"world": self.world, "world_copies": self.world_copies}
        if self.agent_index:
            data["agent_index"] = True
        if self.descriptors:
            data["descriptors"] = {key: list(names) for key, names in self.descriptors.items()}
        return data

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> EnvSpec:
        """Build from `to_dict`'s result."""
        return cls._of_mapping({**data, "kwargs": _from_json(data.get("kwargs", {}))})

    def _make_by_name(self) -> str | None:
        """`make`, or ``"module:Name"`` of a callable; None for a callable that cannot be imported by name."""
        if isinstance(self.make, str):
            return self.make
        module, name = getattr(self.make, "__module__", None), getattr(self.make, "__qualname__", "")
        if not module or module == "__main__" or getattr(sys.modules.get(module), name, None) is not self.make:
            return None
        return f"{module}:{name}"

    def _default_description(self) -> str:
        make = self._make_by_name()
        if make is not None and self.role:
            make = f"{make}@{self.role}"
        if make is None or not self.kwargs:
            return make or self.id
        try:
            arguments = [f"{name}={json.dumps(value, sort_keys=True)}" for name, value in sorted(self.kwargs.items())]
        except (TypeError, ValueError):
            return self.id
        return f"{make}({', '.join(arguments)})"

    def __eq__(self, other: object) -> bool:
        """Compare all fields; arrays in `kwargs` by their elements."""
        if not isinstance(other, EnvSpec):
            return NotImplemented
        plain = [f.name for f in fields(self) if f.name != "kwargs"]
        return all(getattr(self, n) == getattr(other, n) for n in plain) and _same(self.kwargs, other.kwargs)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle with all that another process needs: lambdas and local functions by value, Gymnasium registrations."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        registered = b""
        if callable(self.make):
            values["make"] = cloudpickle.dumps(self.make)
        elif isinstance(self.make, str):
            registered = registrations(self.make)
        values["kwargs"] = cloudpickle.dumps(self.kwargs)
        size = sum(len(values[name]) for name in ("make", "kwargs") if isinstance(values[name], bytes))
        if size > LARGE_SPEC:
            _warn_of_size(self.id, round(size / 2**20))
        return _unpickle, (values, registered)


@functools.cache  # once: specs are pickled many times
def _warn_of_size(env_id: str, mebibytes: int) -> None:
    warnings.warn(
        f"EnvSpec {env_id!r}: make and kwargs take {mebibytes} MiB, which are sent to every worker and saved several "
        "times in every checkpoint. Define the class in a module, and load its data in the constructor.",
        UserWarning,
        stacklevel=3,
    )


def _unpickle(values: dict[str, Any], registered: bytes = b"") -> EnvSpec:
    register_missing(registered)
    if isinstance(values["kwargs"], bytes):
        values = {**values, "kwargs": pickle.loads(values["kwargs"])}
    if isinstance(values["make"], bytes):
        values = {**values, "make": pickle.loads(values["make"])}
    # Specs of earlier versions have no description: networks used the id.
    return EnvSpec(**{"description": values["id"], **values})


# Mappings with one of these keys stand for values of `kwargs` that JSON does not know.
_ARRAY, _PATH = "__array__", "__path__"


def _to_json(what: str, value: Any) -> Any:
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or type(value) in (bool, int, float, str):
        return value
    if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        return {key: _to_json(f"{what}[{key!r}]", item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_to_json(f"{what}[{i}]", item) for i, item in enumerate(value)]
    if isinstance(value, np.ndarray) and value.dtype.kind in "biufU":
        return {_ARRAY: value.tolist(), "dtype": value.dtype.str}
    if isinstance(value, PurePath):
        return {_PATH: str(value)}
    raise ValueError(
        f"{what}={value!r} cannot be written down. Use numbers, strings, lists, mappings, arrays or paths; or define a "
        "function at the top level of a module that makes the environment without it."
    )


def _from_json(value: Any) -> Any:
    if isinstance(value, list):
        return [_from_json(item) for item in value]
    if not isinstance(value, Mapping):
        return value
    if _ARRAY in value:
        return np.array(value[_ARRAY], dtype=value["dtype"])
    return Path(value[_PATH]) if _PATH in value else {key: _from_json(item) for key, item in value.items()}


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        return a.keys() == b.keys() and all(_same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple) and isinstance(b, list | tuple):
        return len(a) == len(b) and all(map(_same, a, b))
    return bool(np.array_equal(a, b))


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


def environment_keys(environments: Iterable[EnvSpec | SpaceSpec]) -> dict[str, int]:
    """Integers for seeds and shuffles that do not depend on the ids: ``{env_id: key}``, each below 2**32.

    A key is the CRC-32 of the description; of environments with the same description the second, third, ... in the
    given order have another one. Give all environments of the run in their order, on every runner and learner, so that
    all find the same keys. Use a key wherever randomness belongs to an environment, together with the run's seed::

        keys = environment_keys(config.space_specs.values())
        rng = np.random.default_rng([seed, update, keys[env_id]])

    so that renaming an environment changes no seed and no order of rows.
    """
    keys: dict[str, int] = {}
    seen: Counter[str] = Counter()
    for environment in environments:
        text = environment.description
        seen[text] += 1
        text += f" #{seen[text]}" if seen[text] > 1 else ""
        keys[environment.id if isinstance(environment, EnvSpec) else environment.env_id] = zlib.crc32(text.encode())
    return keys


def _specs_of(value: Any) -> Sequence[EnvSpec]:
    suite = SUITES.get(value.lower()) if isinstance(value, str) else None
    if suite is None:
        return [EnvSpec.of(value)]
    module, _, name = suite.partition(":")
    return getattr(importlib.import_module(module), name)()


def resolve_env_specs(envs: Any) -> tuple[EnvSpec, ...]:
    """The environments of a run, checked.

    Args:
        envs: One of, or an iterable of, what `EnvSpec.of` takes; also names of `gym_ids.SUITES`.

    Returns:
        One EnvSpec per environment, in the given order.

    Raises:
        ValueError: There is none; two have one id; an id is unknown to Gymnasium (the nearest are named); a suite needs
            a package that is not installed.
        ModuleNotFoundError: The module of a ``"module:Name"`` cannot be imported.
    """
    single = isinstance(envs, str | EnvSpec | Mapping | gym.Env) or callable(envs)
    if not single and not isinstance(envs, Iterable):
        raise TypeError(f"envs must be a list of environments, not {envs!r}.")
    specs = tuple(spec for value in ([envs] if single else envs) for spec in _specs_of(value))
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
                check_envpool_id(spec.id, spec.make)
            else:
                find_env(spec.make)
    return specs
