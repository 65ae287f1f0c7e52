"""The experiment file: variants x phases x seeds, in the vocabulary of the configuration files."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rllib_multienv.config_files import yaml_text
from rllib_multienv.config_files.yaml_text import ConfigFileError, error_at, unknown_key_message
from rllib_multienv.evaluation.adaptation import check_adaptation
from rllib_multienv.evaluation.raw_metrics import ExperimentInfo, PhaseInfo, VariantInfo
from rllib_multienv.spec import EnvSpec, resolve_env_specs

_KEYS = ("name", "title", "description", "base", "variants", "phases", "seeds", "episodes", "anneal")
_ADAPTATION = ("split", "num_tasks", "episodes", "explore")
_NAME = re.compile(r"[\w.+-]+")


# What a value may be: the check, and how an error calls it.
_Kind = tuple[Callable[[Any], bool], str]
_WHOLE: _Kind = (lambda value: type(value) is int and value >= 1, "a whole number of at least 1")
_FLAG: _Kind = (lambda value: isinstance(value, bool), "true or false")
_TREE: _Kind = (lambda value: isinstance(value, dict), "keys and values below it")
_NAMES: _Kind = (lambda value: isinstance(value, list), "a list of names")
_SEEDS: _Kind = (lambda value: bool(value) and all(type(seed) is int for seed in value), "whole numbers")


@dataclass(frozen=True, kw_only=True)
class ExperimentFile:
    """An experiment.

    Args:
        info: Its phases, variants and seeds. Phases of kind "reference" train each environment alone.
        base, phases, variants: A configuration that all runs share, and what phases and variants change in it, by name.
        members: The phases of each variant, by name.
        adaptation: By phase, the options of `MultiEnvAgent.adapt` to measure each finished run with.
        episodes: Episodes per environment in the evaluation at the end of each run.
        anneal: Whether learning rates fall linearly to zero over each run (``training.lr_anneal_steps``).
        source, lines: The file's path, and the line of each path in its tree, for errors.
    """

    info: ExperimentInfo
    base: Mapping[str, Any]
    phases: Mapping[str, Mapping[str, Any]]
    variants: Mapping[str, Mapping[str, Any]]
    members: Mapping[str, tuple[str, ...]]
    adaptation: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    episodes: int = 20
    anneal: bool = False
    source: str = "<experiment>"
    lines: Mapping[yaml_text.Path, int] = field(default_factory=dict, repr=False, compare=False)

    def variants_of(self, phase: PhaseInfo) -> list[VariantInfo]:
        """The variants that take part in a phase."""
        return [variant for variant in self.info.variants if phase.name in self.members[variant.name]]

    def settings(self, phase: PhaseInfo, variant: VariantInfo) -> dict[str, Any]:
        """The configuration of a variant in a phase: the base, changed by the phase, then by the variant."""
        return merged(merged(self.base, self.phases[phase.name]), self.variants[variant.name])


def merged(tree: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of `tree` with `changes` in it; mappings are merged key by key, all else is replaced."""
    result = dict(tree)
    for key, value in changes.items():
        before = result.get(key)
        result[key] = merged(before, value) if isinstance(before, Mapping) and isinstance(value, Mapping) else value
    return result


