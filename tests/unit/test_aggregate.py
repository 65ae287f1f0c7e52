"""Normalised scores of many environments and seeds in one number: worked out by hand."""

from __future__ import annotations

import itertools
import statistics

import numpy as np
import pytest

from rllib_multienv.evaluation.aggregate import aggregate, interquartile_mean, iqm_difference
from rllib_multienv.evaluation.curve_bands import Curve, curve_band
from rllib_multienv.evaluation.intervals import Interval, difference_interval, mean_interval
from rllib_multienv.evaluation.reference_scores import Reference, best_reference


def test_the_papers_normalised_score() -> None:
    reference = Reference(env_id="A", random=-200.0, best=-100.0, variant="alone", seeds=3)
    assert [reference.score(value) for value in (-200.0, -150.0, -100.0, -50.0, -300.0)] == [0, 50, 100, 150, -100]


def test_the_reference_is_the_best_variants_mean_over_seeds() -> None:
    # "lucky" has the best single seed, but not the best mean.
    reference = best_reference("A", 1.0, {"lucky": [0.0, 10.0], "steady": [6.0, 7.0, 8.0], "never": []})
    assert (reference.variant, reference.best, reference.seeds, reference.problem) == ("steady", 7.0, 3, "")


@pytest.mark.parametrize(
    ("random", "returns", "problem"),
    [
        (None, {"alone": [1.0]}, "random score missing"),
        (0.0, {}, "no reference"),
        (1.0, {"alone": [1.0]}, "reference not above random"),
        (2.0, {"alone": [1.0]}, "reference not above random"),
    ],
)
def test_without_a_usable_reference_there_is_no_score(
    random: float | None, returns: dict[str, list[float]], problem: str
) -> None:
    reference = best_reference("A", random, returns)
    assert (reference.problem, reference.score(5.0)) == (problem, None)


def test_average_median_and_worst_are_of_means_over_seeds() -> None:
    total = aggregate({"A": {0: 0.0, 1: 20.0}, "B": {0: 40.0, 1: 40.0}, "C": {1: 100.0}, "D": {}})
    assert total is not None
    assert (total.average, total.median, total.worst) == (50.0, 40.0, 10.0)
    assert (total.environments, total.scores) == (3, 5)


def test_without_scores_there_is_no_aggregate() -> None:
    assert aggregate({"A": {}}) is None


def test_the_interquartile_mean_leaves_a_quarter_out_at_either_end() -> None:
    # Eight scores, of which two go at either end: (3 + 4 + 5 + 6) / 4.
    assert interquartile_mean({"A": {0: 1.0, 1: 900.0, 2: 3.0, 3: 6.0}, "B": {0: 4, 1: 5, 2: -70, 3: 8}}).value == 4.5
    # Six scores: floor(6/4) = 1 at either end.
    assert interquartile_mean({"A": {0: 0.0, 1: 1.0, 2: 2.0}, "B": {0: 3.0, 1: 4.0, 2: 90.0}}).value == 2.5


def test_the_bootstrap_draws_within_each_environment() -> None:
    # Were seeds drawn over both environments, means from 0 to 100 would come up; within them none but 50.
    interval = interquartile_mean({"A": {0: 0.0, 1: 0.0}, "B": {0: 100.0, 1: 100.0}})
    assert interval == Interval(value=50.0, low=50.0, high=50.0)


def test_the_interval_is_that_of_all_draws() -> None:
    # One environment, four seeds: all 4**4 equally likely draws can be listed.
    values = [0.0, 10.0, 30.0, 60.0]
    draws = [statistics.fmean(sorted(draw)[1:3]) for draw in itertools.product(values, repeat=4)]
    interval = interquartile_mean({"A": dict(enumerate(values))})
    assert (interval.low, interval.high) == tuple(np.percentile(draws, [2.5, 97.5]))


