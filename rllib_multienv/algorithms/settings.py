"""Settings: each is declared once, in the signature of the configuration's method that sets it.

::

    @settings
    def training(self, *, expectile: PerEnvironment[OpenFraction] = 0.7, **rllib: Any) -> Self:
        \"\"\"Set how to train.

        Args:
            expectile: Expectile of Q that V estimates.
        \"\"\"
        return super().training(**rllib)

The annotation is the type and the range, the default is the value where nobody sets it, ``Args`` is the documentation.
Everything else follows: the attribute, the checks, ``help``, the keys of configuration files.
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
from numbers import Integral, Real
from typing import Annotated, Any, ClassVar, Literal, Self, TypeVar, Union, get_args, get_origin, get_type_hints

import numpy as np
from ray._common.deprecation import DEPRECATED_VALUE
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig, NotProvided
from ray.tune.search.sample import Domain

from rllib_multienv.gym_ids import did_you_mean

# Types and ranges


@dataclass(frozen=True)
class Range:
    """Bounds of a number; infinity and NaN are outside of all of them."""

    at_least: float = -math.inf
    above: float = -math.inf
    at_most: float = math.inf
    below: float = math.inf

    def __contains__(self, value: float) -> bool:
        return math.isfinite(value) and self.at_least <= value <= self.at_most and self.above < value < self.below

    def __str__(self) -> str:
        low, high = max(self.at_least, self.above), min(self.at_most, self.below)
        if math.isfinite(high):
            return f"in {'(' if self.above == low else '['}{low:g}, {high:g}{')' if self.below == high else ']'}"
        return "" if math.isinf(low) else f"above {low:g}" if self.above == low else f"of at least {low:g}"


@dataclass(frozen=True)
class Converted:
    """A value with a check of its own.

    Attributes:
        function: Returns the value to store; raises where it is wrong.
    """

    function: Callable[[Any], Any]


_PER_ENVIRONMENT = object()
_T = TypeVar("_T")

#: A setting that `algorithm_config_overrides_per_module` may change for one environment.
PerEnvironment = Annotated[_T, _PER_ENVIRONMENT]
#: ``[[0, value], [step, value], ...]``, linear in between.
Schedule = Sequence[Sequence[float]]
Count = Annotated[int, Range(at_least=1)]
CountOrZero = Annotated[int, Range(at_least=0)]
Positive = Annotated[float, Range(above=0)]
NonNegative = Annotated[float, Range(at_least=0)]
Fraction = Annotated[float, Range(at_least=0, at_most=1)]
PositiveFraction = Annotated[float, Range(above=0, at_most=1)]
OpenFraction = Annotated[float, Range(above=0, below=1)]
LearningRate = Annotated[float | Schedule, Range(at_least=0)]


def is_search_space(value: Any) -> bool:
    """Whether ``value`` is, or has in it, something that Tune is still to draw."""
    if isinstance(value, Domain):
        return True
    if isinstance(value, Mapping):
        return "grid_search" in value or any(is_search_space(item) for item in value.values())
    return isinstance(value, list | tuple) and any(is_search_space(item) for item in value)


def is_schedule(value: Any) -> bool:
    """Whether ``value`` is a schedule and not a number."""
    return isinstance(value, list | tuple)


def _fits(value: Any, hint: Any, bounds: Range = Range()) -> bool:
    """Whether a value is of an annotation's type and in its range."""
    origin, args = get_origin(hint), get_args(hint)
    if origin is Annotated:
        ranges = [extra for extra in args[1:] if isinstance(extra, Range)]
        return _fits(value, args[0], *(ranges or [bounds]))
    if origin in (Union, types.UnionType):
        return any(_fits(value, part, bounds) for part in args)
    if origin is Literal:
        return any(type(value) is type(choice) and value == choice for choice in args)
    if hint == Schedule:
        return _is_valid_schedule(value, bounds)
    if origin in (dict, Mapping):
        return isinstance(value, Mapping) and all(_fits(item, args[1], bounds) for item in value.values())
    if hint in (int, float):
        number = Integral if hint is int else Real
        return isinstance(value, number) and not isinstance(value, bool) and float(value) in bounds
    if hint in (None, type(None)):
        return value is None
    return True if hint is Any else isinstance(value, origin or hint)


