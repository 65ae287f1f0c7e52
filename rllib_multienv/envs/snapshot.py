"""Reading an environment's whole state out in the middle of an episode, and putting it back.

Gymnasium has no interface for that, so the instance attributes of the environment and of every wrapper are
taken: numbers, arrays, random generators, containers and plain Python objects of those. Objects shared
between attributes stay shared, and references back to an environment of the chain stay references. MuJoCo's
physics is read through MuJoCo. Whatever keeps state where Python does not reach (Box2D worlds, emulators,
sockets, other environments inside) makes the whole environment one that cannot be captured: better none than
a wrong one. Not covered, because nothing shows it: state in modules and classes, such as the global
``np.random``.
"""

from __future__ import annotations

import collections
import enum
import hashlib
import io
import itertools
import pickle
import random
import sys
import types
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
# What NumPy's generators are rebuilt by; pickled by name like any function. Each extension has a type of its
# own.
_COMPILED_FUNCTION = "cython_function_or_method"
# Drawing does not act on the dynamics.
_RENDERING_MODULES = ("pygame", "gymnasium.envs.mujoco.mujoco_rendering")
_PICKLED_AS_THEY_ARE = (
    np.generic, np.dtype, np.random.Generator, np.random.BitGenerator, np.random.SeedSequence,
    np.random.RandomState, random.Random, enum.Enum, collections.deque, collections.OrderedDict,
    collections.defaultdict, range, slice, types.FunctionType, types.BuiltinFunctionType, type,
)  # fmt: skip
_BUILTIN_BASES = (object, tuple, list, dict, set, frozenset, int, float, str, bytes)


class SnapshotError(RuntimeError):
    """A captured state does not fit the environment that it is to be restored into."""


def capture_env(env: gym.Env) -> bytes | None:
    """Everything that decides what the environment does next.

    Args:
        env: An environment that was reset at least once, with its wrappers.

    Returns:
        Bytes for `restore_env`, or None if the environment holds something that cannot be read out.
    """
    chain = _chain(env)
    kept = _kept(chain)
    attributes = [
        {name: value for name, value in vars(layer).items() if not _is_static(name, value) and id(value) not in kept}
        for layer in chain
    ]
    generators = [
        {name: space._np_random for name, space in vars(layer).items() if isinstance(space, gym.Space)}
        for layer in chain
    ]
    physics = {key: _capture_physics(data) for key, data in _mujoco_data(chain).items()}
    buffer = io.BytesIO()
    pickler = _StatePickler(buffer, kept)
    try:
        pickler.dump({"attributes": attributes, "generators": generators, "physics": physics})
    except Exception:  # extension types refuse with whatever exception they like
        return None
    if pickler.arrays_overlap():
        return None
    return pickle.dumps({"layers": [_name(layer) for layer in chain], "state": buffer.getvalue()})


def restore_env(env: gym.Env, state: bytes) -> None:
    """Put a captured state into an environment of the same making.

    Args:
        env: Made as the captured one was, and reset at least once.
        state: What `capture_env` gave.

    Raises:
        SnapshotError: The environment has other wrappers, or another MuJoCo model, than the captured one.
    """
    outer = pickle.loads(state)
    chain = _chain(env)
    layers = [_name(layer) for layer in chain]
    if layers != outer["layers"]:
        raise SnapshotError(f"the environment is built as {layers}, but was captured as {outer['layers']}")
    by_key = {key: value for _, (key, value) in _kept(chain).items()}
    inner = _StateUnpickler(io.BytesIO(outer["state"]), by_key).load()
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


# -- the environment and its wrappers -----------------------------------------------------------------------


def _chain(env: gym.Env) -> list[gym.Env]:
    chain = [env]
    while isinstance(chain[-1], gym.Wrapper):
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


class _StatePickler(pickle.Pickler):
    """Pickles plain Python state by value, and refuses what might lose some of its state on the way."""

    def __init__(self, file: io.BytesIO, kept: dict[int, tuple[tuple[int, str], Any]]) -> None:
        super().__init__(file, protocol=5)
        self._kept = kept
        self._arrays: dict[int, np.ndarray] = {}

    def persistent_id(self, obj: Any) -> tuple[int, str] | None:
        found = self._kept.get(id(obj))
        return None if found is None else found[0]

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
        # What an earlier restore put there was unpickled into a window onto bytes.
        while isinstance(base, np.ndarray | memoryview):
            base = base.obj if isinstance(base, memoryview) else base.base
        if base is not None and not isinstance(base, bytes | bytearray):
            raise pickle.PicklingError("an array is a window into memory that is not NumPy's")

    def arrays_overlap(self) -> bool:
        """Whether two captured arrays are views of the same memory, which copies of them would not be."""
        bounds = sorted(np.lib.array_utils.byte_bounds(a) for a in self._arrays.values() if a.size)
        return any(upper > lower for (_, upper), (lower, _) in itertools.pairwise(bounds))


class _StateUnpickler(pickle.Unpickler):
    def __init__(self, file: io.BytesIO, kept: dict[tuple[int, str], Any]) -> None:
        super().__init__(file)
        self._kept = kept

    def persistent_load(self, pid: Any) -> Any:
        try:
            return self._kept[pid]
        except KeyError:
            raise SnapshotError(f"the captured environment had an attribute {pid[1]!r} that this one lacks") from None


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


# -- MuJoCo --------------------------------------------------------------------------------------------------


def _is_mujoco(value: Any) -> bool:
    # Without importing MuJoCo: who has one of its objects has imported it.
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
    """What MuJoCo computes from the state, and environments read before the next step, as bodies' positions.

    After a step these belong to the state *before* its last integration, so computing them anew would not
    give the same numbers. Constraint arrays (``efc_``) vary in length and are rebuilt by every step.
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
