"""How the gradients of an experiment's environments agree: means of their cosines."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import numpy as np

from rllib_multienv.evaluation.raw_metrics import RawMetrics


@dataclass(frozen=True, kw_only=True)
class PairAgreement:
    """Two environments' gradients in all runs of one variant and phase.

    Args:
        env_a, env_b: The environments.
        mean: Mean cosine over steps and seeds, each seed with the same weight.
        negative: Share of the measurements below 0, that is in conflict, from 0 to 1.
        measurements: Their number.
    """

    env_a: str
    env_b: str
    mean: float
    negative: float
    measurements: int


def pair_agreements(metrics: RawMetrics, phase: str, variant: str) -> list[PairAgreement]:
    """One entry per pair of environments that was measured, in the order of the phase's environments."""
    order = {env_id: index for index, env_id in enumerate(metrics.experiment.phase(phase).envs)}
    values: dict[tuple[str, str], dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    for row in metrics.gradient_cosines:
        if (row.phase, row.variant) == (phase, variant):
            first, second = sorted((row.env_a, row.env_b), key=lambda env_id: order.get(env_id, len(order)))
            values[first, second][row.seed].append(row.cosine)
    pairs = sorted(values, key=lambda pair: [order.get(env_id, len(order)) for env_id in pair])
    agreements = []
    for pair in pairs:
        everything = np.concatenate([np.asarray(part) for part in values[pair].values()])
        agreements.append(
            PairAgreement(
                env_a=pair[0],
                env_b=pair[1],
                mean=float(np.mean([np.mean(part) for part in values[pair].values()])),
                negative=float(np.mean(everything < 0)),
                measurements=len(everything),
            )
        )
    return agreements
