"""Tables of a report: one function per table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from rllib_multienv.evaluation.experiment_scores import ExperimentScores, curve_at
from rllib_multienv.evaluation.scores import (
    SEEDS_FOR_INTERVAL,
    Interval,
    interquartile_mean,
    iqm_difference,
    mean_interval,
)

_TITLES = {"env_id": "environment", "env_a": "environment", "env_b": "and", "iqm": "IQM", "steps_per_second": "steps/s"}
_VARIANTS = ("variant", "base", "best_variant")
#: How bounds of means over seeds are read.
BOUNDS = f"95% interval of the mean over seeds (Student's t); with fewer than {SEEDS_FOR_INTERVAL} seeds, their range."


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table of the report.

    Args:
        name, caption: File name without ending, and what the table shows.
        frame: The values. The bounds of a column are in columns with ``_low`` and ``_high`` behind its name.
        notes: Sentences below it.
    """

    name: str
    caption: str
    frame: pd.DataFrame
    notes: tuple[str, ...] = ()

    def shown(self, labels: Mapping[str, str]) -> list[dict[str, Any]]:
        """Columns as readers see them: title, left (aligned), cells (texts). Empty columns are left out.

        Args:
            labels: Titles of variants by name.
        """
        columns = []
        for name in map(str, self.frame):
            values = self.frame[name]
            if name.endswith(("_low", "_high")) or (values.isna() | (values == "")).all():
                continue
            title = _TITLES.get(name, name.replace("_", " "))
            cells = [number_text(labels.get(value, value) if name in _VARIANTS else value) for value in values]
            if f"{name}_low" in self.frame:
                title += " [95% interval]"
                bounds = zip(self.frame[f"{name}_low"], self.frame[f"{name}_high"], strict=True)
                texts = ["" if pd.isna(low) else f" [{number_text(low)}, {number_text(high)}]" for low, high in bounds]
                cells = [cell + text for cell, text in zip(cells, texts, strict=True)]
            columns.append({"title": title, "left": not pd.api.types.is_numeric_dtype(values), "cells": cells})
        return columns

    def write(self, folder: Path, labels: Mapping[str, str]) -> None:
        """Writes the table as CSV (floats with 6 significant digits) and as Markdown."""
        path = folder / f"{self.name}.csv"
        self.frame.to_csv(path, index=False, float_format="%.6g", lineterminator="\n")
        columns = [
            [
                column["title"],
                "---" if column["left"] else "---:",
                *(cell.replace("|", "\\|") for cell in column["cells"]),
            ]
            for column in self.shown(labels)
        ]
        lines = [self.caption, "", *(f"| {' | '.join(row)} |" for row in zip(*columns, strict=True))]
        lines += [f"\n{note}" for note in self.notes]
        path.with_suffix(".md").write_text("\n".join(lines) + "\n", encoding="utf-8", newline="")


def number_text(value: Any) -> str:
    """A value as readers want it: numbers with about three digits and separators, ``-`` where there is none."""
    if isinstance(value, str):
        return value or "-"
    if value is None or pd.isna(value):
        return "-"
    if isinstance(value, int | np.integer):
        return f"{value:,}"
    size = abs(value)
    return f"{value:z,.{0 if size >= 1000 else 1 if size >= 10 or size == 0 else 2 if size >= 0.1 else 3}f}"


def _columns(name: str, interval: Interval | None) -> dict[str, float]:
    """The three columns of an interval; NaN where there is none."""
    return dict(zip((name, f"{name}_low", f"{name}_high"), interval or Interval(np.nan), strict=True))


