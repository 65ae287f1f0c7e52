"""Sampling speed of an Atari game, beside ale-py's vector environment alone.

    python benchmarks/atari.py [--game ALE/Pong-v5] [--threads 1] [--copies 8] [--repeats 5] [--short] [--output FILE]

The two take turns: a fragment of `MultiEnvRunner` (running normalisation of rewards, rollouts, metrics), and as many
steps of `ale_py.AtariVectorEnv` whose actions and their log probabilities are drawn by the same policy, one linear
layer on the pixels. The goal is 0.7 of the latter's speed, by CPU time. Then the parts of a fragment, as in
`sampling.py`; the runner's speed with the package's encoder of images; and the rollout's bytes beside its frames'.
"""

from __future__ import annotations

import argparse
import logging
import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from publish import publish
from ray.rllib.core.columns import Columns
from sampling import PARTS, TimedRunner
from timing import ratio, time_in_turn
from torch import nn

from rllib_multienv import AgnosticNetConfig, EnvSpec
from rllib_multienv.envs.atari import atari_vector_env
from rllib_multienv.experiments.invocation import describe_machine

GOAL = 0.7


class Linear:
    """A policy of one linear layer on pixels."""

    def __init__(self, pixels: int, actions: int) -> None:
        self.layer = nn.Linear(pixels, actions)

    @torch.no_grad()
    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        """uint8 ``[B, pixels]`` to logits ``[B, actions]``."""
        logits: torch.Tensor = self.layer(images.float() / 255)
        return logits


def alone(spec: EnvSpec, policy: Linear, copies: int, steps: int, threads: int) -> Any:
    """A function that takes so many steps of ale-py's vector environment."""
    env = atari_vector_env(spec, copies, num_threads=threads, autoreset_mode="SameStep")
    obs = env.reset(seed=0)[0]

    def run() -> None:
        nonlocal obs
        for _ in range(steps):
            drawn = torch.distributions.Categorical(logits=policy(torch.from_numpy(obs).flatten(1)))
            actions = drawn.sample()
            drawn.log_prob(actions)
            obs = env.step(actions.numpy())[0]

    return run


def with_policy(timed: TimedRunner, policy: Linear, pixels: int) -> TimedRunner:
    """A runner whose module is replaced by the policy."""

    def forward(batch: Any) -> Any:
        return {e: {Columns.ACTION_DIST_INPUTS: policy(c[Columns.OBS][:, -pixels:])} for e, c in batch.items()}

    timed.runner.module.forward_exploration = timed.watches.around("forward", forward)
    return timed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--game", default="ALE/Pong-v5")
    parser.add_argument("--threads", type=int, default=1, help="of torch and of ale-py")
    parser.add_argument("--copies", type=int, default=8)
    parser.add_argument("--steps", type=int, default=128, help="time steps of a fragment")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--short", action="store_true", help="try the benchmark itself, with few steps")
    parser.add_argument("--output", type=Path, help="also write the text to this file")
    options = parser.parse_args()
    if options.short:
        options.copies, options.steps, options.repeats = 2, 8, 2
    torch.set_num_threads(options.threads)
    os.environ["OMP_NUM_THREADS"] = str(options.threads)
    warnings.filterwarnings("ignore", category=DeprecationWarning)
    logging.getLogger("ray").setLevel(logging.ERROR)
    load = os.getloadavg()[0]

    spec, own_net = EnvSpec(options.game), AgnosticNetConfig(d_model=32)
    own, linear = (TimedRunner(spec, own_net, options.copies, options.steps) for _ in range(2))
    (environment,) = linear.runner.environments.values()
    spaces = environment.copies.space_spec
    pixels = spaces.observation.images[0].size
    policy = Linear(pixels, spaces.action_size)
    with_policy(linear, policy, pixels)
    tasks = {
        "ale-py": alone(spec, policy, options.copies, options.steps, options.threads),
        "runner": linear.sample,
        "own encoder": own.sample,
    }
    timings = time_in_turn(tasks, repeats=options.repeats, min_seconds=0)
    wall, cpu = (ratio(timings["ale-py"], timings["runner"], cpu=cpu) for cpu in (False, True))
    steps = options.copies * options.steps
    lines = [
        f"{describe_machine()}; load before the start {load:.1f}; {options.game}, {options.copies} copies, fragments "
        f"of {options.steps} time steps, {options.threads} thread(s), {options.repeats} turns.",
        "",
        "| sampling | env steps/s |",
        "|---|---:|",
        *(f"| {name} | {steps / timing.median:,.0f} |" for name, timing in timings.items()),
        "",
        f"runner / ale-py, by CPU time: {cpu.text()}, by wall time: {wall.text()}; the goal is {GOAL} "
        f"({'met' if cpu.median >= GOAL else 'missed'}).",
        "",
        "| microseconds for a time step of all copies | " + " | ".join([*PARTS, "rest"]) + " |",
        "|---|" + "---:|" * (len(PARTS) + 1),
    ]
    for name, timed in (("runner", linear), ("own encoder", own)):
        fragments = timed.fragments[-options.repeats :]
        micro = [1e6 * float(np.mean([f[part] for f in fragments])) / options.steps for part in (*PARTS, "whole")]
        cells = [*micro[:-1], micro[-1] - sum(micro[:-1])]
        lines.append(f"| {name} | " + " | ".join(f"{cell:,.0f}" for cell in cells) + " |")
    (rollout,) = linear.runner.sample_rollouts().values()
    arrays = [rollout.obs, rollout.final_obs, rollout.actions, rollout.action_dist_inputs, rollout.rewards]
    share = sum(array.nbytes for array in arrays) / (steps * pixels)
    lines += ["", f"Bytes of a rollout beside those of its frames: {share:.2f}."]
    publish("\n".join(lines), options.output)
    for timed in (own, linear):
        timed.runner.stop()


if __name__ == "__main__":
    main()
