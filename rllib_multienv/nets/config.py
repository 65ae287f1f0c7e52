"""Network configs: frozen, validated, JSON-able. Files and checkpoints know a network by its config's ``type``."""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Collection, Mapping, Sequence
from typing import Any, ClassVar, Literal, Self, Union, get_args, get_origin, get_type_hints

from rllib_multienv.foreign_names import FOREIGN_NAMES
from rllib_multienv.gym_ids import nearest
from rllib_multienv.spaces.previous import ALL_INPUTS, is_input

from .action_values import ActionValues, NetworkActionValues
from .actor_critic import ActorCritic
from .belief import BeliefMemory
from .encoders import Encoders, ImageEncoderConfig, TextEncoderConfig, check_encoders
from .interface import Interface
from .memory import MEMORIES, NetworkMemory
from .world_attention import WorldAttention

__all__ = ["NetConfig", "net_config_from_dict", "require", "require_choice", "require_whole"]

#: Config class of each network type.
_TYPES: dict[str, type[NetConfig]] = {}
_ENCODERS: dict[str, type] = {"image_encoder": ImageEncoderConfig, "text_encoder": TextEncoderConfig}


def require(condition: bool, field: str, value: object, expected: str) -> None:
    """Raise a ValueError that names the config field unless ``condition`` holds."""
    if not condition:
        raise ValueError(f"{field}={value!r}: must be {expected}")


def require_whole(config: object, *fields: str, at_least: int = 1) -> None:
    """Raise a ValueError that names the first of these fields that is no whole number of at least ``at_least``."""
    for field in fields:
        value = getattr(config, field)
        require(isinstance(value, int) and value >= at_least, field, value, f"a whole number >= {at_least}")


def require_choice(config: object, field: str, choices: Collection[object]) -> None:
    """Raise a ValueError that names the field unless its value is one of ``choices``."""
    require(getattr(config, field) in choices, field, getattr(config, field), f"in {list(choices)}")


def _fits(value: object, hint: Any) -> bool:
    """Whether a value is of a field's type, as far as that is a number, a bool, a string, or a tuple of these."""
    if get_origin(hint) in (Union, types.UnionType):
        return any(_fits(value, part) for part in get_args(hint))
    if get_origin(hint) is tuple:
        return isinstance(value, tuple) and all(_fits(item, get_args(hint)[0]) for item in value)
    if hint in (int, float):
        return isinstance(value, int if hint is int else (int, float)) and not isinstance(value, bool)
    return isinstance(value, hint) if hint in (bool, str, type(None)) else True


def _words(hint: Any) -> str:
    if get_origin(hint) in (Union, types.UnionType):
        return " or ".join(map(_words, get_args(hint)))
    if get_origin(hint) is tuple:
        return f"a list, each item {_words(get_args(hint)[0])}"
    names = {bool: "True or False", int: "a whole number", float: "a number", str: "a string", type(None): "None"}
    return names.get(hint, str(hint))


