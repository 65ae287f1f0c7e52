"""Captures an environment's whole state in the middle of an episode, and restores it.

Gymnasium has no interface for that, so the instance attributes of the environment and of every wrapper are taken:
numbers, arrays, random generators, containers and plain Python objects of those. Objects shared between attributes
stay shared, and references back to the environment or a wrapper stay references. MuJoCo's physics is read through
MuJoCo. Large arrays that every new copy has too, such as a table of prices, are left out. An
environment that keeps state outside Python (Box2D worlds, emulators, sockets, other environments inside) cannot be
captured: better no state than a wrong one. Not covered, because nothing shows it: state in modules and classes, such
as the global ``np.random``.
"""

from __future__ import annotations

import collections
import enum
import functools
import hashlib
import io
import itertools
import pickle
import random
import sys
import types
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.envs.registration import EnvSpec as GymEnvSpec
from gymnasium.utils import EzPickle

# Attributes that are never state: how an environment or wrapper was constructed.
_STATIC_NAMES = frozenset({"_ezpickle_args", "_ezpickle_kwargs", "_saved_kwargs", "_cached_spec"})
_STATIC_TYPES = (
    gym.Space,
    GymEnvSpec,
    type,
    types.ModuleType,
    types.FunctionType,
    types.MethodType,
    types.BuiltinFunctionType,
)
# NumPy's generators are rebuilt by such a function, which is pickled by name. Each extension has its own such type.
_COMPILED_FUNCTION = "cython_function_or_method"
# Drawing does not act on the dynamics.
_RENDERING_MODULES = ("pygame", "gymnasium.envs.mujoco.mujoco_rendering")
_PICKLED_AS_THEY_ARE = (
    np.generic, np.dtype, np.random.Generator, np.random.BitGenerator, np.random.SeedSequence,
    np.random.RandomState, random.Random, enum.Enum, collections.deque, collections.OrderedDict,
    collections.defaultdict, range, slice, types.FunctionType, types.BuiltinFunctionType, type,
)  # fmt: skip
_BUILTIN_BASES = (object, tuple, list, dict, set, frozenset, int, float, str, bytes)
#: Bytes from which an array is left out where a new copy of the environment has it too.
LARGE = 2**16

#: Digest of a large array, and its number among those with the same content.
Key = tuple[str, int]


class SnapshotError(RuntimeError):
    """A captured state does not fit the environment that it is to be restored into."""


def capture_env(env: Any, is_constant: Callable[[Key], bool] = lambda key: False) -> bytes | None:
    """Everything that decides what the environment does next.

    Args:
        env: An environment that was reset at least once, with its wrappers; a `gymnasium.Env` or an `AgentsEnv`.
        is_constant: Whether `large_arrays` of a new copy has this key; such objects are left out.

    Returns:
        Bytes for `restore_env`, or None if the environment holds something that cannot be captured.
    """
    chain = _chain(env)
    physics = {key: _capture_physics(data) for key, data in _mujoco_data(chain).items()}
    buffer = io.BytesIO()
    pickler = _StatePickler(buffer, _kept(chain), is_constant)
    try:
        pickler.dump({**_state(chain, pickler.kept), "physics": physics})
    except Exception:  # extension types refuse with whatever exception they like
        return None
    if pickler.arrays_overlap():
        return None
    return pickle.dumps({"layers": [_name(layer) for layer in chain], "state": buffer.getvalue()})


def restore_env(env: Any, state: bytes, fresh: Callable[[], dict[Key, np.ndarray]] = dict) -> None:
    """Put a captured state into an environment of the same making.

    Args:
        env: Made as the captured one was, and reset at least once.
        state: From `capture_env`.
        fresh: Gives `large_arrays` of a new copy; called if the state needs one that `env` has changed.

    Raises:
        SnapshotError: The environment has other wrappers, another MuJoCo model or other constants than the captured
            one.
    """
    outer = pickle.loads(state)
    chain = _chain(env)
    layers = [_name(layer) for layer in chain]
    if layers != outer["layers"]:
        raise SnapshotError(f"the environment is built as {layers}, but was captured as {outer['layers']}")
    inner = _StateUnpickler(io.BytesIO(outer["state"]), env, fresh).load()
    for layer, attributes in zip(chain, inner["attributes"], strict=True):
        if (fit_model := getattr(layer, "fit_model", None)) is not None:  # a model that depends on the attributes
            fit_model(attributes)
    data = _mujoco_data(chain)
    for key, physics in inner["physics"].items():
        if key not in data or _model_digest(data[key].model) != physics["model"]:
            raise SnapshotError("its MuJoCo model is not the one of the captured environment")
    for layer, attributes, generators in zip(chain, inner["attributes"], inner["generators"], strict=True):
        vars(layer).update(attributes)
        for name, generator in generators.items():
            getattr(layer, name)._np_random = generator
    for key, physics in inner["physics"].items():
        _restore_physics(data[key], physics)


