"""Settings of configurations: each is declared once, in the signature of the method that sets it.

::

    @settings
    def training(self, *, expectile: PerEnvironment[OpenFraction] = 0.7, **rllib: Any) -> None:
        \"\"\"Set how to train.

        Args:
            expectile: Expectile of Q that V estimates.
        \"\"\"

The annotation is the type and range, the default the value where nobody sets it, ``Args`` the documentation.
`SettingsMixin` makes the rest: the method, the attribute, the checks, ``help``, the keys of configuration files.
"""

from __future__ import annotations

import copy
import difflib
import functools
import inspect
import itertools
import math
import re
import textwrap
import types
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatch
from numbers import Integral, Real
from typing import (
    Annotated,
    Any,
    ClassVar,
    Concatenate,
    Literal,
    ParamSpec,
    Self,
    TypeVar,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

import numpy as np
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig, NotProvided
from ray.tune.search.sample import Domain

from rllib_multienv.foreign_names import FOREIGN_NAMES, settings_for
from rllib_multienv.gym_ids import did_you_mean, one_of

_P = ParamSpec("_P")
_T = TypeVar("_T")

# Types and ranges


@dataclass(frozen=True)
class Kind:
    """A type with a range.

    Attributes:
        words: What a value must be, for errors and documentation.
        holds: Whether a value is that.
    """

    words: str
    holds: Callable[[Any], bool]


@dataclass(frozen=True)
class Converted:
    """A setting with a check of its own.

    Attributes:
        function: Returns the value to store; raises where it is wrong.
    """

    function: Callable[[Any], Any]


@dataclass(frozen=True)
class Attribute:
    """The name of the attribute that holds a setting, where it is another."""

    name: str


def _number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)


def _whole(value: Any) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool)


def is_schedule(value: Any) -> bool:
    """Whether ``value`` is a schedule ``[[0, value], [step, value], ...]``, linear in between."""
    if not isinstance(value, list | tuple) or len(value) < 2:
        return False
    if not all(isinstance(point, list | tuple) and len(point) == 2 and all(map(_number, point)) for point in value):
        return False
    steps = [step for step, _ in value]
    return steps[0] == 0 and all(left < right for left, right in itertools.pairwise(steps))


Schedule = Sequence[Sequence[float]]
Count = Annotated[int, Kind("a whole number of at least 1", lambda x: _whole(x) and x >= 1)]
CountOrZero = Annotated[int, Kind("a whole number of at least 0", lambda x: _whole(x) and x >= 0)]
Positive = Annotated[float, Kind("a number above 0", lambda x: _number(x) and x > 0)]
Number = Annotated[float, Kind("a number", _number)]
NonNegative = Annotated[float, Kind("a number of at least 0", lambda x: _number(x) and x >= 0)]
Fraction = Annotated[float, Kind("a number in [0, 1]", lambda x: _number(x) and 0 <= x <= 1)]
PositiveFraction = Annotated[float, Kind("a number in (0, 1]", lambda x: _number(x) and 0 < x <= 1)]
OpenFraction = Annotated[float, Kind("a number in (0, 1)", lambda x: _number(x) and 0 < x < 1)]
LearningRate = (
    NonNegative
    | Annotated[
        Schedule,
        Kind("a schedule [[0, value], [step, value], ...]", lambda x: is_schedule(x) and all(y >= 0 for _, y in x)),
    ]
)
_PER_ENVIRONMENT = object()
#: A setting that `algorithm_config_overrides_per_module` may change for one environment.
PerEnvironment = Annotated[_T, _PER_ENVIRONMENT]


def strings(value: Any) -> tuple[str, ...]:
    """One or more strings as a tuple."""
    return (value,) if isinstance(value, str) else tuple(value)


def is_search_space(value: Any) -> bool:
    """Whether ``value`` is, or has in it, something that Tune is still to draw."""
    if isinstance(value, Domain):
        return True
    if isinstance(value, Mapping):
        return "grid_search" in value or any(is_search_space(item) for item in value.values())
    return isinstance(value, list | tuple) and any(is_search_space(item) for item in value)


