"""Returns, normalised scores and learning curves of an experiment, from its raw metrics."""

from __future__ import annotations

import numpy as np
import pandas as pd

from rllib_multienv.evaluation.raw_metrics import PhaseInfo, RawMetrics, VariantInfo
from rllib_multienv.evaluation.scores import SEEDS_FOR_INTERVAL, normalized_score, student_half_width

_KEY = ["phase", "variant", "seed", "env_id"]
_RUN = ["phase", "variant", "seed", "env"]


class ExperimentScores:
    """The data of all tables and figures of a report. Final results count only if the run is done.

    Attributes:
        metrics, experiment: The raw metrics, and what the experiment consists of.
        labels: Titles of the variants that have run, by name.
        references: Index env_id. Columns: random; best (mean over seeds of the best variant in "reference" phases),
            best_variant, seeds; problem (why there is no normalised score, else empty); usable (best without problem).
        results: Columns phase, variant, seed, env_id; final (mean return of the final evaluation), learning (mean of
            the training return over all steps); final_score and learning_score, the same as normalised scores.
        curves: The raw curves, without those of failed runs; with a column done.
    """

    def __init__(self, metrics: RawMetrics) -> None:
        self.metrics, self.experiment = metrics, metrics.experiment
        there = pd.concat([metrics.runs, metrics.evaluations, metrics.curves])[["phase", "variant"]]
        self._there = set(there.itertuples(index=False, name=None))
        ran = {variant for _, variant in self._there}
        self.labels = {v.name: v.title or v.name for v in self.experiment.variants if v.name in ran}
        curves = self._with_status(metrics.curves)
        self.curves = curves[curves["status"] != "failed"].assign(done=curves["status"] == "done")
        evaluations = self._with_status(metrics.evaluations)
        final = evaluations[evaluations["status"] == "done"].rename(columns={"mean": "final"})[[*_KEY, "final"]]
        areas = [(*key, _mean_over_steps(curve)) for key, curve in self.curves[self.curves["done"]].groupby(_KEY)]
        learning = pd.DataFrame(areas, columns=[*_KEY, "learning"]).astype(final[_KEY].dtypes)
        self.results = self.experiment.in_order(final.merge(learning, how="outer", on=_KEY))
        self.references = self._references()
        low, high = (self.results["env_id"].map(self.references[c]).astype(float) for c in ("random", "usable"))
        for column in ("final", "learning"):
            self.results[f"{column}_score"] = normalized_score(self.results[column], (low, high))

    def _with_status(self, frame: pd.DataFrame) -> pd.DataFrame:
        """The rows with the status of their runs; a run that is not in the table of runs counts as done."""
        frame = frame.assign(env=self.metrics.run_envs(frame))
        return frame.merge(self.metrics.runs[[*_RUN, "status"]], how="left", on=_RUN).fillna({"status": "done"})

    def _references(self) -> pd.DataFrame:
        phases = self.phases("reference") + self.phases()
        alone = self.results[self.results["phase"].isin([phase.name for phase in self.phases("reference")])]
        means = alone.dropna(subset="final").groupby(["env_id", "variant"], sort=False)["final"].agg(["mean", "count"])
        best = means.reset_index().sort_values("mean", ascending=False, kind="stable").drop_duplicates("env_id")
        env_ids = list(dict.fromkeys(env_id for phase in phases for env_id in phase.envs))
        frame = pd.DataFrame(index=pd.Index(env_ids, dtype=str, name="env_id"))
        frame["random"] = self.metrics.random_scores.set_index("env_id")["mean"]
        frame[["best", "best_variant", "seeds"]] = best.set_index("env_id")[["mean", "variant", "count"]]
        frame["problem"] = np.select(
            [frame["random"].isna(), frame["best"].isna(), frame["best"] <= frame["random"]],
            ["random score missing", "no reference", "reference not above random"],
            "",
        )
        return frame.assign(usable=frame["best"].where(frame["problem"] == ""))

    def phases(self, *kinds: str) -> list[PhaseInfo]:
        """The phases of these kinds in which something has run; without kinds all but "reference" phases."""
        return [
            phase
            for phase in self.experiment.phases
            if (phase.kind in kinds if kinds else phase.kind != "reference") and self.variants(phase)
        ]

    def variants(self, phase: PhaseInfo) -> list[VariantInfo]:
        """The variants that have run in a phase."""
        return [variant for variant in self.experiment.variants if (phase.name, variant.name) in self._there]

    def by_environment(self, phase: str, variant: str, column: str = "final_score") -> dict[str, list[float]]:
        """Values of a column of `results` by environment, one per seed; environments without a value are left out."""
        rows = self.results[(self.results["phase"] == phase) & (self.results["variant"] == variant)]
        groups = rows.dropna(subset=column).groupby("env_id", sort=False)[column]
        return {str(env_id): list(values) for env_id, values in groups}

    def curve(self, phase: str, variant: str, env_id: str) -> pd.DataFrame:
        """Curves of all seeds: of the runs that are done or, where none is, of those that are unfinished."""
        curves = self.curves
        wanted = (curves["phase"] == phase) & (curves["variant"] == variant) & (curves["env_id"] == env_id)
        found = curves[wanted]
        return found[found["done"]] if found["done"].any() else found

    def pairs(self) -> list[tuple[PhaseInfo, PhaseInfo]]:
        """Each transfer phase with the "scratch" phase that shares most environments with it."""
        found = []
        for transfer in self.phases("transfer"):
            shared = [({*transfer.envs} & {*scratch.envs}, scratch) for scratch in self.phases("scratch")]
            envs, scratch = max(shared, key=lambda pair: len(pair[0]), default=(None, transfer))
            if envs:
                found.append((transfer, scratch))
        return found


