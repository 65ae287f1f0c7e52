"""YAML text to plain values and back: line numbers, search-space tags, numbers such as ``3e-4``, and their errors."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import yaml

Path = tuple[str | int, ...]


class ConfigFileError(ValueError):
    """A configuration file that cannot be used; the message begins with the file and the line."""

    def __init__(self, message: str, *, source: str | None = None, line: int | None = None) -> None:
        self.source, self.line, self.reason = source, line, message
        place = "".join([source or "", f":{line}" if line is not None else ""])
        super().__init__(f"{place}: {message}" if place else message)


def error_at(message: str, path: Path, *, source: str, lines: Mapping[Path, int]) -> ConfigFileError:
    """An error at the line of `path`, or of the nearest thing around it whose line is known."""
    line = next((lines[path[:length]] for length in range(len(path), 0, -1) if path[:length] in lines), None)
    return ConfigFileError(message, source=source, line=line)


def unknown_key_message(key: object, known: Iterable[str], *, where: str) -> str:
    """Says that `key` is unknown in `where`, and names the nearest known keys, or all of them if none is near."""
    names = sorted(set(known))
    message = f"unknown key {str(key)!r} in {where}"
    near = difflib.get_close_matches(str(key), names, n=3, cutoff=0.55)
    if near:
        return f"{message}; did you mean {' or '.join(repr(name) for name in near)}?"
    return f"{message}; it takes {', '.join(names)}" if names else f"{message}, which takes no keys"


# Search spaces

# Tag -> parameters of the function of the same name in `ray.tune`. They are written down here, so that a file can be
# read and checked without importing Ray.
_PARAMETERS: dict[str, tuple[str, ...]] = {
    "grid_search": ("values",),
    "choice": ("categories",),
    "uniform": ("lower", "upper"),
    "quniform": ("lower", "upper", "q"),
    "loguniform": ("lower", "upper", "base"),
    "qloguniform": ("lower", "upper", "q", "base"),
    "randint": ("lower", "upper"),
    "qrandint": ("lower", "upper", "q"),
    "lograndint": ("lower", "upper", "base"),
    "qlograndint": ("lower", "upper", "q", "base"),
    "randn": ("mean", "sd"),
    "qrandn": ("mean", "sd", "q"),
}
_OPTIONAL = {"base", "mean", "sd"}
_OF_A_LIST = {"grid_search", "choice"}


@dataclass(frozen=True)
class SearchSpace:
    """A search space ``!TAG ARGUMENTS``; Tune's sampler of that name draws from it.

    Args:
        tag: Name of a function of `ray.tune`.
        arguments: A list (positional arguments; for ``grid_search`` and ``choice`` the values themselves) or a mapping
            (keyword arguments).
    """

    tag: str
    arguments: Any

    def __post_init__(self) -> None:
        """Checks the arguments' number and names.

        Raises:
            ValueError: The tag or its arguments do not fit.
        """
        if self.tag not in _PARAMETERS:
            raise ValueError(
                unknown_key_message(self.tag, _PARAMETERS, where="the tags for search spaces").replace("key", "tag", 1)
            )
        if self.tag in _OF_A_LIST:
            if not isinstance(self.arguments, list) or not self.arguments:
                raise ValueError(f"!{self.tag} takes a list with at least one value")
            return
        names = _PARAMETERS[self.tag]
        usage = f"!{self.tag} [{', '.join(names)}]"
        if not isinstance(self.arguments, list | dict):
            raise ValueError(f"!{self.tag} takes a list or a mapping: {usage}")
        given = set(names[: len(self.arguments)]) if isinstance(self.arguments, list) else set(self.arguments)
        missing = set(names) - _OPTIONAL - given
        if missing or len(self.arguments) > len(names) or not given <= set(names):
            raise ValueError(f"!{self.tag} has wrong arguments {self.arguments!r}: {usage}")
        values = self.arguments if isinstance(self.arguments, list) else self.arguments.values()
        if not all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
            raise ValueError(f"!{self.tag} takes numbers, not {self.arguments!r}")
        if names[0] == "lower":
            by_name = dict(zip(names, values, strict=False)) if isinstance(self.arguments, list) else self.arguments
            if by_name["lower"] >= by_name["upper"]:
                raise ValueError(f"!{self.tag} {self.arguments!r}: its lower end must be below its upper end")

    def to_tune(self) -> Any:
        """Tune's sampler (a `Domain`, or the dict that stands for a grid search)."""
        from ray import tune

        sampler: Callable[..., Any] = getattr(tune, self.tag)
        if self.tag in _OF_A_LIST:
            return sampler(list(self.arguments))
        return sampler(**self.arguments) if isinstance(self.arguments, dict) else sampler(*self.arguments)

    def options(self) -> list[Any]:
        """The values of a list, or the lowest and highest of a range: if these are allowed, then all."""
        if self.tag in _OF_A_LIST:
            return list(self.arguments)
        space = self.to_tune()
        high = space.upper - (self.tag in ("randint", "lograndint"))  # these never draw the end of the range
        return [bound for bound in (space.lower, high) if math.isfinite(bound)]

    def example(self) -> Any:
        """One value of the space, for checking a configuration before any trial starts."""
        options = self.options()
        return options[0] if options else self.to_tune().sample()