def kind_of(hint: Any) -> Kind:
    """What an annotation asks of a value."""
    origin, args = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return next((extra for extra in args if isinstance(extra, Kind)), None) or kind_of(args[0])
    if origin in (Union, types.UnionType):
        parts = [kind_of(part) for part in args]
        return Kind(" or ".join(part.words for part in parts), lambda x: any(part.holds(x) for part in parts))
    if origin is Literal:
        words = ("one of " + ", ".join(map(repr, args))) if len(args) > 2 else " or ".join(map(repr, args))
        return Kind(words, lambda x: any(type(x) is type(choice) and x == choice for choice in args))
    if origin is dict:
        item = kind_of(args[1])
        words = f"a mapping from env ids to {item.words}"
        return Kind(words, lambda x: isinstance(x, Mapping) and all(item.holds(value) for value in x.values()))
    plain = {bool: "True or False", str: "a string", type(None): "None", None: "None"}
    words = plain.get(hint, "" if hint is Any else f"a {getattr(hint, '__name__', hint)}")
    return Kind(words, lambda x: hint is Any or (x is None if hint is None else isinstance(x, hint)))


# Declarations


@dataclass(frozen=True)
class Setting:
    """One setting, as the signature and docstring of its method declare it.

    Attributes:
        parameter: Its name, and its value where nobody sets it.
        hint: Its annotation.
        doc: Its documentation; empty where a derived class only gives another default.
    """

    parameter: inspect.Parameter
    hint: Any
    doc: str

    @property
    def attribute(self) -> str:
        """The configuration's attribute that holds it."""
        return next((x.name for x in get_args(self.hint) if isinstance(x, Attribute)), self.parameter.name)

    @property
    def per_environment(self) -> bool:
        """Whether it may differ between environments."""
        return get_origin(self.hint) is Annotated and _PER_ENVIRONMENT in get_args(self.hint)

    @property
    def words(self) -> str:
        """Its name, default, documentation, type and range."""
        kind = "" if self.hint is bool else kind_of(self.hint).words
        notes = [f"Must be {kind}."] if kind else []
        notes += ["May differ between environments."] if self.per_environment else []
        return " ".join([f"{self.parameter.name} = {self.parameter.default!r}: {self.doc}", *notes])

    def checked(self, value: Any) -> Any:
        """The value to store.

        Raises:
            ValueError: It is of the wrong type or out of range.
        """
        value = value.item() if isinstance(value, np.generic) else value
        kind = kind_of(self.hint)
        if not kind.holds(value) or is_search_space(value):
            fault = "only tune.Tuner draws from a search space" if is_search_space(value) else f"must be {kind.words}"
            raise ValueError(f"{self.parameter.name}={value!r}: {fault}.")
        converters = [extra for extra in get_args(self.hint) if isinstance(extra, Converted)]
        return converters[0].function(value) if converters else value


def settings(declaration: Callable[Concatenate[_T, _P], None]) -> Callable[Concatenate[_T, _P], _T]:
    """Declare settings of a configuration; see the module's docstring.

    What is in ``**rllib`` are settings of a base class. A body runs, without arguments, after the settings are set.
    """
    hints, docs = get_type_hints(declaration, include_extras=True), _documented(declaration)
    declaration.declared = {  # type: ignore[attr-defined]
        name: Setting(parameter, hints[name], docs.get(name, ""))
        for name, parameter in inspect.signature(declaration).parameters.items()
        if parameter.default is not parameter.empty
    }
    return declaration  # type: ignore[return-value]


def _documented(method: Any) -> dict[str, str]:
    """The ``Args`` of a docstring, each in one line."""
    section = re.split(r"\n(?=\S)", (inspect.getdoc(method) or "").partition("Args:\n")[2])[0]
    items = re.split(r"^    (\w+): ", section, flags=re.MULTILINE)[1:]
    return {name: " ".join(text.split()) for name, text in zip(items[::2], items[1::2], strict=True)}


