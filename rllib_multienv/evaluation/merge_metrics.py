"""Raw metrics of an experiment whose runs were shared out over several machines, or over several days, as one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

from rllib_multienv.evaluation.experiment_info import join_parts
from rllib_multienv.evaluation.raw_metrics import (
    CurvePoint,
    EvaluationPoint,
    ExperimentInfo,
    GradientCosine,
    PhaseInfo,
    RandomScore,
    RawMetrics,
    RunRow,
    VariantInfo,
)

_RunKey = tuple[str, str, int, str]
_Row = TypeVar("_Row", EvaluationPoint, CurvePoint, GradientCosine)
_Part = TypeVar("_Part", PhaseInfo, VariantInfo)


def merge_raw_metrics(parts: Mapping[str, RawMetrics]) -> RawMetrics:
    """Put together what the parts of one experiment have measured.

    A run that several parts have is taken from the first one in which it is done, with all its rows; the random score
    of an environment from the first one that has it. Titles and the description are those of the first part;
    versions, machines and commands that differ are all named.

    Args:
        parts: The raw metrics, by what an error is to call them, such as their folder.

    Raises:
        ValueError: If there is no part, or two of them are not of one experiment: a phase or a variant differs.
    """
    if not parts:
        raise ValueError("there are no raw metrics to merge")
    chosen = _chosen_runs(parts)
    return RawMetrics(
        experiment=_merge_info(parts),
        runs=tuple(row for name, part in parts.items() for row in part.runs if chosen[_key(row)] == name),
        evaluations=_rows_of(chosen, parts, lambda part: part.evaluations),
        curves=_rows_of(chosen, parts, lambda part: part.curves),
        random_scores=_first_of_each(row for part in parts.values() for row in part.random_scores),
        gradient_cosines=_rows_of(chosen, parts, lambda part: part.gradient_cosines),
    )


def _key(run: RunRow) -> _RunKey:
    return run.phase, run.variant, run.seed, run.env


def _chosen_runs(parts: Mapping[str, RawMetrics]) -> dict[_RunKey, str]:
    """The part that each run is taken from."""
    chosen: dict[_RunKey, str] = {}
    for done in (True, False):
        for name, part in parts.items():
            for run in part.runs:
                if done == (run.status == "done"):
                    chosen.setdefault(_key(run), name)
    return chosen


def _rows_of(
    chosen: Mapping[_RunKey, str],
    parts: Mapping[str, RawMetrics],
    rows: Callable[[RawMetrics], Iterable[_Row]],
) -> tuple[_Row, ...]:
    """The rows of the chosen runs, each from the part that its run is taken from."""
    return tuple(
        row
        for name, part in parts.items()
        for row in rows(part)
        # A run has the name of an environment only where it is trained alone in it.
        if name in (chosen.get((row.phase, row.variant, row.seed, env)) for env in ("", getattr(row, "env_id", "")))
    )


def _first_of_each(rows: Iterable[RandomScore]) -> tuple[RandomScore, ...]:
    """One row for each environment."""
    scores: dict[str, RandomScore] = {}
    for row in rows:
        scores.setdefault(row.env_id, row)
    return tuple(scores.values())


def _merge_info(parts: Mapping[str, RawMetrics]) -> ExperimentInfo:
    infos = {name: part.experiment for name, part in parts.items()}
    first = next(iter(infos.values()))
    return replace(
        first,
        phases=_merge_named("phase", {name: info.phases for name, info in infos.items()}),
        variants=_merge_named("variant", {name: info.variants for name, info in infos.items()}),
        seeds=tuple(sorted({seed for info in infos.values() for seed in info.seeds})),
        versions={
            package: join_parts(info.versions.get(package, "") for info in infos.values())
            for package in sorted({package for info in infos.values() for package in info.versions})
        },
        machine=join_parts(info.machine for info in infos.values()),
        command=join_parts(info.command for info in infos.values()),
    )


def _merge_named(what: str, parts: Mapping[str, Sequence[_Part]]) -> tuple[_Part, ...]:
    """All phases or variants; a new one comes after the one that it comes after in its own part."""
    merged: list[_Part] = []
    owners: dict[str, str] = {}
    for owner, items in parts.items():
        position = 0
        for item in items:
            if item.name in owners:
                position = [other.name for other in merged].index(item.name)
                _check_same(what, merged[position], item, owners[item.name], owner)
            else:
                merged.insert(position, item)
                owners[item.name] = owner
            position += 1
    return tuple(merged)


def _check_same(what: str, one: _Part, other: _Part, first: str, second: str) -> None:
    """Check that two phases or variants of one name are the same, but for their titles.

    Raises:
        ValueError: If they are not.
    """
    for name, value in vars(one).items():
        theirs = getattr(other, name)
        if value != theirs and name != "title":
            raise ValueError(
                f"{first} and {second} are not of one experiment: {name} of the {what} {one.name!r} is {value!r} "
                f"there and {theirs!r} here"
            )
