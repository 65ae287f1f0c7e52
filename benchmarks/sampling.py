"""What sampling costs beside the environments and the network, and how fast the backends step.

    python benchmarks/sampling.py [--threads 1] [--copies 32] [--repeats 5] [--seconds 1] [--short] [--output FILE]

The first table takes a fragment of `MultiEnvRunner` apart, with one environment and the package's defaults (running
normalisation of observations and rewards), by watches that are put around its parts from the outside:

- *environment*: the vector environment's step function, resets and the collecting of its arrays included;
- *forward*: the module's `forward_exploration`;
- *drawing*: actions and their log probabilities (`SampleActions`);
- *to the module*: flattening and normalising observations, tensors;
- *rollout*: building the rollout, statistics, metrics of episodes;
- *rest*: all else of `MultiEnvRunner.sample_rollouts`.

The *share* is that of the last three; the goal is 20% at most, for MuJoCo environments and for CartPole with EnvPool.
Runners of one environment take turns.

The second table has the steps per second of each backend alone, with actions drawn beforehand, and what "auto" takes
with so many threads. Without EnvPool its column stays empty.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import logging
import os
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from publish import publish
from timing import Spread, time_in_turn

from rllib_multienv import AgnosticNetConfig, EnvSpec, MLPNetConfig, MultiEnvPPOConfig
from rllib_multienv.connectors import SampleActions
from rllib_multienv.env_runners import MultiEnvRunner
from rllib_multienv.envs.vector import EnvCopies, resolve_backend
from rllib_multienv.experiments.invocation import describe_machine
from rllib_multienv.gym_ids import envpool_is_installed

ENVS = ("HalfCheetah-v4", "Ant-v4", "Hopper-v4", "CartPole-v1")
GOAL = 0.20
#: Parts that have a watch; what remains of a fragment is the rest.
PARTS = ("environment", "forward", "drawing", "to the module", "rollout")
ENVIRONMENT, FORWARD, DRAWING, TO_MODULE, ROLLOUT = PARTS
WANTED = (ENVIRONMENT, FORWARD, DRAWING)


NETWORKS = {
    "agnostic, d_model 32": AgnosticNetConfig(d_model=32, num_transformer_layers=1),
    "MLP 64x64": MLPNetConfig(hidden=(64, 64)),
}


class Watches:
    """Seconds of each part. Where one part calls another, the time is the inner one's alone."""

    def __init__(self) -> None:
        self.seconds = dict.fromkeys(PARTS, 0.0)
        self._inner = [0.0]  # of each call that is under way, the time of timed calls in it

    def around(self, part: str, call: Callable[..., Any]) -> Callable[..., Any]:
        """``call``, whose time is counted for ``part``."""

        def timed(*args: Any, **kwargs: Any) -> Any:
            self._inner.append(0.0)
            start = perf_counter()
            try:
                return call(*args, **kwargs)
            finally:
                whole = perf_counter() - start
                self.seconds[part] += whole - self._inner.pop()
                self._inner[-1] += whole

        return timed

    def take(self) -> dict[str, float]:
        """The seconds since the last call."""
        taken, self.seconds = self.seconds, dict.fromkeys(PARTS, 0.0)
        return taken


class TimedDrawing(SampleActions):
    """Its calls go through a watch; a pipeline calls its pieces by their class."""

    call: Callable[..., Any]

    def __call__(self, **kwargs: Any) -> Any:
        return self.call(**kwargs)


class TimedRunner:
    """A runner of one environment with watches around its parts.

    Attributes:
        fragments: Seconds of each part and of the ``"whole"``, for every fragment that was sampled.
    """

    def __init__(self, spec: EnvSpec, network: Any, copies: int, length: int) -> None:
        config = (
            MultiEnvPPOConfig()
            .environment(envs=[spec])
            .env_runners(num_env_runners=0, num_envs_per_env_runner=copies, rollout_fragment_length=length)
            .rl_module(model_config=network)
            .training(num_minibatches=1)
            .debugging(seed=0)
        )
        config.validate()
        self.runner = MultiEnvRunner(config=config, worker_index=0)
        self.watches = Watches()
        self.fragments: list[dict[str, float]] = []
        self._put_watches()

    def _put_watches(self) -> None:
        runner, around = self.runner, self.watches.around
        (environment,) = runner.environments.values()
        vector_env = environment.copies.env
        vector_env.step_copies = around(ENVIRONMENT, vector_env.step_copies)
        runner.module.forward_exploration = around(FORWARD, runner.module.forward_exploration)
        (drawing,) = runner._module_to_env[SampleActions]
        drawing.__class__ = TimedDrawing
        drawing.call = around(DRAWING, lambda **kwargs: SampleActions.__call__(drawing, **kwargs))
        lockstep: Any = runner._lockstep
        lockstep._to_module = around(TO_MODULE, lockstep._to_module)
        lockstep._finish = around(ROLLOUT, lockstep._finish)
        lockstep.end_of_rollout = around(ROLLOUT, lockstep.end_of_rollout)

    def sample(self) -> int:
        """A fragment; returns its environment steps."""
        self.watches.take()
        start = perf_counter()
        rollouts = self.runner.sample_rollouts()
        whole = perf_counter() - start
        self.fragments.append({**self.watches.take(), "whole": whole})
        return sum(rollout.steps for rollout in rollouts.values())


def share(fragments: Sequence[dict[str, float]]) -> float:
    """What of the time of these fragments is neither environment nor network."""
    whole = sum(fragment["whole"] for fragment in fragments)
    return 1.0 - sum(fragment[part] for fragment in fragments for part in WANTED) / whole


