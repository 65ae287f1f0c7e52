"""The scripted controllers master their environments."""

from __future__ import annotations

import json

import pytest

from rllib_multienv import EnvSpec
from rllib_multienv.offline import controllers
from rllib_multienv.offline.behaviours import Behaviour, Policy
from rllib_multienv.offline.recording import record_steps


@pytest.mark.parametrize(
    ("env_id", "controller", "steps", "least"),
    [
        ("CartPole-v1", controllers.cartpole, 10_000, 495.0),
        ("InvertedPendulum-v4", controllers.inverted_pendulum, 5_000, 1000.0),
        ("Reacher-v4", controllers.reacher, 1_000, -8.0),
    ],
)
def test_returns(env_id: str, controller: Policy, steps: int, least: float) -> None:
    env = EnvSpec(env_id)
    raw = record_steps(env, [Behaviour(policy=controller)], num_steps=steps, seed=3)
    (played,) = json.loads(raw.metadata["behaviours"])
    print(env_id, played)
    assert played["episodes"] >= steps // raw.metadata["max_episode_steps"]
    assert played["mean_return"] >= least