@dataclass(frozen=True)
class Setter:
    """What a method of a configuration class takes.

    Attributes:
        declared: The settings that this package declares.
        others: The other settings of RLlib that have an effect, and those of methods that a user wrote in RLlib's way,
            with their defaults.
        no_effect: Settings of RLlib that have none, with what to use instead.
        rllib: All settings that RLlib's method takes, also those that it keeps only to say that they are gone.
    """

    declared: Mapping[str, Setting]
    others: Mapping[str, inspect.Parameter]
    no_effect: Mapping[str, str]
    rllib: Mapping[str, inspect.Parameter]

    @property
    def takes(self) -> dict[str, inspect.Parameter]:
        """The settings that have an effect, this package's first."""
        return {**{name: setting.parameter for name, setting in self.declared.items()}, **self.others}


def _once_per_class(function: Callable[[Any], _T]) -> Callable[[Any], _T]:
    return functools.cache(function)


@_once_per_class
def _default(cls: Any) -> dict[str, Any]:
    return vars(cls())


@_once_per_class
def setters(cls: Any) -> dict[str, Setter]:
    """The methods of a configuration class that set something, by name."""
    found = {name: _setter(cls, name) for name in dir(cls) if not name.startswith(("_", "build_", "get_"))}
    return {name: setter for name, setter in found.items() if setter.takes or setter.no_effect}


@_once_per_class
def declared_settings(cls: Any) -> dict[str, Setting]:
    """All settings that this package declares for a configuration class, by attribute."""
    return {s.attribute: s for setter in setters(cls).values() for s in setter.declared.values()}


def _setter(cls: Any, name: str) -> Setter:
    methods = _methods(cls, name)
    stock = [method for method in methods if method.__module__.startswith("ray.")]
    declared: dict[str, Setting] = {}
    for key, setting in (item for method in methods for item in getattr(method, "declared", {}).items()):
        declared[key] = replace(declared[key], doc=declared[key].doc or setting.doc) if key in declared else setting
    own = {
        key: parameter.replace(default=None if parameter.default is NotProvided else parameter.default)
        for method in reversed(methods)
        if _is_plain(method)
        for key, parameter in _defaults(method).items()
        if key not in declared
    }
    docs = {key: doc for method in reversed(stock) for key, doc in _documented(method).items()}
    for key, setting in declared.items():
        declared[key] = replace(setting, doc=setting.doc or docs.get(key, "").split(". ")[0].rstrip(".") + ".")
    rllib = {key: parameter for method in stock for key, parameter in _defaults(method).items()}
    patterns = [(pattern, hint) for keys, hint in cls.NO_EFFECT.get(name, {}).items() for pattern in keys.split()]
    others, no_effect = {}, {}
    for key, parameter in rllib.items():
        if parameter.default is NotProvided and key not in declared:
            if hint := next((hint for pattern, hint in reversed(patterns) if fnmatch(key, pattern)), None):
                no_effect[key] = hint
            else:
                attributes = _default(AlgorithmConfig)
                others[key] = parameter.replace(default=attributes.get(key, attributes.get(f"_{key}")))
    return Setter(declared, {**others, **own}, no_effect, rllib)


def _methods(cls: Any, name: str) -> list[Any]:
    """The methods of this name, from the class to its base classes."""
    return [vars(base)[name] for base in cls.__mro__ if inspect.isfunction(vars(base).get(name))]


def _defaults(method: Any) -> dict[str, inspect.Parameter]:
    """The parameters of a method that have a default."""
    return {p.name: p for p in inspect.signature(method).parameters.values() if p.default is not p.empty}


def _is_plain(method: Any) -> bool:
    """Whether a user wrote a method in RLlib's way, without declarations; it calls that of its base class."""
    return not hasattr(method, "declared") and not method.__module__.startswith("ray.")


