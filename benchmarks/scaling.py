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
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import mujoco
import ray
import torch
from scaling_learner import ALL_REDUCE, FLAT, OVERLAPPED, SILENT, WAITING, BenchmarkLearner, EverythingForAll

from rllib_multienv import AgnosticNetConfig, MultiEnvPPOConfig
from rllib_multienv.algorithms.online_sampling import environment_costs
from rllib_multienv.env_runners import MultiEnvRunner
from rllib_multienv.experiments.machine import describe_machine
from rllib_multienv.learners import MultiEnvTrainingData


@dataclass(frozen=True, kw_only=True)
class Case:
    """A network, its environments, and how much data an update has."""

    title: str
    net: AgnosticNetConfig
    envs: tuple[str, ...]
    copies: int
    fragment: int
    epochs: int
    minibatches: int
    repeats: int

    def config(self, num_learners: int, threads: int = 1) -> MultiEnvPPOConfig:
        return (
            MultiEnvPPOConfig()
            .environment(envs=list(self.envs))
            .env_runners(
                num_env_runners=num_learners,
                num_envs_per_env_runner=self.copies,
                rollout_fragment_length=self.fragment,
            )
            .rl_module(model_config=self.net)
            .learners(num_learners=num_learners, num_cpus_per_learner=threads, learner_class=BenchmarkLearner)
            # The same fragments are learned again and again: with a real rate the policy would run away from them.
            .training(lr=1e-6, num_epochs=self.epochs, num_minibatches=self.minibatches)
            .debugging(seed=0)
        )


FOUR = ("CartPole-v1", "Acrobot-v1", "InvertedPendulum-v4", "Reacher-v4")
EIGHT = ("CartPole-v1", "LunarLander-v3", "BipedalWalker-v3", "Ant-v4", "Hopper-v4", "HalfCheetah-v4",
         "InvertedPendulum-v4", "Reacher-v4")  # fmt: skip
CASES = {
    "small": Case(
        title="The quickstart's network, `AgnosticNetConfig(d_model=32)`",
        net=AgnosticNetConfig(d_model=32),
        envs=FOUR,
        copies=8,
        fragment=128,
        epochs=5,
        minibatches=8,
        repeats=5,
    ),
    "paper": Case(
        title="The paper's network, `AgnosticNetConfig.paper()`",
        net=AgnosticNetConfig.paper(),
        envs=EIGHT,
        copies=2,
        fragment=64,
        epochs=2,
        minibatches=2,
        repeats=3,
    ),
}
SHORT = {
    "tiny": Case(
        title="A tiny network, to try the benchmark itself",
        net=AgnosticNetConfig(d_model=8, d_state=4),
        envs=FOUR,
        copies=2,
        fragment=16,
        epochs=1,
        minibatches=2,
        repeats=2,
    )
}


# Measuring


@dataclass
class Timings:
    """Repetitions of one variant: units (samples, environment steps) per second."""

    name: str
    rates: list[float] = field(default_factory=list)

    @property
    def median(self) -> float:
        return statistics.median(self.rates)

    def row(self, base: Timings) -> str:
        """A line of the table; the ratio is that of the numbers as printed."""
        low, mid, high = (_three_digits(x) for x in (min(self.rates), self.median, max(self.rates)))
        return f"| {self.name} | {mid} | {low} to {high} | {float(mid) / float(_three_digits(base.median)):.2f} |"


def _three_digits(value: float) -> str:
    digits = max(0, 2 - (len(str(int(value))) - 1)) if value >= 1 else 3
    return f"{value:.{digits}f}"


def _say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