def large_arrays(env: gym.Env) -> dict[Key, np.ndarray]:
    """The large arrays in an environment's state; none if it cannot be captured."""
    chain = _chain(env)
    pickler = _StatePickler(io.BytesIO(), _kept(chain), lambda key: True)
    try:
        pickler.dump(_state(chain, pickler.kept))
    except Exception:
        return {}
    return pickler.large


# The environment and its wrappers


def _chain(env: Any) -> list[Any]:
    chain = [env]
    # Wrappers of PettingZoo, and AgentsEnv, keep what they wrap in the same attribute as Gymnasium's.
    while isinstance(chain[-1], gym.Wrapper) or (not isinstance(chain[-1], gym.Env) and "env" in vars(chain[-1])):
        chain.append(chain[-1].env)
    return chain


def _name(layer: gym.Env) -> str:
    return f"{type(layer).__module__}.{type(layer).__qualname__}"


def _is_static(name: str, value: Any) -> bool:
    return (
        name in _STATIC_NAMES
        or isinstance(value, _STATIC_TYPES)
        or type(value).__module__.startswith(_RENDERING_MODULES)
    )


def _kept(chain: list[gym.Env]) -> dict[int, tuple[tuple[int, str], Any]]:
    """Objects that a restored environment keeps its own of: {identity: ((layer, attribute), object)}."""
    kept: dict[int, tuple[tuple[int, str], Any]] = {id(layer): ((i, ""), layer) for i, layer in enumerate(chain)}
    for i, layer in enumerate(chain):
        for name, value in vars(layer).items():
            if isinstance(value, gym.Space) or _is_mujoco(value):
                kept.setdefault(id(value), ((i, name), value))
    return kept


def _state(chain: list[gym.Env], kept: dict[int, Any]) -> dict[str, Any]:
    """Attributes of each layer, and the generators of its spaces."""
    return {
        "attributes": [
            {k: value for k, value in vars(layer).items() if not _is_static(k, value) and id(value) not in kept}
            for layer in chain
        ],
        "generators": [
            {name: space._np_random for name, space in vars(layer).items() if isinstance(space, gym.Space)}
            for layer in chain
        ],
    }


class _StatePickler(pickle.Pickler):
    """Pickles plain Python state by value, and refuses objects that might lose some of their state on the way.

    Attributes:
        kept: See `_kept`.
        large: The large arrays that were left out.
    """

    def __init__(self, file: io.BytesIO, kept: dict[int, Any], is_constant: Callable[[Key], bool]) -> None:
        super().__init__(file, protocol=5)
        self.kept = kept
        self.large: dict[Key, np.ndarray] = {}
        self._is_constant = is_constant
        self._keys: dict[int, Key] = {}  # of large arrays, by identity
        self._count: collections.Counter[str] = collections.Counter()
        self._arrays: dict[int, np.ndarray] = {}

    def persistent_id(self, obj: Any) -> Any:
        found = self.kept.get(id(obj))
        if found is not None:
            return found[0]
        if type(obj) is not np.ndarray or obj.nbytes < LARGE or obj.dtype.hasobject:
            return None
        self._arrays[id(obj)] = obj
        if id(obj) not in self._keys:
            content = hashlib.blake2b(np.ascontiguousarray(obj).view(np.uint8).data, digest_size=16)
            content.update(f"{obj.dtype.str} {obj.shape} {obj.strides}".encode())
            digest = content.hexdigest()
            self._keys[id(obj)] = digest, self._count[digest]
            self._count[digest] += 1
        key = self._keys[id(obj)]
        if not self._is_constant(key):
            return None
        self.large[key] = obj
        return ("large", *key)

    def reducer_override(self, obj: Any) -> Any:
        if isinstance(obj, np.ndarray):
            self._check_owner(obj)
            self._arrays[id(obj)] = obj
        elif not isinstance(obj, _PICKLED_AS_THEY_ARE) and not _is_plain_object(obj):
            raise pickle.PicklingError(f"cannot be sure to capture all of a {type(obj).__name__}")
        return NotImplemented

    @staticmethod
    def _check_owner(array: np.ndarray) -> None:
        base = array.base
        # Arrays from an earlier restore were unpickled as windows onto bytes.
        while isinstance(base, np.ndarray | memoryview):
            base = base.obj if isinstance(base, memoryview) else base.base
        if base is not None and not isinstance(base, bytes | bytearray):
            raise pickle.PicklingError("an array is a window into memory that is not NumPy's")

    def arrays_overlap(self) -> bool:
        """Whether two captured arrays are views of the same memory, which copies of them would not be."""
        bounds = sorted(np.lib.array_utils.byte_bounds(a) for a in self._arrays.values() if a.size)
        return any(upper > lower for (_, upper), (lower, _) in itertools.pairwise(bounds))