def _is_valid_schedule(value: Any, bounds: Range) -> bool:
    if not isinstance(value, list | tuple) or len(value) < 2:
        return False
    if not all(isinstance(point, list | tuple) and len(point) == 2 for point in value):
        return False
    steps = [step for step, _ in value]
    return (
        all(_fits(step, float) for step in steps)
        and steps[0] == 0
        and all(left < right for left, right in itertools.pairwise(steps))
        and all(_fits(rate, float, bounds) for _, rate in value)
    )


def _expected(hint: Any, bounds: Range = Range()) -> str:
    """An annotation in words."""
    origin, args = get_origin(hint), get_args(hint)
    if origin is Annotated:
        ranges = [extra for extra in args[1:] if isinstance(extra, Range)]
        return _expected(args[0], *(ranges or [bounds]))
    if origin in (Union, types.UnionType):
        return " or ".join(_expected(part, bounds) for part in args)
    if origin is Literal:
        return f"one of {', '.join(map(repr, args))}" if len(args) > 2 else " or ".join(map(repr, args))
    if origin in (dict, Mapping):
        return f"a mapping from env ids to {_expected(args[1], bounds)}"
    if hint == Schedule:
        return "a schedule [[0, value], [step, value], ...]"
    if hint in (int, float):
        return f"a {'whole ' if hint is int else ''}number {bounds}".rstrip()
    plain = {bool: "True or False", str: "a string", None: "None", type(None): "None", Callable: "a function"}
    return plain.get(origin or hint, "") or ("" if hint is Any else f"a {(origin or hint).__name__}")


# Declarations


@dataclass(frozen=True)
class Setting:
    """One setting, as the signature and docstring of its method declare it.

    Attributes:
        name: Its name.
        hint: Its annotation.
        default: Its value where nobody sets it.
        doc: Its documentation; empty where a derived class only gives another default.
    """

    name: str
    hint: Any
    default: Any
    doc: str

    @property
    def attribute(self) -> str:
        """The configuration's attribute that holds it."""
        return "_model_config" if self.name == "model_config" else self.name  # RLlib's `model_config` is a property

    @property
    def per_environment(self) -> bool:
        """Whether it may differ between environments."""
        return get_origin(self.hint) is Annotated and _PER_ENVIRONMENT in get_args(self.hint)

    @property
    def expected(self) -> str:
        """Its type and range in words."""
        return _expected(self.hint)

    def checked(self, value: Any) -> Any:
        """The value to store.

        Raises:
            ValueError: It is of the wrong type or out of range.
        """
        if isinstance(value, np.generic):
            value = value.item()
        if not _fits(value, self.hint):
            if is_search_space(value):
                raise ValueError(f"{self.name}={value!r}: is a search space; only tune.Tuner draws values from it.")
            raise ValueError(f"{self.name}={value!r}: must be {self.expected}.")
        converters = [extra for extra in get_args(self.hint) if isinstance(extra, Converted)]
        return converters[0].function(value) if converters else value


def settings(method: Callable[..., Any]) -> Callable[..., Any]:
    """Let a method of a configuration check and set what it is given; its own body runs after that.

    The signature declares the settings (see the module's docstring). What is in ``**rllib`` belongs to the method of
    the same name of a base class, to which the body passes it on. Values that Tune is still to draw are checked by
    `SettingsMixin.validate_settings`.
    """
    signature = inspect.signature(method)
    hints = get_type_hints(method, include_extras=True)
    docs = _documented(method)
    declared = {
        name: Setting(name, hints[name], parameter.default, docs.get(name, ""))
        for name, parameter in signature.parameters.items()
        if parameter.default is not parameter.empty
    }

    @functools.wraps(method)
    def set_given(self: SettingsMixin, *args: Any, **kwargs: Any) -> Any:
        given = signature.bind(self, *args, **kwargs)
        self.refuse(method.__name__, given.arguments.get("rllib", {}))
        for name, value in given.arguments.items():
            if name in declared:
                checked = value if is_search_space(value) else declared[name].checked(value)
                setattr(self, declared[name].attribute, checked)
        method(*given.args, **given.kwargs)
        return self

    set_given.declared = declared  # type: ignore[attr-defined]
    return set_given


def _documented(method: Any) -> dict[str, str]:
    """The ``Args`` of a docstring, each in one line."""
    _, _, section = (inspect.getdoc(method) or "").partition("Args:\n")
    section = re.split(r"\n(?=\S)", section)[0]
    items = re.split(r"^    (\w+): ", section, flags=re.MULTILINE)[1:]
    return {name: " ".join(text.split()) for name, text in zip(items[::2], items[1::2], strict=True)}


