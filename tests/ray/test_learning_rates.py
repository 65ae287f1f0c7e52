"""Learning rates are warmed up and annealed."""

import pytest
from tiny_runs import running, tiny_config

from rllib_multienv.learners.learning_rates import learning_rate_schedule


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        ({}, 0.5),
        ({"anneal_steps": 100}, [[0, 0.5], [100, 0.0]]),
        ({"warmup_steps": 10}, [[0, 0.05], [10, 0.5]]),
        ({"warmup_steps": 10, "anneal_steps": 100}, [[0, 0.05], [10, 0.5], [100, 0.0]]),
    ],
)
def test_schedules(steps: dict[str, int], expected: object) -> None:
    assert learning_rate_schedule(0.5, **steps) == expected


def test_a_schedule_of_its_own_stays() -> None:
    own = [[0, 1.0], [5, 0.1]]
    assert learning_rate_schedule(own, warmup_steps=3) is own


@pytest.mark.usefixtures("ray_cluster")
def test_rates_of_a_run_rise_and_then_fall() -> None:
    # 64 environment steps in each iteration.
    with running(tiny_config(lr=1e-3, lr_warmup_steps=128, lr_anneal_steps=384)) as algo:
        (optimizer,) = algo.learner_group._learner._optimizer_parameters
        seen = [optimizer.param_groups[0]["lr"]]
        for _ in range(6):
            algo.training_step()
            seen.append(optimizer.param_groups[0]["lr"])
    assert seen == pytest.approx([1e-4, 5.5e-4, 1e-3, 7.5e-4, 5e-4, 2.5e-4, 0.0])


@pytest.mark.parametrize(
    ("training", "message"),
    [
        ({"lr_warmup_steps": 0}, "lr_warmup_steps=0: must be a positive number"),
        ({"lr_warmup_steps": 10, "lr_anneal_steps": 10}, "lr_warmup_steps=10: must be less than lr_anneal_steps=10"),
        ({"lr_warmup_steps": 10, "actor_lr": [[0, 1e-3], [5, 0.0]]}, "actor_lr is a schedule of its own"),
    ],
)
def test_bad_settings_are_refused(training: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tiny_config(**training).validate()
