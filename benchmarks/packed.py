"""One packed forward of many environments against a loop over the environments, with the same network.

    python benchmarks/packed.py [--threads N] [--repeats 7] [--network agnostic|generated] [--d-model 64] [--paper]
                                [--short] [--output FILE]
    python benchmarks/packed.py --without Humanoid-v4 HumanoidStandup-v4 --no-synthetic

The first two lines are the paper's sixteen environments (sizes only, no simulators): inference is the policy for 8
observations of each, without gradients; a training step is forward and backward of policy and value for 128 rows of
each (8 copies x 128 steps in 8 minibatches), without an optimiser. The loop calls the same network with one environment
after the other, in training with a backward after each, so that gradients add up. Both run in turn; "loop/packed" is
the median (and range) over the rounds of the ratio within a round.

The other lines are 1, 4, 16 and 64 synthetic environments (observations of 3 to 48, actions of 1 to 8 components or
kinds): 64 are drawn with a fixed seed and ordered by their tokens (observation and action components), and the smaller
sets are spread evenly over that order, so that all sets have about the same tokens per row. They are measured with the
same rows of every environment, and with the same rows in total. CPU times are of all threads; other programs on the
machine disturb them least.
"""

from __future__ import annotations

import argparse
import os
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import torch
from network import build, inference, observations, sized, training_step
from publish import publish
from timing import Timing, ratio, time_in_turn
from torch import Tensor

from rllib_multienv import AgnosticNetConfig, GeneratedNetConfig
from rllib_multienv.experiments.invocation import describe_machine
from rllib_multienv.nets import ActorCritic, NetConfig
from rllib_multienv.spaces.space_spec import SpaceSpec

# The environments of tune_configs/sixteen.yaml. In v4 observations include contact forces in Humanoid, not in Ant.
SIXTEEN = (
    sized("Acrobot-v1", 6, 3, True),
    sized("BipedalWalker-v3", 24, 4, False),
    sized("CartPole-v1", 4, 2, True),
    sized("LunarLander-v3", 8, 4, True),
    sized("LunarLanderContinuous-v3", 8, 2, False),
    sized("MountainCarContinuous-v0", 2, 1, False),
    sized("Ant-v4", 27, 8, False),
    sized("HalfCheetah-v4", 17, 6, False),
    sized("Hopper-v4", 11, 3, False),
    sized("Humanoid-v4", 376, 17, False),
    sized("HumanoidStandup-v4", 376, 17, False),
    sized("InvertedDoublePendulum-v4", 11, 1, False),
    sized("InvertedPendulum-v4", 4, 1, False),
    sized("Reacher-v4", 11, 2, False),
    sized("Swimmer-v4", 8, 2, False),
    sized("Walker2d-v4", 17, 6, False),
)
SYNTHETIC_COUNTS = (1, 4, 16, 64)
TRAINING, INFERENCE = "training step", "inference"


