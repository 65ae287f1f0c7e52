"""SpaceSpec: the spaces of one environment, and the conversion to rows and back."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from rllib_multienv.spaces.actions import ActionWriter
from rllib_multienv.spaces.observations import ObservationReader
from rllib_multienv.spaces.previous import previous_names
from rllib_multienv.spaces.rows import ActionRow, ObservationRow
from rllib_multienv.spaces.tree import UnsupportedSpaceError as UnsupportedSpaceError

_MEASURED = ("obs_measured", "action_measured")


@dataclass(frozen=True)
class SpaceSpec:
    """The spaces of one environment, and the conversion to rows (`spaces.rows`) and back.

    Satisfies the networks' `Interface` protocol. Make one with `from_spaces`. It can be pickled and written as JSON.

    Attributes:
        env_id: The environment's id, named in every error.
        observation_space: Space of a single copy.
        action_space: Space of a single copy.
        action_low: Lower bounds in use of the continuous components; empty without them.
        action_high: Upper bounds in use.
        description: See `EnvSpec.description`; the id where none is given.
        obs_names: Names of the observation's numbers, a few words each; empty if not known, or those that are not.
        action_names: Names of the logits and continuous components of actions; empty if not known.
        obs_measured: Measured features of the observation's numbers (`envs.measure`); empty if not measured.
        action_measured: The same of the logits and continuous components of actions.
        mask_in_info: Whether infos have an action mask.
        agents: Names of the agents, in the order of their rows, in a multi-agent environment.
        inputs: Previous inputs (`NetConfig.inputs`), the last numbers of an observation.
        squashed: Whether the agent's continuous actions are squashed by ``tanh`` (SAC) rather than clipped.
        world: Name of the world that the environment is a member of (`EnvSpec.world`); empty for none.
        world_copies: Copies of it in one world.
    """

    env_id: str
    observation_space: gym.Space = field(hash=False)
    action_space: gym.Space = field(hash=False)
    action_low: tuple[float, ...]
    action_high: tuple[float, ...]
    description: str = ""
    obs_names: tuple[str, ...] = ()
    action_names: tuple[str, ...] = ()
    obs_measured: tuple[tuple[float, ...], ...] = field(default=(), hash=False)
    action_measured: tuple[tuple[float, ...], ...] = field(default=(), hash=False)
    mask_in_info: bool = False
    agents: tuple[str, ...] = ()
    inputs: tuple[str, ...] = ()
    squashed: bool = False
    world: str = ""
    world_copies: int = 1

    def __post_init__(self) -> None:
        """Fill in the description, and check spaces and the numbers of names."""
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
        mask_in_info: bool = False,
        agents: Sequence[str] = (),
    ) -> SpaceSpec:
        """Read the spaces of a single copy of an environment.

        Where a Box action has no bounds, ``[-1, 1]`` is used, and where it has one, the interval of length 2
        at that bound; a `UserWarning` says so once per environment and process. Without names, components are named by
        their paths, except those of a single Box or Discrete space.

        Raises:
            UnsupportedSpaceError: A space, or a part of it, is of an unsupported kind or size; names its path.
            ValueError: There are names, but not one for each component.
        """
        writer = ActionWriter(env_id, action_space)
        reader = ObservationReader(env_id, observation_space, writer.layout, mask_in_info)
        return cls(
            env_id,
            observation_space,
            action_space,
            writer.low,
            writer.high,
            description,
            tuple(obs_names) or reader.names(),
            tuple(action_names) or writer.names(),
            mask_in_info=mask_in_info,
            agents=tuple(agents),
        )

    def with_inputs(self, inputs: Sequence[str]) -> SpaceSpec:
        """The same environment with these previous inputs, not measured yet; itself if it has them."""
        if tuple(inputs) == self.inputs:
            return self
        own = self.reader.layout.numbers - len(previous_names(self.inputs, self.action, self.action_names))
        names = self.obs_names[:own] or ("",) * own
        names += previous_names(inputs, self.action, self.action_names)
        return replace(
            self, inputs=tuple(inputs), obs_names=names if any(names) else (), obs_measured=(), action_measured=()
        )

    @cached_property
    def without_inputs(self) -> SpaceSpec:
        """The environment's own spaces, without previous inputs."""
        return self.with_inputs(())

    def columns_of(self, name: str) -> slice:
        """Where one of the previous inputs is among an observation's numbers; nowhere if it is not in `inputs`."""
        sizes = [len(previous_names([one], self.action, self.action_names)) for one in self.inputs]
        if name not in self.inputs:
            return slice(0, 0)
        place = self.inputs.index(name)
        first = self.obs_size - sum(sizes) + sum(sizes[:place])
        return slice(first, first + sizes[place])

    @cached_property
    def reader(self) -> ObservationReader:
        """Turns observations into rows."""
        previous = len(previous_names(self.inputs, self.action, self.action_names))
        return ObservationReader(self.env_id, self.observation_space, self.action, self.mask_in_info, previous)

    @cached_property
    def writer(self) -> ActionWriter:
        """Turns rows into actions."""
        return ActionWriter(self.env_id, self.action_space, (self.action_low, self.action_high))

    @property
    def observation(self) -> ObservationRow:
        """Layout of a row of observations."""
        return self.reader.layout

    @property
    def action(self) -> ActionRow:
        """Layout of a row of actions."""
        return self.writer.layout

    @property
    def obs_size(self) -> int:
        """I, the numbers of an observation (one-hot for choices)."""
        return self.observation.numbers

    @property
    def discrete(self) -> bool:
        """Whether an action is a single choice."""
        return self.action.discrete

    @property
    def action_size(self) -> int:
        """Logits and continuous components of an action: the number of actions of a single choice."""
        return self.action.num_logits + self.action.num_continuous

    @property
    def has_arrays(self) -> bool:
        """Whether raw observations and actions are arrays of the spaces' own values."""
        return self.reader.is_plain and isinstance(self.action_space, spaces.Box | spaces.Discrete)

    def has_spaces_of(self, other: SpaceSpec) -> bool:
        """Whether observations and actions are the same; id, description and names may differ."""
        own, theirs = (
            (spec.observation_space, spec.action_space, spec.action_low, spec.action_high, spec.mask_in_info)
            for spec in (self, other)
        )
        return own == theirs

    def flatten_obs(self, obs: np.ndarray) -> np.ndarray:
        """Rows of raw observations ``[B, ...]`` (see `spaces.observations`), not normalised.

        Returns:
            ``[B, W]`` as `observation` says; but float64, where rows are not packed, if `obs` and the space both have
            numbers that float32 cannot hold: normalising needs them. May share memory with `obs`.
        """
        numbers, extra = self.reader.split(np.asarray(obs))
        return numbers if extra is None else self.observation.join(numbers, extra)

    def unpack(self, rows: np.ndarray) -> dict[str, np.ndarray]:
        """The parts of rows ``[..., W]`` by path, such as ``{"camera/rgb": [..., H, W, C]}``.

        Rows are those that callbacks and learner connectors find in episodes (there numbers are normalised), or raw
        ones. Boxes, MultiBinary and images have their shape, choices are one-hot, texts bytes; the path of a space that
        is neither Dict nor Tuple is ``""``.
        """
        return self.reader.unpack(rows)

    def action_to_env(self, actions: np.ndarray) -> Any:
        """Turn the network's actions into the environment's.

        Args:
            actions: int64 ``[B]`` in ``0 .. n-1``, or ``[B, width]`` as `action` says; of continuous components
                ``[-1, 1]`` spans the bounds, and numbers outside of it are clipped.

        Returns:
            ``[B, ...]`` in the action space's range, shape and dtype; a list of B actions in a Dict or Tuple space.
        """
        return self.writer.to_env(actions)

    def action_from_env(self, actions: Any) -> np.ndarray:
        """The inverse of `action_to_env`, for recorded data.

        Args:
            actions: ``[B, ...]`` as the environment takes them. In a Dict or Tuple space: a list of B, or nested
                arrays with a leading axis B.

        Returns:
            int64 ``[B]`` in ``0 .. n-1``, or float32 ``[B, width]``, continuous components in ``[-1, 1]`` (clipped).
        """
        return self.writer.from_env(actions)

    def __getstate__(self) -> dict[str, Any]:
        """Pickle the fields without what was computed from them."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore the fields; those of earlier versions that are computed now are left out."""
        names = {field.name for field in fields(self)}
        known = {key: value for key, value in state.items() if key in names}
        defaults = {
            "description": state["env_id"],
            "mask_in_info": False,
            "agents": (),
            "inputs": (),
            "squashed": False,
            "world": "",
            "world_copies": 1,
        }
        self.__dict__.update({**defaults, **known})

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
            "mask_in_info": self.mask_in_info,
            "agents": list(self.agents),
            **({"inputs": list(self.inputs)} if self.inputs else {}),
            **({"squashed": True} if self.squashed else {}),
            **({"world": self.world, "world_copies": self.world_copies} if self.world else {}),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> SpaceSpec:
        """Build from `to_dict`'s result; the description of earlier versions is the id."""
        return cls(
            env_id=data["env_id"],
            observation_space=_space_from_dict(data["observation_space"]),
            action_space=_space_from_dict(data["action_space"]),
            action_low=tuple(float(x) for x in data["action_low"]),
            action_high=tuple(float(x) for x in data["action_high"]),
            description=data.get("description", ""),
            obs_names=tuple(data.get("obs_names", ())),
            action_names=tuple(data.get("action_names", ())),
            **{name: tuple(tuple(map(float, row)) for row in data.get(name, ())) for name in _MEASURED},
            mask_in_info=data.get("mask_in_info", False),
            agents=tuple(data.get("agents", ())),
            inputs=tuple(data.get("inputs", ())),
            squashed=data.get("squashed", False),
            world=data.get("world", ""),
            world_copies=data.get("world_copies", 1),
        )