def _mean_over_steps(curve: pd.DataFrame) -> float:
    """The mean return over all steps of one curve, linear between its points."""
    steps, returns = curve["steps"].to_numpy(), curve["return_mean"].to_numpy()
    return float(np.trapezoid(returns, steps) / (steps[-1] - steps[0])) if len(steps) > 1 else float(returns[0])


def first_half(curve: pd.DataFrame, other: pd.DataFrame) -> tuple[float, float]:
    """Mean returns of two curves over the first half of the steps, from the first step that both have."""
    half = min(curve["steps"].max(), other["steps"].max()) / 2
    grid = np.linspace(max(curve["steps"].min(), other["steps"].min()), half, 101)
    found = [np.interp(grid, points["steps"], points["return_mean"]).mean() for points in (curve, other)]
    return float(found[0]), float(found[1])


def curve_at(curves: pd.DataFrame, steps: float) -> float:
    """Mean over seeds of the return after so many steps; NaN where no curve reaches there.

    A curve that ends up to 5% earlier counts with its end. The points have columns seed, steps, return_mean.
    """
    values = [
        np.interp(steps, curve["steps"], curve["return_mean"])
        for _, curve in curves.groupby("seed")
        if curve["steps"].iloc[0] <= steps <= curve["steps"].iloc[-1] / 0.95
    ]
    return float(np.mean(values)) if values else np.nan


def curve_band(curves: pd.DataFrame, points: int = 61) -> pd.DataFrame:
    """Curves of several seeds (see `curve_at`) on a common grid, which covers the steps that all of them have.

    Returns:
        Index: steps. Columns: mean; min and max over seeds; low and high, Student's 95% interval of the mean from 3
        seeds on, else min and max. Empty where the curves have no step in common.
    """
    seeds = [curve for _, curve in curves.groupby("seed")]
    first = max((curve["steps"].iloc[0] for curve in seeds), default=1)
    last = min((curve["steps"].iloc[-1] for curve in seeds), default=0)
    if first > last:
        return pd.DataFrame(columns=["mean", "min", "max", "low", "high"])
    grid = np.linspace(first, last, points if first < last else 1)
    values = np.stack([np.interp(grid, curve["steps"], curve["return_mean"]) for curve in seeds])  # [seeds, points]
    mean, low, high = values.mean(0), values.min(0), values.max(0)
    band = pd.DataFrame({"mean": mean, "min": low, "max": high, "low": low, "high": high}, index=grid)
    if len(seeds) >= SEEDS_FOR_INTERVAL:
        half = student_half_width(values)
        band["low"], band["high"] = mean - half, mean + half
    return band
