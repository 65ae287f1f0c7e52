"""What an experiment consists of: its phases, variants and seeds, and what it ran with."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

#: What a phase is for. Those of a "reference" train each environment alone and define 100 in the normalised score.
PHASE_KINDS = ("pretrain", "transfer", "scratch", "reference", "other")

#: Between what several parts of an experiment say of themselves: their versions, machines, commands.
BETWEEN_PARTS = "; "


def parts_of(text: str) -> list[str]:
    """What the parts of an experiment say, of a text with `BETWEEN_PARTS` between."""
    return [part for part in text.split(BETWEEN_PARTS) if part]


def join_parts(texts: Iterable[str]) -> str:
    """What several parts say, one after the other, each thing once; what was joined before is taken apart."""
    return BETWEEN_PARTS.join(dict.fromkeys(part for text in texts for part in parts_of(text)))


@dataclass(frozen=True, kw_only=True)
class PhaseInfo:
    """One phase of an experiment: every variant and seed is trained on the same environments.

    Args:
        name: Its name in every table.
        kind: One of `PHASE_KINDS`.
        start_from: Name of the phase whose trained agents it begins with (`from` in the file), if any.
        envs: Ids of the environments, in the order of the report.
        steps_per_environment: Planned training, in environment steps of each environment; None where not planned.

    Raises:
        ValueError: If `kind` is not known or there is no environment.
    """

    name: str
    kind: str
    start_from: str | None = None
    envs: tuple[str, ...]
    steps_per_environment: int | None = None

    def __post_init__(self) -> None:
        """Checks the fields."""
        if self.kind not in PHASE_KINDS:
            raise ValueError(f"phase {self.name!r}: kind {self.kind!r} is none of {', '.join(PHASE_KINDS)}")
        if not self.envs:
            raise ValueError(f"phase {self.name!r} has no environments")


@dataclass(frozen=True, kw_only=True)
class VariantInfo:
    """One variant: what is compared with the others.

    Args:
        name: Its name in every table.
        title: Its name in the report; default: `name`.
        ablation_of: The variant that this one takes something away from, or changes one thing of, if any.
    """

    name: str
    title: str = ""
    ablation_of: str | None = None

    @property
    def label(self) -> str:
        """What the report calls it."""
        return self.title or self.name


@dataclass(frozen=True, kw_only=True)
class ExperimentInfo:
    """An experiment: variants x seeds x phases.

    Args:
        name: Its name.
        title: The report's title; default: `name`.
        description: Some sentences for the report's head.
        phases: Its phases, in the order of the report; some may not have run.
        variants: Its variants, in the order of the report; some may not have run.
        seeds: The random seeds of the runs.
        versions: Version by package, as in ``{"ray": "2.60.0"}``.
        machine: What it ran on, in words.
        command: The command line that runs it again; of several parts, with `BETWEEN_PARTS` between.

    Raises:
        ValueError: If two phases or two variants have one name, or one of them refers to an unknown one.
    """

    name: str
    title: str = ""
    description: str = ""
    phases: tuple[PhaseInfo, ...]
    variants: tuple[VariantInfo, ...]
    seeds: tuple[int, ...]
    versions: Mapping[str, str] = field(default_factory=dict)
    machine: str = ""
    command: str = ""

    def __post_init__(self) -> None:
        """Checks the names."""
        for what, names in (("phases", [p.name for p in self.phases]), ("variants", [v.name for v in self.variants])):
            if len(set(names)) < len(names):
                raise ValueError(f"two {what} have one name: {', '.join(names)}")
        for phase in self.phases:
            if phase.start_from is not None:
                self.phase(phase.start_from)
        for variant in self.variants:
            if variant.ablation_of is not None:
                self.variant(variant.ablation_of)

    @property
    def commands(self) -> list[str]:
        """The command lines that run its parts again."""
        return parts_of(self.command)

    def phase(self, name: str) -> PhaseInfo:
        """The phase of this name.

        Raises:
            ValueError: If there is none.
        """
        for phase in self.phases:
            if phase.name == name:
                return phase
        raise ValueError(f"unknown phase {name!r}; known: {', '.join(p.name for p in self.phases)}")

    def variant(self, name: str) -> VariantInfo:
        """The variant of this name.

        Raises:
            ValueError: If there is none.
        """
        for variant in self.variants:
            if variant.name == name:
                return variant
        raise ValueError(f"unknown variant {name!r}; known: {', '.join(v.name for v in self.variants)}")

    def restricted_to(self, phases: Collection[str], variants: Collection[str]) -> ExperimentInfo:
        """The same with these phases, those that they begin with, and these variants alone.

        A variant whose base is left out is no ablation there.
        """
        kept = {*phases, *(phase.start_from for phase in self.phases if phase.name in phases)}
        return replace(
            self,
            phases=tuple(phase for phase in self.phases if phase.name in kept),
            variants=tuple(
                variant if variant.ablation_of in variants else replace(variant, ablation_of=None)
                for variant in self.variants
                if variant.name in variants
            ),
        )


def read_experiment_info(path: str | Path) -> ExperimentInfo:
    """Reads an `experiment.json`.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no JSON, or lacks a key, or names something unknown; the message names the file.
    """
    path = Path(path)
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        return ExperimentInfo(
            name=data["name"],
            title=data.get("title") or "",
            description=data.get("description") or "",
            phases=tuple(_phase(item) for item in data["phases"]),
            variants=tuple(
                VariantInfo(name=item["name"], title=item.get("title") or "", ablation_of=item.get("ablation_of"))
                for item in data["variants"]
            ),
            seeds=tuple(int(seed) for seed in data["seeds"]),
            versions=dict(data.get("versions") or {}),
            machine=data.get("machine") or "",
            command=data.get("command") or "",
        )
    except KeyError as error:
        raise ValueError(f"{path}: the key {error} is missing") from error
    except (ValueError, TypeError, AttributeError) as error:
        raise ValueError(f"{path}: {error}") from error


def write_experiment_info(info: ExperimentInfo, path: str | Path) -> Path:
    """Writes an `experiment.json`; keys stand in a fixed order."""
    data: dict[str, Any] = {
        "name": info.name,
        "title": info.title,
        "description": info.description,
        "phases": [
            {
                "name": phase.name,
                "kind": phase.kind,
                "from": phase.start_from,
                "envs": list(phase.envs),
                "steps_per_environment": phase.steps_per_environment,
            }
            for phase in info.phases
        ],
        "variants": [
            {"name": variant.name, "title": variant.title, "ablation_of": variant.ablation_of}
            for variant in info.variants
        ],
        "seeds": list(info.seeds),
        "versions": dict(sorted(info.versions.items())),
        "machine": info.machine,
        "command": info.command,
    }
    path = Path(path)
    path.write_text(json.dumps(data, indent=2, ensure_ascii=False) + "\n", encoding="utf-8", newline="")
    return path


def _phase(item: Mapping[str, Any]) -> PhaseInfo:
    return PhaseInfo(
        name=item["name"],
        kind=item["kind"],
        start_from=item.get("from"),
        envs=tuple(item["envs"]),
        steps_per_environment=item.get("steps_per_environment"),
    )
