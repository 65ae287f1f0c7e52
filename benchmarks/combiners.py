"""Optimiser steps of PPO by how gradients are combined and clipped, on the same data, in turn.

    python benchmarks/combiners.py [--network generated] [--envs 4 16 50] [--threads 1] [--repeats 3] [--rows 128]
                                   [--short] [--output FILE]

One learner; --rows rows of each environment: the quickstart's four, the paper's sixteen, or the same and fresh ones of
these up to fifty. A step is forward, losses, backward, the combined gradient, clipping and Adam. The weighted sum, and
methods that look at losses alone, have one packed forward and backward. Methods that look at gradients, and clipping by
environment, make a forward and a backward for each environment. "Between" is a step with remembered weights
(``combine_every``). Running norms clip by environment with one backward in all steps but the first of an update; what
is timed are the others. A cell has the CPU time of a step, which other programs on the machine disturb least, and the
median (and range) over the rounds of its ratio to the weighted sum's within a round.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from packed import SIXTEEN
from publish import publish
from timing import ratio, time_in_turn

from rllib_multienv import AgnosticNetConfig, EnvSpec, GeneratedNetConfig, MultiEnvPPOConfig, SpecificNetConfig
from rllib_multienv.env_runners import MultiEnvRunner
from rllib_multienv.experiments.invocation import describe_machine
from rllib_multienv.learners import Step
from rllib_multienv.learners.combine import COMBINERS
from rllib_multienv.learners.minibatches import Minibatch
from rllib_multienv.nets import NetConfig

FOUR = ("CartPole-v1", "Acrobot-v1", "InvertedPendulum-v4", "Reacher-v4")
NETWORKS: dict[str, NetConfig] = {
    "specific": SpecificNetConfig(width=64),
    "generated": GeneratedNetConfig(width=64),
    "agnostic": AgnosticNetConfig(d_model=64),
}
PLAIN, BETWEEN, RUNNING = "weighted_sum", "between two looks at gradients", "clipped by running norms"


def ways(envs: Sequence[EnvSpec]) -> dict[str, dict[str, Any]]:
    """Settings of each way, the plain one first."""
    names = {name: {"gradient_combiner": name} for name in COMBINERS if name != "cosine"}
    return {
        **names,
        "cosine": {"gradient_combiner": {"type": "cosine", "main": envs[0].id}},
        BETWEEN: {"gradient_combiner": "pcgrad", "combine_every": 1000},
        "clipped by environment": {"grad_clip_by": "environment"},
        RUNNING: {"grad_clip_by": "environment_running"},
    }


def environments(count: int) -> list[EnvSpec]:
    """The quickstart's four, or the paper's sixteen and these again."""
    names = FOUR if count <= len(FOUR) else tuple(env.env_id for env in SIXTEEN)
    return [EnvSpec(f"env{number}", make=names[number % len(names)]) for number in range(count)]


def steps(envs: Sequence[EnvSpec], network: NetConfig, rows: int) -> dict[str, Callable[[], object]]:
    """An optimiser step in each way, on one rollout of each environment."""
    rollouts = None
    tasks = {}
    for name, way in ways(envs).items():
        config = (
            MultiEnvPPOConfig()
            .environment(envs=list(envs))
            .env_runners(num_envs_per_env_runner=8, rollout_fragment_length=rows // 8)
            .rl_module(model_config=network)
            .training(lr=1e-6, **way, num_minibatches=1)
            .debugging(seed=0)
        )
        config.validate()
        if rollouts is None:
            runner = MultiEnvRunner(config=config, worker_index=0)
            rollouts = {env_id: [rollout] for env_id, rollout in runner.sample_rollouts().items()}
            runner.stop()
        learner = config.build_learner_group()._learner
        minibatch = Minibatch(columns=learner.batch_of(rollouts), weights={}, is_reported=False)
        learner.take(Step(minibatch=minibatch))  # running norms are measured in the first step
        tasks[name] = partial(learner.take, Step(minibatch=minibatch, number=1))
    return tasks


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", choices=list(NETWORKS), default="generated")
    parser.add_argument("--envs", type=int, nargs="+", default=[4, 16, 50])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--rows", type=int, default=128, help="of each environment, a multiple of 8")
    parser.add_argument("--short", action="store_true", help="try the benchmark itself")
    parser.add_argument("--output", type=Path, help="also write the table to this file")
    options = parser.parse_args()
    if options.short:
        options.repeats, options.rows, options.envs = 2, 16, [2]
    torch.set_num_threads(options.threads)
    cells: dict[str, list[str]] = {}
    for count in options.envs:
        found = time_in_turn(
            steps(environments(count), NETWORKS[options.network], options.rows),
            repeats=options.repeats,
            min_seconds=0.01 if options.short else 0.2,
        )
        for name, timing in found.items():
            times = "" if name == PLAIN else f", {ratio(timing, found[PLAIN], cpu=True).text()}"
            cells.setdefault(name, []).append(f"{timing.cpu * 1e3:.3g}{times}")
        print(f"{count} environments done", flush=True)
    lines = [
        f"{describe_machine()}; {options.threads} thread(s), {options.network} network of width 64, {options.rows} "
        f"rows of each environment, {options.repeats} repetitions; load at the end {os.getloadavg()[0]:.1f}. CPU time "
        "of a step, ms, and its ratio to the weighted sum's.",
        "",
        f"| | {' | '.join(f'{count} environments' for count in options.envs)} |",
        f"|---|{'---:|' * len(options.envs)}",
        *(f"| {name} | {' | '.join(found)} |" for name, found in cells.items()),
    ]
    publish("\n".join(lines), options.output)


if __name__ == "__main__":
    main()
