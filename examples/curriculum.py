"""A curriculum: corridors of rising length, sampled by learning progress or all alike.

Run it with::

    python examples/curriculum.py [--schedule learning_progress | uniform] [--iterations 300] [--seed 0]

Every position of a corridor has one door that leads on; all others lead a step back. A longer corridor begins as the
shorter ones do, so what is learned in these helps in it, while its end is never reached by chance. One line per
iteration shows return and share of each corridor; the shorter ones are mastered first. The last line says after how
many steps the longest one was (docs/results/experience.md has what was measured).
"""

from __future__ import annotations

import argparse
from typing import Any

import gymnasium as gym
import numpy as np

from rllib_multienv import EnvSpec, GeneratedNetConfig, MultiEnvPPOConfig
from rllib_multienv.experience import LearningProgress, Uniform

LENGTHS = (2, 4, 6, 8, 10, 12)
DOORS = 4
MASTERED = 0.8


class Corridor(gym.Env[np.ndarray, int]):
    """A corridor of ``length`` positions with the right door of each drawn once for all corridors."""

    def __init__(self, length: int) -> None:
        self.length = length
        self.observation_space = gym.spaces.Box(0.0, 1.0, (max(LENGTHS),), np.float32)
        self.action_space = gym.spaces.Discrete(DOORS)
        self._right = np.random.default_rng(7).integers(DOORS, size=max(LENGTHS)).tolist()

    def _observe(self) -> np.ndarray:
        return np.eye(max(LENGTHS), dtype=np.float32)[min(self.position, self.length - 1)]

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """At the entrance."""
        super().reset(seed=seed)
        self.position = self.steps = 0
        return self._observe(), {}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Through a door: 1 at the end of the corridor."""
        self.steps += 1
        self.position = self.position + 1 if action == self._right[self.position] else max(0, self.position - 1)
        reached = self.position == self.length
        return self._observe(), float(reached), reached, self.steps >= 3 * self.length, {}


def main() -> None:
    """Train until the longest corridor is mastered."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--schedule", choices=["learning_progress", "uniform"], default="learning_progress")
    parser.add_argument("--iterations", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    envs = [EnvSpec(f"corridor-{n}", make=Corridor, kwargs={"length": n}, description="corridor") for n in LENGTHS]
    config = (
        MultiEnvPPOConfig()
        .environment(envs=envs, schedule=LearningProgress() if args.schedule == "learning_progress" else Uniform())
        .env_runners(num_envs_per_env_runner=4, rollout_fragment_length=32)
        .rl_module(model_config=GeneratedNetConfig())
        .training(num_epochs=4, num_minibatches=4, entropy_coeff=0.01)
        .reporting(metrics_num_episodes_for_smoothing=20)
        .debugging(seed=args.seed)
    )
    algo = config.build_algo()
    hardest = envs[-1].id
    for _ in range(args.iterations):
        sampled = algo.train()["env_runners"]
        returns = {env_id: float(value) for env_id, value in sampled["module_episode_return_mean"].items()}
        shares = "  ".join(
            f"{length}: {returns.get(env.id, 0.0):.2f} ({sampled['sampling_share'][env.id]:.0%})"
            for length, env in zip(LENGTHS, envs, strict=True)
        )
        steps = int(sampled["num_env_steps_sampled_lifetime"])
        print(f"{steps:>8} steps  {shares}", flush=True)
        if returns.get(hardest, 0.0) >= MASTERED:
            print(f"{args.schedule}, seed {args.seed}: the longest corridor was mastered after {steps} steps")
            break
    else:
        print(f"{args.schedule}, seed {args.seed}: the longest corridor was not mastered")
    algo.stop()


if __name__ == "__main__":
    main()
