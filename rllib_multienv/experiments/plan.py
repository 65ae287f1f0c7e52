"""The runs of an experiment: each with its configuration, its files and its state."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pandas as pd

from rllib_multienv.checkpoints import find_checkpoint
from rllib_multienv.config_files.build import check_config_file
from rllib_multienv.config_files.file import ConfigFile, load_config_file
from rllib_multienv.config_files.yaml_text import ConfigFileError, error_at
from rllib_multienv.evaluation.progress import read_progress
from rllib_multienv.evaluation.raw_metrics import PhaseInfo, VariantInfo
from rllib_multienv.experiments.file import ExperimentFile, merged
from rllib_multienv.metrics import ONLINE
from rllib_multienv.runs.folder import RunFolder
from rllib_multienv.spec import EnvSpec, resolve_env_specs


class State(StrEnum):
    """State of a run."""

    WAITING = "waiting"
    RUNNING = "running"
    UNFINISHED = "unfinished"
    FAILED = "failed"
    DONE = "done"


@dataclass(frozen=True, kw_only=True)
class Run:
    """One training run of an experiment, and its files.

    Args:
        root: The experiment's folder.
        phase, variant, seed: Which.
        env_id: The environment, where the phase trains each alone; else empty.
        file: Its configuration, without the checkpoint that it starts from.
        start: The run with whose agent it starts, if any.
        adaptation: Options of `MultiEnvAgent.adapt`, where its adaptation is measured at the end.
    """

    root: Path
    phase: PhaseInfo
    variant: VariantInfo
    seed: int
    env_id: str = ""
    file: ConfigFile
    start: Run | None = None
    adaptation: Mapping[str, Any] | None = None

    @property
    def name(self) -> str:
        """Its name, unique in the experiment; also its folder's path below ``runs/``."""
        return "/".join(filter(None, [self.phase.name, self.variant.name, self.env_id, f"seed{self.seed}"]))

    @property
    def folder(self) -> RunFolder:
        """Its folder, as `multienv train` makes it."""
        return RunFolder(self.root / "runs" / self.name)

    def beside(self, ending: str) -> Path:
        """A file beside the folder.

        ``.yaml``, the configuration; ``.log``; ``.failure``, why the run failed, if so; ``.start.csv``, the evaluation
        of the agent that it starts with, if any.
        """
        return self.folder.path.with_name(self.folder.path.name + ending)

    @property
    def state(self) -> State:
        """Its state on disk, which does not know whether it is running."""
        if self.folder.evaluation.is_file():
            return State.DONE
        if self.beside(".failure").is_file():
            return State.FAILED
        return State.UNFINISHED if self.has_checkpoint else State.WAITING

    @property
    def has_checkpoint(self) -> bool:
        """Whether it can be resumed."""
        return self.folder.config.is_file() and any(self.folder.path.glob("trial_*/checkpoint_*"))

    def rows(self) -> list[dict[str, float]]:
        """Its progress, one row per iteration; none before the first."""
        return read_progress(self.folder.progress) if self.folder.progress.is_file() else []

    @property
    def progress(self) -> float:
        """The part of its training that is done, from 0 to 1."""
        row, criteria = (self.rows() or [{}])[-1], self.file.stop.any_of
        return max((min(1.0, row[key] / bound) for key, bound in criteria.items() if key in row), default=0.0)

    def write_file(self) -> None:
        """Writes its configuration, with the checkpoint that it starts from."""
        file = self.file
        if self.start is not None:
            start = find_checkpoint(self.start.folder.path)
            file = file.override("initialize_from", {**file.methods.get("initialize_from", {}), "path": str(start)})
        self.beside(".yaml").parent.mkdir(parents=True, exist_ok=True)
        self.beside(".yaml").write_text(file.dump(), encoding="utf-8")

    def check_unchanged(self) -> None:
        """Raises a ValueError if there is something of it that was made with other settings than it has now."""
        if not self.beside(".yaml").is_file() or self.state is State.WAITING:
            return
        before, now = (_settings(file) for file in (load_config_file(self.beside(".yaml")), self.file))
        for key in before.keys() | now.keys():
            if before.get(key) != now.get(key):
                raise ValueError(
                    f"{self.folder.path} was made with {key}={before.get(key)!r}, now it is {now.get(key)!r}. Give the "
                    "experiment another --name, or delete that folder to train it again."
                )


def _settings(file: ConfigFile) -> dict[str, Any]:
    """The settings by dotted name, without the path that the run starts from, which depends on the folder."""
    flat = pd.json_normalize({"algorithm": file.algorithm, **file.tree}).to_dict("records")[0]
    return {str(key): value for key, value in flat.items() if key != "initialize_from.path"}