def _nearest(name: object, known: list[str]) -> str:
    close = [n for n in FOREIGN_NAMES.get(str(name), ()) if n in known] or nearest(str(name), known, n=1)
    return f"did you mean {close[0]!r}?" if close else f"known: {', '.join(known)}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class NetConfig:
    """Base of the network configs: a frozen dataclass with a `build` method.

    Defining a subclass makes its ``type`` known to files and checkpoints.

    Attributes:
        type: name of the network in files and checkpoints.
        for_any: whether the network can be built for any environments that `check_environments` lets pass. Other
            networks are built once when an algorithm's configuration is checked, so that errors come early.
        algorithm: name of the algorithm that trains the network; None: all do.
        memories: kinds of memory that the network may have.
        image_encoder: sizes of the encoder of images. None: the default sizes, and only if an environment has images
            when the network is built; in files also ``true``: the default sizes in any case, so that environments with
            images can be added later.
        text_encoder: the same of the encoder of text.
        memory: what the network remembers with: ``"gru"``, ``"s4"`` (S4D layers over time), ``"belief"`` (a posterior
            over tasks, which VariBAD trains), or None. PEARL's is a network of its own (`nets.posterior`).
        memory_size: units of a GRU layer (None: the width of the network's rows), or states of each feature of an S4
            layer (None: 16).
        memory_layers: layers of the memory.
        belief_size: numbers of the posterior.
        max_seq_len: time steps of the sequences that a network with memory is trained on. Each begins with the state
            that the memory had there when it was sampled; gradients end at its beginning.
        inputs: what is added to the numbers of each observation (`spaces.previous`). Of the last time step:
            ``"previous_action"``, ``"previous_reward"``, ``"previous_done"``; of the episode: ``"age"``, ``"seed"``,
            and ``"noise:D"``, D random numbers, N(0, 1), that are drawn anew for each episode of a trial.
        world_attention: whether the environments of a world see one another (`world_attention`). Without worlds it does
            nothing.
    """

    type: ClassVar[str]
    for_any: ClassVar[bool] = False
    algorithm: ClassVar[str | None] = None
    memories: ClassVar[tuple[str, ...]] = (*MEMORIES, "belief")

    image_encoder: ImageEncoderConfig | None = None
    text_encoder: TextEncoderConfig | None = None
    memory: Literal["gru", "s4", "belief", "posterior", "dream"] | None = None
    memory_size: int | None = None
    memory_layers: int = 1
    belief_size: int = 5
    max_seq_len: int = 64
    inputs: tuple[str, ...] = ()
    world_attention: bool = False

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "type" in vars(cls):  # others are bases
            _TYPES[cls.type] = cls

    def __post_init__(self) -> None:
        """Check the types of all fields, as they are annotated; derived classes check ranges.

        Raises:
            ValueError: a field is of another type.
        """
        hints = get_type_hints(type(self))
        for field in dataclasses.fields(self):
            value, hint = getattr(self, field.name), hints[field.name]
            if get_origin(hint) is tuple and isinstance(value, list):
                value = tuple(value)
                object.__setattr__(self, field.name, value)
            require(_fits(value, hint), field.name, value, _words(hint))
        kinds = list(self.memories)
        require(self.memory is None or self.memory in kinds, "memory", self.memory, f"None or in {kinds}")
        size, even = self.memory_size, self.memory == "s4"
        fits = size is None or (size >= 1 and not (even and size % 2))
        require(fits, "memory_size", size, "None or an even whole number >= 2" if even else "None or >= 1")
        require_whole(self, "memory_layers", "belief_size", "max_seq_len")
        known = all(map(is_input, self.inputs)) and len(set(self.inputs)) == len(self.inputs)
        require(known, "inputs", self.inputs, f"some of {(*ALL_INPUTS, 'noise:D')}, each once")
        unseen = not (self.world_attention and self.memory == "belief")
        require(unseen, "world_attention", self.world_attention, "False with memory='belief'")

    def build(self, interfaces: Mapping[str, Interface]) -> ActorCritic:
        """Build the network of policy and values for these environments."""
        raise NotImplementedError(f"{type(self).__name__} must implement build(interfaces) -> ActorCritic")

    def build_critic(self, interfaces: Mapping[str, Interface], *, num_estimates: int = 2) -> ActionValues:
        """Build action values Q(s, a), for algorithms such as IQL.

        The default has the policy network of `build` for each estimate (see `NetworkActionValues`).
        """
        return NetworkActionValues(self.without_dropout().build, interfaces, num_estimates=num_estimates)

    def for_environments(self, interfaces: Mapping[str, Interface]) -> Self:
        """The same network with the encoders that these environments need."""
        rows = [interface.observation for interface in interfaces.values()]
        changes: dict[str, Any] = {}
        if self.image_encoder is None and any(row.images for row in rows):
            changes["image_encoder"] = ImageEncoderConfig()
        if self.text_encoder is None and any(row.texts for row in rows):
            changes["text_encoder"] = TextEncoderConfig()
        return dataclasses.replace(self, **changes) if changes else self

    def check_environments(self, interfaces: Mapping[str, Interface]) -> None:
        """Raise a ValueError if one of these environments does not fit the network, or needs an encoder that it lacks.

        The network is not built for that; what only building it shows is an error there.
        """
        for env_id, interface in interfaces.items():
            check_encoders(env_id, interface.observation, image=self.image_encoder, text=self.text_encoder)

    def encoders(
        self, interfaces: Mapping[str, Interface], width: int, parts: Sequence[str] = ("actor", "critic")
    ) -> Encoders | None:
        """Encoders of images and text for a network's rows ``[R, width]``; None where nothing asks for them."""
        needed = self.for_environments(interfaces)
        if needed.image_encoder is None and needed.text_encoder is None:
            return None
        return Encoders(needed.image_encoder, needed.text_encoder, width, parts)

    def memory_of(self, interfaces: Mapping[str, Interface], width: int) -> NetworkMemory | None:
        """Memory of a network's rows ``[R, width]``; None where ``memory`` is."""
        sizes = self.memory_size, self.memory_layers
        if self.memory is None:
            return None
        if self.memory == "belief":
            network = dataclasses.replace(self, memory=None).build(interfaces)
            return BeliefMemory(network, width, *sizes, self.belief_size)
        return NetworkMemory(MEMORIES[self.memory](width, *sizes), width)

    def world_attention_of(self, width: int) -> WorldAttention | None:
        """Attention between a network's rows ``[R, width]`` in a world; None where ``world_attention`` is false."""
        if not self.world_attention:
            return None
        return WorldAttention(width, ("actor",) if getattr(self, "share_encoder", False) else ("actor", "critic"))

    def check_memory(self, network: ActorCritic) -> None:
        """Raise a ValueError if ``memory`` or ``world_attention`` is set and a network made by `build` has none."""
        for field, off, arguments in (("memory", None, "interfaces, width"), ("world_attention", False, "width")):
            if getattr(self, field) != off and getattr(network, field) is None:
                line = f"self.{field} = config.{field}_of({arguments})"
                expected = f"{off}, unless {type(network).__name__} has the line {line}"
                require(False, field, getattr(self, field), expected)

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form, read by `net_config_from_dict`."""
        return {"type": self.type, **_jsonable(dataclasses.asdict(self))}

    @classmethod
    def from_fields(cls, fields: Mapping[str, Any]) -> Self:
        """Build from field values.

        Raises:
            ValueError: a field is unknown (the nearest known one is named), or its value is not allowed.
        """
        found = dict(fields)
        for name, encoder in _ENCODERS.items():
            if isinstance(value := found.get(name), bool | Mapping):
                found[name] = _build(encoder, {} if value is True else value, name) if value is not False else None
        built: Self = _build(cls, found, f"{cls.type!r} network config")
        return built

    @property
    def needs_measurements(self) -> bool:
        """Whether interfaces must have `Interface.obs_measured` and `Interface.action_measured`."""
        return "measured" in getattr(self, "descriptions", "")

    def without_dropout(self) -> Self:
        """The same network without dropout, if it has a field for that."""
        has_dropout = any(field.name == "dropout" for field in dataclasses.fields(self))
        return dataclasses.replace(self, dropout=0.0) if has_dropout else self  # type: ignore[call-arg]


def _build(cls: type, fields: Mapping[str, Any], of: str) -> Any:
    """An instance of a dataclass; the error for unknown fields says what they are ``of``."""
    known = [field.name for field in dataclasses.fields(cls)]
    for name in fields:
        if name not in known:
            networks = sorted(_TYPES.items()) if issubclass(cls, NetConfig) else ()
            owners = [kind for kind, other in networks if name in other.__dataclass_fields__]
            known_in = f", but a field of {', '.join(map(repr, owners))}" if owners else ""
            raise ValueError(f"unknown field {name!r} of the {of}{known_in}; {_nearest(name, known)}")
    return cls(**{name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()})


def _jsonable(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _jsonable(item) for name, item in value.items()}
    return list(value) if isinstance(value, tuple) else value


def net_config_from_dict(values: Mapping[str, Any]) -> NetConfig:
    """The config that ``to_dict`` wrote, or that a file gives.

    Raises:
        ValueError: ``type`` is missing or unknown, or a field is.
    """
    fields = dict(values)
    name = fields.pop("type", None)
    if name not in _TYPES:
        raise ValueError(f"network config with type {name!r}; {_nearest(name, sorted(_TYPES))}")
    return _TYPES[name].from_fields(fields)
