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
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, field, replace
from itertools import accumulate
from pathlib import Path
from typing import Any

import gymnasium as gym
import mujoco
import ray
import torch
import torch.distributed as dist
from torch import Tensor

from rllib_multienv import AgnosticNetConfig, MultiEnvPPOConfig
from rllib_multienv.algorithms.online_sampling import environment_costs
from rllib_multienv.algorithms.ppo.learner import MultiEnvPPOLearner
from rllib_multienv.env_runners import MultiEnvRunner
from rllib_multienv.experiments.machine import describe_machine
from rllib_multienv.learners import MultiEnvTrainingData
from rllib_multienv.learners.gradients import all_reduce_sum
from rllib_multienv.learners.minibatches import Minibatch
from rllib_multienv.nets.kernel_cache import KernelBank

FLAT, OVERLAPPED, SILENT = "flat", "overlapped", "silent"
NUM_BUCKETS = 8
WAITING, ALL_REDUCE = "waiting for the other learner", "all-reduce"


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


# The learner that is measured


class OverlappedReduction:
    """The named alternative to one flat all-reduce: buckets that are reduced while backward still runs.

    Parameters are laid into buckets from the last to the first, about the order in which backward reaches them. A
    bucket goes off as soon as it is complete and those before it have gone off: the order must be the same on every
    rank. Which parameters the environments of a minibatch do not reach is learned from the first backward with
    these environments; afterwards their zeros are there from the start, for they would hold up every later bucket.
    """

    def __init__(self, parameters: Sequence[Tensor], group: Any) -> None:
        self._parameters = list(parameters)
        self._group = group
        total = sum(p.numel() for p in parameters)
        bounds = accumulate((p.numel() for p in reversed(parameters)), initial=0)
        self._bucket_of = [min(NUM_BUCKETS - 1, start * NUM_BUCKETS // total) for start in bounds][: len(parameters)]
        self._bucket_of.reverse()
        sizes = [0] * NUM_BUCKETS
        for parameter, bucket in zip(parameters, self._bucket_of, strict=True):
            sizes[bucket] += parameter.numel()
        self._flat = [parameters[0].new_zeros(size) for size in sizes]
        used = [0] * NUM_BUCKETS
        self._views = []
        for parameter, bucket in zip(parameters, self._bucket_of, strict=True):
            start = used[bucket]
            used[bucket] += parameter.numel()
            self._views.append(self._flat[bucket][start : used[bucket]].view_as(parameter))
        self._reached: dict[tuple[str, ...], frozenset[int]] = {}
        self._active = False
        for index, parameter in enumerate(parameters):
            parameter.register_post_accumulate_grad_hook(lambda p, i=index: self._arrived(i, p))

    def begin(self, env_ids: tuple[str, ...]) -> None:
        """Before backward over the losses of these environments."""
        self._active = True
        self._env_ids = env_ids
        self._works: list[Any] = []
        self._seen: set[int] = set()
        self._missing = [0] * NUM_BUCKETS
        expected = self._reached.get(env_ids)
        for index, bucket in enumerate(self._bucket_of):
            if expected is None or index in expected:
                self._missing[bucket] += 1
            else:
                self._views[index].zero_()
        if expected is None:
            self._missing = [count + 1 for count in self._missing]  # nothing goes off before `finish`
        self._send_complete()

    def finish(self, gradients: Sequence[Tensor]) -> None:
        """After backward: wait for all buckets; ``gradients`` of all parameters become the sums."""
        self._active = False
        for index, view in enumerate(self._views):
            if self._bucket_of[index] >= len(self._works) and index not in self._seen:
                view.zero_()
        self._missing = [0] * NUM_BUCKETS
        self._send_complete()
        self._reached[self._env_ids] = frozenset(self._seen)
        for work in self._works:
            work.wait()
        torch._foreach_copy_(list(gradients), self._views)

    def _arrived(self, index: int, parameter: Tensor) -> None:
        if not self._active:
            return
        bucket = self._bucket_of[index]
        if bucket < len(self._works):
            raise RuntimeError("A parameter was reached that the same environments did not reach before.")
        assert parameter.grad is not None
        self._views[index].copy_(parameter.grad)
        self._seen.add(index)
        self._missing[bucket] -= 1
        self._send_complete()

    def _send_complete(self) -> None:
        while len(self._works) < NUM_BUCKETS and self._missing[len(self._works)] == 0:
            flat = self._flat[len(self._works)]
            self._works.append(dist.all_reduce(flat, group=self._group, async_op=True))


class BenchmarkLearner(MultiEnvPPOLearner):
    """Times the stages of its steps, and reduces gradients in the way that is asked for."""

    reduction = FLAT
    separate_waiting = False  # whether learners meet before the all-reduce, so that waiting is not counted as it
    check_sums = False

    def build(self) -> None:
        super().build()
        self.seconds: dict[str, float] = {}
        self.cpu_seconds: dict[str, float] = {}
        self._overlapped: OverlappedReduction | None = None
        self._last: Minibatch | None = None

    @contextmanager
    def _timed(self, stage: str) -> Iterator[None]:
        start, cpu_start = time.perf_counter(), time.process_time()
        yield
        self.seconds[stage] = self.seconds.get(stage, 0.0) + time.perf_counter() - start
        self.cpu_seconds[stage] = self.cpu_seconds.get(stage, 0.0) + time.process_time() - cpu_start

    def update(self, **kwargs: Any) -> Any:
        self.seconds.clear()
        self.cpu_seconds.clear()
        with self._timed("update"):
            return super().update(**kwargs)

    def _step(self, minibatch: Minibatch) -> None:
        self._last = minibatch
        with self._timed("step"):
            super()._step(minibatch)

    def compute_gradients(self, loss_per_module: dict[str, Tensor], **kwargs: Any) -> dict[Any, Tensor]:
        if self.reduction == OVERLAPPED and self.distributed:
            if self._overlapped is None:
                self._overlapped = OverlappedReduction(list(self._params.values()), self._group)
            self._overlapped.begin(tuple(loss_per_module))
        with self._timed("backward"):
            return super().compute_gradients(loss_per_module, **kwargs)

    def reduce_gradients(self, gradients: list[Tensor]) -> None:
        if self.separate_waiting:
            with self._timed("wait"):
                dist.barrier(group=self._group)
        with self._timed("reduce"):
            if self.reduction == FLAT:
                super().reduce_gradients(gradients)
            elif self.reduction == OVERLAPPED:
                assert self._overlapped is not None
                own = [gradient.clone() for gradient in gradients] if self.check_sums else []
                self._overlapped.finish(gradients)
                if self.check_sums:
                    all_reduce_sum(own, self._group)
                    if not all(torch.equal(a, b) for a, b in zip(gradients, own, strict=True)):
                        raise RuntimeError("The overlapped all-reduce gives other gradients than the flat one.")

    def postprocess_gradients(self, gradients_dict: dict[Any, Tensor]) -> dict[Any, Tensor]:
        with self._timed("postprocess"):
            return super().postprocess_gradients(gradients_dict)

    def apply_gradients(self, gradients_dict: dict[Any, Tensor]) -> None:
        with self._timed("apply"):
            super().apply_gradients(gradients_dict)

    def stages(self) -> dict[str, tuple[float, float]]:
        """Seconds and CPU seconds of each stage of the last update."""
        wall, cpu = _exclusive(self.seconds), _exclusive(self.cpu_seconds)
        return {stage: (wall[stage], cpu[stage]) for stage in wall}

    def one_row_step(self) -> float:
        """CPU seconds of a step with one row of each environment: what does not get less with fewer rows."""
        assert self._last is not None
        columns = {env_id: {k: c[:1] for k, c in batch.items()} for env_id, batch in self._last.columns.items()}
        return _cpu_time(lambda: self._uncompiled_update(columns))

    def kernels_of_a_step(self) -> float:
        """CPU seconds for the S4 kernels of one step, forward and backward."""
        assert self._last is not None
        calls: list[tuple[KernelBank, int]] = []
        banks = [module for module in self.network.modules() if isinstance(module, KernelBank)]
        hooks = [bank.register_forward_pre_hook(lambda m, args: calls.append((m, args[0]))) for bank in banks]
        self.module.forward_train(self._last.columns)
        for hook in hooks:
            hook.remove()

        def compute() -> None:
            for bank, length in calls:
                bank.compute(length).sum().backward()

        return _cpu_time(compute)


def _exclusive(timed: dict[str, float]) -> dict[str, float]:
    """Each stage without those that lie within it."""
    wait, reduce = timed.get("wait", 0.0), timed.get("reduce", 0.0)
    return {
        "forward and losses": timed["step"] - timed["backward"] - timed["postprocess"] - timed["apply"],
        "backward": timed["backward"],
        WAITING: wait,
        ALL_REDUCE: reduce,
        "clipping and optimiser": timed["postprocess"] - wait - reduce + timed["apply"],
        "outside of steps (fetching, values, advantages, minibatches)": timed["update"] - timed["step"],
    }


def _cpu_time(function: Callable[[], Any], times: int = 3) -> float:
    """Median CPU seconds; unlike wall time they leave out how busy the machine is with other things."""
    function()
    found = []
    for _ in range(times):
        start = time.process_time()
        function()
        found.append(time.process_time() - start)
    return statistics.median(found)


@dataclass
class EverythingForAll(MultiEnvTrainingData):
    """Every learner trains on all rows, as if it were alone."""

    def shard(self, num_shards: int, *args: Any, **kwargs: Any) -> list[tuple[Any, dict[str, Any]]]:
        whole = MultiEnvTrainingData(fragments=self.fragments, num_fragments=self.num_fragments)
        return [(replace(whole), {}) for _ in range(num_shards)]


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
