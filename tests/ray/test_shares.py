"""Learners' shares: equal loads, every row of every environment exactly once, few environments cut."""

from __future__ import annotations

from itertools import pairwise, product

import pytest

from rllib_multienv.learners.shares import TOLERANCE, Share, describe_shares, share_environments

COSTS = (8.0, 100.0, 20.0, 8.0, 55.0, 3.0, 30.0)
CASES = list(product(range(1, 7), range(1, 8)))


def costs_of(num_envs: int) -> dict[str, float]:
    return {f"env{i}": COSTS[i] for i in range(num_envs)}


@pytest.mark.parametrize(("num_learners", "num_envs"), CASES)
def test_loads_are_equal_and_few_environments_are_cut(num_learners: int, num_envs: int) -> None:
    costs = costs_of(num_envs)
    shares = share_environments(costs, num_learners)
    assert len(shares) == num_learners and all(shares)
    mean = sum(costs.values()) / num_learners
    for mine in shares:
        load = sum((share.stop - share.start) * costs[env_id] for env_id, share in mine.items())
        # Each of its two cuts may have moved by the tolerance.
        assert abs(load - mean) <= 2 * TOLERANCE * mean + 1e-9
        assert list(mine) == [env_id for env_id in costs if env_id in mine]
    cut = {env_id for mine in shares for env_id, share in mine.items() if not share.is_whole}
    assert len(cut) <= num_learners - 1


@pytest.mark.parametrize(("num_learners", "num_envs"), CASES)
def test_every_row_is_trained_by_exactly_one_learner(num_learners: int, num_envs: int) -> None:
    costs = costs_of(num_envs)
    shares = share_environments(costs, num_learners)
    for env_id in costs:
        mine = [learner[env_id] for learner in shares if env_id in learner]
        assert mine[0].start == 0.0 and mine[-1].stop == 1.0
        for left, right in pairwise(mine):
            assert left.stop == right.start
        for first, n in product((0, 5), (0, 1, 2, 3, 7, 100, 1023)):
            rows = [row for share in mine for row in range(1000 + 500)[share.rows(first, first + n)]]
            assert rows == list(range(first, first + n))


def test_an_edge_within_the_tolerance_keeps_environments_whole() -> None:
    assert share_environments({"a": 1.04, "b": 1.0}, 2) == [{"a": Share()}, {"b": Share()}]
    (first, second) = share_environments({"a": 1.2, "b": 1.0}, 2)
    assert first == {"a": Share(stop=1.1 / 1.2)} and list(second) == ["a", "b"]


def test_more_learners_than_environments() -> None:
    assert share_environments({"a": 4.0}, 4) == [
        {"a": Share(start=start, stop=start + 0.25)} for start in (0.0, 0.25, 0.5, 0.75)
    ]


def test_a_line_for_each_learner() -> None:
    costs = {"a": 3.0, "b": 1.0}
    assert describe_shares(share_environments(costs, 2), costs).splitlines() == [
        "learner 0: 50% of the load: a (rows 0% to 67%)",
        "learner 1: 50% of the load: a (rows 67% to 100%), b",
    ]


def test_nothing_to_share() -> None:
    with pytest.raises(ValueError, match=r"environment\(envs="):
        share_environments({}, 2)
    with pytest.raises(ValueError, match="at least one learner"):
        share_environments({"a": 1.0}, 0)
