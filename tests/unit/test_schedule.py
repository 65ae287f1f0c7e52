"""Schedules: their shares, step for step, and the state that a checkpoint restores."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from rllib_multienv.experience import (
    FromFunction,
    Interleave,
    LearningProgress,
    RandomChoice,
    Regret,
    Report,
    RoundRobin,
    Schedule,
    Staggered,
    Uniform,
    UntilDone,
    randomized,
)
from rllib_multienv.experience.schedule import SCHEDULES, check_env_ids, make_schedule

IDS = ("a", "b", "c")
LENGTH = 100


def run(schedule: Schedule, iterations: int, ids: tuple[str, ...] = IDS, **known: Any) -> list[dict[str, float]]:
    """Shares of so many iterations; an iteration has 100 steps of a whole fragment."""
    steps: Counter[str] = Counter()
    shares = []
    for iteration in range(iterations):
        shares.append(schedule.next(Report(iteration=iteration, env_ids=ids, steps=dict(steps), **known)))
        steps.update({env_id: round(share * LENGTH) for env_id, share in shares[-1].items()})
    return shares


def order(schedule: Schedule, iterations: int, **known: Any) -> list[str]:
    return ["".join(shares) for shares in run(schedule, iterations, **known)]


def test_uniform() -> None:
    assert run(Uniform(), 1) == [{"a": 1.0, "b": 1.0, "c": 1.0}]


def test_round_robin() -> None:
    assert order(RoundRobin(), 5) == ["a", "b", "c", "a", "b"]
    assert order(RoundRobin(2), 4) == ["ab", "ca", "bc", "ab"]


def test_interleave() -> None:
    assert order(Interleave(["a", "a", ["b", "c"]]), 5) == ["a", "a", "bc", "a", "a"]
    assert order(Interleave(["a", "x", "b"]), 4) == ["a", "b", "a", "b"]


def test_random_choice_is_seeded_and_weighted() -> None:
    assert order(RandomChoice(seed=1), 20) == order(RandomChoice(seed=1), 20) != order(RandomChoice(seed=2), 20)
    counts = Counter(order(RandomChoice(weights={"b": 0.0, "c": 3.0}), 400))
    assert counts["b"] == 0 and 2.0 < counts["c"] / counts["a"] < 4.5
    assert {len(shares) for shares in run(RandomChoice(2), 10)} == {2}


def test_until_done() -> None:
    # A data set of 250 steps, then two iterations of each of the others.
    assert order(UntilDone(200), 7, lengths={"a": 250}) == ["a", "a", "b", "b", "c", "c", "a"]
    assert order(UntilDone(), 5, lengths={"a": 250, "b": 100, "c": 100}) == ["a", "a", "a", "b", "c"]
    reached = UntilDone(targets={"a": 10.0})
    low, high = (Report(iteration=0, env_ids=IDS, returns={"a": value}) for value in (9.0, 10.0))
    assert [list(reached.next(report)) for report in (low, low, high)] == [["a"], ["a"], ["b"]]


def test_staggered_starts_and_ends() -> None:
    schedule = Staggered(starts={"b": 200, "c": 10_000}, ends={"a": 500})
    assert order(schedule, 6) == ["a", "a", "ab", "ab", "b", "b"]


def test_learning_progress_gives_more_to_what_changes_and_keeps_the_total() -> None:
    schedule = LearningProgress(total=2.0, floor=0.3)
    for value in range(20):
        returns = {"a": 5.0, "b": float(value), "c": 5.0 + value % 2 * 0.01}
        shares = schedule.next(Report(iteration=value, env_ids=IDS, returns=returns))
        assert sum(shares.values()) == pytest.approx(2.0)
    assert shares["b"] > 1.0 > 0.5 > shares["c"] > shares["a"] - 1e-9 >= 0.2 - 1e-6


def test_learning_progress_is_uniform_while_nothing_is_known() -> None:
    assert run(LearningProgress(), 1) == [pytest.approx({"a": 1.0, "b": 1.0, "c": 1.0})]


def test_regret_gives_more_to_what_is_far_from_its_reference() -> None:
    schedule = Regret({"a": 100.0, "b": 100.0}, total=3.0, floor=0.0)
    assert schedule.next(Report(iteration=0, env_ids=IDS, returns={"a": 0.0, "b": 0.0})) == pytest.approx(
        {"a": 1.0, "b": 1.0, "c": 1.0}
    )
    later = schedule.next(Report(iteration=1, env_ids=IDS, returns={"a": 75.0, "b": 100.0, "c": 3.0}))
    assert later == pytest.approx({"a": 2.0, "b": 0.0, "c": 1.0})


def test_a_function_is_a_schedule() -> None:
    def next_env_fn(last_step_data: Any, curr_env: Any, available_envs: Any) -> Any:
        if all(last_step_data[agent].done for agent in curr_env.agent_names):
            return available_envs[(available_envs.index(curr_env) + 1) % len(available_envs)]
        return curr_env

    assert order(make_schedule(next_env_fn), 6, lengths={"a": 250}) == ["a", "a", "a", "b", "c", "a"]
    assert order(FromFunction(lambda *_: None), 4) == ["a", "b", "c", "a"]
    with pytest.raises(ValueError, match="'x', which is not one of available_envs"):
        run(FromFunction(lambda *_: "x"), 2)


@pytest.mark.parametrize(
    "make",
    [
        lambda: RoundRobin(2),
        lambda: Interleave(["a", "b", "b"]),
        lambda: RandomChoice(2),
        lambda: UntilDone(200),
        LearningProgress,
        lambda: Regret({"a": 1.0}),
        lambda: FromFunction(lambda *_: None),
    ],
)
def test_a_state_continues_where_it_was_saved(make: Any) -> None:
    reports = [
        Report(iteration=i, env_ids=IDS, steps=dict.fromkeys(IDS, 100 * i), returns={"a": i % 3, "b": i})
        for i in range(9)
    ]
    schedule, other = make(), make()
    for report in reports[:4]:
        schedule.next(report)
    other.set_state(schedule.get_state())
    assert [other.next(report) for report in reports[4:]] == [schedule.next(report) for report in reports[4:]]


def test_schedules_by_name() -> None:
    assert isinstance(make_schedule(None), Uniform)
    assert make_schedule({"type": "round_robin", "count": 2}).count == 2  # type: ignore[attr-defined]
    assert set(SCHEDULES) >= {"uniform", "random", "learning_progress", "staggered"}
    with pytest.raises(ValueError, match="Did you mean 'round_robin'"):
        make_schedule("roundrobin")
    with pytest.raises(ValueError, match=r"schedule 'random': .*counts"):
        make_schedule({"type": "random", "counts": 2})
    with pytest.raises(TypeError, match="A schedule is"):
        make_schedule(3)


def test_names_of_unknown_environments_are_errors() -> None:
    with pytest.raises(ValueError, match="Staggered: there is no environment 'd'"):
        check_env_ids(Staggered({"d": 3}), IDS)
    check_env_ids(Interleave(["a", ["b", "c"]]), IDS)


def test_randomised_domains_are_drawn_by_the_seed() -> None:
    drawn = randomized("CartPole-v1", {"sutton_barto_reward": [True, False, True], "gravity": (5.0, 15.0)}, count=4)
    assert [spec.id for spec in drawn] == [f"CartPole-v1-{n}" for n in range(4)]
    assert len({spec.kwargs["gravity"] for spec in drawn}) == 4
    assert all(5.0 <= spec.kwargs["gravity"] <= 15.0 and spec.make == "CartPole-v1" for spec in drawn)
    again = randomized("CartPole-v1", {"sutton_barto_reward": [True, False, True], "gravity": (5.0, 15.0)}, count=4)
    assert drawn == again
