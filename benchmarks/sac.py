"""Updates per second of SAC: this package and Stable-Baselines3, with equal networks and batches, in turn.

    python benchmarks/sac.py [--sb3-python PATH] [--repeats 5] [--updates 320] [--short] [--output FILE]

An environment of noise with the sizes of HalfCheetah (17 observations, 6 actions), one copy in the learner's process.
Two hidden layers of 256 units (``--hidden``) for policy and twin Q, batches of 256, an update per step, one thread.
Two races: the whole loop as it is by default (here 64 steps, 64 updates, and so on; there one step, one update), and
updates alone, from a filled replay store.

The competitors are built first and then run in turn, so that other load on the machine meets all of them alike. Printed
are medians over the repetitions, by the clock and by CPU time. Stable-Baselines3 is no dependency of this package: pass
the Python of an environment that has it, with the same PyTorch, or its rows stay empty.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent / "offline"))
from turns import Competitor, serve

OBS_SIZE, ACTION_SIZE, BATCH, BLOCK = 17, 6, 256, 64
RACES = ("loop", "updates")


def make_env() -> Any:
    """An environment of noise; episodes last 1000 steps."""
    import gymnasium as gym
    import numpy as np

    obs_size, action_size = OBS_SIZE, ACTION_SIZE

    class Noise(gym.Env):
        observation_space = gym.spaces.Box(-np.inf, np.inf, (obs_size,), np.float32)
        action_space = gym.spaces.Box(-1.0, 1.0, (action_size,), np.float32)

        def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict]:
            super().reset(seed=seed)
            return self._draw(), {}

        def step(self, action: Any) -> tuple[Any, float, bool, bool, dict]:
            obs = self._draw()
            return obs, float(obs[0]), False, False, {}

        def _draw(self) -> Any:
            return self.np_random.standard_normal(obs_size, np.float32)

    return gym.wrappers.TimeLimit(Noise(), 1000)


def run_ours(race: str, hidden: int) -> None:
    import torch

    from rllib_multienv import EnvSpec, MLPNetConfig, MultiEnvSACConfig
    from rllib_multienv.algorithms.off_policy import OffPolicyData

    algorithm = (
        MultiEnvSACConfig()
        .environment(envs=[EnvSpec("noise", make=make_env)])
        .env_runners(rollout_fragment_length=BLOCK)
        .rl_module(model_config=MLPNetConfig(hidden=(hidden, hidden), activation="relu", state_dependent_std=True))
        .training(batch_size=BATCH, normalize_obs=False)
        .debugging(seed=0)
        .build_algo()
    )
    torch.set_num_threads(1)
    data = OffPolicyData(batch_sizes={"noise": BATCH}, noise_sizes=algorithm.noise_sizes())

    def step(updates: int) -> None:
        if race == "updates":
            algorithm.learner_group.update(training_data=data, timesteps={}, num_steps=updates)
            return
        for _ in range(updates // BLOCK):
            algorithm.train()

    for _ in range(1024 // BLOCK + 2):
        algorithm.train()
    serve(step, {"torch": torch.__version__})


def run_sb3(race: str, hidden: int) -> None:
    import stable_baselines3
    import torch
    from stable_baselines3 import SAC
    from stable_baselines3.common.monitor import Monitor

    torch.set_num_threads(1)
    algorithm = SAC(
        "MlpPolicy",
        Monitor(make_env()),
        learning_starts=1000,
        batch_size=BATCH,
        policy_kwargs={"net_arch": [hidden, hidden]},
        seed=0,
        device="cpu",
    )
    algorithm.learn(1024 + 2 * BLOCK)

    def step(updates: int) -> None:
        if race == "updates":
            algorithm.train(updates, BATCH)
        else:
            algorithm.learn(updates, reset_num_timesteps=False)

    serve(step, {"stable-baselines3": stable_baselines3.__version__, "torch": torch.__version__})


WORKERS: dict[str, Callable[[str, int], None]] = {"ours": run_ours, "sb3": run_sb3}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sb3-python", type=Path, help="an interpreter that has stable-baselines3")
    parser.add_argument("--hidden", type=int, default=256, help="units of each of the two hidden layers")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--updates", type=int, default=5 * BLOCK, help=f"of each turn, a multiple of {BLOCK}")
    parser.add_argument("--short", action="store_true", help="try the benchmark itself")
    parser.add_argument("--output", type=Path, help="also write the table to this file")
    parser.add_argument("--worker", choices=sorted(WORKERS), help=argparse.SUPPRESS)
    parser.add_argument("--race", choices=RACES, help=argparse.SUPPRESS)
    options = parser.parse_args(namespace=argparse.Namespace(races=RACES))
    if options.worker:
        WORKERS[options.worker](options.race, options.hidden)
        return
    if options.short:
        options.repeats, options.updates, options.races = 2, BLOCK, RACES[:1]

    from publish import publish

    from rllib_multienv.experiments.invocation import describe_machine

    os.environ["OMP_NUM_THREADS"] = "1"
    load = os.getloadavg()[0]
    pythons = {"ours": sys.executable} | ({"sb3": str(options.sb3_python)} if options.sb3_python else {})
    itself = [str(Path(__file__).resolve()), "--hidden", str(options.hidden)]
    competitors = {
        (race, name): Competitor(f"{name}, {race}", [python, *itself, "--worker", name, "--race", race])
        for race in options.races
        for name, python in pythons.items()
    }
    rates: dict[tuple[str, str], list[float]] = {key: [] for key in competitors}
    for _ in range(options.repeats):
        for key, competitor in competitors.items():
            rates[key].append(competitor.run(options.updates))
            time.sleep(0.2)
    for competitor in competitors.values():
        competitor.close()
    versions = {name: version for competitor in competitors.values() for name, version in competitor.versions.items()}
    lines = [
        f"{describe_machine()}; {', '.join(f'{name} {version}' for name, version in versions.items())}; "
        f"load before the start {load:.1f}; {options.repeats} turns of {options.updates} updates; "
        f"{options.hidden} units in each hidden layer.",
        "",
        "| | updates/s, median | range | CPU ms of an update, median | ours is faster by, clock / CPU |",
        "|---|---:|---:|---:|---:|",
    ]
    for (race, name), found in rates.items():
        median, cpu = statistics.median(found), statistics.median(competitors[race, name].cpu_seconds)
        ours = statistics.median(rates[race, "ours"]), statistics.median(competitors[race, "ours"].cpu_seconds)
        lines.append(
            f"| {competitors[race, name].name} | {median:.4g} | {min(found):.4g} to {max(found):.4g} | "
            f"{1000 * cpu:.3g} | {ours[0] / median:.2f} / {cpu / ours[1]:.2f} |"
        )
    publish("\n".join(lines), options.output)


if __name__ == "__main__":
    main()
