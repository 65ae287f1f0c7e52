"""`ConfigFile`: one configuration file, read and checked as far as that is possible without Ray."""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from rllib_multienv.config_files import yaml_text
from rllib_multienv.config_files.stopping import StopCriteria
from rllib_multienv.config_files.yaml_text import ConfigFileError, SearchSpace, error_at, find_search_spaces

# The keys that are not methods of `AlgorithmConfig`.
OWN_KEYS = ("algorithm", "name", "stop", "tune")
# The one place of `tune` with search spaces: how population-based training changes settings while it runs.
MUTATIONS = ("tune", "scheduler", "hyperparam_mutations")


@dataclass(frozen=True)
class ConfigFile:
    """The contents of one file.

    Its tree holds, beside the methods of `AlgorithmConfig`:

    - ``algorithm``: a name registered with Tune, ``MultiEnvPPO`` where it is missing;
    - ``name``: the name of the results folder, the file's name where it is missing;
    - ``stop``: when a trial ends, see `StopCriteria`;
    - ``tune``: fields of `tune.TuneConfig` and of `tune.RunConfig` (``num_samples``, ``checkpoint_config``,
      ...), with search spaces below ``scheduler.hyperparam_mutations`` only.

    Args:
        tree: The file's values: dicts, lists, scalars and `SearchSpace`.
        source: The file's path, for errors.
        lines: Path in the tree -> line in the file.
    """

    tree: Mapping[str, Any]
    source: str = "<config>"
    lines: Mapping[yaml_text.Path, int] = field(default_factory=dict, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Checks the shape of the tree.

        Raises:
            ConfigFileError: A part is not of the kind that it must be.
        """
        for key, value in self.tree.items():
            if key in ("algorithm", "name"):
                if not isinstance(value, str) or not value:
                    raise self.error(f"{key!r} must be a text, not {value!r}", key)
            elif value is not None and not isinstance(value, dict):
                what = "criteria" if key == "stop" else "keyword arguments"
                raise self.error(f"{key!r} takes {what} below it (key: value), not {value!r}", key)
        if not re.fullmatch(r"[\w.+-]+( [\w.+-]+)*", self.name) or self.name.strip(".") == "":
            raise self.error(f"the name {self.name!r} cannot be the name of a folder", "name")
        for section in ("stop", "tune"):
            for path, _ in find_search_spaces(self.tree.get(section), (section,)):
                if path[: len(MUTATIONS)] != MUTATIONS:
                    raise self.error(f"{section!r} takes no search spaces", *path)
        _ = self.stop

    @property
    def algorithm(self) -> str:
        """Name of the algorithm."""
        return str(self.tree.get("algorithm", "MultiEnvPPO"))

    @property
    def name(self) -> str:
        """Name of the run and of its results folder."""
        return str(self.tree.get("name") or Path(self.source).stem.strip("<>") or "run")

    @property
    def stop(self) -> StopCriteria:
        """When a trial ends."""
        try:
            return StopCriteria.of(self.tree.get("stop") or {})
        except ValueError as error:
            raise self.error(str(error), "stop") from None

    @property
    def tune(self) -> dict[str, Any]:
        """Fields of `TuneConfig` and `RunConfig`."""
        return dict(self.tree.get("tune") or {})

    @property
    def methods(self) -> dict[str, dict[str, Any]]:
        """Method name -> keyword arguments, in the order of the file."""
        return {key: dict(value or {}) for key, value in self.tree.items() if key not in OWN_KEYS}

    @property
    def search_spaces(self) -> dict[str, SearchSpace]:
        """The search spaces from which a trial's settings are drawn, by place: ``{"training.actor_lr": ...}``."""
        return {".".join(map(str, path)): space for path, space in find_search_spaces(self.methods)}

    @property
    def single(self) -> bool:
        """Whether the file stands for one trial: it has no search spaces, and `num_samples` is one."""
        return not self.search_spaces and int(self.tune.get("num_samples") or 1) == 1

    def override(self, path: str | yaml_text.Path, value: Any) -> ConfigFile:
        """A copy with one value replaced or added.

        Args:
            path: Keys, also as one text with dots between them: ``"training.actor_lr"``.
            value: The value; a `SearchSpace` is allowed where the file allows one.

        Raises:
            ConfigFileError: A key on the way holds a single value, or the result is not a valid file.
        """
        *way, last = path.split(".") if isinstance(path, str) else map(str, path)
        tree: dict[str, Any] = copy.deepcopy(dict(self.tree))
        node: Any = tree
        for depth, key in enumerate(way, 1):
            if isinstance(node, dict) and node.get(key) is None:
                node[key] = {}
            node = node[key if isinstance(node, dict) else _index(node, key)]
            if not isinstance(node, dict | list):
                raise ConfigFileError(f"{'.'.join(way[:depth])!r} holds {node!r}, nothing can be set below it")
        node[last if isinstance(node, dict) else _index(node, last)] = value
        return replace(self, tree=tree)

    def dump(self) -> str:
        """The file as YAML text; reading it gives an equal tree."""
        return yaml_text.dump({"algorithm": self.algorithm, "name": self.name, **dict(self.tree)})

    def error(self, message: str, *path: str | int) -> ConfigFileError:
        """An error at the line of `path`, or of the nearest thing around it whose line is known."""
        return error_at(message, path, source=self.source, lines=self.lines)


def load_config_file(path: str | Path) -> ConfigFile:
    """Reads a configuration file.

    Raises:
        ConfigFileError: There is no such file, or it is not valid.
    """
    source = str(path)
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigFileError(f"cannot be read: {getattr(error, 'strerror', None) or error}", source=source) from None
    tree, lines = yaml_text.parse(text, source=source)
    if not isinstance(tree, dict):
        raise ConfigFileError("the file is empty, or not made of keys and values", source=source)
    return ConfigFile(tree=tree, source=source, lines=lines)


def _index(node: list[Any], key: str) -> int:
    if not key.isdecimal() or int(key) >= len(node):
        raise ConfigFileError(f"{key!r} is not an index of a list of {len(node)}")
    return int(key)
