"""Learning rates: which parts have which, warm-up and annealing."""

from __future__ import annotations

from typing import Any

import pytest
from iql_runs import iql_config, noise
from tiny_runs import running, tiny_config

SCHEDULE = [[0, 1.0], [5, 0.1]]


@pytest.mark.parametrize(
    ("training", "actor", "critic"),
    [
        ({}, 3e-4, 5e-4),
        ({"lr": 1e-3}, 1e-3, 1e-3),
        ({"lr": 1e-3, "critic_lr": 2e-3}, 1e-3, 2e-3),
        ({"actor_lr": SCHEDULE}, SCHEDULE, 5e-4),
        ({"lr": 0.5, "lr_anneal_steps": 100}, [[0, 0.5], [100, 0.0]], [[0, 0.5], [100, 0.0]]),
        ({"lr": 0.5, "lr_warmup_steps": 10}, [[0, 0.05], [10, 0.5]], [[0, 0.05], [10, 0.5]]),
        ({"lr": 0.5, "lr_warmup_steps": 10, "lr_anneal_steps": 100}, *2 * [[[0, 0.05], [10, 0.5], [100, 0.0]]]),
    ],
)
def test_rates_of_ppo(training: dict[str, Any], actor: Any, critic: Any) -> None:
    assert tiny_config(**training).learning_rates() == {"actor": actor, "critic": critic}


@pytest.mark.parametrize(
    ("training", "expected"),
    [
        ({}, (3e-4, 3e-4, 3e-4)),
        ({"lr": 1e-3}, (1e-3, 1e-3, 1e-3)),
        ({"lr": 1e-3, "value_lr": 1e-4}, (1e-3, 1e-3, 1e-4)),
    ],
)
def test_rates_of_iql(training: dict[str, Any], expected: tuple[float, ...]) -> None:
    config = iql_config({"CartPole-v1": noise(4, 2, discrete=True)})
    config.actor_lr = config.critic_lr = config.value_lr = None
    rates = config.training(**training).learning_rates()
    assert (rates["actor"], rates["critic"], rates["value"]) == expected


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
        ({"lr_warmup_steps": 0}, "lr_warmup_steps=0: must be a whole number of at least 1"),
        ({"lr_warmup_steps": 10, "lr_anneal_steps": 10}, "lr_warmup_steps=10: must be less than lr_anneal_steps=10"),
        ({"lr_warmup_steps": 10, "actor_lr": [[0, 1e-3], [5, 0.0]]}, "actor_lr is a schedule; lr_warmup_steps"),
    ],
)
def test_bad_settings_are_refused(training: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tiny_config(**training).validate()
