"""Seeds for the copies of an environment."""

from __future__ import annotations

import numpy as np


def copy_seeds(seed: int | None, num_envs: int) -> list[int]:
    """One seed per copy, all different, from one seed.

    The first n of m > n seeds are the n seeds of the same `seed`. They fit into a signed 32-bit integer,
    which is all that EnvPool takes.

    Args:
        seed: Where they come from; None for fresh entropy.
        num_envs: How many.
    """
    sequence = np.random.SeedSequence(seed)
    drawn = num_envs
    while True:
        # Two equal among 2**31 are improbable but possible; then draw further along the same stream.
        seeds = list(dict.fromkeys((sequence.generate_state(drawn) >> 1).tolist()))
        if len(seeds) >= num_envs:
            return seeds[:num_envs]
        drawn += num_envs - len(seeds)