class SettingsMixin(AlgorithmConfig):
    """A configuration whose methods are decorated with `settings`; it comes before RLlib's class.

    Attributes:
        NO_EFFECT: RLlib's settings that do nothing here, by method, with what to use instead; "*" stands for all.
    """

    NO_EFFECT: ClassVar[Mapping[str, Mapping[str, str]]] = {}

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        for name in setters(cls):
            if name not in vars(cls):
                setattr(cls, name, _inherited(cls, name))
            if hasattr(vars(cls)[name], "declared"):
                _describe(cls, name)

    def set_defaults(self) -> None:
        """Set all settings to their defaults; constructors call it after RLlib's."""
        for setting in declared_settings(type(self)).values():
            setattr(self, setting.attribute, copy.deepcopy(setting.default))

    def refuse(self, method: str, given: Mapping[str, Any]) -> None:
        """Raise an error for settings that a method does not take, or that have no effect.

        Raises:
            TypeError: There is no such setting.
            ValueError: RLlib has it, but it does nothing here.
        """
        setter = setters(type(self))[method]
        for name, value in given.items():
            if name in setter.no_effect and value is not None:  # RLlib itself sets some to None
                raise ValueError(
                    f"{method}({name}=...) has no effect with {type(self).__name__}. {setter.no_effect[name]}"
                )
            if name not in setter.takes.keys() | setter.no_effect.keys() | setter.deprecated:
                near = did_you_mean(name, setter.takes)
                raise TypeError(f"{method}({name}=...): there is no setting {name!r}.{near}")

    def validate_settings(self) -> None:
        """Check the type and range of all settings, also of those that were set without a method.

        Raises:
            ValueError: One is wrong or has no effect.
        """
        for setting in declared_settings(type(self)).values():
            value = getattr(self, setting.attribute)
            try:
                checked = setting.checked(value)
            except ValueError as error:
                self._value_error(str(error))
                continue
            if checked is not value:
                setattr(self, setting.attribute, checked)
        own, default = vars(self), vars(_default(type(self)))
        takes = {name for setter in setters(type(self)).values() for name in setter.takes}
        for name in own.keys() - default.keys():  # RLlib and Tune put things of their own there too
            if near := difflib.get_close_matches(name, takes, cutoff=0.8):
                self._value_error(f"There is no setting {name!r}. Did you mean {near[0]!r}?")
        for method, setter in setters(type(self)).items() if not self.in_evaluation else ():
            for name, instead in setter.no_effect.items():
                key = f"_{name}" if f"_{name}" in default else name
                # This package sets the policies, and RLlib some of the others for evaluation.
                if key != "policies" and not _same(own.get(key), default.get(key)):
                    self._value_error(f"{method}({name}=...) has no effect with {type(self).__name__}. {instead}")

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
            place = f"algorithm_config_overrides_per_module[{env_id!r}]"
            for name, value in values.items():
                if name not in known:
                    self._value_error(
                        f"{place}: {name!r} cannot differ between environments; these can: {', '.join(known)}."
                        f"{did_you_mean(name, known)}"
                    )
                try:
                    known[name].checked(value)
                except ValueError as error:
                    self._value_error(f"{place}: {error}")

    def validate_env_ids(self, name: str, given: Iterable[str], env_ids: Collection[str]) -> None:
        """Check that the keys of a setting are environments of the run.

        Raises:
            ValueError: One is not.
        """
        for key in given:
            if key not in env_ids:
                self._value_error(f"{name}: there is no environment {key!r}.{did_you_mean(str(key), env_ids)}")

    def update_from_dict(self, config_dict: Mapping[str, Any]) -> Self:
        """As RLlib's; settings without effect may be there with the value that they have anyway."""
        default = vars(_default(type(self)))
        no_effect = {name for setter in setters(type(self)).values() for name in setter.no_effect}
        unchanged = {name for name in no_effect & config_dict.keys() if _same(config_dict[name], default.get(name))}
        return super().update_from_dict({k: v for k, v in config_dict.items() if k not in unchanged})


# What follows from the declarations


@dataclass(frozen=True)
class Setter:
    """What a method of a configuration class takes.

    Attributes:
        takes: The settings that have an effect, as parameters with their defaults; this package's come first.
        no_effect: Settings of RLlib that have none, with what to use instead.
        deprecated: Settings that RLlib keeps only to say what has taken their place.
    """

    takes: Mapping[str, inspect.Parameter]
    no_effect: Mapping[str, str]
    deprecated: frozenset[str]