def test_the_interval_is_the_same_every_time_and_in_any_order() -> None:
    scores = {"A": {0: 1.0, 1: 5.0, 2: 8.0}, "B": {0: 2.0, 1: 7.0, 2: 3.0}}
    turned = {env_id: dict(reversed(by_seed.items())) for env_id, by_seed in scores.items()}
    assert interquartile_mean(scores) == interquartile_mean(turned)


def test_one_seed_has_no_interval() -> None:
    assert interquartile_mean({"A": {0: 1.0, 1: 2.0}, "B": {0: 3.0}}) == Interval(value=2.0)


def test_a_difference_is_over_the_environments_that_both_have() -> None:
    scores = {"A": {0: 10.0, 1: 10.0}, "B": {0: 20.0, 1: 20.0}, "C": {0: 500.0, 1: 500.0}}
    base = {"A": {0: 1.0, 1: 1.0}, "B": {0: 2.0, 1: 2.0}, "D": {0: 3.0}}
    assert iqm_difference(scores, base) == Interval(value=13.5, low=13.5, high=13.5)
    assert iqm_difference(scores, {"D": {0: 3.0}}) is None


def test_both_sides_of_a_difference_are_drawn_independently() -> None:
    scores = {"A": {0: 0.0, 1: 10.0}}
    interval = iqm_difference(scores, scores)
    assert interval is not None
    # Each side is 0, 5 or 10; drawn together, every difference would be 0.
    assert (interval.value, interval.low, interval.high) == (0.0, -10.0, 10.0)


def test_the_interval_of_a_mean_is_students() -> None:
    interval = mean_interval([1.0, 2.0, 3.0])
    # t(0.975, 2) = 4.3027; s = 1.
    assert interval.value == 2.0
    assert interval.low == pytest.approx(2.0 - 4.30265 / 3**0.5, abs=1e-4)
    assert interval.high == pytest.approx(2.0 + 4.30265 / 3**0.5, abs=1e-4)
    assert mean_interval([1.0, 4.0]) == Interval(value=2.5, low=1.0, high=4.0)
    assert mean_interval([1.0]) == Interval(value=1.0)


def test_the_interval_of_a_difference_is_welchs() -> None:
    interval = difference_interval([11.0, 12.0, 13.0], [1.0, 2.0, 3.0])
    # Equal variances of 1: 4 degrees of freedom, t = 2.7764, standard error sqrt(2/3).
    assert interval.value == 10.0
    assert interval.low == pytest.approx(10.0 - 2.776445 * (2 / 3) ** 0.5, abs=1e-4)
    assert difference_interval([2.0] * 3, [1.0] * 3) == Interval(value=1.0, low=1.0, high=1.0)
    assert difference_interval([2.0, 3.0], [1.0] * 3) == Interval(value=1.5)


def test_curves_meet_on_the_steps_that_all_have() -> None:
    band = curve_band([Curve(steps=(0, 100), returns=(0, 10)), Curve(steps=(50, 150), returns=(7, 17))], points=3)
    assert band is not None
    assert band.steps.tolist() == [50, 75, 100]
    assert (band.mean.tolist(), band.low.tolist(), band.high.tolist()) == ([6, 8.5, 11], [5, 7.5, 10], [7, 9.5, 12])
    assert band.seeds == 2


def test_curves_that_never_meet_have_no_band() -> None:
    assert curve_band([Curve(steps=(0, 10), returns=(0, 0)), Curve(steps=(20, 30), returns=(0, 0))]) is None
    assert curve_band([]) is None


def test_three_curves_have_an_interval_of_the_mean() -> None:
    band = curve_band([Curve(steps=(0, 10), returns=(value, value)) for value in (1.0, 2.0, 3.0)], points=2)
    assert band is not None
    assert band.high[0] == pytest.approx(mean_interval([1.0, 2.0, 3.0]).high)
    assert (band.smallest[0], band.largest[0]) == (1.0, 3.0)


def test_a_curve_says_nothing_outside_its_steps() -> None:
    curve = Curve(steps=(10, 20), returns=(1.0, 3.0))
    assert [curve.at(steps) for steps in (9, 10, 15, 20, 21)] == [None, 1.0, 2.0, 3.0, None]
