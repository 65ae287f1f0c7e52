"""An environment that raises on a random step with probability 0.001.

    python benchmarks/reliability/raising_environment.py [--failures 5]

One of the quickstart's environments fails; with `fault_tolerance(restart_failed_sub_environments=True)` its fragment is
lost and its copies are made anew. Prints a Markdown table with a line for each failure, then what happens without the
setting. Takes about half a minute.
"""

from __future__ import annotations

import argparse
from typing import Any

import gymnasium as gym
from harness import ENVS, Survivor, print_table, small_config, start_ray

from rllib_multienv import EnvSpec
from rllib_multienv.envs.errors import EnvFailure

PROBABILITY = 0.001


class Unreliable(gym.Wrapper):
    def step(self, action: Any) -> Any:
        if self.np_random.random() < PROBABILITY:
            raise ConnectionError("the simulator is gone")
        return super().step(action)


def unreliable() -> gym.Env:
    return Unreliable(gym.make("CartPole-v1"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--failures", type=int, default=5)
    failures = parser.parse_args().failures
    start_ray(3)
    config = small_config([EnvSpec("unreliable", make=unreliable, num_envs=2), *ENVS[1:]])
    config.env_runners(num_env_runners=0)
    algo = config.copy().fault_tolerance(restart_failed_sub_environments=True).build_algo()
    run = Survivor(algo)
    while len(run.rows) < failures:
        iteration = run.result["training_iteration"]
        run.survive(lambda iteration=iteration: f"a random step after iteration {iteration}")
    print_table(run.rows)
    run.finish(env_steps=25_000 * failures)
    algo.stop()

    algo = config.build_algo()
    try:
        for _ in range(100):
            algo.train()
    except EnvFailure as error:
        print(f"\nWithout the setting, in iteration {algo.iteration + 1}: {type(error).__name__}: {error}")
    algo.stop()


if __name__ == "__main__":
    main()