def _once_per_class(function: Callable[[Any], _T]) -> Callable[[Any], _T]:
    return functools.cache(function)


@_once_per_class
def declared_settings(cls: Any) -> dict[str, Setting]:
    """All settings that a configuration class and its bases declare, by name."""
    found: dict[str, Setting] = {}
    for base in reversed(cls.__mro__):
        for method in vars(base).values():
            for name, setting in getattr(method, "declared", {}).items():
                found[name] = setting if setting.doc or name not in found else replace(setting, doc=found[name].doc)
    return found


@_once_per_class
def setters(cls: Any) -> dict[str, Setter]:
    """The methods that set something, by name."""
    found = {name: _setter(cls, name) for name in dir(cls) if not name.startswith("_")}
    return {name: setter for name, setter in found.items() if setter.takes or setter.no_effect}


def _setter(cls: Any, name: str) -> Setter:
    methods = [vars(base)[name] for base in cls.__mro__ if inspect.isfunction(vars(base).get(name))]
    parameters = [p for m in methods for p in inspect.signature(inspect.unwrap(m)).parameters.values()]
    declared = {key for method in methods for key in getattr(method, "declared", {})}
    instead = cls.NO_EFFECT.get(name, {})
    takes: dict[str, inspect.Parameter] = {}
    no_effect: dict[str, str] = {}
    deprecated: set[str] = set()
    for parameter in parameters:
        key = parameter.name
        if key in declared:
            takes.setdefault(key, parameter.replace(default=declared_settings(cls)[key].default))
        elif parameter.default is DEPRECATED_VALUE:
            deprecated.add(key)
        elif parameter.default is NotProvided and (hint := instead.get(key, instead.get("*"))):
            no_effect[key] = hint
        elif parameter.default is NotProvided:
            takes.setdefault(key, parameter.replace(default=_rllib_default(key)))
    return Setter(takes, no_effect, frozenset(deprecated - takes.keys() - no_effect.keys()))


def _same(left: Any, right: Any) -> bool:
    try:
        return bool(left == right)
    except Exception:  # arrays, RLlib's PolicySpec
        return False


@_once_per_class
def _default(cls: Any) -> AlgorithmConfig:
    return cls()


def _rllib_default(name: str) -> Any:
    attributes = vars(_default(AlgorithmConfig))
    return attributes.get(name, attributes.get(f"_{name}"))


def _inherited(cls: Any, name: str) -> Callable[..., Any]:
    """The method of the base classes, with this class's documentation and signature."""

    def set_given(self: SettingsMixin, *args: Any, **kwargs: Any) -> Any:
        self.refuse(name, kwargs)
        getattr(super(cls, self), name)(*args, **kwargs)
        return self

    set_given.__name__, set_given.__qualname__ = name, f"{cls.__qualname__}.{name}"
    set_given.__module__ = cls.__module__
    set_given.__doc__ = inspect.getdoc(getattr(cls, name))
    set_given.declared = {}  # type: ignore[attr-defined]
    return set_given


def _describe(cls: Any, name: str) -> None:
    """Write docstring and signature of a method: this package's settings with their defaults, then RLlib's."""
    method, setter, declared = vars(cls)[name], setters(cls)[name], declared_settings(cls)
    summary = re.split(r"\n\n(?:Args:|Settings that|Of RLlib)", inspect.getdoc(method) or "")[0]
    own = [declared[key] for key in setter.takes if key in declared]
    others = [f"{key} = {p.default!r}" for key, p in setter.takes.items() if key not in declared]
    lines = [summary, "", "Settings that are left out stay as they are."]
    if own:
        lines += ["", "Args:"]
    for setting in own:
        notes = [f"Must be {setting.expected}."] if setting.expected and setting.hint is not bool else []
        notes += ["May differ between environments."] if setting.per_environment else []
        text = " ".join([f"{setting.name} = {setting.default!r}: {setting.doc}", *notes])
        lines.append(textwrap.fill(text, 110, initial_indent="    ", subsequent_indent="        "))
    if others:
        lines += ["", f"Of RLlib (see AlgorithmConfig.{name}):"]
        lines.append(textwrap.fill(", ".join(others), 110, initial_indent="    ", subsequent_indent="    "))
    method.__doc__ = "\n".join(lines) + "\n"
    parameters = [p.replace(annotation=p.empty) for p in setter.takes.values()]
    itself = inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    method.__signature__ = inspect.Signature([itself, *sorted(parameters, key=lambda parameter: parameter.kind)])