def report_tables(scores: ExperimentScores) -> dict[str, Table]:
    """All tables by name; those without data are empty."""
    environments = environment_table(scores)
    transfer = transfer_environment_table(scores, environments.frame)
    cosines = scores.metrics.gradient_cosines.groupby(["phase", "variant", "env_a", "env_b"], sort=False)
    references = scores.references.drop(columns="usable").astype({"seeds": "Int64"}).reset_index()
    tables = [
        score_table(scores),
        environments,
        transfer_table(transfer.frame),
        transfer,
        ablation_table(scores),
        Table(
            name="gradient_cosines",
            caption="Cosine between two environments' gradients of the shared parameters, and share of negative ones.",
            frame=cosines.agg(
                cosine=("mean", "mean"), negative=("negative", "mean"), measurements=("measurements", "sum")
            ).reset_index(),
        ),
        Table(
            name="references",
            caption="Returns of random actions (score 0) and of the best agent trained in the environment alone (100).",
            frame=references,
        ),
        Table(name="runs", caption="All runs; seconds of training.", frame=scores.metrics.runs),
    ]
    return {table.name: table for table in tables}


def score_table(scores: ExperimentScores) -> Table:
    """Normalised scores in one row per phase and variant, with size and speed."""
    rows = []
    for phase in scores.phases():
        for variant in scores.variants(phase):
            returns, final, learning = (
                scores.by_environment(phase.name, variant.name, column)
                for column in ("final", "final_score", "learning_score")
            )
            means, while_learning = (
                pd.Series([np.mean(values) for values in found.values()], dtype=float) for found in (final, learning)
            )
            complete = min(map(len, returns.values())) if len(returns) == len(phase.envs) else 0
            runs = scores.metrics.runs
            runs = runs[(runs["phase"] == phase.name) & (runs["variant"] == variant.name) & (runs["status"] == "done")]
            rows.append(
                {
                    "phase": phase.name,
                    "variant": variant.name,
                    "average": means.mean(),
                    "median": means.median(),
                    "worst": means.min(),
                    **_columns("iqm", interquartile_mean(list(final.values())) if final else None),
                    "while_learning": while_learning.mean(),
                    "environments": len(final),
                    "seeds": f"{complete} of {len(scores.experiment.seeds)}",
                    "parameters": runs["parameters"].max(),
                    "steps_per_second": runs["steps_per_second"].mean(),
                }
            )
    problems = scores.references["problem"]
    without = "; ".join(f"{env_id} ({problem})" for env_id, problem in problems.items() if problem)
    return Table(
        name="scores",
        caption="Normalised scores of the final evaluation, over environments and seeds.",
        frame=pd.DataFrame(rows).astype({"parameters": "Int64"} if rows else {}),
        notes=(
            "0 is a random policy, 100 the best agent trained in the environment alone. Average, median and worst are "
            "over environments, of means over seeds. IQM: interquartile mean over environments and seeds, with a "
            "stratified bootstrap over seeds. While learning: average score of the training returns, with exploration, "
            "in the mean over all steps.",
            *([f"Without a normalised score and left out: {without}."] if without else []),
        ),
    )


def environment_table(scores: ExperimentScores) -> Table:
    """Final return and normalised score of every variant in every environment of every phase."""
    key = ["phase", "env_id", "variant"]
    results = scores.results[scores.results["phase"].isin([phase.name for phase in scores.phases()])]
    rows = []
    for group, found in results.dropna(subset="final").groupby(key):
        score = None if found["final_score"].isna().any() else mean_interval(list(found["final_score"]))
        columns = _columns("return", mean_interval(list(found["final"]))) | _columns("score", score)
        rows.append({**dict(zip(key, group, strict=True)), **columns, "seeds": len(found)})
    return Table(
        name="environments",
        caption="Return per episode of the final evaluation, without exploration, and its normalised score.",
        frame=scores.experiment.in_order(pd.DataFrame(rows)) if rows else pd.DataFrame(),
        notes=(f"Brackets: {BOUNDS}",),
    )


