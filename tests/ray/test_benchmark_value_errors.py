"""What V is compared with: discounted rewards to the end of each episode, and what follows it where it was cut."""

from __future__ import annotations

import sys

import numpy as np
from cli_helpers import ROOT

sys.path.append(str(ROOT / "benchmarks" / "offline"))
from value_errors import returns_to_go


def test_returns_stop_at_ends_and_begin_with_what_follows_them() -> None:
    rewards = np.array([1.0, 2.0, 4.0, 8.0, 16.0], np.float32)
    ends = np.array([False, False, True, False, True])
    found = returns_to_go(rewards, ends, np.array([0.0, 32.0]), 0.5)
    whole = [1 + 0.5 * (2 + 0.5 * 4), 2 + 0.5 * 4, 4]
    cut = [8 + 0.5 * (16 + 0.5 * 32), 16 + 0.5 * 32]
    np.testing.assert_allclose(found, whole + cut)
    assert rewards.tolist() == [1.0, 2.0, 4.0, 8.0, 16.0]