class Bench:
    """The algorithms and the data of one case."""

    def __init__(self, case: Case) -> None:
        self.case = case
        config = case.config(1)
        config.validate()
        sampled = MultiEnvRunner(config=config, worker_index=0).sample_by_environment()
        self.rows = sum(len(chunk) for chunks in sampled.values() for chunk in chunks)
        self._fragments = {
            env_id: [(ray.put(chunks), sum(len(chunk) for chunk in chunks))] for env_id, chunks in sampled.items()
        }
        self._costs = environment_costs(config)
        self.one = case.config(1).build_algo()
        self.two = case.config(2).build_algo()
        two_threads = case.config(1, threads=2)
        two_threads.validate()
        self.two_threads = two_threads.build_learner_group()
        for group, threads in ((self.one.learner_group, 1), (self.two.learner_group, 1), (self.two_threads, 2)):
            if (found := self._ask(group, lambda _: torch.get_num_threads())) != [threads] * len(group):
                raise RuntimeError(f"Learners have {found} threads instead of {threads} each.")

    def stop(self) -> None:
        self.one.stop()
        self.two.stop()
        self.two_threads.shutdown()

    @staticmethod
    def _ask(group: Any, what: Callable[[Any], Any]) -> list[Any]:
        return [result.get() for result in group.foreach_learner(what)]

    def update(self, group: Any, reduction: str = FLAT, *, everything: bool = False, **settings: bool) -> float:
        """Samples/s of one update, over all learners."""

        def prepare(learner: Any) -> None:
            learner.reduction = reduction
            learner.separate_waiting = settings.get("separate_waiting", False)
            learner.check_sums = settings.get("check_sums", False)

        self._ask(group, prepare)
        kind = EverythingForAll if everything else MultiEnvTrainingData
        data = kind.of(self._fragments, self._costs)
        start = time.perf_counter()
        group.update(
            training_data=data,
            timesteps={"num_env_steps_sampled_lifetime": self.rows},
            num_epochs=self.case.epochs,
            num_minibatches=self.case.minibatches,
        )
        seconds = time.perf_counter() - start
        return self.rows * self.case.epochs * (len(group) if everything else 1) / seconds

    def stages(self, group: Any) -> dict[str, tuple[float, float]]:
        """Milliseconds and CPU milliseconds per step of the last update, means over learners."""
        found = self._ask(group, lambda learner: learner.stages())
        per_step = 1000 / (self.case.epochs * self.case.minibatches)
        return {
            stage: (
                statistics.mean(f[stage][0] for f in found) * per_step,
                statistics.mean(f[stage][1] for f in found) * per_step,
            )
            for stage in found[0]
        }

    def learners(self) -> tuple[list[Timings], dict[str, list[dict[str, tuple[float, float]]]]]:
        """Rates of all variants, and the stages of a step with one and with two learners."""
        one, two = self.one.learner_group, self.two.learner_group
        variants: list[tuple[Timings, Callable[[], float]]] = [
            (Timings("1 learner, 1 thread"), lambda: self.update(one)),
            (Timings("1 learner, 2 threads"), lambda: self.update(self.two_threads)),
            (Timings("2 learners"), lambda: self.update(two)),
            (Timings("2 learners, all-reduce in buckets during backward"), lambda: self.update(two, OVERLAPPED)),
            (Timings("2 learners, no all-reduce"), lambda: self.update(two, SILENT)),
            (
                Timings("2 learners, no all-reduce, each with all rows"),
                lambda: self.update(two, SILENT, everything=True),
            ),
        ]
        _say("warming up")
        self.update(two, OVERLAPPED, check_sums=True)
        for _, run in variants:
            run()
        stages: dict[str, list[dict[str, tuple[float, float]]]] = {"1 learner": [], "2 learners": []}
        for repeat in range(self.case.repeats):
            _say(f"learners, repetition {repeat + 1} of {self.case.repeats}")
            for number, (timings, run) in enumerate(variants):
                timings.rates.append(run())
                if number == 0:
                    stages["1 learner"].append(self.stages(one))
            self.update(two, separate_waiting=True)
            stages["2 learners"].append(self.stages(two))
        return [timings for timings, _ in variants], stages

    def end_to_end(self) -> tuple[list[Timings], dict[str, float]]:
        """Environment steps/s of whole iterations, and the share of each that is the learners' update."""
        algos = {"1 learner, 1 env runner": self.one, "2 learners, 2 env runners": self.two}
        found = {name: Timings(name) for name in algos}
        shares: dict[str, list[float]] = {name: [] for name in algos}
        for algo in algos.values():
            self._ask(algo.learner_group, _as_shipped)
            algo.train()
        for repeat in range(self.case.repeats):
            _say(f"iterations, repetition {repeat + 1} of {self.case.repeats}")
            for name, algo in algos.items():
                start = time.perf_counter()
                result = algo.train()
                seconds = time.perf_counter() - start
                found[name].rates.append(result["env_runners"]["num_env_steps_sampled"] / seconds)
                updates = self._ask(algo.learner_group, lambda learner: learner.seconds["update"])
                shares[name].append(max(updates) / seconds)
        return list(found.values()), {name: statistics.median(values) for name, values in shares.items()}

    def one_row_steps(self) -> tuple[float, float]:
        """CPU milliseconds of a step with one row of each environment: of one learner, and the mean of two."""
        self.update(self.two.learner_group, SILENT)  # leaves them silent: they need not agree on these steps
        found = []
        for algo in (self.one, self.two):
            found.append(statistics.mean(self._ask(algo.learner_group, lambda learner: learner.one_row_step() * 1000)))
        return found[0], found[1]


def _as_shipped(learner: Any) -> None:
    learner.reduction, learner.separate_waiting, learner.check_sums = FLAT, False, False


def measure(case: Case) -> str:
    """The tables of one case."""
    with redirect_stdout(sys.stderr):
        bench = Bench(case)
        try:
            rates, stages = bench.learners()
            iterations, shares = bench.end_to_end()
            one_row = bench.one_row_steps()
            (kernels,) = bench._ask(bench.one.learner_group, lambda learner: learner.kernels_of_a_step() * 1000)
            (parameters,) = bench._ask(
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
        _say(f"network {name!r}")
        parts.append(measure(replace(case, repeats=options.repeats) if options.repeats else case))
        print(f"\n{parts[-1]}", flush=True)
    ray.shutdown()
    _say(f"took {time.perf_counter() - start:.0f} s")
    if options.output is not None:
        options.output.parent.mkdir(parents=True, exist_ok=True)
        options.output.write_text("\n\n".join(parts) + "\n")


if __name__ == "__main__":
    main()