def _space_to_dict(space: gym.Space) -> dict[str, Any]:
    match space:
        case spaces.Discrete():
            return {"kind": "discrete", "n": int(space.n), "start": int(space.start), "dtype": str(space.dtype)}
        case spaces.Box():
            low, high = _numbers_to_json(space.low), _numbers_to_json(space.high)
            if len({*map(str, low)}) == len({*map(str, high)}) == 1:  # of an image there would be many
                low, high = low[:1], high[:1]
            return {"kind": "box", "shape": list(space.shape), "dtype": str(space.dtype), "low": low, "high": high}
        case spaces.MultiDiscrete():
            nvec, start = space.nvec.tolist(), space.start.tolist()
            return {"kind": "multi_discrete", "nvec": nvec, "start": start, "dtype": str(space.dtype)}
        case spaces.MultiBinary():
            return {"kind": "multi_binary", "n": space.n if isinstance(space.n, int) else list(space.shape)}
        case spaces.Text():
            lengths = {"min_length": space.min_length, "max_length": space.max_length}
            return {"kind": "text", **lengths, "charset": "".join(sorted(space.character_set))}
        case spaces.Dict():
            return {"kind": "dict", "spaces": [[key, _space_to_dict(part)] for key, part in space.spaces.items()]}
        case spaces.Tuple():
            return {"kind": "tuple", "spaces": [_space_to_dict(part) for part in space.spaces]}
    raise AssertionError(space)


