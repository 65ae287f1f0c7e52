"""Statistics over environments and seeds, worked out by hand."""

from __future__ import annotations

import itertools
import math
import statistics

import numpy as np
import pandas as pd
import pytest

from rllib_multienv.evaluation.experiment_scores import curve_at, curve_band
from rllib_multienv.evaluation.scores import (
    Interval,
    interquartile_mean,
    iqm_difference,
    mean_interval,
    normalized_score,
)


def bounds(interval: Interval) -> tuple[float, float]:
    return interval.low, interval.high


def test_a_normalised_score_is_linear_between_its_references() -> None:
    scores = [normalized_score(value, (-200.0, -100.0)) for value in (-200.0, -150.0, -100.0, -50.0, -300.0)]
    assert scores == [0, 50, 100, 150, -100]


def test_the_interquartile_mean_leaves_a_quarter_out_at_either_end() -> None:
    # Eight scores, of which two go at either end: (3 + 4 + 5 + 6) / 4.
    assert interquartile_mean([[1.0, 900.0, 3.0, 6.0], [4.0, 5.0, -70.0, 8.0]]).value == 4.5
    # Six scores: floor(6/4) = 1 at either end.
    assert interquartile_mean([[0.0, 1.0, 2.0], [3.0, 4.0, 90.0]]).value == 2.5


def test_the_bootstrap_draws_within_each_environment() -> None:
    # Were seeds drawn over both environments, means from 0 to 100 would come up; within them only 50.
    assert interquartile_mean([[0.0, 0.0], [100.0, 100.0]]) == (50.0, 50.0, 50.0)


def test_the_interval_is_that_of_all_draws() -> None:
    # One environment, four seeds: all 4**4 equally likely draws can be listed.
    values = [0.0, 10.0, 30.0, 60.0]
    draws = [statistics.fmean(sorted(draw)[1:3]) for draw in itertools.product(values, repeat=4)]
    assert bounds(interquartile_mean([values])) == tuple(np.percentile(draws, [2.5, 97.5]))


def test_one_seed_has_no_interval() -> None:
    value, low, high = interquartile_mean([[1.0, 2.0], [3.0]])
    assert value == 2.0
    assert math.isnan(low) and math.isnan(high)


def test_both_sides_of_a_difference_are_drawn_independently() -> None:
    # Each side is 0, 5 or 10; drawn together, every difference would be 0.
    assert iqm_difference([[0.0, 10.0]], [[0.0, 10.0]]) == (0.0, -10.0, 10.0)
    assert iqm_difference([[10.0, 10.0], [20.0, 20.0]], [[1.0, 1.0], [2.0, 2.0]]) == (13.5, 13.5, 13.5)


def test_the_interval_of_a_mean_is_students() -> None:
    # t(0.975, 2) = 4.3027; s = 1.
    half = 4.30265 / 3**0.5
    assert mean_interval([1.0, 2.0, 3.0]) == pytest.approx((2.0, 2.0 - half, 2.0 + half), abs=1e-4)
    assert mean_interval([1.0, 4.0]) == (2.5, 1.0, 4.0)
    assert math.isnan(mean_interval([1.0]).low)


def curves(*seeds: dict[int, float]) -> pd.DataFrame:
    rows = [(seed, steps, value) for seed, points in enumerate(seeds) for steps, value in points.items()]
    return pd.DataFrame(rows, columns=["seed", "steps", "return_mean"])


def test_curves_meet_on_the_steps_that_all_have() -> None:
    band = curve_band(curves({0: 0, 100: 10}, {50: 7, 150: 17}), points=3)
    assert band.index.tolist() == [50, 75, 100]
    assert (band["mean"].tolist(), band["low"].tolist(), band["high"].tolist()) == (
        [6, 8.5, 11],
        [5, 7.5, 10],
        [7, 9.5, 12],
    )
    assert len(curve_band(curves({0: 0, 10: 0}, {20: 0, 30: 0}))) == len(curve_band(curves())) == 0


def test_three_curves_have_an_interval_of_the_mean() -> None:
    band = curve_band(curves(*({0: value, 10: value} for value in (1.0, 2.0, 3.0))), points=2)
    assert band["high"].iloc[0] == pytest.approx(mean_interval([1.0, 2.0, 3.0]).high)
    assert (band["min"].iloc[0], band["max"].iloc[0]) == (1.0, 3.0)


def test_a_curve_counts_where_it_reaches_or_nearly() -> None:
    both = curves({10: 1.0, 20: 3.0}, {10: 5.0, 19: 7.0})
    assert [curve_at(both, steps) for steps in (10, 15, 20)] == pytest.approx([3.0, (2 + 5 + 10 / 9) / 2, 5.0])
    # At 20 the second has ended 5% earlier and counts with its end; at 21 neither does.
    assert curve_at(both, 20) == (3.0 + 7.0) / 2
    assert math.isnan(curve_at(both, 9)) and math.isnan(curve_at(both, 22))
