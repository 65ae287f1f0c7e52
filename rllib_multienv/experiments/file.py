"""The experiment file: variants x phases x seeds, in the vocabulary of the configuration files."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rllib_multienv.config_files import yaml_text
from rllib_multienv.config_files.errors import ConfigFileError, error_at, unknown_key_message

_KEYS = ("name", "title", "description", "base", "variants", "phases", "seeds", "episodes", "anneal")
_NAME = re.compile(r"[\w.+-]+")


@dataclass(frozen=True, kw_only=True)
class Variant:
    """One kind of agent.

    Args:
        name: Its name, also of its folders.
        settings: What it changes in the base: a tree as in a configuration file.
        title: How reports call it.
        ablation_of: The variant whose settings it takes over and changes; None if it stands for itself.
        phases: The phases that it takes part in; all where empty.
    """

    name: str
    settings: Mapping[str, Any]
    title: str
    ablation_of: str | None = None
    phases: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Phase:
    """One set of environments to train on.

    Args:
        name: Its name, also of its folder.
        settings: What it changes in the base; ``environment.envs`` among it.
        start_from: The phase whose agent, of the same variant and seed, each run begins with.
        one_by_one: Whether every environment gets a run of its own. Such runs are the reference of normalised scores.
        steps_per_environment: Environment steps of each environment; sets ``stop.num_env_steps_sampled_lifetime``.
    """

    name: str
    settings: Mapping[str, Any]
    start_from: str | None = None
    one_by_one: bool = False
    steps_per_environment: int | None = None


@dataclass(frozen=True, kw_only=True)
class ExperimentFile:
    """An experiment.

    Args:
        name: Of the results folder.
        title: Of the report.
        description: A paragraph for the report.
        base: A configuration that all runs share.
        variants: By name.
        phases: By name, in the order in which they are run; none starts from a later one.
        seeds: ``debugging.seed`` of the repetitions.
        episodes: Per environment, in the evaluation at the end of each run.
        anneal: Whether learning rates fall linearly to zero over each run (``training.lr_anneal_steps``).
        source: The file's path, for errors.
        lines: Path in the tree -> line in the file.
    """

    name: str
    title: str
    description: str
    base: Mapping[str, Any]
    variants: Mapping[str, Variant]
    phases: Mapping[str, Phase]
    seeds: tuple[int, ...]
    episodes: int = 20
    anneal: bool = False
    source: str = "<experiment>"
    lines: Mapping[yaml_text.Path, int] = field(default_factory=dict, repr=False, compare=False)

    def error(self, message: str, *path: str | int) -> ConfigFileError:
        """An error at the line of `path`, or of the nearest thing around it whose line is known."""
        return error_at(message, path, source=self.source, lines=self.lines)

    def variants_of(self, phase: Phase) -> list[Variant]:
        """The variants that take part in a phase."""
        return [variant for variant in self.variants.values() if not variant.phases or phase.name in variant.phases]

    def settings_of(self, variant: Variant) -> dict[str, Any]:
        """What a variant changes in the base, what it takes over from another one included."""
        inherited = {} if variant.ablation_of is None else self.settings_of(self.variants[variant.ablation_of])
        return merged(inherited, variant.settings)


def merged(tree: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of `tree` with `changes` in it; mappings are merged key by key, all else is replaced."""
    result = dict(tree)
    for key, value in changes.items():
        before = result.get(key)
        result[key] = merged(before, value) if isinstance(before, Mapping) and isinstance(value, Mapping) else value
    return result


