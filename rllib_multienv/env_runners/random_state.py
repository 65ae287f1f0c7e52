"""The process-wide random generators."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


@contextmanager
def global_random_state_kept(keep: bool = True) -> Iterator[None]:
    """Leave the global generators of Python, NumPy and torch (CPU) as they were, whatever is drawn or seeded inside.

    Args:
        keep: If false, do nothing.
    """
    if not keep:
        yield
        return
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])
