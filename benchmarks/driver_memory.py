"""What the driver holds, by the number of environments: memory of the driver, a runner and a learner.

    python benchmarks/driver_memory.py [--counts 1 4 16 64] [--iterations 5] [--short] [--output FILE]

`MultiEnvPPO` with a remote runner and a remote learner, and the synthetic environments of packed.py: as many rows of
each, so experience grows with their number. Every count has processes of its own. Memory is the set of pages that are a
process's own, after the last iteration; "more" is by how much it is above that of the run with the fewest environments.
The parameters are the network's.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import subprocess
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import ray
from packed import synthetic
from publish import publish

from rllib_multienv import AgnosticNetConfig, EnvSpec, MultiEnvPPO, MultiEnvPPOConfig
from rllib_multienv.experiments.invocation import describe_machine
from rllib_multienv.spec import SpaceSpec

import psutil  # isort: skip  # the copy that Ray brings along, which is found once Ray is imported

MIB = 1 << 20
PROCESSES = ("driver", "runner", "learner")


class Noise(gym.Env):
    """Observations and rewards are noise; episodes have fifty steps."""

    def __init__(self, obs_size: int, action_size: int, discrete: bool) -> None:
        self.observation_space = gym.spaces.Box(-np.inf, np.inf, (obs_size,))
        self.action_space: gym.Space = (
            gym.spaces.Discrete(action_size) if discrete else gym.spaces.Box(-1.0, 1.0, (action_size,))
        )

    def _observe(self) -> np.ndarray:
        return self.np_random.standard_normal(self.observation_space.shape).astype(np.float32)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[np.ndarray, dict[str, Any]]:
        """As any environment's."""
        super().reset(seed=seed)
        self._steps = 0
        return self._observe(), {}

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """As any environment's."""
        self._steps += 1
        return self._observe(), float(self.np_random.standard_normal()), False, self._steps == 50, {}


def spec_of(sizes: SpaceSpec) -> EnvSpec:
    """An environment of these sizes."""
    kwargs = {"obs_size": sizes.obs_size, "action_size": sizes.action_size, "discrete": sizes.discrete}
    return EnvSpec(sizes.env_id, make=Noise, kwargs=kwargs)


def own_memory(*_: Any) -> int:
    """Bytes that are this process's alone."""
    return int(psutil.Process().memory_full_info().uss)


def memory_of(algo: MultiEnvPPO) -> dict[str, int]:
    """Bytes of each process."""
    (runner,) = algo.env_runner_group.foreach_env_runner(own_memory, local_env_runner=False)
    (learner,) = algo.learner_group.foreach_learner(own_memory)
    return dict(zip(PROCESSES, (own_memory(), runner, learner.get()), strict=True))


def measure(count: int, options: argparse.Namespace) -> dict[str, Any]:
    """Memory and parameters of a run with so many environments."""
    warnings.simplefilter("ignore")
    ray.init(log_to_driver=False, logging_level=logging.ERROR)
    algo = (
        MultiEnvPPOConfig()
        .environment(envs=[spec_of(sizes) for sizes in synthetic(count)])
        .env_runners(num_env_runners=1, num_envs_per_env_runner=8, rollout_fragment_length=options.length)
        .rl_module(model_config=AgnosticNetConfig(d_model=16, num_transformer_layers=1))
        .learners(num_learners=1, num_cpus_per_learner=1)
        .training(num_epochs=1, num_minibatches=2)
        .debugging(seed=0)
        .build_algo()
    )
    for _ in range(options.iterations):
        algo.train()
    found = memory_of(algo)
    shared = algo.learner_group.get_weights()["shared"]
    algo.stop()
    return {**found, "parameters": sum(np.size(array) for array in shared.values())}


def in_a_process_of_its_own(count: int, options: argparse.Namespace) -> dict[str, Any]:
    """What :func:`measure` finds there."""
    arguments = [sys.executable, __file__, "--count", str(count)]
    arguments += ["--iterations", str(options.iterations), "--length", str(options.length)]
    done = subprocess.run(
        arguments, env={**os.environ, "OMP_NUM_THREADS": "1"}, check=True, stdout=subprocess.PIPE, text=True
    )
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def table(found: dict[int, dict[str, Any]]) -> list[str]:
    """A line for each number of environments, in MiB."""
    least = found[min(found)]
    lines = [
        f"| environments | {', MiB | more | '.join(PROCESSES)}, MiB | more | parameters |",
        "|" + "---:|" * (2 * len(PROCESSES) + 2),
    ]
    for count, memory in found.items():
        cells = [f"{memory[name] / MIB:.1f} | {(memory[name] - least[name]) / MIB:+.1f}" for name in PROCESSES]
        lines.append(f"| {count} | {' | '.join(cells)} | {memory['parameters']:,} |")
    return lines


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--counts", type=int, nargs="+", default=[1, 4, 16, 64], choices=range(1, 65), metavar="N")
    parser.add_argument("--iterations", type=int, default=5)
    parser.add_argument("--length", type=int, default=64, help="time steps of 8 copies in a fragment")
    parser.add_argument("--count", type=int, help="only this one, as JSON")
    parser.add_argument("--short", action="store_true", help="try the benchmark itself")
    parser.add_argument("--output", type=Path, help="also write the table to this file")
    options = parser.parse_args(arguments)
    if options.short:
        options.counts, options.iterations, options.length = [4], 1, 8
    if options.count:
        print(json.dumps(measure(options.count, options)))
        return
    found = {count: in_a_process_of_its_own(count, options) for count in options.counts}
    head = (
        f"{describe_machine()}; ray {ray.__version__}; {options.iterations} iterations of {options.length} time steps "
        "of 8 copies of each environment."
    )
    publish("\n".join([head, "", *table(found)]), options.output)


if __name__ == "__main__":
    main()
