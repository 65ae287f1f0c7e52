"""YAML text to plain values and back, with line numbers, search-space tags and numbers such as ``3e-4``."""

from __future__ import annotations

import re
from typing import Any

import yaml

from rllib_multienv.config_files.errors import ConfigFileError, unknown_key_message
from rllib_multienv.config_files.search_spaces import TAGS, SearchSpace

Path = tuple[str | int, ...]


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader, which also takes ``3e-4`` as a number: in YAML 1.1 that is a text."""


class _Dumper(yaml.SafeDumper):
    """PyYAML's safe dumper, with search spaces written as tags and no anchors for equal lists."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


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
        Its value made of dicts, lists, scalars and `SearchSpace`, and the line (from 1) of every key and list
        item.

    Raises:
        ConfigFileError: For malformed YAML, a key that stands twice or is no text, an unknown or misused tag.
    """
    loader = _Loader(text)
    lines: dict[Path, int] = {}
    try:
        node = loader.get_single_node()
        return (None if node is None else _Reader(loader, source, lines).value(node, ())), lines
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        reason = ", ".join(part for part in (error.context, error.problem) if part)
        raise ConfigFileError(
            f"not valid YAML: {reason}", source=source, line=mark.line + 1 if mark else None
        ) from None
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
        if node.tag.startswith("!"):
            return self._search_space(node, path, line)
        return self._plain(node, path)

    def _plain(self, node: yaml.Node, path: Path) -> Any:
        if isinstance(node, yaml.MappingNode):
            self._loader.flatten_mapping(node)
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode):
            return [self.value(child, (*path, index)) for index, child in enumerate(node.value)]
        return self._loader.construct_object(node)

    def _mapping(self, node: yaml.MappingNode, path: Path) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key, line = self._loader.construct_object(key_node), key_node.start_mark.line + 1
            if not isinstance(key, str):
                raise ConfigFileError(f"the key {key!r} is no text; put it in quotes", source=self._source, line=line)
            if key in result:
                first = self._lines[(*path, key)]
                raise ConfigFileError(
                    f"the key {key!r} stands here for a second time (first in line {first})",
                    source=self._source,
                    line=line,
                )
            self._lines[(*path, key)] = line
            result[key] = self.value(value_node, (*path, key))
        return result

    def _search_space(self, node: yaml.Node, path: Path, line: int) -> SearchSpace:
        tag = node.tag[1:]
        if tag not in TAGS:
            message = unknown_key_message(tag, TAGS, where="the tags for search spaces").replace("key", "tag", 1)
            raise ConfigFileError(message, source=self._source, line=line)
        if isinstance(node, yaml.ScalarNode):
            arguments: Any = node.value
        else:
            arguments = self._plain(node, path)
        try:
            return SearchSpace(tag, arguments)
        except ValueError as error:
            raise ConfigFileError(str(error), source=self._source, line=line) from None


def dump(value: Any) -> str:
    """YAML text of a tree as `parse` gives it; `parse` reads it back to the same tree."""
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, width=110, allow_unicode=True)


def _represent_search_space(dumper: _Dumper, space: SearchSpace) -> yaml.Node:
    if isinstance(space.arguments, dict):
        return dumper.represent_mapping(f"!{space.tag}", space.arguments, flow_style=True)
    return dumper.represent_sequence(f"!{space.tag}", space.arguments, flow_style=True)


def _represent_list(dumper: _Dumper, values: list[Any]) -> yaml.Node:
    flow = all(isinstance(value, str | int | float | bool | None) for value in values)
    return dumper.represent_sequence("tag:yaml.org,2002:seq", values, flow_style=flow)


def _represent_tuple(dumper: _Dumper, values: tuple[Any, ...]) -> yaml.Node:
    return _represent_list(dumper, list(values))


_Dumper.add_representer(SearchSpace, _represent_search_space)
_Dumper.add_representer(list, _represent_list)
_Dumper.add_representer(tuple, _represent_tuple)