def _space_from_dict(data: Mapping[str, Any]) -> gym.Space:
    match data["kind"]:
        case "discrete":
            return spaces.Discrete(data["n"], start=data["start"], dtype=np.dtype(data["dtype"]).type)
        case "box":
            dtype = np.dtype(data["dtype"])
            low, high = (_numbers_from_json(data[key], data["shape"], dtype) for key in ("low", "high"))
            return spaces.Box(low=low, high=high, dtype=dtype.type)
        case "multi_discrete":
            return spaces.MultiDiscrete(data["nvec"], dtype=np.dtype(data["dtype"]).type, start=data["start"])
        case "multi_binary":
            return spaces.MultiBinary(data["n"])
        case "text":
            return spaces.Text(data["max_length"], min_length=data["min_length"], charset=data["charset"])
        case "dict":
            return spaces.Dict([(key, _space_from_dict(part)) for key, part in data["spaces"]])
        case "tuple":
            return spaces.Tuple([_space_from_dict(part) for part in data["spaces"]])
    raise ValueError(f"Unknown kind of space {data['kind']!r}.")


def _numbers_to_json(values: np.ndarray) -> list[Any]:
    """Numbers for JSON, which has no infinity: that is a string which `float` reads."""
    return [v if isinstance(v, int) or math.isfinite(v) else str(v) for v in values.reshape(-1).tolist()]


def _numbers_from_json(values: list[Any], shape: list[int], dtype: np.dtype) -> np.ndarray:
    numbers = np.array([float(v) if isinstance(v, str) else v for v in values], dtype=dtype)
    return np.full(shape, numbers[0]) if len(numbers) == 1 else numbers.reshape(shape)
