"""Raw metrics of an experiment that never was: two variants and an ablation, three seeds, all kinds of phases.

Final returns are `FINAL[variant]` plus the seed, in environments where random actions get 0 and the best agent trained
alone gets 100, so that they are normalised scores at the same time. Curves rise to them in straight lines from 0.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pandas as pd

from rllib_multienv.evaluation.raw_metrics import TABLES, ExperimentInfo, PhaseInfo, RawMetrics, VariantInfo

PRETRAIN_ENVS = ("CartPole-v1", "Pendulum-v1")
TRANSFER_ENVS = ("Acrobot-v1",)
ENVS = (*PRETRAIN_ENVS, *TRANSFER_ENVS)
SEEDS = (0, 1, 2)
STEPS = 1000
#: Mean over the seeds is one more.
FINAL = {
    ("pretrain", "s4"): {"CartPole-v1": 80.0, "Pendulum-v1": 40.0},
    ("pretrain", "mlp"): {"CartPole-v1": 60.0, "Pendulum-v1": 20.0},
    ("pretrain", "s4-bare"): {"CartPole-v1": 70.0, "Pendulum-v1": 35.0},
    ("transfer", "s4"): {"Acrobot-v1": 90.0},
    ("scratch", "s4"): {"Acrobot-v1": 50.0},
    ("transfer", "mlp"): {"Acrobot-v1": 30.0},
    ("scratch", "mlp"): {"Acrobot-v1": 50.0},
}
#: Return at the first step; curves rise from there in a straight line to the final return.
START = {("transfer", "s4"): 60.0}


def _phase(name: str, kind: str, envs: tuple[str, ...], start_from: str | None = None) -> PhaseInfo:
    return PhaseInfo(name=name, kind=kind, start_from=start_from, envs=envs, steps_per_environment=STEPS)


INFO = ExperimentInfo(
    name="made-up",
    title="A made-up experiment",
    description="First paragraph.\n\nSecond <paragraph>.",
    phases=(
        _phase("single", "reference", ENVS),
        _phase("pretrain", "pretrain", PRETRAIN_ENVS),
        _phase("transfer", "transfer", TRANSFER_ENVS, "pretrain"),
        _phase("scratch", "scratch", TRANSFER_ENVS),
    ),
    variants=(
        VariantInfo(name="s4", title="Agnostic S4"),
        VariantInfo(name="mlp", title="Padded MLP"),
        VariantInfo(name="s4-bare", title="S4 without Transformer", ablation_of="s4"),
        VariantInfo(name="alone", title="Trained alone"),
    ),
    seeds=SEEDS,
    versions={"ray": "2.60.0", "gymnasium": "1.2.2"},
    machine="two cores",
    command="multienv experiment made-up.yaml",
)


def made_up() -> RawMetrics:
    """The whole experiment."""
    rows: dict[str, list[tuple[object, ...]]] = {table: [] for table in TABLES}
    rows["random_scores"] = [(env_id, env_id, 100, 0.0, 1.0) for env_id in ENVS]
    for seed in SEEDS:
        for env_id in ENVS:
            rows["runs"].append(("single", "alone", seed, env_id, 255600, STEPS, 125.0, 8.0, "done"))
            rows["evaluations"].append(("single", "alone", seed, env_id, *_returns(99.0 + seed)))
        for (phase, variant), finals in FINAL.items():
            run, envs = (phase, variant, seed), len(finals)
            rows["runs"].append((*run, "", 255600, STEPS * envs, 125.0, 8.0 * envs, "done"))
            for env_id, final in finals.items():
                rows["evaluations"].append((*run, env_id, *_returns(final + seed)))
                start = START.get((phase, variant), 0.0)
                for tenth in range(11):
                    reached = start + (final + seed - start) * tenth / 10
                    rows["curves"].append((*run, env_id, STEPS * tenth // 10, reached))
            if phase == "pretrain":
                rows["gradient_cosines"].append((*run, *PRETRAIN_ENVS, -0.2, 0.5, 2))
                for episode in (1, 2):  # 10 and 20 and the seed, within 2 of it
                    mean = 10.0 * episode + seed
                    rows["adaptation"].append((*run, "CartPole-v1", episode, 40, mean, mean - 2, mean + 2, 30.0, 1.0))
    frames = {table: pd.DataFrame(found, columns=list(TABLES[table])) for table, found in rows.items()}
    return RawMetrics(experiment=INFO, **frames)


def _returns(mean: float) -> tuple[float, ...]:
    return 20, mean, 2.0, mean - 5, mean + 5


def rows_of(metrics: RawMetrics, wanted: Callable[[pd.DataFrame], pd.Series]) -> RawMetrics:
    """Only some rows of the tables that have a row per run."""
    tables = {name: getattr(metrics, name) for name in TABLES if name != "random_scores"}
    return replace(metrics, **{name: frame[wanted(frame)] for name, frame in tables.items()})


def with_status(metrics: RawMetrics, status: str, *, phase: str, variant: str, seeds: tuple[int, ...]) -> RawMetrics:
    """The same with another status of some runs."""
    runs = metrics.runs.copy()
    found = (runs["phase"] == phase) & (runs["variant"] == variant) & runs["seed"].isin(seeds)
    runs.loc[found, "status"] = status
    return replace(metrics, runs=runs)


def with_copy(metrics: RawMetrics, column: str, name: str, copy: PhaseInfo | VariantInfo) -> RawMetrics:
    """The same with a copy of a "phase" or "variant" that changes nothing."""
    tables = {table: getattr(metrics, table) for table in ("runs", "evaluations", "curves")}
    for table, frame in tables.items():
        tables[table] = pd.concat([frame, frame[frame[column] == name].assign(**{column: copy.name})])
    info = replace(metrics.experiment, **{f"{column}s": (*getattr(metrics.experiment, f"{column}s"), copy)})
    return replace(metrics, experiment=info, **tables)
