"""Tables of a report: data frames by name, and how they are shown.

The bounds of a column are in columns with ``_low`` and ``_high`` behind its name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from rllib_multienv.evaluation.experiment_scores import ExperimentScores, curve_at, first_half
from rllib_multienv.evaluation.scores import Interval, interquartile_mean, iqm_difference, mean_interval

_TITLES = {"env_id": "environment", "env_a": "environment", "env_b": "and", "iqm": "IQM", "steps_per_second": "steps/s"}
ADAPTATION_NOTE = (
    "Tasks of the test split. 95% intervals: of one seed by bootstrap over the tasks, of several seeds Student's."
)
_VARIANTS = ("variant", "base", "best_variant")


def report_tables(scores: ExperimentScores) -> dict[str, pd.DataFrame]:
    """All tables by name; those without data are empty."""
    there = {phase.name: {variant.name: variant for variant in scores.variants(phase)} for phase in scores.phases()}
    transfer = [
        _difference(scores, (phase.name, name), (scratch.name, name))
        for phase, scratch in scores.pairs()
        for name in there[phase.name]
        if name in there[scratch.name]
    ]
    ablations = [
        _difference(scores, (phase, name), (phase, variant.ablation_of))
        for phase, variants in there.items()
        for name, variant in variants.items()
        if variant.ablation_of in variants
    ]
    cosines = scores.metrics.gradient_cosines.groupby(["phase", "variant", "env_a", "env_b"], sort=False)
    columns = {"cosine": ("mean", "mean"), "negative": ("negative", "mean"), "measurements": ("measurements", "sum")}
    return {
        "scores": _scores(scores),
        "environments": _environments(scores),
        "transfer": pd.DataFrame(transfer),
        "transfer_returns": _transfer_returns(scores),
        "ablations": pd.DataFrame(ablations),
        "adaptation": _adaptation(scores),
        "gradient_cosines": cosines.agg(**columns).reset_index(),
        "references": scores.references.drop(columns="usable").astype({"seeds": "Int64"}).reset_index(),
        "runs": scores.metrics.runs,
    }


def _scores(scores: ExperimentScores) -> pd.DataFrame:
    """Normalised scores over environments and seeds, size and speed of every variant in every phase."""
    rows = []
    for phase in scores.phases():
        for variant in scores.variants(phase):
            run = (phase.name, variant.name)
            returns, final = scores.by_environment(*run, "final"), scores.by_environment(*run, "final_score")
            means, learning = _means(final), _means(scores.by_environment(*run, "learning_score"))
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
                    "while_learning": learning.mean(),
                    "environments": len(final),
                    "seeds": f"{complete} of {len(scores.experiment.seeds)}",
                    "parameters": runs["parameters"].max(),
                    "steps_per_second": runs["steps_per_second"].mean(),
                }
            )
    return pd.DataFrame(rows).astype({"parameters": "Int64"} if rows else {})


def adaptation_intervals(rows: pd.DataFrame) -> list[Interval]:
    """Mean return of each episode of a variant in a family; see `ADAPTATION_NOTE` for the interval."""
    if rows["seed"].nunique() == 1:
        return [Interval(*values) for values in rows[["mean", "low", "high"]].to_numpy()]
    return [mean_interval(list(values)) for _, values in rows.groupby("episode")["mean"]]


def _adaptation(scores: ExperimentScores) -> pd.DataFrame:
    """First and last return of agents that adapt to tasks, and what training cost."""
    runs = scores.metrics.runs.groupby(["phase", "variant"])[["env_steps", "seconds"]].mean()
    rows = []
    for group, found in scores.metrics.adaptation.groupby(["phase", "env_id", "variant"], sort=False):
        episodes = adaptation_intervals(found)
        rows.append(
            {
                **dict(zip(("phase", "env_id", "variant"), group, strict=True)),
                **_columns("first_episode", episodes[0]),
                **_columns("last_episode", episodes[-1]),
                "episodes": len(episodes),
                "sum": found.groupby("seed")["mean"].sum().mean(),
                "oracle": found["oracle"].mean(),
                "random": found["random"].mean(),
                "seeds": found["seed"].nunique(),
                **runs.loc[(group[0], group[2])].to_dict(),
            }
        )
    return scores.experiment.in_order(pd.DataFrame(rows)) if rows else pd.DataFrame()


def _environments(scores: ExperimentScores) -> pd.DataFrame:
    """Final return and normalised score of every variant in every environment of every phase."""
    key = ["phase", "env_id", "variant"]
    results = scores.results[scores.results["phase"].isin([phase.name for phase in scores.phases()])]
    rows = []
    for group, found in results.dropna(subset="final").groupby(key):
        score = None if found["final_score"].isna().any() else mean_interval(list(found["final_score"]))
        columns = _columns("return", mean_interval(list(found["final"]))) | _columns("score", score)
        rows.append({**dict(zip(key, group, strict=True)), **columns, "seeds": len(found)})
    return scores.experiment.in_order(pd.DataFrame(rows)) if rows else pd.DataFrame()


def _transfer_returns(scores: ExperimentScores) -> pd.DataFrame:
    """Returns of each transfer phase beside training from scratch, of the seeds that have both, paired by seed."""
    rows = []
    zero_shot = scores.metrics.zero_shot
    for phase, scratch in scores.pairs():
        for variant in scores.variants(phase):
            for env_id in (env_id for env_id in phase.envs if env_id in scratch.envs):
                curves = [
                    dict(list(scores.curve(where.name, variant.name, env_id).groupby("seed")))
                    for where in (phase, scratch)
                ]
                seeds = [seed for seed in curves[0] if seed in curves[1]]
                if not seeds:
                    continue
                mine, base = (pd.concat([side[seed] for seed in seeds]) for side in curves)
                areas = np.array([first_half(curves[0][seed], curves[1][seed]) for seed in seeds])  # [seeds, 2]
                start = (zero_shot["phase"] == phase.name) & (zero_shot["variant"] == variant.name)
                quarter = min(mine["steps"].max(), base["steps"].max()) / 4
                finals = [
                    scores.by_environment(w.name, variant.name, "final").get(env_id, []) for w in (phase, scratch)
                ]
                rows.append(
                    {
                        "phase": phase.name,
                        "variant": variant.name,
                        "env_id": env_id,
                        "zero_shot": zero_shot[start & (zero_shot["env_id"] == env_id)]["mean"].mean(),
                        "first_half": areas[:, 0].mean(),
                        "scratch_first_half": areas[:, 1].mean(),
                        **_columns("difference", mean_interval(list(areas[:, 0] - areas[:, 1]))),
                        "quarter": curve_at(mine, quarter),
                        "scratch_quarter": curve_at(base, quarter),
                        "final": np.mean(finals[0]) if finals[0] else np.nan,
                        "scratch_final": np.mean(finals[1]) if finals[1] else np.nan,
                        "seeds": len(seeds),
                    }
                )
    return pd.DataFrame(rows)


def _difference(scores: ExperimentScores, mine: tuple[str, str], base: tuple[str, Any]) -> dict[str, Any]:
    """Scores of one phase and variant minus those of another, over the environments that both have."""
    row: dict[str, Any] = {"phase": mine[0], "variant": mine[1], "base_phase": base[0], "base": base[1]}
    for name, column in (("final", "final_score"), ("while_learning", "learning_score")):
        sides = [scores.by_environment(phase, variant, column) for phase, variant in (mine, base)]
        shared = [env_id for env_id in sides[0] if env_id in sides[1]]
        strata = [{env_id: side[env_id] for env_id in shared} for side in sides]
        row |= _columns(name, iqm_difference(*(list(side.values()) for side in strata)) if shared else None)
        row[f"{name}_average"] = (_means(strata[0]) - _means(strata[1])).mean()
    ahead: list[tuple[bool, bool]] = []
    for env_id in scores.references.index:
        curve, other = (scores.curve(phase, variant, env_id) for phase, variant in (mine, base))
        if len(curve) and len(other) and curve["done"].all() and other["done"].all():
            steps = min(curve["steps"].max(), other["steps"].max())
            value = curve_at(curve, steps / 4)
            ahead.append((value > curve_at(other, steps / 4), value > curve_at(other, steps)))
    for name, flags in zip(("ahead_at_quarter", "ahead_of_end"), zip(*ahead, strict=True), strict=False):
        row[name] = f"{sum(flags)} of {len(flags)}"
    return row


def _means(by_environment: Mapping[str, Sequence[float]]) -> pd.Series:
    return pd.Series({env_id: np.mean(values) for env_id, values in by_environment.items()}, dtype=float)


def _columns(name: str, interval: Interval | None) -> dict[str, float]:
    """The three columns of an interval; NaN where there is none."""
    return dict(zip((name, f"{name}_low", f"{name}_high"), interval or Interval(np.nan), strict=True))


def interval_of(row: pd.Series, name: str) -> Interval:
    """The interval in three columns of a row."""
    return Interval(*row[[name, f"{name}_low", f"{name}_high"]])


def shown(frame: pd.DataFrame, labels: Mapping[str, str]) -> list[dict[str, Any]]:
    """The columns as readers see them: title, left (aligned), cells (texts). Empty columns are left out."""
    columns = []
    for name in map(str, frame):
        values = frame[name]
        if name.endswith(("_low", "_high")) or (values.isna() | (values == "")).all():
            continue
        title = _TITLES.get(name, name.replace("_", " "))
        cells = [number_text(labels.get(value, value) if name in _VARIANTS else value) for value in values]
        if f"{name}_low" in frame:
            title += " [95% interval]"
            bounds = [interval_of(row, name)[1:] for _, row in frame.iterrows()]
            texts = ["" if pd.isna(low) else f" [{number_text(low)}, {number_text(high)}]" for low, high in bounds]
            cells = [cell + text for cell, text in zip(cells, texts, strict=True)]
        columns.append({"title": title, "left": not pd.api.types.is_numeric_dtype(values), "cells": cells})
    return columns


def write_table(frame: pd.DataFrame, path: Path, labels: Mapping[str, str]) -> None:
    """Writes a table as CSV (floats with 6 significant digits) to `path`, and as Markdown beside it."""
    frame.to_csv(path, index=False, float_format="%.6g", lineterminator="\n")
    columns = [
        [column["title"], "---" if column["left"] else "---:", *column["cells"]] for column in shown(frame, labels)
    ]
    rows = [" | ".join(cell.replace("|", "\\|") for cell in row) for row in zip(*columns, strict=True)]
    path.with_suffix(".md").write_text("".join(f"| {row} |\n" for row in rows), encoding="utf-8", newline="")


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
