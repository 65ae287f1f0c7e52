"""Optimiser steps of PPO by how gradients are clipped and combined, on the same data, in turn.

    python benchmarks/combiners.py [--threads 1] [--repeats 5] [--rows 128] [--short] [--output FILE]

One learner; four environments (the quickstart's) and the paper's sixteen, with --rows rows of each. A step is forward,
losses, backward, the combined gradient, clipping and Adam. The weighted sum, clipped by its global norm, has one packed
forward and backward. PCGrad, and clipping by environment, need the gradient of each environment, so they make a forward
and a backward for each. Running norms clip by environment with one backward in all steps but the first of an update;
what is timed are the others. A cell has the CPU time of a step, which other programs on the machine disturb least, and
the median (and range) over the rounds of its ratio to the weighted sum's within a round.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import torch
from packed import SIXTEEN
from publish import publish
from timing import ratio, time_in_turn

from rllib_multienv import AgnosticNetConfig, GeneratedNetConfig, MultiEnvPPOConfig, SpecificNetConfig
from rllib_multienv.env_runners import MultiEnvRunner
from rllib_multienv.experiments.invocation import describe_machine
from rllib_multienv.learners import Step
from rllib_multienv.learners.minibatches import Minibatch
from rllib_multienv.nets import NetConfig

WAYS = {
    "weighted sum": {},
    "PCGrad": {"gradient_combiner": "pcgrad"},
    "clipped by environment": {"grad_clip_by": "environment"},
    "by running norms": {"grad_clip_by": "environment_running"},
}
FOUR = ("CartPole-v1", "Acrobot-v1", "InvertedPendulum-v4", "Reacher-v4")
NETWORKS: dict[str, NetConfig] = {
    "specific, width 64": SpecificNetConfig(width=64),
    "generated, width 64": GeneratedNetConfig(width=64),
    "agnostic S4, d_model 64": AgnosticNetConfig(d_model=64),
}


def steps(envs: Sequence[str], network: NetConfig, rows: int) -> dict[str, Callable[[], object]]:
    """An optimiser step in each way, on one rollout of each environment."""
    rollouts = None
    tasks = {}
    for name, way in WAYS.items():
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
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--rows", type=int, default=128, help="of each environment, a multiple of 8")
    parser.add_argument("--short", action="store_true", help="try the benchmark itself")
    parser.add_argument("--output", type=Path, help="also write the table to this file")
    options = parser.parse_args()
    sets = {"four": FOUR, "sixteen": tuple(env.env_id for env in SIXTEEN)}
    if options.short:
        options.repeats, options.rows = 2, 16
        sets = {"two": FOUR[:2]}
    torch.set_num_threads(options.threads)
    lines = [
        f"{describe_machine()}; {options.threads} thread(s), {options.rows} rows of each environment, "
        f"{options.repeats} repetitions; load before the start {os.getloadavg()[0]:.1f}. CPU time of a step.",
        "",
        f"| environments | network | {', ms | '.join(WAYS)}, ms |",
        f"|---|---|{'---:|' * len(WAYS)}",
    ]
    for size, envs in sets.items():
        for name, network in NETWORKS.items():
            found = time_in_turn(steps(envs, network, options.rows), repeats=options.repeats, min_seconds=0.3)
            plain, *others = (found[way] for way in WAYS)
            cells = [f"{other.cpu * 1e3:.3g}, {ratio(other, plain, cpu=True).text()}" for other in others]
            lines.append(f"| {size} | {name} | {plain.cpu * 1e3:.3g} | {' | '.join(cells)} |")
            print(lines[-1], flush=True)
    publish("\n".join(lines), options.output)


if __name__ == "__main__":
    main()
