"""From an experiment file to its runs, each with the configuration file that `multienv train` gets."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rllib_multienv.config_files.build import check_config_file
from rllib_multienv.config_files.errors import ConfigFileError
from rllib_multienv.config_files.file import ConfigFile
from rllib_multienv.evaluation.progress import ONLINE
from rllib_multienv.experiments.file import ExperimentFile, Phase, Variant, merged
from rllib_multienv.spec import resolve_env_specs


@dataclass(frozen=True, kw_only=True)
class Run:
    """One training run of an experiment.

    Args:
        phase: Its phase.
        variant: Its variant.
        seed: Its seed.
        env_id: The environment, where the phase trains one by one; else None.
        file: Its configuration, but for the checkpoint that it starts from.
        start: The run with whose agent it begins; None if with a new one.
    """

    phase: Phase
    variant: Variant
    seed: int
    env_id: str | None
    file: ConfigFile
    start: Run | None = None

    @property
    def name(self) -> str:
        """Its name, unique in the experiment; also its folder's path below ``runs/``."""
        parts = [self.phase.name, self.variant.name, *([self.env_id] if self.env_id else []), f"seed{self.seed}"]
        return "/".join(parts)

    def progress(self, row: Mapping[str, float]) -> float:
        """Which part of its training is done after a row of its progress, from 0 to 1."""
        criteria = self.file.stop.any_of
        return max((min(1.0, row[key] / bound) for key, bound in criteria.items() if key in row), default=0.0)


def plan(experiment: ExperimentFile) -> list[Run]:
    """All runs, in an order in which none comes before the one that it starts from.

    Raises:
        ConfigFileError: A run's configuration is not valid as it is put together.
    """
    runs: dict[tuple[str, str, int], Run] = {}
    ordered = []
    for phase in experiment.phases.values():
        for seed in experiment.seeds:
            for variant in experiment.variants_of(phase):
                start = runs[phase.start_from, variant.name, seed] if phase.start_from else None
                for env_id, tree in _trees(experiment, phase, variant, seed):
                    run = Run(
                        phase=phase,
                        variant=variant,
                        seed=seed,
                        env_id=env_id,
                        file=ConfigFile(tree=tree, source=experiment.source),
                        start=start,
                    )
                    runs[phase.name, variant.name, seed] = run
                    ordered.append(run)
    return ordered


def check_runs(runs: Sequence[Run]) -> None:
    """Check one run of every kind as `multienv train` would, before any is started.

    Raises:
        ConfigFileError: A setting is wrong; the run is named.
    """
    kinds = {(run.phase.name, run.variant.name, run.env_id): run for run in runs}
    for run in kinds.values():
        try:
            check_config_file(run.file if run.start is None else _without_start(run.file))
        except ConfigFileError as error:
            raise ConfigFileError(f"{run.name}: {error.reason}", source=error.source, line=error.line) from error
        except ValueError as error:
            raise ConfigFileError(f"{run.name}: {error}", source=run.file.source) from error


def _without_start(file: ConfigFile) -> ConfigFile:
    """The file as far as it can be checked before there is a checkpoint to start from.

    Raises:
        ConfigFileError: The checkpoint is given, though it is the one of another phase.
    """
    start = file.methods.get("initialize_from", {})
    if "path" in start:
        raise ConfigFileError("initialize_from.path is the checkpoint of the phase in 'from'; leave it out")
    tree = {key: value for key, value in file.tree.items() if key != "initialize_from"}
    return ConfigFile(tree=tree, source=file.source)


def selected(runs: Iterable[Run], patterns: Sequence[str]) -> list[Run]:
    """The runs whose names begin with one of `patterns`, and those that they start from; all without patterns.

    Raises:
        ValueError: A pattern fits none.
    """
    runs = list(runs)
    wanted: dict[str, Run] = {}
    for pattern in patterns or [""]:
        parts = [part for part in pattern.split("/") if part]
        found = [run for run in runs if _fits(run.name.split("/"), parts)]
        if not found:
            phases = sorted({run.phase.name for run in runs})
            raise ValueError(f"no run of the experiment is meant by {pattern!r}; its phases are {', '.join(phases)}")
        for run in found:
            needed: Run | None = run
            while needed is not None:
                wanted[needed.name] = needed
                needed = needed.start
    return [run for run in runs if run.name in wanted]


def _fits(name: Sequence[str], parts: Sequence[str]) -> bool:
    return all(own == part or part == "*" for own, part in zip(name, parts, strict=False)) and len(parts) <= len(name)


def _trees(
    experiment: ExperimentFile, phase: Phase, variant: Variant, seed: int
) -> Iterator[tuple[str | None, dict[str, Any]]]:
    """The configurations of a variant in a phase: one, or one for each environment."""
    tree = merged(merged(experiment.base, phase.settings), experiment.settings_of(variant))
    tree["debugging"] = merged(tree.get("debugging") or {}, {"seed": seed})
    tree["name"] = f"seed{seed}"
    envs = tree["environment"]["envs"]
    specs = _specs(experiment, phase, envs)
    if not phase.one_by_one:
        yield None, _with_steps(experiment, phase, tree, list(specs.values()))
        return
    for given, (env_id, spec) in zip(envs, specs.items(), strict=True):
        alone = merged(tree, {"environment": {"envs": [given]}})
        yield env_id, _with_steps(experiment, phase, alone, [spec])


def _specs(experiment: ExperimentFile, phase: Phase, envs: Any) -> dict[str, Any]:
    try:
        return {spec.id: spec for spec in resolve_env_specs(envs)}
    except (TypeError, ValueError) as error:
        raise experiment.error(str(error), "phases", phase.name, "environment", "envs") from error


def _with_steps(
    experiment: ExperimentFile, phase: Phase, tree: Mapping[str, Any], specs: Sequence[Any]
) -> dict[str, Any]:
    """The tree with the number of steps at which it ends, for all environments together."""
    total = (tree.get("stop") or {}).get(ONLINE.total)
    if phase.steps_per_environment is not None:
        usual = (tree.get("env_runners") or {}).get("num_envs_per_env_runner", 8)
        # An environment with fewer copies than usual makes fewer steps in the same time.
        total = round(phase.steps_per_environment * sum((spec.num_envs or usual) / usual for spec in specs))
        tree = merged(tree, {"stop": {ONLINE.total: total}})
    if experiment.anneal:
        if total is None:
            raise experiment.error(
                f"'anneal' needs to know how long the runs of {phase.name!r} are: give it steps_per_environment",
                "phases",
                phase.name,
            )
        tree = merged(tree, {"training": {"lr_anneal_steps": total}})
    return dict(tree)
