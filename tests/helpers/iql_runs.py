"""Data sets of noise for every kind of environment, and the smallest offline runs on them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from offline_files import noise
from tiny_runs import TINY_NET

from rllib_multienv import MultiEnvIQL, MultiEnvIQLConfig

SEVEN: dict[str, Callable[[], Any]] = {
    "cart": noise(4, 2, discrete=True),
    "ant": noise(27, 8),
    "acrobot": noise(6, 3, discrete=True),
    "pen": noise(45, 24),
    "pendulum": noise(3, 1),
    "car": noise(2, 1, seed=1),
    "lander": noise(8, 4, discrete=True),
}


def iql_config(datasets: Mapping[str, Any], **training: Any) -> MultiEnvIQLConfig:
    """Batches of 6, four updates an iteration, seed 0, all in this process."""
    return (
        MultiEnvIQLConfig()
        .offline_data(datasets=dict(datasets))
        .rl_module(model_config=TINY_NET)
        .training(**{"num_steps_per_iteration": 4, "batch_size": 6, **training})
        .debugging(seed=0)
    )


@contextmanager
def running_iql(config: MultiEnvIQLConfig) -> Iterator[MultiEnvIQL]:
    """The algorithm of a configuration, stopped in the end."""
    algo = config.build_algo()
    try:
        yield algo
    finally:
        algo.stop()


def learner_state(algo: MultiEnvIQL) -> dict[str, Any]:
    """All that an update depends on, or leaves behind: weights, targets, moments, rates, random state."""
    learner = algo.learner_group._learner
    (optimizer,) = learner._optimizer_parameters
    return {
        "module": {name: tensor.numpy().copy() for name, tensor in learner.module.shared.state_dict().items()},
        "moments": {
            str(number): {name: tensor.numpy().copy() for name, tensor in kept.items()}
            for number, kept in optimizer.state_dict()["state"].items()
        },
        "rates": {group["name"]: group["lr"] for group in optimizer.param_groups},
        "updates": learner.num_steps,
        "seed": learner.shuffle_seed,
    }
