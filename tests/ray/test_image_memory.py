"""Images are kept once: in a runner, in the object store and in a learner."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from ray import cloudpickle
from tiny_runs import learner_batch, make_runner, tiny_config

from rllib_multienv import EnvSpec, GeneratedNetConfig, ImageEncoderConfig
from rllib_multienv.learners.minibatches import Shuffle, minibatches
from rllib_multienv.rollout import Rollout

B, T, FRAMES = 8, 128, (4, 84, 84)
SIZE = B * T * int(np.prod(FRAMES))
LIMIT = 1.3 * SIZE


class Frames(gym.Env):
    """Four stacked frames of the size of Atari's; episodes last 50 steps."""

    def __init__(self) -> None:
        self.observation_space, self.action_space = gym.spaces.Box(0, 255, FRAMES, np.uint8), gym.spaces.Discrete(3)
        self.t = 0

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[np.ndarray, dict]:
        super().reset(seed=seed)
        self.t = 0
        return np.zeros(FRAMES, np.uint8), {}

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict]:
        self.t += 1
        return np.full(FRAMES, self.t, np.uint8), 1.0, self.t == 50, False, {}


def peak(function: Callable[[], Any]) -> tuple[Any, int]:
    """The result, and the most bytes of arrays that the function had allocated at once."""
    tracemalloc.start()
    try:
        return function(), tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.fixture(scope="module")
def runner() -> Any:
    config = tiny_config([EnvSpec("frames", make=Frames)]).env_runners(
        num_envs_per_env_runner=B, rollout_fragment_length=T
    )
    encoder = ImageEncoderConfig(channels=(2,), blocks=(0,), width=8)
    network = GeneratedNetConfig(width=8, generator_width=8, code_size=8, image_encoder=encoder)
    return make_runner(config.rl_module(model_config=network))


@pytest.fixture(scope="module")
def sampled(runner: Any) -> tuple[Rollout, int]:
    runner.sample()
    runner._lockstep.sample_steps(2, explore=True)
    found, most = peak(lambda: runner._lockstep.sample_steps(T, explore=True))
    return found["frames"], most


def test_in_a_runner(sampled: tuple[Rollout, int]) -> None:
    rollout, most = sampled
    assert rollout.obs.dtype == np.uint8 and rollout.obs.nbytes >= SIZE
    assert most < LIMIT


def test_in_the_object_store(sampled: tuple[Rollout, int]) -> None:
    assert len(cloudpickle.dumps(sampled[0])) < LIMIT


def test_in_a_learner(runner: Any, sampled: tuple[Rollout, int]) -> None:
    rollout = sampled[0]
    rollout.obs.flags.writeable = False  # as in the object store
    critic = SimpleNamespace(compute_values=lambda batch: {"frames": torch.zeros(len(batch["frames"]["obs"]))})
    module = SimpleNamespace(shared=critic)  # what a network needs in between is its own
    batch, copied = peak(lambda: learner_batch(runner.config, module, {"frames": rollout}))
    obs = batch["frames"]["obs"]
    assert obs.dtype == torch.uint8 and obs.shape == (T * B, rollout.obs.shape[-1])
    shuffle = Shuffle(seed=0, update=1)
    steps = minibatches(batch, num_minibatches=4, num_epochs=2, shuffle=shuffle, keys={"frames": 0})
    in_a_minibatch = [step.columns["frames"]["obs"].nbytes for step in steps]
    assert len(in_a_minibatch) == 8
    assert obs.nbytes + copied + max(in_a_minibatch) < LIMIT
