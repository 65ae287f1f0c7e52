"""Resolution of environment strings: a Gymnasium id, or a name inside a Python module.

Two spellings with a colon are in use and both are understood: Gymnasium's ``"module:EnvId-v0"`` (import the module,
which registers the id) and the entry-point spelling ``"package.module:ClassName"`` (import the module, take the class
or factory function from it).
"""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import re
from collections.abc import Callable, Iterable
from functools import cache
from typing import Any

import gymnasium as gym

# Packages whose environments exist only after their import. Imported only when an id is unknown.
_NAMESPACE_PROVIDERS = {"ALE": "ale_py", "Meta-World": "metaworld"}
_PLAIN_PROVIDERS = ("gymnasium_robotics",)


def nearest(name: str, candidates: Iterable[str], n: int = 3) -> list[str]:
    """The candidates that look most like `name`, best first; letter case does not matter."""
    by_lower: dict[str, str] = {}
    for candidate in candidates:
        by_lower.setdefault(candidate.lower(), candidate)
    return [by_lower[m] for m in difflib.get_close_matches(name.lower(), by_lower, n=n, cutoff=0.5)]


def did_you_mean(name: str, candidates: Iterable[str], n: int = 3) -> str:
    """``" Did you mean 'a' or 'b'?"`` for the nearest candidates, or an empty string."""
    found = [repr(c) for c in nearest(name, candidates, n)]
    if not found:
        return ""
    return f" Did you mean {' or '.join([', '.join(found[:-1]), found[-1]] if found[1:] else found)}?"


def nearest_env_ids(name: str, n: int = 5) -> list[str]:
    """At most `n` registered Gymnasium ids that are similar to a mistyped `name`, best first.

    Names are compared without their versions ("cartpole" is near "CartPole-v1" although a third of the letters
    differ); of one environment's versions the newest comes first.
    """
    stem = _stem(name)
    versions: dict[str, list[tuple[int, str]]] = {}
    for env_id, env_spec in gym.registry.items():
        versions.setdefault(_stem(env_id), []).append((env_spec.version or 0, env_id))
    found = [
        env_id
        for match in difflib.get_close_matches(stem, versions, n=n, cutoff=0.5)
        for _, env_id in sorted(versions[match], reverse=True)
    ]
    # A stem with many versions must not push every other candidate out of a short list.
    newest_first = sorted(found, key=lambda env_id: _age(env_id, versions[_stem(env_id)]))
    return newest_first[:n]


def _stem(env_id: str) -> str:
    return re.sub(r"-v\d+$", "", env_id).lower()


def _age(env_id: str, versions: list[tuple[int, str]]) -> int:
    return sorted((v for v, _ in versions), reverse=True).index(gym.registry[env_id].version or 0)


def find_env(make: str) -> str | Callable[..., Any]:
    """Resolve an environment string.

    Args:
        make: ``"CartPole-v1"``, ``"module:EnvId-v0"`` or ``"package.module:ClassName"``.

    Returns:
        A Gymnasium id that `gym.make` knows now, or the class or function that the string names.

    Raises:
        ValueError: Nothing of that name exists; the message offers the nearest names.
        ModuleNotFoundError: The module before the colon cannot be imported.
    """
    module_name, _, name = make.rpartition(":")
    if not module_name:
        if _is_registered(make):
            return make
        raise ValueError(_unknown_id_message(make))

    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"Environment {make!r}: cannot import {module_name!r} ({error}). "
            "Is the package installed, and the folder on PYTHONPATH?"
        ) from error
    if _is_registered(name):
        return name
    found = getattr(module, name, None)
    if callable(found):
        return found
    public = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
    hint = did_you_mean(name, public) or did_you_mean(name, gym.registry)
    raise ValueError(
        f"Environment {make!r}: module {module_name!r} neither registers a Gymnasium id {name!r} nor holds a "
        f"class or function of that name.{hint}"
    )


def _is_registered(env_id: str) -> bool:
    """Whether `gym.make(env_id)` will find it, after the import of its provider if that is known."""
    if env_id in gym.registry:
        return True
    if _is_unversioned_name(env_id):
        return True
    namespace, slash, _ = env_id.partition("/")
    providers = (_NAMESPACE_PROVIDERS.get(namespace),) if slash else _PLAIN_PROVIDERS
    for provider in providers:
        if provider and importlib.util.find_spec(provider):
            module = importlib.import_module(provider)
            gym.register_envs(module)
            if env_id in gym.registry:
                return True
    return False


def _is_unversioned_name(env_id: str) -> bool:
    """Whether it is a name like ``"CartPole"``, for which Gymnasium takes the newest version."""
    return any(s.version is not None and env_id == s.id.removesuffix(f"-v{s.version}") for s in gym.registry.values())


def _unknown_id_message(env_id: str) -> str:
    message = f"There is no environment {env_id!r} in Gymnasium's registry."
    namespace, slash, _ = env_id.partition("/")
    provider = _NAMESPACE_PROVIDERS.get(namespace) if slash else None
    if provider and not importlib.util.find_spec(provider):
        return f"{message} The ids of {namespace!r} come with the package {provider!r}, which is not installed."
    found = nearest_env_ids(env_id)
    if found:
        message += f" The nearest names are {', '.join(map(repr, found))}."
    return (
        f'{message} An environment of your own is named by "your_module:YourEnv", by EnvSpec("a-name", '
        "make=YourEnv), or by its id after gymnasium.register(...)."
    )


def envpool_is_installed() -> bool:
    """Whether the package envpool can be imported."""
    return importlib.util.find_spec("envpool") is not None


@cache
def _envpool_ids() -> frozenset[str]:
    import envpool

    return frozenset(envpool.list_all_envs())


def check_envpool_id(env_id: str, make: str) -> None:
    """Check that EnvPool is installed and has the environment `make`; the error names `env_id`.

    Raises:
        ValueError: EnvPool is not installed, or does not have the environment (the nearest are named).
    """
    if not envpool_is_installed():
        raise ValueError(
            f"Environment {env_id!r} asks for backend='envpool', but EnvPool is not installed: "
            "pip install 'rllib_multienv[envpool]', or use backend='sync'."
        )
    if make not in _envpool_ids():
        raise ValueError(f"Environment {env_id!r}: EnvPool has no {make!r}.{did_you_mean(make, _envpool_ids())}")