def find_search_spaces(value: Any, path: Path = ()) -> Iterator[tuple[Path, SearchSpace]]:
    """All search spaces in a tree of dicts and lists, each with its path."""
    if isinstance(value, SearchSpace):
        yield path, value
    elif isinstance(value, dict | list):
        for key, child in value.items() if isinstance(value, dict) else enumerate(value):
            yield from find_search_spaces(child, (*path, key))


def replace_search_spaces(value: Any, replace: Callable[[SearchSpace], Any]) -> Any:
    """A copy of a tree of dicts and lists with every search space replaced by ``replace(space)``."""
    if isinstance(value, SearchSpace):
        return replace(value)
    if isinstance(value, dict):
        return {key: replace_search_spaces(child, replace) for key, child in value.items()}
    return [replace_search_spaces(child, replace) for child in value] if isinstance(value, list) else value


# Text to values


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader, which also takes ``3e-4`` as a number: in YAML 1.1 that is a text."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(?:[0-9][0-9_]*)(?:\.[0-9_]*)?[eE][-+]?[0-9]+$"),
    list("-+0123456789"),
)


def parse(text: str, *, source: str) -> tuple[Any, dict[Path, int]]:
    """Reads one YAML document.

    Args:
        text: The document.
        source: What to call it in errors, usually the file's path.

    Returns:
        Its value made of dicts, lists, scalars and `SearchSpace`, and the line (from 1) of every key and list item.

    Raises:
        ConfigFileError: Malformed YAML, a key that stands twice or is not a text, an unknown or misused tag.
    """
    loader = _Loader(text)
    lines: dict[Path, int] = {}
    try:
        node = loader.get_single_node()
        return (None if node is None else _Reader(loader, source, lines).value(node, ())), lines
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        reason = ", ".join(part for part in (error.context, error.problem) if part)
        line = mark.line + 1 if mark else None
        raise ConfigFileError(f"not valid YAML: {reason}", source=source, line=line) from None
    except yaml.YAMLError as error:
        raise ConfigFileError(f"not valid YAML: {error}", source=source) from None
    finally:
        loader.dispose()


def parse_scalar(text: str) -> Any:
    """The value of a YAML fragment on the command line: ``3e-4``, ``[1, 2]``, ``!choice [1, 2]``."""
    return parse(text, source=repr(text))[0]


class _Reader:
    """Turns YAML nodes into values; PyYAML's constructor would forget the lines and drop repeated keys."""

    def __init__(self, loader: _Loader, source: str, lines: dict[Path, int]) -> None:
        self._loader, self._source, self._lines = loader, source, lines

    def value(self, node: yaml.Node, path: Path) -> Any:
        line = node.start_mark.line + 1
        self._lines.setdefault(path, line)
        if not node.tag.startswith("!"):
            return self._plain(node, path)
        try:
            scalar = isinstance(node, yaml.ScalarNode)
            return SearchSpace(node.tag[1:], node.value if scalar else self._plain(node, path))
        except ConfigFileError:
            raise
        except ValueError as error:
            raise ConfigFileError(str(error), source=self._source, line=line) from None

    def _plain(self, node: yaml.Node, path: Path) -> Any:
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode):
            return [self.value(child, (*path, index)) for index, child in enumerate(node.value)]
        return self._loader.construct_object(node)

    def _mapping(self, node: yaml.MappingNode, path: Path) -> dict[str, Any]:
        own = [key for key, _ in node.value if key.tag != "tag:yaml.org,2002:merge"]
        self._loader.flatten_mapping(node)  # keys merged by `<<` come first, so that the node's own replace them
        found: dict[str, tuple[int, yaml.Node]] = {}
        first: dict[str, int] = {}
        for key_node, value_node in node.value:
            key, line = self._loader.construct_object(key_node), key_node.start_mark.line + 1
            if not isinstance(key, str):
                raise ConfigFileError(
                    f"the key {key!r} is not a text; put it in quotes", source=self._source, line=line
                )
            if key_node in own:
                if key in first:
                    message = f"the key {key!r} stands here for a second time (first in line {first[key]})"
                    raise ConfigFileError(message, source=self._source, line=line)
                first[key] = line
            found[key] = (line, value_node)
        self._lines.update({(*path, key): line for key, (line, _) in found.items()})
        return {key: self.value(value_node, (*path, key)) for key, (_, value_node) in found.items()}


# Values to text


class _Dumper(yaml.SafeDumper):
    """PyYAML's safe dumper, with search spaces written as tags and no anchors for equal lists."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def dump(value: Any) -> str:
    """YAML text of a tree as `parse` gives it; `parse` reads it back to the same tree."""
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, width=110, allow_unicode=True)


def _represent_search_space(dumper: _Dumper, space: SearchSpace) -> yaml.Node:
    represent = dumper.represent_mapping if isinstance(space.arguments, dict) else dumper.represent_sequence
    return represent(f"!{space.tag}", space.arguments, flow_style=True)


def _represent_list(dumper: _Dumper, values: list[Any] | tuple[Any, ...]) -> yaml.Node:
    flow = all(isinstance(value, str | int | float | bool | None) for value in values)
    return dumper.represent_sequence("tag:yaml.org,2002:seq", list(values), flow_style=flow)


_Dumper.add_representer(SearchSpace, _represent_search_space)
_Dumper.add_representer(list, _represent_list)
_Dumper.add_representer(tuple, _represent_list)
