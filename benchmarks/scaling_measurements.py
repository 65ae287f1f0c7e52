"""The measurements of scaling.py: rates of learners and of whole iterations, and where a step's time goes."""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import ray
import torch
from scaling_cases import Case
from scaling_learner import FLAT, OVERLAPPED, SILENT, EverythingForAll

from rllib_multienv.algorithms.online_sampling import environment_costs
from rllib_multienv.env_runners import MultiEnvRunner
from rllib_multienv.learners import MultiEnvTrainingData


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


def say(text: str) -> None:
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
            if (found := self.ask(group, lambda _: torch.get_num_threads())) != [threads] * len(group):
                raise RuntimeError(f"Learners have {found} threads instead of {threads} each.")

    def stop(self) -> None:
        self.one.stop()
        self.two.stop()
        self.two_threads.shutdown()

    @staticmethod
    def ask(group: Any, what: Callable[[Any], Any]) -> list[Any]:
        return [result.get() for result in group.foreach_learner(what)]

    def update(self, group: Any, reduction: str = FLAT, *, everything: bool = False, **settings: bool) -> float:
        """Samples/s of one update, over all learners."""

        def prepare(learner: Any) -> None:
            learner.reduction = reduction
            learner.separate_waiting = settings.get("separate_waiting", False)
            learner.check_sums = settings.get("check_sums", False)

        self.ask(group, prepare)
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
        found = self.ask(group, lambda learner: learner.stages())
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
        say("warming up")
        self.update(two, OVERLAPPED, check_sums=True)
        for _, run in variants:
            run()
        stages: dict[str, list[dict[str, tuple[float, float]]]] = {"1 learner": [], "2 learners": []}
        for repeat in range(self.case.repeats):
            say(f"learners, repetition {repeat + 1} of {self.case.repeats}")
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
            self.ask(algo.learner_group, _as_shipped)
            algo.train()
        for repeat in range(self.case.repeats):
            say(f"iterations, repetition {repeat + 1} of {self.case.repeats}")
            for name, algo in algos.items():
                start = time.perf_counter()
                result = algo.train()
                seconds = time.perf_counter() - start
                found[name].rates.append(result["env_runners"]["num_env_steps_sampled"] / seconds)
                updates = self.ask(algo.learner_group, lambda learner: learner.seconds["update"])
                shares[name].append(max(updates) / seconds)
        return list(found.values()), {name: statistics.median(values) for name, values in shares.items()}

    def one_row_steps(self) -> tuple[float, float]:
        """CPU milliseconds of a step with one row of each environment: of one learner, and the mean of two."""
        self.update(self.two.learner_group, SILENT)  # leaves them silent: they need not agree on these steps
        found = []
        for algo in (self.one, self.two):
            found.append(statistics.mean(self.ask(algo.learner_group, lambda learner: learner.one_row_step() * 1000)))
        return found[0], found[1]


def _as_shipped(learner: Any) -> None:
    learner.reduction, learner.separate_waiting, learner.check_sums = FLAT, False, False
