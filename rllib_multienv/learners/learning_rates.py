"""Learning rates that rise and fall."""

from __future__ import annotations

from typing import Any


def learning_rate_schedule(lr: Any, *, warmup_steps: int | None = None, anneal_steps: int | None = None) -> Any:
    """What RLlib's scheduler takes for a rate that is warmed up, annealed, both or neither.

    Args:
        lr: A number; a schedule of its own is returned as it is.
        warmup_steps: The rate rises linearly from a tenth of ``lr`` to ``lr`` over so many steps.
        anneal_steps: It falls linearly to zero from the end of the warm-up to this step.

    Returns:
        ``lr`` or ``[[step, rate], ...]``.
    """
    if not isinstance(lr, int | float) or (not warmup_steps and anneal_steps is None):
        return lr
    rate = float(lr)
    points = [[0, 0.1 * rate], [warmup_steps, rate]] if warmup_steps else [[0, rate]]
    if anneal_steps is not None:
        points.append([anneal_steps, 0.0])
    return points
