"""Runs that are as small as can be, and what tests look at in them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig

from rllib_multienv import AgnosticNetConfig, MultiEnvPPO, MultiEnvPPOConfig
from rllib_multienv.env_runners import MultiEnvRunner

FOUR = ("CartPole-v1", "Acrobot-v1", "InvertedPendulum-v4", "Reacher-v4")
TINY_NET = AgnosticNetConfig(d_model=8, d_state=4)


def tiny_config(envs: Any = ("CartPole-v1", "InvertedPendulum-v4"), **training: Any) -> MultiEnvPPOConfig:
    """Two copies of each environment, 16 time steps, 2 epochs of 2 minibatches, seed 0, all in this process."""
    return (
        MultiEnvPPOConfig()
        .environment(envs=envs if hasattr(envs, "training_settings") else list(envs))
        .env_runners(num_env_runners=0, num_envs_per_env_runner=2, rollout_fragment_length=16)
        .rl_module(model_config=TINY_NET)
        .training(**{"num_epochs": 2, "num_minibatches": 2, **training})
        .debugging(seed=0)
    )


@contextmanager
def running(config: MultiEnvPPOConfig | MultiEnvPPO) -> Iterator[MultiEnvPPO]:
    """The algorithm of a configuration (or an algorithm), stopped in the end."""
    algo = config.build_algo() if isinstance(config, AlgorithmConfig) else config
    try:
        yield algo
    finally:
        algo.stop()


def weights(algo: MultiEnvPPO) -> dict[str, np.ndarray]:
    """The network's state dict at the learner."""
    state = algo.learner_group.get_weights()
    return {f"{module}/{name}": np.array(a) for module, arrays in state.items() for name, a in arrays.items()}


def assert_same(left: Any, right: Any, place: str = "") -> None:
    """Equal bit for bit, whatever the nesting."""
    if isinstance(left, Mapping):
        assert isinstance(right, Mapping) and left.keys() == right.keys(), place
        for key in left:
            assert_same(left[key], right[key], f"{place}/{key}")
    elif isinstance(left, list | tuple):
        assert len(left) == len(right), place
        for i, (a, b) in enumerate(zip(left, right, strict=True)):
            assert_same(a, b, f"{place}/{i}")
    else:
        np.testing.assert_array_equal(left, right, err_msg=place)


def changed(before: Mapping[str, np.ndarray], after: Mapping[str, np.ndarray]) -> set[str]:
    """Names of the arrays that are not equal bit for bit."""
    assert before.keys() == after.keys()
    return {name for name in before if not np.array_equal(before[name], after[name])}


def assert_goes_on_when_restored(config: MultiEnvPPOConfig, folder: Path) -> None:
    """A run that is restored after one iteration has the same weights after the next as one that went straight on."""
    with running(config) as algo:
        algo.train()
        path = algo.save_to_path(str(folder / "checkpoint"))
        algo.train()
        expected = weights(algo)
    with running(config.copy()) as other:
        other.restore_from_path(path)
        other.train()
        assert_same(weights(other), expected)


def learner_batch(config: MultiEnvPPOConfig, module: Any, rollouts: Mapping[str, Any]) -> dict[str, Any]:
    """What the learner connectors of a configuration make of one rollout of each environment."""
    return config.build_learner_connector()(
        rl_module=module, batch={}, rollouts={env_id: [r] for env_id, r in rollouts.items()}, shared_data={}
    )


def make_runner(config: MultiEnvPPOConfig) -> MultiEnvRunner:
    """A local runner of a configuration, without Ray."""
    config.validate()
    runner: MultiEnvRunner = config.env_runner_cls(config=config, worker_index=0)
    return runner
