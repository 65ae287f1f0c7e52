"""Transfer against training from scratch, by variant and environment."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from rllib_multienv.evaluation.experiment_scores import ExperimentScores
from rllib_multienv.evaluation.intervals import Interval, mean_interval
from rllib_multienv.evaluation.raw_metrics import VariantInfo
from rllib_multienv.evaluation.report.tables.environments import BOUNDS
from rllib_multienv.evaluation.report.tables.table import Cell, Column, Table
from rllib_multienv.evaluation.report.transfer_pairs import TransferPair


@dataclass(frozen=True, kw_only=True)
class TransferComparison:
    """A variant in an environment, trained further and from scratch; in the environment's shown unit.

    Attributes:
        variant: The variant.
        env_id: The environment.
        has_score: Whether the unit is the normalised score; else it is the return.
        final_transfer, final_scratch: Of the evaluation without exploration.
        quarter_steps: A quarter of the environment's steps.
        quarter_transfer, quarter_scratch: On the curves, after a quarter of the steps.
        end_scratch: On the curve, after all steps.
    """

    variant: VariantInfo
    env_id: str
    has_score: bool
    final_transfer: Interval | None
    final_scratch: Interval | None
    quarter_steps: int | None
    quarter_transfer: float | None
    quarter_scratch: float | None
    end_scratch: float | None

    @property
    def above_quarter(self) -> bool | None:
        """Whether transfer after a quarter is above scratch then."""
        return _above(self.quarter_transfer, self.quarter_scratch)

    @property
    def above_end(self) -> bool | None:
        """Whether transfer after a quarter is above scratch at its end."""
        return _above(self.quarter_transfer, self.end_scratch)

    @property
    def gain(self) -> float | None:
        """By how much the final score of transfer is above that of scratch."""
        if not self.has_score or self.final_transfer is None or self.final_scratch is None:
            return None
        return self.final_transfer.value - self.final_scratch.value


def compare_transfer(scores: ExperimentScores, pair: TransferPair) -> list[TransferComparison]:
    """All variants in all environments of the two phases."""
    return [_compare(scores, pair, variant, env_id) for variant in pair.variants for env_id in pair.envs]


def transfer_table(pair: TransferPair, comparisons: Sequence[TransferComparison]) -> Table:
    """Final scores, scores after a quarter of the steps, and which of these are above which.

    Final scores are those of the evaluation without exploration; scores after a quarter and at the end of the steps
    are those of the curves (exploration included), so that like is compared with like.

    Args:
        pair: The two phases.
        comparisons: Of them.
    """
    quarters = [found.quarter_steps for found in comparisons if found.quarter_steps is not None]
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
        rows=tuple(
            (
                found.variant,
                found.env_id,
                found.final_transfer,
                found.final_scratch,
                found.quarter_steps,
                found.quarter_transfer,
                found.quarter_scratch,
                found.end_scratch,
                found.above_quarter,
                found.above_end,
                "score" if found.has_score else "return",
            )
            for found in comparisons
        ),
        notes=(
            "Final: the evaluation without exploration. At 1/4 and at the end: the curves of the training, exploration "
            "included, mean over the seeds whose curves reach there. Where the unit is the return, the environment has "
            f"no normalised score. {BOUNDS}",
        ),
    )


def transfer_summary_table(comparisons: Mapping[TransferPair, Sequence[TransferComparison]]) -> Table:
    """By phase and variant, in how many environments transfer is ahead, and by how much at the end.

    Args:
        comparisons: Of pairs with one phase from scratch.
    """
    rows: list[tuple[Cell, ...]] = []
    for pair, found in comparisons.items():
        for variant in pair.variants:
            mine = [one for one in found if one.variant == variant]
            gains = [one.gain for one in mine if one.gain is not None]
            rows.append(
                (
                    variant,
                    pair.transfer.name,
                    _count([one.above_quarter for one in mine]),
                    _count([one.above_end for one in mine]),
                    statistics.fmean(gains) if gains else None,
                )
            )
    scratch = next(iter(comparisons)).scratch.name
    return Table(
        name=f"transfer_against_{scratch}",
        caption=(
            f"Transfer against training from scratch ({scratch}): in how many environments transfer is ahead after a "
            "quarter of the steps."
        ),
        columns=(
            Column(key="variant", title="variant", kind="variant"),
            Column(key="phase", title="transfer"),
            Column(key="above_quarter", title="above scratch at a quarter", kind="number"),
            Column(key="above_end", title="above scratch at its end", kind="number"),
            Column(key="final_difference", title="final score, transfer - scratch", kind="score"),
        ),
        rows=tuple(rows),
        notes=(
            "The first two numbers are by the curves of the training, means over seeds; the last is by the evaluation "
            "without exploration, mean over the environments with a normalised score.",
        ),
    )


def _count(flags: Iterable[bool | None]) -> str | None:
    known = [flag for flag in flags if flag is not None]
    return f"{sum(known)} of {len(known)}" if known else None


def _compare(scores: ExperimentScores, pair: TransferPair, variant: VariantInfo, env_id: str) -> TransferComparison:
    def final(phase: str) -> Interval | None:
        values = scores.shown_returns(phase, variant.name, env_id)
        return mean_interval(values) if values else None

    transfer, scratch = pair.transfer.name, pair.scratch.name
    steps = pair.steps(scores, variant.name, env_id)
    quarter = None if steps is None else round(steps / 4)
    return TransferComparison(
        variant=variant,
        env_id=env_id,
        has_score=scores.has_score(env_id),
        final_transfer=final(transfer),
        final_scratch=final(scratch),
        quarter_steps=quarter,
        quarter_transfer=_curve(scores, transfer, variant.name, env_id, quarter),
        quarter_scratch=_curve(scores, scratch, variant.name, env_id, quarter),
        end_scratch=_curve(scores, scratch, variant.name, env_id, steps),
    )


def _curve(scores: ExperimentScores, phase: str, variant: str, env_id: str, steps: float | None) -> float | None:
    value = None if steps is None else scores.curve_at(phase, variant, env_id, steps)
    return None if value is None else scores.shown(env_id, value)


def _above(value: float | None, other: float | None) -> bool | None:
    return None if value is None or other is None else value > other
