"""How training scales from one learner to two: samples/s, environment steps/s, and where a step's time goes.

    python benchmarks/scaling.py --output docs/results/scaling.md

Every learner has one thread, so that the ratio is that of cores. Learners get the same fragments, sampled once, again
and again; repetitions of all variants alternate, so that a change of the machine's speed meets all of them alike.
docs/performance.md says what the rows mean.
"""

from __future__ import annotations

import argparse
import logging
import os
import statistics
import sys
import time
import warnings
from contextlib import redirect_stdout
from dataclasses import replace
from pathlib import Path

import gymnasium as gym
import mujoco
import ray
import torch
from scaling_cases import CASES, SHORT, Case
from scaling_learner import ALL_REDUCE, WAITING
from scaling_measurements import Bench, say

from rllib_multienv.experiments.invocation import describe_machine


def measure(case: Case) -> str:
    """The tables of one case."""
    with redirect_stdout(sys.stderr):
        bench = Bench(case)
        try:
            rates, stages = bench.learners()
            iterations, shares = bench.end_to_end()
            one_row = bench.one_row_steps()
            (kernels,) = bench.ask(bench.one.learner_group, lambda learner: learner.kernels_of_a_step() * 1000)
            (parameters,) = bench.ask(
                bench.one.learner_group, lambda learner: sum(p.numel() for p in learner.network.parameters())
            )
        finally:
            bench.stop()
    base = rates[0]
    header = (
        f"{parameters:,} parameters, dropout {case.net.dropout:g}; {', '.join(case.envs)}; {bench.rows:,} rows "
        f"({case.fragment} time steps of {case.copies} copies), epochs: {case.epochs}, minibatches: "
        f"{case.minibatches}, so {bench.rows // case.minibatches} rows a step; repetitions: {case.repeats}."
    )
    lines = [
        f"## {case.title}",
        "",
        header,
        "",
        "| learners, one thread each | samples/s, median | range | ratio |",
        "|---|---:|---:|---:|",
        *(timings.row(base) for timings in rates),
        "",
        "| whole iterations | env steps/s, median | range | ratio | of it learners' update |",
        "|---|---:|---:|---:|---:|",
        *(f"{timings.row(iterations[0])} {shares[timings.name]:.0%} |" for timings in iterations),
        "",
        *_stage_lines(stages, one_row, kernels),
    ]
    return "\n".join(lines)


def _stage_lines(
    stages: dict[str, list[dict[str, tuple[float, float]]]], one_row: tuple[float, float], kernels: float
) -> list[str]:
    """Where the time of a step goes, and what follows from that."""
    one, two = (
        {stage: [statistics.median(f[stage][kind] for f in found) for kind in (0, 1)] for stage in found[0]}
        for found in stages.values()
    )
    (wall_one, cpu_one), (wall_two, cpu_two) = (
        [sum(times[kind] for times in found.values()) for kind in (0, 1)] for found in (one, two)
    )
    expected = cpu_one / (one_row[1] + (cpu_one - one_row[0]) / 2)
    return [
        "| ms of a step | 1 learner | 2 learners | CPU time, 1 learner | CPU time, each of 2 |",
        "|---|---:|---:|---:|---:|",
        *(
            f"| {stage} | {wall:.2f} | {two[stage][0]:.2f} | {cpu:.2f} | {two[stage][1]:.2f} |"
            for stage, (wall, cpu) in one.items()
        ),
        f"| together | {wall_one:.2f} | {wall_two:.2f} | {cpu_one:.2f} | {cpu_two:.2f} |",
        "",
        f"- Of the time of two learners the all-reduce is {two[ALL_REDUCE][0] / wall_two:.1%}, waiting for one another "
        f"before it {two[WAITING][0] / wall_two:.1%}.",
        f"- In CPU time one learner takes {cpu_one / cpu_two:.2f} times as long as each of two.",
        f"- A step with a single row of each environment takes {one_row[0]:.2f} ms of CPU time with one learner, and "
        f"{one_row[1]:.2f} ms at each of two, which have about half of the environments; {kernels:.2f} ms of either "
        "are the S4 kernels. If everything else halved, and communication cost nothing, the ratio would be "
        f"{expected:.2f}.",
    ]


def machine() -> str:
    """Versions, and the machine in words."""
    versions = f"ray {ray.__version__}, torch {torch.__version__}, "
    versions += f"gymnasium {gym.__version__}, mujoco {mujoco.__version__}"
    return f"{describe_machine()}, {torch.backends.cpu.get_cpu_capability()}. {versions}."


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--short", action="store_true", help="a tiny network, to try the benchmark itself")
    parser.add_argument("--only", choices=sorted(CASES), help="one network only")
    parser.add_argument("--repeats", type=int, help="repetitions of each variant")
    parser.add_argument("--output", type=Path, help="also write the tables to this file")
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    gym.logger.min_level = gym.logger.ERROR
    logging.getLogger("ray").setLevel(logging.ERROR)
    torch.set_num_threads(1)
    load = os.getloadavg()[0]
    # Only one of the algorithms works at a time; the others' processes wait.
    ray.init(num_cpus=16, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    cases = SHORT if options.short else {options.only: CASES[options.only]} if options.only else CASES
    start = time.perf_counter()
    parts = ["# Scaling over learners", f"{machine()} Load of the machine before the start: {load:.1f}."]
    print("\n\n".join(parts), flush=True)
    for name, case in cases.items():
        say(f"network {name!r}")
        parts.append(measure(replace(case, repeats=options.repeats) if options.repeats else case))
        print(f"\n{parts[-1]}", flush=True)
    ray.shutdown()
    say(f"took {time.perf_counter() - start:.0f} s")
    if options.output is not None:
        options.output.parent.mkdir(parents=True, exist_ok=True)
        options.output.write_text("\n\n".join(parts) + "\n")


if __name__ == "__main__":
    main()
