"""Returns of SAC at equal settings: one run of this package, or of Stable-Baselines3.

    python benchmarks/sac_learning.py ours --env Pendulum-v1 --steps 20000 --seed 0
    SB3_PYTHON benchmarks/sac_learning.py sb3 --env Pendulum-v1 --steps 20000 --seed 0

Same MLPs, batches of 256, learning rates, one update for each step, observations and rewards as they are; the other
settings are the defaults of both. It prints the mean return of 20 deterministic episodes, of the last 20 episodes of
training, and the CPU time of training. One thread.
"""

from __future__ import annotations

import argparse
import json
import time

import numpy as np
import torch


def run_ours(options: argparse.Namespace) -> tuple[float, float, float]:
    from rllib_multienv import MLPNetConfig, MultiEnvSACConfig

    algorithm = (
        MultiEnvSACConfig()
        .environment(envs=[options.env])
        .env_runners(rollout_fragment_length=32)
        .rl_module(model_config=MLPNetConfig(hidden=tuple(options.hidden), activation="relu", state_dependent_std=True))
        .training(lr=options.lr, alpha_lr=options.lr, min_replay_size=options.start, num_random_steps=options.start)
        .training(normalize_obs=False)
        .reporting(metrics_num_episodes_for_smoothing=20)
        .evaluation(evaluation_duration=20)
        .debugging(seed=options.seed)
        .build_algo()
    )
    torch.set_num_threads(1)
    began = time.process_time()
    for _ in range(options.steps // 32):
        result = algorithm.train()
    seconds = time.process_time() - began
    evaluated = algorithm.evaluate()["env_runners"]["module_episode_return_mean"][options.env]
    return evaluated, result["env_runners"]["module_episode_return_mean"][options.env], seconds


def run_sb3(options: argparse.Namespace) -> tuple[float, float, float]:
    import gymnasium as gym
    from stable_baselines3 import SAC
    from stable_baselines3.common.evaluation import evaluate_policy
    from stable_baselines3.common.monitor import Monitor

    torch.set_num_threads(1)
    algorithm = SAC(
        "MlpPolicy",
        Monitor(gym.make(options.env)),
        learning_rate=options.lr,
        learning_starts=options.start,
        batch_size=256,
        policy_kwargs={"net_arch": list(options.hidden)},
        seed=options.seed,
        device="cpu",
    )
    began = time.process_time()
    algorithm.learn(options.steps)
    seconds = time.process_time() - began
    env = Monitor(gym.make(options.env))
    env.reset(seed=1000 + options.seed)
    evaluated = float(evaluate_policy(algorithm, env, n_eval_episodes=20)[0])
    return evaluated, float(np.mean([episode["r"] for episode in list(algorithm.ep_info_buffer)[-20:]])), seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("which", choices=("ours", "sb3"))
    parser.add_argument("--env", default="Pendulum-v1")
    parser.add_argument("--steps", type=int, default=20_000)
    parser.add_argument("--start", type=int, default=100, help="random steps before learning")
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--hidden", type=int, nargs="+", default=[64, 64])
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    evaluated, last, seconds = {"ours": run_ours, "sb3": run_sb3}[options.which](options)
    found = {"evaluated": round(evaluated, 1), "last_episodes": round(last, 1), "cpu_s": round(seconds)}
    print(json.dumps(vars(options) | found), flush=True)


if __name__ == "__main__":
    main()