def rows_of(env: str, backends: Sequence[str], options: argparse.Namespace) -> list[str]:
    """The rows of the first table for one environment."""
    runners = {
        (network, backend): TimedRunner(EnvSpec(env, backend=backend), NETWORKS[network], options.copies, options.steps)
        for network in NETWORKS
        for backend in backends
    }
    tasks = {"/".join(key): runner.sample for key, runner in runners.items()}
    timings = time_in_turn(tasks, repeats=options.repeats, min_seconds=options.seconds)
    rows = []
    for (network, backend), runner in runners.items():
        repetitions = timings[f"{network}/{backend}"].by_repetition(runner.fragments)
        shares = Spread.of([share(fragments) for fragments in repetitions])
        steps = options.copies * options.steps
        timed = [fragment for fragments in repetitions for fragment in fragments]
        whole = sum(fragment["whole"] for fragment in timed)
        micro = {part: 1e6 * sum(f[part] for f in timed) / (len(timed) * options.steps) for part in PARTS}
        rest = 1e6 * whole / (len(timed) * options.steps) - sum(micro.values())
        goal = env != "CartPole-v1" or backend == "envpool"
        cells = [env, network, backend, f"{steps * len(timed) / whole:,.0f}"]
        cells += [f"{micro[part]:.0f}" for part in PARTS]
        cells += [f"{rest:.0f}", f"{shares.median:.1%} ({shares.low:.1%} to {shares.high:.1%})"]
        cells += [("met" if shares.median <= GOAL else "missed") if goal else ""]
        rows.append("| " + " | ".join(cells) + " |")
        runner.runner.stop()
    return rows


def stepper(env: str, backend: str, copies: int, steps: int) -> tuple[EnvCopies, Callable[[], None]]:
    """Copies of an environment, and a function that takes so many time steps with actions drawn beforehand."""
    made = EnvCopies(EnvSpec(env, backend=backend), copies, seed=0)
    space = made.space_spec.action_space
    space.seed(0)
    actions = [np.stack([space.sample() for _ in range(copies)]) for _ in range(steps)]
    made.reset()

    def run() -> None:
        for action in actions:
            made.step(action)

    return made, run


def backend_row(env: str, backends: Sequence[str], options: argparse.Namespace) -> str:
    """Steps per second of every backend for one environment, and what "auto" takes."""
    made, tasks = [], {}
    try:
        for backend in backends:
            copies, tasks[backend] = stepper(env, backend, options.copies, options.steps)
            made.append(copies)
        timings = time_in_turn(tasks, repeats=options.repeats, min_seconds=options.seconds)
    finally:
        for copies in made:
            copies.close()
    cells = [env]
    steps = options.copies * options.steps
    for backend in ("sync", "async", "envpool"):
        if backend not in timings:
            cells.append("")
            continue
        rates = Spread.of([steps / seconds for seconds in timings[backend].seconds])
        cells.append(f"{rates.median:,.0f} ({rates.low:,.0f} to {rates.high:,.0f})")
    return "| " + " | ".join([*cells, resolve_backend(EnvSpec(env))]) + " |"


def versions() -> str:
    names = ["ray", "torch", "gymnasium", "mujoco", *(["envpool"] if envpool_is_installed() else [])]
    return ", ".join(f"{name} {importlib.metadata.version(name)}" for name in names)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--envs", nargs="+", default=list(ENVS))
    parser.add_argument("--threads", type=int, default=1, help="of torch and of EnvPool")
    parser.add_argument("--copies", type=int, default=32)
    parser.add_argument("--steps", type=int, default=64, help="time steps of a fragment")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.0, help="of each turn, about")
    parser.add_argument("--without-async", action="store_true", help="leave out a process for each copy")
    parser.add_argument("--short", action="store_true", help="try the benchmark itself, with few copies")
    parser.add_argument("--output", type=Path, help="also write the tables to this file")
    options = parser.parse_args()
    if options.short:
        options.copies, options.steps, options.repeats, options.seconds = 2, 16, 2, 0.05
    torch.set_num_threads(options.threads)
    os.environ["OMP_NUM_THREADS"] = str(options.threads)  # EnvPool's threads, and what "auto" goes by
    warnings.filterwarnings("ignore", category=DeprecationWarning)
    logging.getLogger("ray").setLevel(logging.ERROR)
    gym.logger.min_level = gym.logger.ERROR  # "-v4 is out of date", for every copy
    backends = ["sync", *(["envpool"] if envpool_is_installed() else [])]
    load = os.getloadavg()[0]
    tables = [
        "| environment | network | backend | env steps/s | " + " | ".join(PARTS) + " | rest | share | goal |",
        "|---|---|---|" + "---:|" * (len(PARTS) + 3) + "---|",
    ]
    for env in options.envs:
        tables += rows_of(env, backends, options)
    tables += [
        "",
        'Backends alone, steps/s, and what "auto" takes:',
        "",
        "| environment | sync | async | envpool | auto |",
        "|---|---:|---:|---:|---|",
    ]
    for env in options.envs:
        tables.append(backend_row(env, [*backends, *([] if options.without_async else ["async"])], options))
    threads = "1 thread" if options.threads == 1 else f"{options.threads} threads"
    head = (
        f"{describe_machine()}; {threads}; {versions()}; load before the start {load:.1f}; {options.copies} copies, "
        f"fragments of {options.steps} time steps, {options.repeats} turns of about {options.seconds:g} s each. Parts "
        "in microseconds for a time step of all copies."
    )
    text = "\n".join([head, "", *tables])
    publish(text, options.output)


if __name__ == "__main__":
    main()