def load_experiment_file(path: str | Path, *, default_name: str | None = None) -> ExperimentFile:
    """Reads an experiment file; where it gives no name, that is `default_name`, or its own without the ending.

    Raises:
        ConfigFileError: The file cannot be read or is not valid; with the line.
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
        phases, variants = (self._trees(tree, key) for key in ("phases", "variants"))
        adaptation = {name: own for name in phases if (own := self._adaptation(phases[name], name))}
        phase_infos = self._phases(phases)
        variant_infos, members = self._variants(variants, phase_infos)
        given = tree.get("seeds", [0])
        seeds = self._value({"seeds": given if isinstance(given, list) else [given]}, "seeds", _SEEDS)
        if len(set(seeds)) < len(seeds):
            raise self.error(f"'seeds' has one twice: {seeds}", "seeds")
        info = ExperimentInfo(
            name=name,
            title=str(tree.get("title") or name),
            description=str(tree.get("description") or "").strip(),
            phases=phase_infos,
            variants=variant_infos,
            seeds=tuple(seeds),
        )
        return ExperimentFile(
            info=info,
            base=self._value(tree, "base", _TREE, {}),
            phases=phases,
            variants=variants,
            members=members,
            adaptation=adaptation,
            episodes=self._value(tree, "episodes", _WHOLE, 20),
            anneal=self._value(tree, "anneal", _FLAG, False),
            source=self.source,
            lines=self.lines,
        )

    def _phases(self, trees: Mapping[str, dict[str, Any]]) -> tuple[PhaseInfo, ...]:
        """The phases; their own keys are removed from the trees, which keep the configuration."""
        specs: dict[str, Sequence[EnvSpec]] = {}
        own: dict[str, dict[str, Any]] = {}
        for name, tree in trees.items():
            path = ("phases", name)
            start, one_by_one = tree.pop("from", None), self._value(tree, "one_by_one", _FLAG, False, *path)
            steps = self._value(tree, "steps_per_environment", _WHOLE, None, *path)
            envs = (tree.get("environment") or {}).get("envs")
            if not envs:
                raise self.error(f"the phase {name!r} has no environment.envs", *path)
            try:
                specs[name] = resolve_env_specs(envs)
            except (TypeError, ValueError) as error:
                raise self.error(str(error), *path, "environment", "envs") from error
            if one_by_one and start:
                raise self.error(f"the phase {name!r} cannot be one_by_one and start from another", *path)
            if start is not None and start not in own:
                raise self._unknown("phase", start, own, "the phases before it", *path, "from")
            if start is not None and own[start]["kind"] == "reference":
                raise self.error(
                    f"{start!r} trains one agent for each environment: nothing can start from it", *path, "from"
                )
            kind = "reference" if one_by_one else "transfer" if start else "other"
            own[name] = {"kind": kind, "start_from": start, "steps_per_environment": steps}
        envs_of = {name: tuple(spec.id for spec in found) for name, found in specs.items()}
        transfers = [name for name, phase in own.items() if phase["kind"] == "transfer"]
        for name, phase in own.items():
            if phase["kind"] == "other":
                if not transfers or any(own[transfer]["start_from"] == name for transfer in transfers):
                    phase["kind"] = "pretrain"
                elif any(envs_of[transfer] == envs_of[name] for transfer in transfers):
                    phase["kind"] = "scratch"
        return tuple(PhaseInfo(name=name, envs=envs_of[name], **phase) for name, phase in own.items())

    def _adaptation(self, phase: dict[str, Any], name: str) -> dict[str, Any]:
        path = ("phases", name)
        options = self._value(phase, "adaptation", _TREE, {}, *path)
        for key in options:
            if key not in _ADAPTATION:
                raise self.error(unknown_key_message(key, _ADAPTATION, where="adaptation"), *path, "adaptation", key)
        try:
            check_adaptation(**options)
        except ValueError as error:
            raise self.error(str(error), *path, "adaptation") from error
        return options

    def _variants(
        self, trees: dict[str, dict[str, Any]], phases: Iterable[PhaseInfo]
    ) -> tuple[tuple[VariantInfo, ...], dict[str, tuple[str, ...]]]:
        """The variants and the phases of each; the trees get what they inherit, and keep the configuration only."""
        starts = {phase.name: phase.start_from for phase in phases}
        infos: dict[str, VariantInfo] = {}
        members: dict[str, tuple[str, ...]] = {}
        for name, tree in trees.items():
            path = ("variants", name)
            title, base = str(tree.pop("title", None) or name), tree.pop("ablation_of", None)
            given = self._value(tree, "phases", _NAMES, [], *path)
            if base is not None and base not in infos:
                raise self._unknown("variant", base, infos, "the variants before it", *path, "ablation_of")
            for phase in given:
                if phase not in starts:
                    raise self._unknown("phase", phase, starts, "'phases'", *path, "phases")
                start = starts[phase]
                if start is not None and start not in given:
                    message = f"{phase!r} starts from {start!r}, which {name!r} does not take part in"
                    raise self.error(message, *path, "phases")
            trees[name] = merged(trees[base], tree) if base is not None else tree
            infos[name] = VariantInfo(name=name, title=title, ablation_of=base)
            members[name] = tuple(given or starts)
        return tuple(infos.values()), members

    def _trees(self, tree: Mapping[str, Any], key: str) -> dict[str, dict[str, Any]]:
        """The named trees below a key; at least one."""
        found = self._value({**tree}, key, _TREE, {})
        if not found:
            raise self.error(f"the experiment has no {key}", key)
        return {self._name(name, key, name): dict(self._value({**found}, name, _TREE, {}, key)) for name in found}

    def _value(self, tree: dict[str, Any], key: str, kind: _Kind, default: Any = None, *path: str) -> Any:
        """Takes a value out of a tree; None stands for the default."""
        value = tree.pop(key, None)
        if value is None:
            return default
        if not kind[0](value):
            raise self.error(f"{key!r} takes {kind[1]}, not {value!r}", *path, key)
        return value

    def _name(self, value: str, *path: str) -> str:
        if not _NAME.fullmatch(value) or not value.strip("."):
            raise self.error(f"the name {value!r} cannot be the name of a folder", *path)
        return value

    def _unknown(self, what: str, name: str, known: Iterable[str], where: str, *path: str) -> ConfigFileError:
        return self.error(unknown_key_message(name, known, where=where).replace("key", what, 1), *path)