def load_experiment_file(path: str | Path, *, default_name: str | None = None) -> ExperimentFile:
    """Reads an experiment file.

    Args:
        path: The file.
        default_name: The experiment's name where the file gives none; default: the file's, without its ending.

    Raises:
        ConfigFileError: There is no such file, or it is not valid; with the line.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = f"cannot be read: {getattr(error, 'strerror', None) or error}"
        raise ConfigFileError(reason, source=str(path)) from None
    tree, lines = yaml_text.parse(text, source=str(path))
    return _Reader(str(path), lines).experiment(tree, default_name=default_name or Path(path).stem)


class _Reader:
    """From the file's tree to an `ExperimentFile`; whatever is wrong is an error at its line."""

    def __init__(self, source: str, lines: Mapping[yaml_text.Path, int]) -> None:
        self.source, self.lines = source, lines

    def error(self, message: str, *path: str | int) -> ConfigFileError:
        return error_at(message, path, source=self.source, lines=self.lines)

    def experiment(self, tree: Any, default_name: str) -> ExperimentFile:
        if not isinstance(tree, dict):
            raise self.error("the file is empty, or not made of keys and values")
        for key in tree:
            if key not in _KEYS:
                raise self.error(unknown_key_message(key, _KEYS, where="an experiment file"), key)
        name = self._name(str(tree.get("name") or default_name), "name")
        variants = {
            key: self._variant(key, self._mapping(value, "variants", key))
            for key, value in self._named(tree, "variants").items()
        }
        phases = {
            key: self._phase(key, self._mapping(value, "phases", key))
            for key, value in self._named(tree, "phases").items()
        }
        self._check_references(variants, phases)
        return ExperimentFile(
            name=name,
            title=str(tree.get("title") or name),
            description=str(tree.get("description") or "").strip(),
            base=self._mapping(tree.get("base"), "base"),
            variants=variants,
            phases=phases,
            seeds=self._seeds(tree.get("seeds", [0])),
            episodes=self._whole(tree.get("episodes", 20), "episodes"),
            anneal=self._flag(tree.get("anneal", False), "anneal"),
            source=self.source,
            lines=self.lines,
        )

    def _variant(self, name: str, tree: dict[str, Any]) -> Variant:
        own = {key: tree.pop(key, None) for key in ("title", "ablation_of", "phases")}
        return Variant(
            name=self._name(name, "variants", name),
            settings=tree,
            title=str(own["title"] or name),
            ablation_of=own["ablation_of"],
            phases=tuple(own["phases"] or ()),
        )

    def _phase(self, name: str, tree: dict[str, Any]) -> Phase:
        own = {key: tree.pop(key, None) for key in ("from", "one_by_one", "steps_per_environment")}
        steps = own["steps_per_environment"]
        if not (tree.get("environment") or {}).get("envs"):
            raise self.error(f"the phase {name!r} has no environment.envs", "phases", name)
        if own["one_by_one"] and own["from"]:
            raise self.error(f"the phase {name!r} cannot be one_by_one and start from another", "phases", name)
        return Phase(
            name=self._name(name, "phases", name),
            settings=tree,
            start_from=own["from"],
            one_by_one=self._flag(own["one_by_one"] or False, "phases", name, "one_by_one"),
            steps_per_environment=(
                None if steps is None else self._whole(steps, "phases", name, "steps_per_environment")
            ),
        )

    def _check_references(self, variants: Mapping[str, Variant], phases: Mapping[str, Phase]) -> None:
        order = list(phases)
        for phase in phases.values():
            earlier = order[: order.index(phase.name)]
            if phase.start_from is not None and phase.start_from not in earlier:
                message = unknown_key_message(phase.start_from, earlier, where="the phases before it")
                raise self.error(message.replace("key", "phase", 1), "phases", phase.name, "from")
            if phase.start_from is not None and phases[phase.start_from].one_by_one:
                message = f"{phase.start_from!r} trains one agent for each environment: nothing can start from it"
                raise self.error(message, "phases", phase.name, "from")
        seen: list[str] = []
        for variant in variants.values():
            if variant.ablation_of is not None and variant.ablation_of not in seen:
                message = unknown_key_message(variant.ablation_of, seen, where="the variants before it")
                raise self.error(message.replace("key", "variant", 1), "variants", variant.name, "ablation_of")
            seen.append(variant.name)
            for name in variant.phases:
                if name not in phases:
                    message = unknown_key_message(name, phases, where="'phases'").replace("key", "phase", 1)
                    raise self.error(message, "variants", variant.name, "phases")
                start = phases[name].start_from
                if start is not None and start not in variant.phases:
                    message = f"{name!r} starts from {start!r}, which {variant.name!r} does not take part in"
                    raise self.error(message, "variants", variant.name, "phases")

    def _named(self, tree: Mapping[str, Any], key: str) -> dict[str, Any]:
        found = self._mapping(tree.get(key), key)
        if not found:
            raise self.error(f"the experiment has no {key}", key)
        return found

    def _mapping(self, value: Any, *path: str) -> dict[str, Any]:
        if value is not None and not isinstance(value, dict):
            raise self.error(f"{'.'.join(path)!r} takes keys and values below it, not {value!r}", *path)
        return dict(value or {})

    def _name(self, value: str, *path: str) -> str:
        if not _NAME.fullmatch(value) or not value.strip("."):
            raise self.error(f"the name {value!r} cannot be the name of a folder", *path)
        return value

    def _whole(self, value: Any, *path: str) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise self.error(f"{path[-1]!r} takes a whole number of at least 1, not {value!r}", *path)
        return value

    def _flag(self, value: Any, *path: str) -> bool:
        if not isinstance(value, bool):
            raise self.error(f"{path[-1]!r} takes true or false, not {value!r}", *path)
        return value

    def _seeds(self, value: Any) -> tuple[int, ...]:
        seeds = value if isinstance(value, list) else [value]
        if not seeds or any(isinstance(seed, bool) or not isinstance(seed, int) for seed in seeds):
            raise self.error(f"'seeds' takes whole numbers, not {value!r}", "seeds")
        if len(set(seeds)) < len(seeds):
            raise self.error(f"'seeds' has one twice: {seeds}", "seeds")
        return tuple(seeds)
