"""Which runner samples what while runners die and come back."""

from __future__ import annotations

import pytest
from fault_helpers import rllib_log

from rllib_multienv.env_runners import assignment
from rllib_multienv.env_runners.assignment import ORPHANED_AFTER_S, Ownership

COSTS = dict.fromkeys("abcd", 1.0)
FIRST = {1: ("a", "c"), 2: ("b", "d")}


class Clock:
    now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(assignment, "time", made)
    return made


def test_a_runner_that_comes_back_in_time_keeps_its_environments(clock: Clock) -> None:
    owners = Ownership(costs=COSTS, workers=[1, 2])
    assert owners.owned([1, 2]) == FIRST and owners.unsampled([1, 2]) == []
    assert owners.owned([2]) == {2: FIRST[2]}
    assert owners.unsampled([2]) == ["a", "c"]
    clock.now += ORPHANED_AFTER_S
    assert owners.owned([2]) == {2: FIRST[2]}
    assert owners.owned([1, 2]) == FIRST
    # The next absence is measured from its own beginning.
    assert owners.owned([2]) == {2: FIRST[2]}
    clock.now += ORPHANED_AFTER_S - 1
    assert owners.owned([2]) == {2: FIRST[2]}


def test_others_take_over_and_give_back(clock: Clock) -> None:
    owners = Ownership(costs=COSTS, workers=[1, 2])
    owners.owned([2])
    clock.now += ORPHANED_AFTER_S + 1
    with rllib_log() as log:
        assert owners.owned([2]) == {2: ("a", "b", "c", "d")}
    assert log == ["Env runners [1] have been away for 60 s; the others take over a, c."]
    assert owners.unsampled([2]) == []
    assert owners.describe() == "env runner 2: a, b, c, d"
    assert owners.owned([1, 2]) == FIRST


def test_nobody_is_there(clock: Clock) -> None:
    owners = Ownership(costs=COSTS, workers=[1, 2])
    for _ in range(3):
        assert owners.owned([]) == {}
        assert sorted(owners.unsampled([])) == ["a", "b", "c", "d"]
        clock.now += ORPHANED_AFTER_S + 1
    assert owners.owned([1]) == {1: ("a", "b", "c", "d")}


def test_environments_that_change_have_owners_at_once() -> None:
    owners = Ownership(costs=COSTS, workers=[1, 2])
    owners.change({"a": 1.0, "c": 1.0, "new": 5.0})
    assert owners.owned([1, 2]) == {1: ("new",), 2: ("a", "c")}
    assert owners.describe() == "env runner 1: new\nenv runner 2: a, c"
