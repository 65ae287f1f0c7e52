"""Transfer against training from scratch, by variant and environment."""

from __future__ import annotations

import statistics

from rllib_multienv.evaluation.experiment_scores import ExperimentScores
from rllib_multienv.evaluation.intervals import Interval, mean_interval
from rllib_multienv.evaluation.report.tables.environments import BOUNDS
from rllib_multienv.evaluation.report.tables.table import Cell, Column, Table
from rllib_multienv.evaluation.report.transfer_pairs import TransferPair


def transfer_table(scores: ExperimentScores, pair: TransferPair) -> Table:
    """Final scores, scores after a quarter of the steps, and which of these are above which.

    Final scores are those of the evaluation without exploration; scores after a quarter and at the end of the steps
    are those of the curves (exploration included), so that like is compared with like.

    Args:
        scores: The experiment's scores.
        pair: The two phases.
    """
    rows = [_row(scores, pair, index, env_id) for index in range(len(pair.variants)) for env_id in pair.envs]
    quarters = [value for row in rows if isinstance(value := row[4], int)]
    planned = f" ({max(quarters):,} in each environment)" if quarters and min(quarters) == max(quarters) else ""
    return Table(
        name=f"transfer_{pair.transfer.name}",
        caption=(
            f"Transfer ({pair.transfer.name}) against training from scratch ({pair.scratch.name}): normalised scores "
            f"at the end, and after a quarter of the steps{planned}."
        ),
        columns=(
            Column(key="variant", title="variant", kind="variant"),
            Column(key="env_id", title="environment"),
            Column(key="final_transfer", title="final, transfer", kind="interval"),
            Column(key="final_scratch", title="final, scratch", kind="interval"),
            Column(key="quarter_steps", title="1/4 of steps", kind="count"),
            Column(key="quarter_transfer", title="transfer at 1/4", kind="score"),
            Column(key="quarter_scratch", title="scratch at 1/4", kind="score"),
            Column(key="end_scratch", title="scratch at the end", kind="score"),
            Column(key="above_quarter", title="transfer at 1/4 above scratch at 1/4", kind="flag"),
            Column(key="above_end", title="transfer at 1/4 above scratch at the end", kind="flag"),
            Column(key="unit", title="unit"),
        ),
        rows=tuple(rows),
        notes=(
            "Final: the evaluation without exploration. At 1/4 and at the end: the curves of the training, exploration "
            "included, mean over the seeds whose curves reach there. Where the unit is the return, the environment has "
            f"no normalised score. {BOUNDS}",
        ),
    )


def transfer_summary_table(scores: ExperimentScores, pair: TransferPair) -> Table:
    """By variant, in how many environments transfer is ahead, and by how much at the end."""
    details = transfer_table(scores, pair).rows
    rows: list[tuple[Cell, ...]] = []
    for variant in pair.variants:
        mine = [row for row in details if row[0] == variant]
        gains = [
            row[2].value - row[3].value
            for row in mine
            if row[10] == "score" and isinstance(row[2], Interval) and isinstance(row[3], Interval)
        ]
        rows.append((variant, *(_count(mine, column) for column in (8, 9)), _mean(gains)))
    return Table(
        name=f"transfer_summary_{pair.transfer.name}",
        caption=(
            f"Transfer ({pair.transfer.name}) against training from scratch ({pair.scratch.name}): in how many "
            "environments transfer is ahead after a quarter of the steps."
        ),
        columns=(
            Column(key="variant", title="variant", kind="variant"),
            Column(key="above_quarter", title="above scratch at a quarter", kind="number"),
            Column(key="above_end", title="above scratch at its end", kind="number"),
            Column(key="final_difference", title="final score, transfer - scratch", kind="score"),
        ),
        rows=tuple(rows),
        notes=(
            "The first two are by the curves of the training, means over seeds; the last by the evaluation without "
            "exploration, mean over the environments with a normalised score.",
        ),
    )


def _count(rows: list[tuple[Cell, ...]], column: int) -> str | None:
    flags = [flag for row in rows if isinstance(flag := row[column], bool)]
    return f"{sum(flags)} of {len(flags)}" if flags else None


def _mean(values: list[float]) -> float | None:
    return statistics.fmean(values) if values else None


def _row(scores: ExperimentScores, pair: TransferPair, index: int, env_id: str) -> tuple[Cell, ...]:
    variant = pair.variants[index]
    finals = [
        mean_interval(values) if (values := scores.shown_returns(phase.name, variant.name, env_id)) else None
        for phase in (pair.transfer, pair.scratch)
    ]
    steps = pair.steps(scores, variant.name, env_id)
    quarter = None if steps is None else round(steps / 4)
    early = [_curve(scores, phase.name, variant.name, env_id, quarter) for phase in (pair.transfer, pair.scratch)]
    end = _curve(scores, pair.scratch.name, variant.name, env_id, steps)
    return (
        variant,
        env_id,
        *finals,
        quarter,
        *early,
        end,
        _above(early[0], early[1]),
        _above(early[0], end),
        "score" if scores.has_score(env_id) else "return",
    )


def _curve(scores: ExperimentScores, phase: str, variant: str, env_id: str, steps: float | None) -> float | None:
    value = None if steps is None else scores.curve_at(phase, variant, env_id, steps)
    return None if value is None else scores.shown(env_id, value)


def _above(value: float | None, other: float | None) -> bool | None:
    return None if value is None or other is None else value > other