def synthetic(count: int) -> list[SpaceSpec]:
    """``count`` environments; their mean size does not depend on ``count``."""
    draw = random.Random(0)
    pool = []
    for number in range(max(SYNTHETIC_COUNTS)):
        discrete = draw.random() < 0.25
        pool.append(sized(f"synthetic-{number}", draw.randint(3, 48), draw.randint(2 if discrete else 1, 8), discrete))
    pool.sort(key=lambda env: env.obs_size + env.action_size)
    step = len(pool) // count
    return pool[step // 2 :: step]


def packed(what: str, model: ActorCritic, obs: dict[str, Tensor]) -> dict[str, Tensor]:
    """All environments in one call; returns the policy's outputs of inference."""
    if what == INFERENCE:
        return inference(model, obs)
    training_step(model, obs)
    return {}


def looped(what: str, model: ActorCritic, obs: dict[str, Tensor]) -> dict[str, Tensor]:
    """One environment after the other."""
    if what == INFERENCE:
        return {env_id: inference(model, {env_id: value})[env_id] for env_id, value in obs.items()}
    model.zero_grad(set_to_none=True)
    for env_id, value in obs.items():
        training_step(model, {env_id: value}, accumulate=True)
    return {}


def parameters(model: ActorCritic) -> int:
    """Number of parameters."""
    return sum(parameter.numel() for parameter in model.parameters())


def line(what: str, environments: Sequence[SpaceSpec], model: ActorCritic, rows: int, found: dict[str, Timing]) -> str:
    """One line of the table; without ``found["loop"]`` its columns stay empty."""
    timing, total = found["packed"], rows * len(environments)
    tokens = sum(env.obs_size + env.action_size for env in environments) / len(environments)
    loop = ["", "", ""]
    if "loop" in found:
        by_wall, by_cpu = ratio(found["loop"], timing), ratio(found["loop"], timing, cpu=True)
        loop = [found["loop"].wall.text(1e3), by_wall.text(), by_cpu.text()]
    cells = [
        str(len(environments)), what, str(rows), f"{tokens:.1f}", timing.wall.text(1e3), *loop,
        f"{timing.median / total * 1e6:.4g}", f"{timing.cpu / total * 1e6:.4g}", f"{parameters(model):,}",
    ]  # fmt: skip
    return f"| {' | '.join(cells)} |"


def timed(tasks: Mapping[str, Callable[[], object]], options: argparse.Namespace) -> dict[str, Timing]:
    """Time the tasks in turn."""
    return time_in_turn(tasks, repeats=options.repeats, min_seconds=options.min_seconds)


def measure_sixteen(config: NetConfig, options: argparse.Namespace) -> Iterator[str]:
    """The lines of the paper's environments, except those that are left out."""
    environments = [env for env in SIXTEEN if env.env_id not in options.without]
    model = build(config, environments)
    for what, rows in ((INFERENCE, options.copies), (TRAINING, options.rows)):
        obs = observations(environments, rows)
        # Inference and training apart: a network keeps the layouts of 32 batch sizes, and the loops have 16 each.
        found = timed({"packed": partial(packed, what, model, obs), "loop": partial(looped, what, model, obs)}, options)
        yield line(f"the paper's, {what}", environments, model, rows, found)


def measure_synthetic(config: NetConfig, options: argparse.Namespace) -> Iterator[str]:
    """The lines of the synthetic environments: equal rows of each, then equal rows in total."""
    sets = {count: synthetic(count) for count in SYNTHETIC_COUNTS}
    models = {count: build(config, environments) for count, environments in sets.items()}
    largest = max(sets)
    for what, rows in ((INFERENCE, options.copies), (TRAINING, max(1, options.rows // 4))):
        for kind, rows_of in (
            ("equal rows of each", dict.fromkeys(sets, rows)),
            ("equal rows in all", {count: rows * largest // count for count in sets}),
        ):
            tasks = {
                str(count): partial(packed, what, models[count], observations(environments, rows_of[count]))
                for count, environments in sets.items()
            }
            found = timed(tasks, options)
            for count, environments in sets.items():
                label = f"synthetic, {what}, {kind}"
                yield line(label, environments, models[count], rows_of[count], {"packed": found[str(count)]})


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, help="of PyTorch; default: as many as it takes by itself")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--network", choices=("agnostic", "generated"), default="agnostic")
    parser.add_argument("--d-model", type=int, default=64, help="width of the network")
    parser.add_argument("--paper", action="store_true", help="AgnosticNetConfig.paper()")
    parser.add_argument("--copies", type=int, default=8, help="of each environment in inference")
    parser.add_argument("--rows", type=int, default=128, help="of each environment in a training step")
    parser.add_argument(
        "--without",
        nargs="+",
        default=[],
        choices=[env.env_id for env in SIXTEEN],
        metavar="ENV",
        help="of the paper's sixteen, to leave out",
    )
    parser.add_argument("--no-synthetic", action="store_true", help="only the paper's")
    parser.add_argument("--min-seconds", type=float, default=0.2, help="of each task in each repetition, at least")
    parser.add_argument("--short", action="store_true", help="try the benchmark itself: fewer rows and repetitions")
    parser.add_argument("--output", type=Path, help="also write the table to this file")
    options = parser.parse_args(arguments)
    if options.short:
        options.repeats, options.min_seconds, options.rows, options.d_model = 2, 0.01, 4, 16
    if options.threads:
        torch.set_num_threads(options.threads)
    config: NetConfig = AgnosticNetConfig(d_model=options.d_model, num_transformer_layers=1)
    name = f"d_model {options.d_model}"
    if options.network == "generated":
        config, name = GeneratedNetConfig(width=options.d_model), f"generated, width {options.d_model}"
    elif options.paper:
        config, name = AgnosticNetConfig.paper(dropout=0.0), "the network of the paper, no dropout"
    load = os.getloadavg()[0]
    lines = list(measure_sixteen(config, options))
    if not options.no_synthetic:
        lines += measure_synthetic(config, options)
    text = "\n".join(
        [
            f"{describe_machine()}, PyTorch {torch.__version__}; {torch.get_num_threads()} threads, float32, "
            f"{name}; {options.repeats} repetitions; load before the start {load:.1f}.",
            "",
            "| environments | what | rows of each | tokens per row | packed, ms | loop, ms | loop/packed | "
            "the same by CPU time | µs per row, packed | CPU µs per row | parameters |",
            "|---:|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
            *lines,
        ]
    )
    publish(text, options.output)


if __name__ == "__main__":
    main()
