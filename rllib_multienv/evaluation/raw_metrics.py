"""Raw metrics of an experiment: the small files from which every figure and number of a report is made.

`experiment.json` says what the experiment consists of. Each table of `TABLES` is a CSV file, plain or compressed
(`curves.csv.gz`).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd

#: What a phase is for. A "reference" trains each environment alone: its best variant is 100 in normalised scores.
PHASE_KINDS = ("pretrain", "transfer", "scratch", "reference", "other")
RUN_STATUSES = ("done", "failed", "unfinished")

_RUN = {"phase": "text", "variant": "text", "seed": "int"}
#: Columns of each table and their types; cells of a type with "?" may be empty.
TABLES: Mapping[str, Mapping[str, str]] = {
    # One row per run; `env` is empty except in "reference" phases. Steps are those of all environments together.
    "runs": {
        **_RUN, "env": "text", "parameters": "int?", "env_steps": "int?", "seconds": "float?",
        "steps_per_second": "float?", "status": "text",
    },
    # Returns per episode in the final evaluation of a run, without exploration.
    "evaluations": {
        **_RUN, "env_id": "text", "episodes": "int", "mean": "float", "std": "float", "min": "float", "max": "float",
    },
    # The same before any step of training, of the agent that a run starts with. May be missing.
    "zero_shot": {
        **_RUN, "env_id": "text", "episodes": "int", "mean": "float", "std": "float", "min": "float", "max": "float",
    },
    # Mean return of the last training episodes after so many steps in this environment.
    "curves": {**_RUN, "env_id": "text", "steps": "int", "return_mean": "float"},
    # Return of each episode while the agent of a run adapts to test tasks: mean over the tasks with its bootstrap
    # interval, and the mean returns of an oracle and of random actions. Missing where nothing was measured.
    "adaptation": {
        **_RUN, "env_id": "text", "episode": "int", "tasks": "int", "mean": "float", "low": "float?", "high": "float?",
        "oracle": "float?", "random": "float",
    },
    # Returns of uniformly random actions.
    "random_scores": {"env_id": "text", "env_name": "text", "episodes": "int", "mean": "float", "std": "float"},
    # Cosines between two environments' gradients during a run: their mean, and the share of negative ones (0 to 1).
    "gradient_cosines": {
        **_RUN, "env_a": "text", "env_b": "text", "mean": "float", "negative": "float", "measurements": "int",
    },
}  # fmt: skip
_INFO = "experiment.json"
_OPTIONAL = ("zero_shot.csv", "adaptation.csv")
_KEY_COLUMNS = (*_RUN, "env", "env_id", "env_a", "env_b", "steps", "episode")

BETWEEN_PARTS = "; "  # of the versions, machines and commands of an experiment's parts


def join_parts(texts: Iterable[str]) -> str:
    """Joins what several parts of an experiment say, without repetition; joined texts may be joined again."""
    return BETWEEN_PARTS.join(dict.fromkeys(part for text in texts for part in text.split(BETWEEN_PARTS) if part))


@dataclass(frozen=True, kw_only=True)
class PhaseInfo:
    """One phase: all its variants and seeds are trained on the same environments, for so many steps in each.

    Its kind is one of `PHASE_KINDS`; it may start from the agents of another phase.
    """

    name: str
    kind: str
    start_from: str | None = None
    envs: tuple[str, ...]
    steps_per_environment: int | None = None


@dataclass(frozen=True, kw_only=True)
class VariantInfo:
    """One variant of the agent: its name in tables, its title in the report, the variant that it changes, if any."""

    name: str
    title: str = ""
    ablation_of: str | None = None


_Part = TypeVar("_Part", PhaseInfo, VariantInfo)


@dataclass(frozen=True, kw_only=True)
class ExperimentInfo:
    """Phases, variants and seeds of an experiment in the order of the report, and what it ran with.

    Some phases and variants may not have run. Versions are by package. Those, machine and command are joined by
    `join_parts` where several parts of the experiment differ.

    Raises:
        ValueError: Two phases or variants have the same name, or one refers to an unknown one.
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
        """Checks the names and kinds."""
        for names in ([phase.name for phase in self.phases], [variant.name for variant in self.variants]):
            if len(set(names)) < len(names):
                raise ValueError(f"two phases or variants have the same name: {', '.join(names)}")
        self.check_known("phase", [phase.start_from for phase in self.phases])
        self.check_known("variant", [variant.ablation_of for variant in self.variants])
        for phase in self.phases:
            if phase.kind not in PHASE_KINDS or not phase.envs:
                kinds = ", ".join(PHASE_KINDS)
                raise ValueError(f"phase {phase.name!r} needs environments and a kind of {kinds}, not {phase.kind!r}")

    def check_known(self, what: str, names: Iterable[str | None]) -> None:
        """Raises a ValueError if one of the names is not a "phase" or "variant" of the experiment."""
        known = [item.name for item in (self.phases if what == "phase" else self.variants)]
        for name in names:
            if name is not None and name not in known:
                raise ValueError(f"unknown {what} {name!r}; known: {', '.join(known)}")

    def in_order(self, frame: pd.DataFrame) -> pd.DataFrame:
        """The rows in the order of the experiment's phases, variants, seeds and environments, then of steps."""
        envs = ["", *dict.fromkeys(env_id for phase in self.phases for env_id in phase.envs)]
        orders = {
            "phase": [phase.name for phase in self.phases],
            "variant": [variant.name for variant in self.variants],
            **dict.fromkeys(("env", "env_id", "env_a", "env_b"), envs),
        }
        ranks = {column: {name: rank for rank, name in enumerate(names)} for column, names in orders.items()}
        return frame.sort_values(
            [column for column in _KEY_COLUMNS if column in frame],
            key=lambda values: values.map(ranks[values.name]) if values.name in ranks else values,
            kind="stable",
            ignore_index=True,
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class RawMetrics:
    """Everything that was measured in one experiment.

    The tables (see `TABLES`) may be given as frames or lists of rows; they are checked, and sorted in the order of the
    experiment.

    Raises:
        ValueError: A column is missing, a cell has a wrong type, a row is of an unknown phase or variant, or two rows
            have the same key.
    """

    experiment: ExperimentInfo
    runs: pd.DataFrame = ()
    evaluations: pd.DataFrame = ()
    zero_shot: pd.DataFrame = ()
    curves: pd.DataFrame = ()
    adaptation: pd.DataFrame = ()
    random_scores: pd.DataFrame = ()
    gradient_cosines: pd.DataFrame = ()

    def __post_init__(self) -> None:
        """Checks and sorts the tables."""
        for table, columns in TABLES.items():
            rows = getattr(self, table)
            frame = rows if isinstance(rows, pd.DataFrame) else pd.DataFrame(list(rows), columns=list(columns))
            frame = _typed(table, frame)
            keys = frame[[column for column in _KEY_COLUMNS if column in frame]]
            twice = keys[keys.duplicated()]
            try:
                for what in ("phase", "variant"):
                    self.experiment.check_known(what, frame[what].unique() if what in frame else ())
            except ValueError as error:
                raise ValueError(f"{table}.csv: {error}") from error
            if len(twice):
                raise ValueError(f"{table}.csv: two rows for {', '.join(map(str, twice.iloc[0]))}")
            object.__setattr__(self, table, self.experiment.in_order(frame))

    def run_envs(self, frame: pd.DataFrame) -> pd.Series:
        """The `env` of the run that each row is of: its environment in "reference" phases, else empty."""
        references = [phase.name for phase in self.experiment.phases if phase.kind == "reference"]
        envs = frame["env_id"] if "env_id" in frame else pd.Series("", index=frame.index, dtype=str)
        return envs.where(frame["phase"].isin(references), "")


def read_raw_metrics(folder: str | Path) -> RawMetrics:
    """Reads the raw metrics of an experiment from their folder.

    Raises:
        FileNotFoundError: The folder or one of its files is missing.
        ValueError: A file is damaged; the message names the file and, in a table, row and column.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"there is no folder {folder}")
    found = {name: next(iter(folder.glob(f"{name}*")), None) for name in (_INFO, *(f"{table}.csv" for table in TABLES))}
    missing = [name for name, file in found.items() if file is None and name not in _OPTIONAL]
    if missing:
        raise FileNotFoundError(f"{folder} lacks {', '.join(missing)}")
    files = {table: file for table in TABLES if (file := found[f"{table}.csv"]) is not None}
    tables = {table: pd.read_csv(file, dtype=str, keep_default_na=False) for table, file in files.items()}
    experiment = _read_info(folder / _INFO)
    try:
        return RawMetrics(experiment=experiment, **tables)
    except ValueError as error:
        raise ValueError(f"{folder}/{error}") from error


def write_raw_metrics(metrics: RawMetrics, folder: str | Path) -> Path:
    """Writes raw metrics into a folder; floats have 6 significant digits, and the same metrics give the same bytes."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(asdict(metrics.experiment), indent=2, ensure_ascii=False) + "\n"
    (folder / _INFO).write_text(text, encoding="utf-8", newline="")
    for table in TABLES:
        for file in folder.glob(f"{table}.csv*"):
            file.unlink()
        frame: pd.DataFrame = getattr(metrics, table)
        if frame.empty and f"{table}.csv" in _OPTIONAL:
            continue
        frame.to_csv(folder / f"{table}.csv", index=False, float_format="%.6g", lineterminator="\n")
    return folder


def _read_info(path: Path) -> ExperimentInfo:
    try:
        data: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        data["phases"] = tuple(PhaseInfo(**{**phase, "envs": tuple(phase["envs"])}) for phase in data["phases"])
        data["variants"] = tuple(VariantInfo(**item) for item in data["variants"])
        data["seeds"] = tuple(int(seed) for seed in data["seeds"])
        return ExperimentInfo(**data)
    except KeyError as error:
        raise ValueError(f"{path}: the key {error} is missing") from error
    except (ValueError, TypeError, AttributeError) as error:
        raise ValueError(f"{path}: {error}") from error


def merge_raw_metrics(parts: Mapping[str, RawMetrics]) -> RawMetrics:
    """Puts together an experiment whose runs were divided among machines or days.

    A run that several parts have is taken, with all its rows, from the first part in which it is done; an environment's
    random score from the first part that has it. Titles and description are those of the first part.

    The keys of `parts` are what errors call them, such as their folders.

    Raises:
        ValueError: A phase or a variant differs between two parts.
    """
    infos = {name: part.experiment for name, part in parts.items()}
    packages = dict.fromkeys(package for info in infos.values() for package in info.versions)
    experiment = replace(
        next(iter(infos.values())),
        phases=_merge_named("phase", {name: info.phases for name, info in infos.items()}),
        variants=_merge_named("variant", {name: info.variants for name, info in infos.items()}),
        seeds=tuple(sorted({seed for info in infos.values() for seed in info.seeds})),
        versions={name: join_parts(info.versions.get(name, "") for info in infos.values()) for name in packages},
        machine=join_parts(info.machine for info in infos.values()),
        command=join_parts(info.command for info in infos.values()),
    )
    key = [*_RUN, "env"]
    runs = pd.concat([part.runs.assign(part=name) for name, part in parts.items()], ignore_index=True)
    runs = runs.sort_values("status", key=lambda status: status != "done", kind="stable").drop_duplicates(key)
    tables = {}
    for table in (table for table, columns in TABLES.items() if "phase" in columns and table != "runs"):
        frames = ((name, part, getattr(part, table)) for name, part in parts.items())
        rows = pd.concat([frame.assign(part=name, env=part.run_envs(frame)) for name, part, frame in frames])
        tables[table] = rows.merge(runs[[*key, "part"]], on=[*key, "part"])
    random_scores = pd.concat([part.random_scores for part in parts.values()]).drop_duplicates("env_id")
    return RawMetrics(experiment=experiment, runs=runs, random_scores=random_scores, **tables)


def _merge_named(what: str, parts: Mapping[str, tuple[_Part, ...]]) -> tuple[_Part, ...]:
    """All phases or variants of the parts; those of one name must be the same, but for their titles."""
    merged: dict[str, _Part] = {}
    owners: dict[str, str] = {}
    for owner, items in parts.items():
        for item in items:
            known = merged.setdefault(item.name, item)
            for name, value in vars(known).items():
                if value != getattr(item, name) and name != "title":
                    raise ValueError(
                        f"{owners[item.name]} and {owner} are not of one experiment: {name} of the {what} "
                        f"{item.name!r} is {value!r} in the first and {getattr(item, name)!r} in the second"
                    )
            owners.setdefault(item.name, owner)
    return tuple(merged.values())


def _typed(table: str, frame: pd.DataFrame) -> pd.DataFrame:
    """The table's columns with their types; a ValueError names file, row (the header is row 1) and column."""
    columns = {}
    for column, kind in TABLES[table].items():
        if column not in frame:
            raise ValueError(f"{table}.csv: the column {column!r} is missing")
        values = frame[column]
        empty = values.isna() | (values.astype(str).str.strip() == "")
        if kind == "text":
            columns[column] = values.where(~empty, "").astype(str)
            right, expected = columns[column].isin(RUN_STATUSES) | (column != "status"), ", ".join(RUN_STATUSES)
        else:
            whole, optional = kind.startswith("int"), kind.endswith("?")
            numbers = pd.to_numeric(values.where(~empty), errors="coerce").astype("float64")
            right = np.isfinite(numbers) & ((numbers % 1 == 0) | (not whole)) | (empty & optional)
            expected = "a whole number" if whole else "a finite number"
            if right.all():
                columns[column] = numbers.astype("Int64" if whole and optional else "int64" if whole else "float64")
        if not right.all():
            row = int(np.argmin(right))
            found = "empty" if empty.iloc[row] else repr(values.iloc[row])
            raise ValueError(f"{table}.csv, row {row + 2}, {column}: {found} where {expected} is expected")
    return pd.DataFrame(columns)
