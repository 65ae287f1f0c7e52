"""From the folders of an experiment's runs to its raw metrics."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rllib_multienv.checkpoints import AgentCheckpoint, find_checkpoint, installed_versions, read_checkpoint
from rllib_multienv.evaluation.progress import GRADIENT_COSINE, ONLINE, keys_of, learning_curves
from rllib_multienv.evaluation.random_scores import random_score
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
    write_raw_metrics,
)
from rllib_multienv.evaluation.report import METRICS_FOLDER
from rllib_multienv.experiments.file import ExperimentFile, Phase, load_experiment_file
from rllib_multienv.experiments.invocation import read_invocation
from rllib_multienv.experiments.places import EXPERIMENT_FILE, Place, State
from rllib_multienv.experiments.plan import Run, plan
from rllib_multienv.spec import EnvSpec, resolve_env_specs

#: Points of a learning curve that are kept: so the raw metrics of an experiment stay small enough to be shared.
MAX_CURVE_POINTS = 50

Rows = Sequence[Mapping[str, float]]


def collect(folder: Path, *, random_episodes: int = 100) -> Path:
    """Read what the runs of an experiment have left so far, and write it as raw metrics.

    Args:
        folder: The experiment's folder, with ``experiment.yaml`` and ``runs/``.
        random_episodes: Episodes with random actions in each environment.

    Returns:
        The folder of the raw metrics.

    Raises:
        FileNotFoundError: The folder is none of an experiment.
    """
    if not (folder / EXPERIMENT_FILE).is_file():
        raise FileNotFoundError(f"{folder} is no folder of an experiment: it has no {EXPERIMENT_FILE}")
    invocation = read_invocation(folder)
    experiment = load_experiment_file(folder / EXPERIMENT_FILE, default_name=invocation.get("name"))
    runs = [run for run in plan(experiment) if Place(folder, run).file.is_file()]
    places = [Place(folder, run) for run in runs]
    progress = [(place, place.rows()) for place in places]
    metrics = RawMetrics(
        experiment=_info(experiment, places, invocation),
        runs=tuple(_run_row(place, rows) for place, rows in progress),
        evaluations=tuple(point for place in places for point in _evaluation(place)),
        curves=tuple(point for place, rows in progress for point in _curves(place, rows)),
        random_scores=tuple(_random_scores(runs, random_episodes)),
        gradient_cosines=tuple(point for place, rows in progress for point in _cosines(place, rows)),
    )
    return write_raw_metrics(metrics, folder / METRICS_FOLDER)


def _versions(places: Iterable[Place]) -> dict[str, str]:
    """Those that wrote the first checkpoint there is."""
    for place in places:
        if place.has_checkpoint:
            return dict(read_checkpoint(find_checkpoint(place.folder.path), weights=False).versions)
    return installed_versions()


def _info(experiment: ExperimentFile, places: Sequence[Place], invocation: Mapping[str, str]) -> ExperimentInfo:
    """All phases and variants of the file, also those that have not run here: others may run them elsewhere."""
    phases = tuple(experiment.phases.values())
    return ExperimentInfo(
        name=experiment.name,
        title=experiment.title,
        description=experiment.description,
        phases=tuple(
            PhaseInfo(
                name=phase.name,
                kind=_kind(phase, phases),
                start_from=phase.start_from,
                envs=_env_ids(phase),
                steps_per_environment=phase.steps_per_environment,
            )
            for phase in phases
        ),
        variants=tuple(
            VariantInfo(name=variant.name, title=variant.title, ablation_of=variant.ablation_of)
            for variant in experiment.variants.values()
        ),
        seeds=tuple(dict.fromkeys(place.run.seed for place in places)),
        versions=_versions(places),
        machine=invocation.get("machine", ""),
        command=invocation.get("command", ""),
    )


def _env_ids(phase: Phase) -> tuple[str, ...]:
    return tuple(spec.id for spec in resolve_env_specs(phase.settings["environment"]["envs"]))


def _kind(phase: Phase, phases: Iterable[Phase]) -> str:
    """What a phase is for, by how it hangs together with the others."""
    if phase.one_by_one:
        return "reference"
    if phase.start_from is not None:
        return "transfer"
    others = [other for other in phases if other.start_from is not None]
    if any(other.start_from == phase.name for other in others):
        return "pretrain"
    if any(_env_ids(other) == _env_ids(phase) for other in others):
        return "scratch"
    return "other" if others else "pretrain"


def _which(place: Place) -> dict[str, Any]:
    """By which a row of any table names its run."""
    return {"phase": place.run.phase.name, "variant": place.run.variant.name, "seed": place.run.seed}


def _run_row(place: Place, rows: Rows) -> RunRow:
    last = rows[-1] if rows else {}
    steps, seconds = last.get(ONLINE.total), last.get("time_total_s")
    status = {State.DONE: "done", State.FAILED: "failed"}.get(place.state, "unfinished")
    return RunRow(
        **_which(place),
        env=place.run.env_id or "",
        parameters=_parameters(place),
        env_steps=None if steps is None else int(steps),
        seconds=seconds,
        steps_per_second=steps / seconds if steps and seconds else None,
        status=status,
    )


def _parameters(place: Place) -> int | None:
    try:
        agent: AgentCheckpoint = read_checkpoint(find_checkpoint(place.folder.path), weights=False)
    except (OSError, ValueError):
        return None  # it has none yet
    network = agent.network.build(agent.space_specs)
    return sum(parameter.numel() for parameter in network.parameters())


def _evaluation(place: Place) -> Iterator[EvaluationPoint]:
    if not place.folder.evaluation.is_file():
        return
    with open(place.folder.evaluation, newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            yield EvaluationPoint(
                **_which(place),
                env_id=row["env_id"],
                episodes=int(row["episodes"]),
                mean=float(row["mean"]),
                std=float(row["std"]),
                min=float(row["min"]),
                max=float(row["max"]),
            )


def _curves(place: Place, rows: Rows) -> Iterator[CurvePoint]:
    for curve in learning_curves(rows):
        points = dict(zip(map(int, curve.steps), curve.mean, strict=True))
        steps = list(points)
        stride = max(1, -(-len(steps) // MAX_CURVE_POINTS))
        # Counted from the end, so that the last point is there.
        for step in reversed(steps[::-1][::stride]):
            yield CurvePoint(
                **_which(place),
                env_id=curve.env_id,
                steps=step,
                return_mean=points[step],
            )


def _cosines(place: Place, rows: Rows) -> Iterator[GradientCosine]:
    for row in rows:
        for key, value in row.items():
            parts = key.split("/")
            if len(parts) == 4 and parts[0] == "learners" and parts[2] == GRADIENT_COSINE:
                yield GradientCosine(
                    **_which(place),
                    steps=int(row.get(keys_of(row).total, 0)),
                    env_a=parts[1],
                    env_b=parts[3],
                    cosine=value,
                )


def _random_scores(runs: Iterable[Run], episodes: int) -> list[RandomScore]:
    specs: dict[str, EnvSpec] = {}
    for run in runs:
        for spec in resolve_env_specs(run.file.tree["environment"]["envs"]):
            specs.setdefault(spec.id, spec)
    return [random_score(spec, episodes=episodes) for spec in specs.values()]