def _method(cls: Any, name: str) -> Callable[..., Any]:
    """The method that checks and sets what it is given, with signature and docstring."""
    setter = setters(cls)[name]
    methods = _methods(cls, name)
    # Called with what remains: RLlib's method, or one before it that a user wrote in RLlib's way.
    end = next((i for i, m in enumerate(methods) if _is_plain(m) or m.__module__.startswith("ray.")), len(methods))
    below = methods[end] if end < len(methods) else None
    passed_on = {key for method in methods[end:] for key in (*getattr(method, "declared", ()), *_defaults(method))}
    bodies = [method.body for method in reversed(methods[:end]) if hasattr(method, "body")]
    bodies += [vars(cls)[name]] if name in vars(cls) else []
    parameters = sorted((p.replace(annotation=p.empty) for p in setter.takes.values()), key=lambda p: p.kind)
    positional = [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]

    def set_given(self: SettingsMixin, *args: Any, **kwargs: Any) -> Any:
        if len(args) > len(positional):
            raise TypeError(f"{name}() takes its settings by name; {args[len(positional)]!r} has none.")
        given = {**dict(zip(positional, args, strict=False)), **kwargs}
        self.refuse(name, given)
        declared = setters(type(self))[name].declared  # a derived class may declare another range
        for key in setter.declared.keys() & given.keys():
            if not is_search_space(given[key]):
                given[key] = declared[key].checked(given[key])
            if key not in passed_on or key in self.WIDER:
                setattr(self, declared[key].attribute, given.pop(key))
        if below is not None:
            below(self, **given)
        for body in bodies:
            body(self)
        return self

    itself = inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    function: Any = set_given
    function.__name__, function.__qualname__, function.__module__ = name, f"{cls.__name__}.{name}", cls.__module__
    function.__signature__ = inspect.Signature([itself, *parameters])
    function.declared = getattr(vars(cls).get(name), "declared", {})
    if name in vars(cls):
        function.body = vars(cls)[name]
    lines = [re.split(r"\n\nArgs:|\n\nSettings that", inspect.getdoc(methods[0]) or "")[0], ""]
    lines += ["Settings that are left out stay as they are.", *(["", "Args:"] if setter.declared else [])]
    for setting in setter.declared.values():
        lines.append(textwrap.fill(setting.words, 110, initial_indent="    ", subsequent_indent="        "))
    if setter.others:
        text = ", ".join(f"{key} = {p.default!r}" for key, p in setter.others.items())
        lines += ["", f"Of RLlib (see AlgorithmConfig.{name}):"]
        lines.append(textwrap.fill(text, 110, initial_indent="    ", subsequent_indent="    "))
    function.__doc__ = "\n".join(lines) + "\n"
    return function


