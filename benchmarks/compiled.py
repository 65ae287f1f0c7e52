"""Whether torch.compile pays for the agnostic network: time to compile, and calls until that is saved.

    python benchmarks/compiled.py [--threads N] [--repeats 7] [--d-model 32 64] [--backend inductor] [--short]
                                   [--output FILE]

A training step is forward and backward of policy and value for 256 observations, inference the policy for 8 (as a
runner with 8 copies), as in network.py: of one environment of HalfCheetah's sizes, and of four of different sizes at
once. The plain and the compiled network run in turn; "plain/compiled" is the median (and range) over the rounds of the
ratio within a round. "Until it runs" is the wall time of the first calls, compilation included, with a compiler cache
that is empty at first; "won back" is that time over what a call saves: number of calls, and their time. Shapes stay the
same here; other environments, or minibatches of another size, are compiled anew. PyTorch's inductor needs a C++
compiler.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace

import torch
from network import ENVIRONMENTS, build, inference, observations, sized, training_step
from packed import INFERENCE, TRAINING
from publish import publish
from timing import Timing, ratio, time_in_turn
from torch import Tensor

from rllib_multienv import AgnosticNetConfig
from rllib_multienv.experiments.invocation import describe_machine
from rllib_multienv.nets.actor_critic import ActorCritic

#: Calls after which everything is compiled.
FIRST_CALLS = 3
SETS = {
    "17/6": (ENVIRONMENTS["17/6"],),
    "four": (
        ENVIRONMENTS["4/2"],
        sized("env-11-3", 11, 3, False),
        sized("env-8-4", 8, 4, True),
        ENVIRONMENTS["17/6"],
    ),
}


def tasks(model: ActorCritic, obs: dict[str, Tensor], *, what: str, backend: str) -> dict[str, Callable[[], object]]:
    """The same work by the network as it is and by the compiled one."""
    if what == TRAINING:
        work, compiled = training_step, torch.compile(model, backend=backend)
    else:
        work, compiled = inference, SimpleNamespace(policy=torch.compile(model.policy, backend=backend))
    return {"plain": lambda: work(model, obs), "compiled": lambda: work(compiled, obs)}


def won_back(seconds: float, plain: Timing, compiled: Timing) -> str:
    """How many calls, and how much of their time, until the compiled ones have saved ``seconds``."""
    saved = plain.median - compiled.median
    if saved <= 0:
        return "never"
    calls = seconds / saved
    return f"{calls:.3g} calls, {calls * compiled.median / 60:.3g} min"


def measure(d_model: int, name: str, what: str, options: argparse.Namespace) -> str:
    """One line of the table."""
    torch.compiler.reset()
    environments = SETS[name]
    model = build(AgnosticNetConfig(d_model=d_model, num_transformer_layers=1), environments)
    obs = observations(environments, options.batch if what == TRAINING else options.copies)
    both = tasks(model, obs, what=what, backend=options.backend)
    both["plain"]()
    start = time.perf_counter()
    for _ in range(FIRST_CALLS):
        both["compiled"]()
    seconds = time.perf_counter() - start
    found = time_in_turn(both, repeats=options.repeats, min_seconds=options.min_seconds)
    plain, compiled = found["plain"], found["compiled"]
    return (
        f"| {d_model} | {name} | {what} | {plain.wall.text(1e3)} | {compiled.wall.text(1e3)} | "
        f"{ratio(plain, compiled).text()} | {seconds:.3g} | {won_back(seconds, plain, compiled)} |"
    )


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, help="of PyTorch; default: as many as it takes by itself")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--d-model", type=int, nargs="+", default=[32, 64])
    parser.add_argument("--sets", nargs="+", choices=tuple(SETS), default=list(SETS))
    parser.add_argument("--work", nargs="+", choices=(TRAINING, INFERENCE), default=[TRAINING, INFERENCE])
    parser.add_argument("--batch", type=int, default=256, help="observations of each environment in a training step")
    parser.add_argument("--copies", type=int, default=8, help="the same in inference")
    parser.add_argument("--backend", default="inductor", help="of torch.compile")
    parser.add_argument("--min-seconds", type=float, default=0.2, help="of each task in each repetition, at least")
    parser.add_argument("--short", action="store_true", help="try the benchmark itself: no code is generated")
    parser.add_argument("--output", type=Path, help="also write what is printed to this file")
    options = parser.parse_args(arguments)
    if options.short:
        options.repeats, options.min_seconds, options.batch, options.backend = 2, 0.01, 8, "aot_eager"
        options.d_model, options.sets, options.work = [8], ["17/6"], [TRAINING]
    if options.threads:
        torch.set_num_threads(options.threads)
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as cache:
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = cache
        lines = [
            measure(d_model, name, what, options)
            for d_model in options.d_model
            for name in options.sets
            for what in options.work
        ]
    text = "\n".join(
        [
            f"{describe_machine()}, PyTorch {torch.__version__}, torch.compile with {options.backend}; "
            f"{torch.get_num_threads()} threads, {options.repeats} repetitions; load before the start {load:.1f}.",
            "",
            "| d_model | obs/act | what | plain, ms | compiled, ms | plain/compiled | until it runs, s | won back |",
            "|---:|---|---|---:|---:|---:|---:|---:|",
            *lines,
        ]
    )
    publish(text, options.output)


if __name__ == "__main__":
    main()
