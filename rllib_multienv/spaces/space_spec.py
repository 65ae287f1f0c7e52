"""Conversion between Gymnasium spaces and the flat vectors of networks.

Networks see observations as float32 ``[B, I]``, give discrete actions as ``0 .. n-1`` and continuous actions in
``[-1, 1]``. Only this module knows how these map to a space's start, bounds, shape and dtype.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from rllib_multienv.spaces.rows import ActionPart, ActionRow, ObservationRow

_SUPPORTED = (
    "Supported are observations in a Box of rank 1 or a Discrete space, and actions in a Discrete space or a "
    "Box of rank 1."
)
# Bounds as large as float32's largest number are how many environments write "no bound".
_NO_BOUND = 1e30
_warned_unbounded: set[str] = set()
_MEASURED = ("obs_measured", "action_measured")


class UnsupportedSpaceError(ValueError):
    """An environment's observation or action space is of an unsupported kind, rank or size."""


@dataclass(frozen=True)
class SpaceSpec:
    """The spaces of one environment, and the conversion to flat vectors and back.

    Satisfies the networks' `Interface` protocol. Make one with `from_spaces`. It can be pickled and written as JSON.

    Attributes:
        env_id: The environment's id, named in every error.
        observation_space: Space of a single copy.
        action_space: Space of a single copy.
        obs_size: Length I of the flat observation (one-hot for Discrete).
        action_size: Number of actions of a Discrete space, or the length A of the action vector.
        discrete: Whether actions are discrete.
        action_low: Lower bounds in use, length A; empty for discrete actions.
        action_high: Upper bounds in use, length A; empty for discrete actions.
        description: See `EnvSpec.description`; the id where none is given.
        obs_names: Names of the observation's components, a few words each; empty if not known.
        action_names: Names of the discrete actions or of the action's components; empty if not known.
        obs_measured: Measured features of the observation's components (`envs.measure`); empty if not measured.
        action_measured: The same of the discrete actions or of the action's components.
    """

    env_id: str
    observation_space: gym.Space = field(hash=False)
    action_space: gym.Space = field(hash=False)
    obs_size: int
    action_size: int
    discrete: bool
    action_low: tuple[float, ...]
    action_high: tuple[float, ...]
    description: str = ""
    obs_names: tuple[str, ...] = ()
    action_names: tuple[str, ...] = ()
    obs_measured: tuple[tuple[float, ...], ...] = field(default=(), hash=False)
    action_measured: tuple[tuple[float, ...], ...] = field(default=(), hash=False)

    def __post_init__(self) -> None:
        """Fill in the description, and check the numbers of names."""
        object.__setattr__(self, "description", self.description or self.env_id)
        for kind, names, size in (
            ("observation", self.obs_names, self.obs_size),
            ("action", self.action_names, self.action_size),
        ):
            if names and len(names) != size:
                raise ValueError(f"Environment {self.env_id!r}: {len(names)} {kind} names for {size} components.")

    @classmethod
    def from_spaces(
        cls,
        env_id: str,
        observation_space: gym.Space,
        action_space: gym.Space,
        *,
        description: str = "",
        obs_names: Sequence[str] = (),
        action_names: Sequence[str] = (),
    ) -> SpaceSpec:
        """Read the spaces of a single copy of an environment.

        Where a Box action has no bounds, ``[-1, 1]`` is used, and where it has one, the interval of length 2
        at that bound; a `UserWarning` says so once per environment and process.

        Raises:
            UnsupportedSpaceError: A space is of an unsupported kind, rank or size.
            ValueError: There are names, but not one for each component.
        """
        obs_size = _obs_size(env_id, observation_space)
        named = (description, tuple(obs_names), tuple(action_names))
        if isinstance(action_space, spaces.Discrete):
            n = int(action_space.n)
            return cls(env_id, observation_space, action_space, obs_size, n, True, (), (), *named)
        if not isinstance(action_space, spaces.Box) or len(action_space.shape) != 1 or action_space.shape[0] == 0:
            raise _unsupported(env_id, "action", action_space)
        low, high = _usable_bounds(env_id, action_space)
        size = int(action_space.shape[0])
        return cls(env_id, observation_space, action_space, obs_size, size, False, tuple(low), tuple(high), *named)

    @cached_property
    def observation(self) -> ObservationRow:
        """Layout of a row of observations."""
        return ObservationRow(self.obs_size)

    @cached_property
    def action(self) -> ActionRow:
        """Layout of a row of actions."""
        return ActionRow((ActionPart("categorical" if self.discrete else "continuous", self.action_size),))

    def has_spaces_of(self, other: SpaceSpec) -> bool:
        """Whether observations and actions are the same; id, description and names may differ."""
        own, theirs = (
            (spec.observation_space, spec.action_space, spec.action_low, spec.action_high) for spec in (self, other)
        )
        return own == theirs

    def flatten_obs(self, obs: np.ndarray) -> np.ndarray:
        """Flatten a batch of observations.

        Args:
            obs: ``[B, ...]`` as a vector environment gives it.

        Returns:
            ``[B, I]``: float32, but float64 where `obs` and the space both have numbers that float32 cannot hold:
            normalising needs them. May share memory with `obs` if that has this form already.
        """
        obs = np.asarray(obs)
        if isinstance(self.observation_space, spaces.Discrete):
            index = obs.reshape(-1).astype(np.int64) - int(self.observation_space.start)
            if index.size and (index.min() < 0 or index.max() >= self.obs_size):
                raise ValueError(
                    f"Environment {self.env_id!r} gave an observation outside its space "
                    f"{self.observation_space}: values from {obs.min()} to {obs.max()}."
                )
            flat = np.zeros((index.size, self.obs_size), dtype=np.float32)
            flat[np.arange(index.size), index] = 1.0
            return flat
        wide = self._is_wide and not np.can_cast(obs.dtype, np.float32)
        return obs.reshape(-1, self.obs_size).astype(np.float64 if wide else np.float32, copy=False)

    def action_to_env(self, actions: np.ndarray) -> np.ndarray:
        """Turn the network's actions into the environment's.

        Args:
            actions: Discrete: integers ``[B]`` in ``0 .. n-1``. Box: floats ``[B, A]``; ``[-1, 1]`` spans the bounds,
                and numbers outside of it are clipped.

        Returns:
            ``[B]`` or ``[B, A]`` in the action space's range and dtype.
        """
        space = self.action_space
        if isinstance(space, spaces.Discrete):
            return (np.asarray(actions) + space.start).astype(space.dtype, copy=False)
        centre, half, low, high = self._affine
        scaled = np.clip(np.asarray(actions, dtype=np.float32), -1.0, 1.0) * half + centre
        if self._integer_actions:
            return np.rint(np.clip(scaled, low, high)).reshape(-1, *space.shape).astype(space.dtype, copy=False)  # type: ignore[misc]
        # Rounding, above or to the space's dtype, may overshoot a bound by one unit in the last place.
        scaled = np.clip(scaled.astype(space.dtype, copy=False), low.astype(space.dtype), high.astype(space.dtype))
        return scaled.reshape(-1, *space.shape)  # type: ignore[misc]

    def action_from_env(self, actions: np.ndarray) -> np.ndarray:
        """The inverse of `action_to_env`, for recorded data.

        Args:
            actions: ``[B]`` or ``[B, A]`` as the environment takes them.

        Returns:
            int64 ``[B]`` in ``0 .. n-1``, or float32 ``[B, A]`` in ``[-1, 1]`` (clipped).
        """
        space = self.action_space
        if isinstance(space, spaces.Discrete):
            return np.asarray(actions, dtype=np.int64).reshape(-1) - int(space.start)
        centre, half, _, _ = self._affine
        flat = np.asarray(actions, dtype=np.float32).reshape(-1, self.action_size)
        # A dimension whose bounds coincide carries no information: its inverse is 0.
        unit = np.divide(flat - centre, half, out=np.zeros_like(flat), where=half > 0)
        return np.clip(unit, -1.0, 1.0)

    @cached_property
    def _affine(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        # Centre and half-width rather than low and width: exact for symmetric bounds, the common case.
        low = np.asarray(self.action_low, dtype=np.float64)
        high = np.asarray(self.action_high, dtype=np.float64)
        as32 = np.float32
        return ((low + high) / 2).astype(as32), ((high - low) / 2).astype(as32), low, high

    @cached_property
    def _is_wide(self) -> bool:
        return not np.can_cast(np.dtype(self.observation_space.dtype), np.float32)

    @cached_property
    def _integer_actions(self) -> bool:
        return np.issubdtype(self.action_space.dtype, np.integer)

    def __getstate__(self) -> dict[str, Any]:
        """Pickle the fields without what was computed from them."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore the fields; the description of earlier versions is the id."""
        self.__dict__.update({"description": state["env_id"], **state})

    def to_dict(self) -> dict[str, Any]:
        """A strictly JSON-able description (infinities as strings); `from_dict` reads it."""
        return {
            "env_id": self.env_id,
            "description": self.description,
            "obs_names": list(self.obs_names),
            "action_names": list(self.action_names),
            "observation_space": _space_to_dict(self.observation_space),
            "action_space": _space_to_dict(self.action_space),
            "action_low": list(self.action_low),
            "action_high": list(self.action_high),
            **{name: [list(row) for row in getattr(self, name)] for name in _MEASURED if getattr(self, name)},
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> SpaceSpec:
        """Build from `to_dict`'s result; the description of earlier versions is the id."""
        observation_space = _space_from_dict(data["observation_space"])
        action_space = _space_from_dict(data["action_space"])
        discrete = isinstance(action_space, spaces.Discrete)
        return cls(
            env_id=data["env_id"],
            observation_space=observation_space,
            action_space=action_space,
            obs_size=_obs_size(data["env_id"], observation_space),
            action_size=int(action_space.n) if isinstance(action_space, spaces.Discrete) else len(data["action_low"]),
            discrete=discrete,
            action_low=tuple(float(x) for x in data["action_low"]),
            action_high=tuple(float(x) for x in data["action_high"]),
            description=data.get("description", ""),
            obs_names=tuple(data.get("obs_names", ())),
            action_names=tuple(data.get("action_names", ())),
            **{name: tuple(tuple(map(float, row)) for row in data.get(name, ())) for name in _MEASURED},
        )


def _unsupported(env_id: str, role: str, space: Any) -> UnsupportedSpaceError:
    return UnsupportedSpaceError(f"Environment {env_id!r} has an unsupported {role} space: {space}. {_SUPPORTED}")


def _obs_size(env_id: str, space: gym.Space) -> int:
    if isinstance(space, spaces.Discrete):
        return int(space.n)
    if isinstance(space, spaces.Box) and len(space.shape) == 1 and space.shape[0] > 0:
        return int(space.shape[0])
    raise _unsupported(env_id, "observation", space)


def _usable_bounds(env_id: str, space: spaces.Box) -> tuple[list[float], list[float]]:
    low, high = [], []
    unbounded = False
    for lo, hi in zip(space.low.astype(np.float64).tolist(), space.high.astype(np.float64).tolist(), strict=True):
        has_low, has_high = abs(lo) < _NO_BOUND, abs(hi) < _NO_BOUND
        unbounded |= not (has_low and has_high)
        low.append(lo if has_low else hi - 2.0 if has_high else -1.0)
        high.append(hi if has_high else lo + 2.0 if has_low else 1.0)
    if unbounded and env_id not in _warned_unbounded:
        _warned_unbounded.add(env_id)
        warnings.warn(
            f"Environment {env_id!r} has an action space without bounds, {space}: actions from {low} to "
            f"{high} are used. Wrap it in gymnasium.wrappers.ClipAction or RescaleAction, or declare bounds, "
            "if its actions mean another range.",
            UserWarning,
            stacklevel=3,
        )
    return low, high


def _space_to_dict(space: gym.Space) -> dict[str, Any]:
    if isinstance(space, spaces.Discrete):
        return {"kind": "discrete", "n": int(space.n), "start": int(space.start), "dtype": str(space.dtype)}
    assert isinstance(space, spaces.Box)
    return {
        "kind": "box",
        "shape": list(space.shape),
        "dtype": str(space.dtype),
        "low": _numbers_to_json(space.low),
        "high": _numbers_to_json(space.high),
    }


def _space_from_dict(data: Mapping[str, Any]) -> gym.Space:
    dtype = np.dtype(data["dtype"])
    if data["kind"] == "discrete":
        return spaces.Discrete(data["n"], start=data["start"], dtype=dtype.type)
    if data["kind"] != "box":
        raise ValueError(f"Unknown kind of space {data['kind']!r}; expected 'box' or 'discrete'.")
    low, high = (_numbers_from_json(data[key], data["shape"], dtype) for key in ("low", "high"))
    return spaces.Box(low=low, high=high, dtype=dtype.type)


def _numbers_to_json(values: np.ndarray) -> list[Any]:
    """Numbers for JSON, which has no infinity: that is a string which `float` reads."""
    return [v if isinstance(v, int) or math.isfinite(v) else str(v) for v in values.reshape(-1).tolist()]


def _numbers_from_json(values: list[Any], shape: list[int], dtype: np.dtype) -> np.ndarray:
    numbers = [float(v) if isinstance(v, str) else v for v in values]
    return np.array(numbers, dtype=dtype).reshape(shape)