class _StateUnpickler(pickle.Unpickler):
    """Finds the objects that a state refers to in the environment that it is restored into."""

    def __init__(self, file: io.BytesIO, env: gym.Env, fresh: Callable[[], dict[Key, np.ndarray]]) -> None:
        super().__init__(file)
        self._kept = dict(_kept(_chain(env)).values())
        self._large = functools.cache(lambda: large_arrays(env))
        self._fresh = functools.cache(fresh)

    def persistent_load(self, pid: Any) -> Any:
        if pid[0] != "large":
            if pid not in self._kept:
                raise SnapshotError(f"the captured environment had an attribute {pid[1]!r} that this one lacks")
            return self._kept[pid]
        key = pid[1:]
        found = self._large() if key in self._large() else self._fresh()
        if key not in found:
            raise SnapshotError("a large array that a new copy had then is another one now")
        return found[key]


def _is_plain_object(obj: Any) -> bool:
    """Whether an object is Python through and through, so that its attributes are all of its state."""
    if isinstance(obj, gym.Env | EzPickle):  # EzPickle pickles the constructor's arguments and forgets the rest
        return False
    cls = type(obj)
    if cls.__name__ == _COMPILED_FUNCTION:
        return True
    if any(base not in _BUILTIN_BASES and base.__module__ == "builtins" for base in cls.__mro__):
        return False
    pickling = ("__reduce_ex__", "__reduce__", "__getstate__")
    return all(getattr(cls, name) is getattr(object, name) for name in pickling)


# MuJoCo


def _is_mujoco(value: Any) -> bool:
    # Without importing MuJoCo: where one of its objects exists, it is imported.
    mujoco = sys.modules.get("mujoco")
    return mujoco is not None and isinstance(value, mujoco.MjModel | mujoco.MjData)


def _mujoco_data(chain: list[gym.Env]) -> dict[tuple[int, str], Any]:
    mujoco = sys.modules.get("mujoco")
    if mujoco is None:
        return {}
    return {key: value for key, value in _kept(chain).values() if isinstance(value, mujoco.MjData)}


def _model_digest(model: Any) -> str:
    import mujoco

    buffer = np.empty(mujoco.mj_sizeModel(model), np.uint8)
    mujoco.mj_saveModel(model, None, buffer)
    return hashlib.sha1(buffer.tobytes(), usedforsecurity=False).hexdigest()


def _derived(data: Any) -> dict[str, np.ndarray]:
    """Arrays that MuJoCo computes from the state, and environments read before the next step, as bodies' positions.

    After a step these belong to the state *before* its last integration, so computing them anew would not give the
    same numbers. Constraint arrays (``efc_``) vary in length and are rebuilt by every step.
    """
    arrays = {name: getattr(data, name) for name in dir(data) if not name.startswith(("_", "efc_", "plugin"))}
    return {
        name: array for name, array in arrays.items() if isinstance(array, np.ndarray) and array.dtype == np.float64
    }


def _capture_physics(data: Any) -> dict[str, Any]:
    import mujoco

    kind = mujoco.mjtState.mjSTATE_INTEGRATION
    state = np.empty(mujoco.mj_stateSize(data.model, kind), np.float64)
    mujoco.mj_getState(data.model, data, state, kind)
    return {
        "model": _model_digest(data.model),
        "state": state,
        "derived": {name: array.copy() for name, array in _derived(data).items() if array.size},
    }


def _restore_physics(data: Any, physics: dict[str, Any]) -> None:
    import mujoco

    mujoco.mj_setState(data.model, data, physics["state"], mujoco.mjtState.mjSTATE_INTEGRATION)
    mujoco.mj_forward(data.model, data)
    for name, saved in physics["derived"].items():
        live = getattr(data, name)
        if live.shape == saved.shape:
            live[...] = saved
