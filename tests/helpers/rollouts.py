"""Rollouts that say where episodes end, and nothing else."""

from __future__ import annotations

import numpy as np

from rllib_multienv.rollout import Rollout


def ends(
    shape: tuple[int, int],
    *,
    terminated: list[tuple[int, int]] = [],  # noqa: B006
    truncated: list[tuple[int, int]] = [],  # noqa: B006
    resets: list[tuple[int, int]] = [],  # noqa: B006
) -> Rollout:
    """A rollout of ``shape`` [T, B] whose episodes end at the steps (t, b), and whose copies only reset at others."""

    def at(steps: list[tuple[int, int]]) -> np.ndarray:
        found = np.zeros(shape, dtype=bool)
        for step in steps:
            found[step] = True
        return found

    is_last = np.zeros(shape, dtype=bool)
    is_last[-1] = True
    rows = np.flatnonzero((at(terminated) | at(truncated) | is_last) & ~at(resets))
    nothing = np.zeros(shape)
    return Rollout(
        obs=nothing,
        actions=nothing,
        logp=nothing,
        action_dist_inputs=nothing,
        rewards=nothing,
        terminated=at(terminated),
        truncated=at(truncated),
        valid=~at(resets),
        final_obs=np.zeros(len(rows)),
        final_rows=rows,
        first=at([]),
    )