class SettingsMixin(AlgorithmConfig):
    """A configuration whose methods are made from declarations with `settings`; it comes before RLlib's class.

    Attributes:
        NO_EFFECT: For each method, names of RLlib's settings that do nothing here (with spaces between them; ``*``
            stands for any letters; the last match counts) and what to use instead.
        WIDER: RLlib's settings that take values here which RLlib's own checks refuse.
    """

    NO_EFFECT: ClassVar[Mapping[str, Mapping[str, str]]] = {}
    WIDER: ClassVar[frozenset[str]] = frozenset()

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        for name in setters(cls):
            nearest = next(vars(base)[name] for base in cls.__mro__ if name in vars(base))
            # A method that a user wrote in RLlib's way stays, and calls the one of its base class.
            if hasattr(nearest, "declared") or nearest.__module__.startswith("ray."):
                setattr(cls, name, _method(cls, name))

    def set_defaults(self) -> None:
        """Set all settings to their defaults; constructors call it after RLlib's."""
        for name, setting in declared_settings(type(self)).items():
            setattr(self, name, copy.deepcopy(setting.parameter.default))

    def __repr__(self) -> str:
        """The settings that differ from the defaults."""
        own, default = vars(self), _default(type(self))
        changed = {}
        for setter in setters(type(self)).values():
            for name in setter.takes:
                attribute = setter.declared[name].attribute if name in setter.declared else name
                key = attribute if attribute in own else f"_{attribute}"
                if key in own and not _same(own[key], default.get(key)):
                    changed[name] = own[key]
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in changed.items())})"

    def refuse(self, method: str, given: Mapping[str, Any]) -> None:
        """Raise an error for settings that a method does not take, or that have no effect.

        Raises:
            TypeError: There is no such setting.
            ValueError: RLlib has it, but it does nothing here.
        """
        setter = setters(type(self))[method]
        for name, value in given.items():
            if name in setter.no_effect and value is not None:  # RLlib itself sets some to None
                self._refuse(method, name)
            if name not in setter.takes and name not in setter.rllib:
                near = one_of(self.settings_for(method, name)) or did_you_mean(name, setter.takes)
                raise TypeError(f"{method}({name}=...): there is no setting {name!r}.{near}")

    @classmethod
    def settings_for(cls, method: str, name: str) -> list[str]:
        """See `foreign_names.settings_for`."""
        return settings_for(name, method, {key: setter.takes for key, setter in setters(cls).items()})

    def _refuse(self, method: str, name: str) -> None:
        instead = setters(type(self))[method].no_effect[name]
        self._value_error(f"{method}({name}=...) has no effect with {type(self).__name__}. {instead}")

    def validate_settings(self) -> None:
        """Check the type and range of all settings, also of those that were set without a method.

        Raises:
            ValueError: One is wrong or has no effect.
        """
        own, default, methods = vars(self), _default(type(self)), setters(type(self))
        for name, setting in declared_settings(type(self)).items():
            self._check(setting, own, name)
        takes = {name for setter in methods.values() for name in setter.takes}
        for name in own.keys() - default.keys():  # RLlib and Tune put things of their own there too
            ours = takes.intersection(FOREIGN_NAMES.get(name, ()))
            if near := sorted(ours) or difflib.get_close_matches(name, takes, n=1, cutoff=0.8):
                self._value_error(f"There is no setting {name!r}.{one_of(near)}")
        for method, setter in methods.items() if not self.in_evaluation else ():
            for name in setter.no_effect:
                key = f"_{name}" if f"_{name}" in default else name
                # This package sets the policies, and RLlib some of the others for evaluation.
                if key != "policies" and not _same(own.get(key), default.get(key)):
                    self._refuse(method, name)

    def validate_overrides(self, env_ids: Collection[str]) -> None:
        """Check ``algorithm_config_overrides_per_module``.

        Args:
            env_ids: The environments of the run.

        Raises:
            ValueError: There is no such environment, or a setting is wrong or cannot differ between environments.
        """
        overrides = self.algorithm_config_overrides_per_module or {}
        self.validate_env_ids("algorithm_config_overrides_per_module", overrides, env_ids)
        known = {name: s for name, s in declared_settings(type(self)).items() if s.per_environment}
        for env_id, values in overrides.items():
            place = f"algorithm_config_overrides_per_module[{env_id!r}]: "
            if not isinstance(values, Mapping):
                self._value_error(f"{place}must be a mapping of settings to values, not {values!r}.")
            for name in values:
                if name not in known:
                    self._value_error(
                        f"{place}{name!r} cannot differ between environments; these can: {', '.join(known)}."
                        f"{one_of(n for n in FOREIGN_NAMES.get(name, ()) if n in known) or did_you_mean(name, known)}"
                    )
                self._check(known[name], values, name, place)

    def _check(self, setting: Setting, values: Any, key: str, place: str = "") -> None:
        try:
            values[key] = setting.checked(values[key])
        except ValueError as error:
            self._value_error(f"{place}{error}")

    def validate_env_ids(self, name: str, given: Iterable[str], env_ids: Collection[str]) -> None:
        """Check that the keys of a setting are environments of the run.

        Raises:
            ValueError: One is not.
        """
        for key in given:
            if key not in env_ids:
                self._value_error(f"{name}: there is no environment {key!r}.{did_you_mean(str(key), env_ids)}")

    def _value_error(self, errmsg: str) -> None:
        """RLlib's, without the advice to switch all checks off."""
        if self._validate_config:
            raise ValueError(errmsg)
        super()._value_error(errmsg)

    def update_from_dict(self, config_dict: Mapping[str, Any]) -> Self:
        """As RLlib's; settings without effect may be there with the value that they have anyway."""
        default = _default(type(self))
        no_effect = {name for setter in setters(type(self)).values() for name in setter.no_effect}
        unchanged = {name for name in no_effect & config_dict.keys() if _same(config_dict[name], default.get(name))}
        return super().update_from_dict({k: v for k, v in config_dict.items() if k not in unchanged})


def _same(left: Any, right: Any) -> bool:
    try:
        return bool(left == right)
    except Exception:  # arrays, RLlib's PolicySpec
        return False