def plan(experiment: ExperimentFile, root: Path = Path()) -> list[Run]:
    """All runs of an experiment in this folder, each after the one that it starts from.

    Raises:
        ConfigFileError: The configuration of a run is not valid.
    """
    runs: dict[tuple[str | None, str, int, str], Run] = {}
    for phase in experiment.info.phases:
        for seed in experiment.info.seeds:
            for variant in experiment.variants_of(phase):
                for env_id, tree in _trees(experiment, phase, variant, seed):
                    file = ConfigFile(tree=tree, source=experiment.source)
                    start = runs.get((phase.start_from, variant.name, seed, ""))
                    runs[phase.name, variant.name, seed, env_id] = Run(
                        root=root, phase=phase, variant=variant, seed=seed, env_id=env_id, file=file, start=start,
                        adaptation=experiment.adaptation.get(phase.name),
                    )  # fmt: skip
    return list(runs.values())


def check_runs(runs: Iterable[Run]) -> None:
    """Checks one run of every kind as `multienv train` would, before any is started.

    Raises:
        ConfigFileError: A setting is wrong; the run is named.
    """
    for run in {(run.phase.name, run.variant.name, run.env_id): run for run in runs}.values():
        try:
            file = run.file
            if run.start is not None:  # there is no checkpoint yet
                if "path" in file.methods.get("initialize_from", {}):
                    raise ConfigFileError("initialize_from.path is the checkpoint of the phase in 'from'; leave it out")
                tree = {key: value for key, value in file.tree.items() if key != "initialize_from"}
                file = ConfigFile(tree=tree, source=file.source)
            check_config_file(file)
        except ConfigFileError as error:
            raise ConfigFileError(f"{run.name}: {error.reason}", source=error.source, line=error.line) from error
        except ValueError as error:
            raise ConfigFileError(f"{run.name}: {error}", source=run.file.source) from error


def selected(runs: Sequence[Run], patterns: Sequence[str]) -> list[Run]:
    """The runs whose names start with one of `patterns`, and those that they start from; all without patterns.

    Raises:
        ValueError: A pattern fits none.
    """
    wanted: set[str] = set()
    for pattern in patterns or ["*"]:
        found = [run for run in runs if fnmatchcase(f"{run.name}/", f"{pattern.rstrip('/')}/*")]
        if not found:
            phase = pattern.partition("/")[0]
            known = sorted({run.variant.name for run in runs if run.phase.name == phase})
            what = f"variants in {phase}" if known else "phases"
            names = ", ".join(known or sorted({run.phase.name for run in runs}))
            raise ValueError(f"no run of the experiment is named {pattern!r}; its {what} are {names}")
        for run in found:
            needed: Run | None = run
            while needed is not None:
                wanted.add(needed.name)
                needed = needed.start
    return [run for run in runs if run.name in wanted]


def _trees(
    experiment: ExperimentFile, phase: PhaseInfo, variant: VariantInfo, seed: int
) -> Iterator[tuple[str, dict[str, Any]]]:
    """The configurations of a variant in a phase: one, or one for each environment."""
    changes = {"debugging": {"seed": seed}, "name": f"seed{seed}"}
    tree = merged(experiment.settings(phase, variant), changes)
    envs = tree["environment"]["envs"]
    specs = resolve_env_specs(envs)
    if phase.kind != "reference":
        yield "", _with_steps(experiment, phase, tree, specs)
        return
    for given, spec in zip(envs, specs, strict=True):
        yield spec.id, _with_steps(experiment, phase, merged(tree, {"environment": {"envs": [given]}}), [spec])


def _with_steps(
    experiment: ExperimentFile, phase: PhaseInfo, tree: Mapping[str, Any], specs: Sequence[EnvSpec]
) -> dict[str, Any]:
    """The tree with the number of steps, of all environments together, at which training ends."""
    total = (tree.get("stop") or {}).get(ONLINE.total)
    if phase.steps_per_environment is not None:
        usual = (tree.get("env_runners") or {}).get("num_envs_per_env_runner", 8)
        # An environment with fewer copies makes fewer steps in the same time.
        total = round(phase.steps_per_environment * sum((spec.num_envs or usual) / usual for spec in specs))
        tree = merged(tree, {"stop": {ONLINE.total: total}})
    if experiment.anneal:
        if total is None:
            message = f"'anneal' needs the length of the runs of {phase.name!r}: give the phase steps_per_environment"
            raise error_at(message, ("phases", phase.name), source=experiment.source, lines=experiment.lines)
        tree = merged(tree, {"training": {"lr_anneal_steps": total}})
    return dict(tree)
