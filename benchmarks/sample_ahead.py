"""What it brings to sample the next fragments while the learner learns from these (`sample_ahead`).

    python benchmarks/sample_ahead.py [--iterations 4] [--repeats 5] [--short] [--output FILE]

`MultiEnvPPO` with the quickstart's environments, network and minibatches, one remote runner and the learner in the
driver, one thread each, so it needs two idle cores. Two algorithms, one of which samples ahead, make so many iterations
in turn; between their turns is a pause in which the fragment that the other has asked for ahead is sampled.

"Ahead/in turn" is the ratio of env steps per second within each round; *sampling* and *update* are the times of both
stages in turn, and the most that can be won is their sum over the longer one.
"""

from __future__ import annotations

import argparse
import logging
import os
import statistics
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import ray
import torch
from publish import publish
from timing import Timing, ratio, time_in_turn

from rllib_multienv import AgnosticNetConfig, MultiEnvPPO, MultiEnvPPOConfig
from rllib_multienv.experiments.invocation import describe_machine

ENVS = ("CartPole-v1", "Acrobot-v1", "InvertedPendulum-v4", "Reacher-v4")
IN_TURN, AHEAD = "in turn", "ahead"


def build(options: argparse.Namespace, *, sample_ahead: bool) -> MultiEnvPPO:
    """The quickstart's algorithm with a remote runner."""
    return (
        MultiEnvPPOConfig()
        .environment(envs=list(ENVS))
        .env_runners(
            num_env_runners=1,
            num_envs_per_env_runner=options.copies,
            rollout_fragment_length=options.length,
            sample_ahead=sample_ahead,
        )
        .rl_module(model_config=AgnosticNetConfig(d_model=options.d_model, num_transformer_layers=1))
        .training(actor_lr=1e-3, critic_lr=1e-3, num_epochs=options.epochs, num_minibatches=8, vf_clip_param=None)
        .debugging(seed=0)
        .build_algo()
    )


class Turns:
    """Turns of an algorithm, and the seconds of both stages of each iteration: [sampling, update]."""

    def __init__(self, algo: MultiEnvPPO, iterations: int) -> None:
        self.stages: list[list[float]] = []
        self._algo = algo
        self._iterations = iterations
        algo._sampling.round = self._timed(algo._sampling.round)
        algo.learner_group.update = self._timed(algo.learner_group.update)

    def __call__(self) -> None:
        """One turn."""
        for _ in range(self._iterations):
            self.stages.append([])
            self._algo.train()

    def _timed(self, stage: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*args: Any, **kwargs: Any) -> Any:
            start = time.perf_counter()
            result = stage(*args, **kwargs)
            self.stages[-1].append(time.perf_counter() - start)
            return result

        return timed

    def seconds(self) -> tuple[float, float]:
        """Of both stages, the medians over all iterations after the first turn."""
        sampling, update = zip(*self.stages[self._iterations :], strict=True)
        return statistics.median(sampling), statistics.median(update)


def table(found: dict[str, Timing], steps: int, sampling: float, update: float) -> str:
    """The numbers, where a turn has ``steps`` env steps."""
    rates = (f"{steps / found[name].median:,.0f}" for name in (IN_TURN, AHEAD))
    gain = ratio(found[IN_TURN], found[AHEAD]).text()
    most = (sampling + update) / max(sampling, update)
    return "\n".join(
        [
            "| env steps/s in turn | ahead | ahead/in turn | sampling, s | update, s | at most |",
            "|---:|---:|---:|---:|---:|---:|",
            f"| {' | '.join(rates)} | {gain} | {sampling:.3g} | {update:.3g} | {most:.2f} |",
        ]
    )


def measure(options: argparse.Namespace) -> str:
    """Both algorithms in turn."""
    algos = {name: build(options, sample_ahead=name == AHEAD) for name in (IN_TURN, AHEAD)}
    tasks = {name: Turns(algo, options.iterations) for name, algo in algos.items()}
    found = time_in_turn(tasks, repeats=options.repeats, min_seconds=0, warm_up=1, pause=options.pause)
    steps = options.iterations * len(ENVS) * options.copies * options.length
    text = table(found, steps, *tasks[IN_TURN].seconds())
    for algo in algos.values():
        algo.stop()
    return text


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--iterations", type=int, default=4, help="of a turn")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--pause", type=float, default=3.0, help="seconds between two turns")
    parser.add_argument("--short", action="store_true", help="try the benchmark itself")
    parser.add_argument("--output", type=Path, help="also write what is printed to this file")
    options = parser.parse_args(arguments)
    options.copies, options.length, options.epochs, options.d_model = 8, 128, 5, 32
    if options.short:
        options.iterations, options.repeats, options.pause = 1, 2, 0.1
        options.copies, options.length, options.epochs, options.d_model = 2, 16, 1, 8
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    load = os.getloadavg()[0]
    ray.init(log_to_driver=False, logging_level=logging.ERROR)
    text = "\n".join(
        [
            f"{describe_machine()}, PyTorch {torch.__version__}, Ray {ray.__version__}; {options.repeats} turns of "
            f"{options.iterations} iterations each; load before the start {load:.1f}.",
            "",
            measure(options),
        ]
    )
    publish(text, options.output)


if __name__ == "__main__":
    main()