def transfer_environment_table(scores: ExperimentScores, environments: pd.DataFrame) -> Table:
    """Transfer against training from scratch in each environment: scores, or returns where there is no score."""
    rows: list[dict[str, Any]] = []
    final: dict[Any, Any] = {(row["phase"], row["variant"], row["env_id"]): row for _, row in environments.iterrows()}
    for transfer, scratch in scores.pairs():
        for variant, env_id in ((v.name, env_id) for v in scores.variants(transfer) for env_id in transfer.envs):
            if any((phase.name, variant, env_id) not in final for phase in (transfer, scratch)):
                continue
            found = [final[phase.name, variant, env_id] for phase in (transfer, scratch)]
            unit = "return" if pd.isna(found[0]["score"]) else "score"
            row: dict[str, Any] = {"phase": transfer.name, "variant": variant, "env_id": env_id}
            for name, values in zip(("final_transfer", "final_scratch"), found, strict=True):
                row |= _columns(name, Interval(*values[[unit, f"{unit}_low", f"{unit}_high"]]))
            curves = [scores.curve(phase.name, variant, env_id) for phase in (transfer, scratch)]
            planned = [phase.steps_per_environment or np.inf for phase in (transfer, scratch)]
            steps = min([*planned, *(curve["steps"].max() if len(curve) else 0 for curve in curves)])
            points = {"quarter_transfer": (0, 4), "quarter_scratch": (1, 4), "end_scratch": (1, 1)}
            for name, (side, part) in points.items():
                value = curve_at(curves[side], steps / part)
                row[name] = scores.normalized(env_id, value) if unit == "score" else value
            rows.append({**row, "unit": unit})
    return Table(
        name="transfer_environments",
        caption="Transfer against training from scratch, in each environment.",
        frame=pd.DataFrame(rows),
        notes=(
            "Final: the evaluation, without exploration. After a quarter of the steps, and at the end of training from "
            f"scratch: learning curves, with exploration, mean over seeds. Brackets: {BOUNDS}",
        ),
    )


def transfer_table(environments: pd.DataFrame) -> Table:
    """Of `transfer_environment_table`: where transfer is ahead, and by how many points at the end."""
    rows = []
    for (phase, variant), group in environments.groupby(["phase", "variant"], sort=False) if len(environments) else ():
        row: dict[str, Any] = {"phase": phase, "variant": variant}
        for name in ("quarter_scratch", "end_scratch"):
            known = group.dropna(subset=["quarter_transfer", name])
            row[f"ahead_of_{name}"] = f"{(known['quarter_transfer'] > known[name]).sum()} of {len(known)}"
        scored = group[group["unit"] == "score"]
        rows.append({**row, "final_difference": (scored["final_transfer"] - scored["final_scratch"]).mean()})
    return Table(
        name="transfer",
        caption=(
            "Transfer against training from scratch: in how many environments transfer, after a quarter of the steps, "
            "is ahead of scratch at the same step and at its end; and the difference of the final scores."
        ),
        frame=pd.DataFrame(rows),
    )


def ablation_table(scores: ExperimentScores) -> Table:
    """Every ablation minus its base, in every phase that has both, over the environments in which both have a score."""
    rows = []
    for phase in scores.phases():
        there = [variant.name for variant in scores.variants(phase)]
        for variant in scores.variants(phase):
            base = variant.ablation_of
            if base is None or base not in there:
                continue
            row: dict[str, Any] = {"phase": phase.name, "variant": variant.name, "base": base}
            for name, column in (("final", "final_score"), ("while_learning", "learning_score")):
                mine, theirs = (scores.by_environment(phase.name, one, column) for one in (variant.name, base))
                shared = [env_id for env_id in mine if env_id in theirs]
                sides = [[side[env_id] for env_id in shared] for side in (mine, theirs)]
                row |= _columns(name, iqm_difference(*sides) if shared else None)
                differences = [np.mean(one) - np.mean(other) for one, other in zip(*sides, strict=True)]
                row[f"{name}_average"] = np.mean(differences) if shared else np.nan
            rows.append(row)
    return Table(
        name="ablations",
        caption="Ablations: normalised scores of the variant minus those of its base, as interquartile means.",
        frame=pd.DataFrame(rows),
        notes=(
            "Intervals by stratified bootstrap of both sides; where one contains 0, these seeds do not tell the two "
            "apart. Averages over environments include runs that did not learn; interquartile means leave these out.",
        ),
    )
