"""Learns CartPole from a recorded data set, then trains the agent online in two environments.

Run it with::

    python examples/offline_then_online.py [STEPS [ITERATIONS]]

It records 10,000 steps of CartPole-v1, most of them of a noisy controller and the rest random, and learns offline from
them (2,000 optimiser steps by default; about two minutes on two CPU cores). Then PPO starts from that agent: its
network, its statistics of observations and the scale of its rewards. It trains on CartPole-v1, where it starts far
above the 20 of a random policy, and at the same time on InvertedPendulum-v4, which the agent has never seen (20
iterations by default). The returns after each stage are printed.
"""

import sys
import tempfile
from pathlib import Path

from rllib_multienv import AgnosticNetConfig, MultiEnvIQLConfig, MultiEnvPPOConfig

steps = int(sys.argv[1]) if len(sys.argv) > 1 else 2000
iterations = int(sys.argv[2]) if len(sys.argv) > 2 else 20
folder = Path(tempfile.mkdtemp())
network = AgnosticNetConfig(d_model=32)

recorded = {
    "path": folder / "cartpole.hdf5",
    "record": {
        "env": "CartPole-v1",
        "num_steps": 10_000,
        "behaviours": [
            {"policy": "rllib_multienv.offline.controllers:cartpole", "share": 0.7, "noise": 0.5},
            {"policy": "random", "share": 0.3},
        ],
    },
}
offline = (
    MultiEnvIQLConfig()
    .environment(envs=["CartPole-v1"])
    .offline_data(datasets={"CartPole-v1": recorded}, reference_scores={"CartPole-v1": (22.0, 500.0)})
    .rl_module(model_config=network)
    .training(num_steps_per_iteration=steps, batch_size=128, lr=5e-4)
    .evaluation(evaluation_interval=1, evaluation_duration=10)
    .debugging(seed=0)
)
algo = offline.build_algo()
evaluation = algo.train()["evaluation"]["env_runners"]
print("offline", {env_id: round(float(v), 1) for env_id, v in evaluation["module_episode_return_mean"].items()})
print("score", round(evaluation["normalized_score_average"], 1), flush=True)
path = algo.save_to_path(folder / "offline")
algo.stop()

online = (
    MultiEnvPPOConfig()
    .environment(envs=["CartPole-v1", "InvertedPendulum-v4"])
    .env_runners(num_env_runners=0, num_envs_per_env_runner=8, rollout_fragment_length=128)
    .rl_module(model_config=network)
    .initialize_from(path)
    .debugging(seed=0)
)
algo = online.build_algo()
for iteration in range(iterations):
    returns = algo.train()["env_runners"]["module_episode_return_mean"]
    print(iteration + 1, {env_id: round(float(value), 1) for env_id, value in returns.items()}, flush=True)
algo.stop()
