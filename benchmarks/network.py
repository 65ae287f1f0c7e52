"""Training step and inference of the agnostic network, as a share of what the processor can compute.

    python benchmarks/network.py [--threads N] [--repeats 7] [--precision float32|bf16] [--d-model 64 256] [--paper]
                                 [--sizes 17/6] [--compare] [--images] [--profile] [--short] [--output FILE]

A training step is the forward of policy and value for 256 observations and the backward of both, without an optimiser;
inference is the policy alone, without gradients, with constant weights. The network is `AgnosticNetConfig` with the
given d_model, or the paper's (`--paper`); observations and actions have the sizes of CartPole, HalfCheetah, Ant with
contact forces, and Humanoid.

**Operations** are those of the network's definition, a multiply-add as two, however a part is computed:

- linear layers, and the matrix products in the S4 kernels (in double precision, once per training step, at most 2%; not
  in inference, which keeps kernels): as PyTorch's `FlopCounterMode` counts them in forward and backward;
- attention over L > 1 tokens of width H: 4 L^2 H forward, 8 L^2 H backward (no recomputation);
- a causal convolution: L (L + 1) H forward, twice that backward (gradients of tokens and kernel).

Attention and convolution are replaced by stand-ins while counting, because the counter does not see the first on CPUs
and counts the second by its implementation. Normalisation, activations, dropout, sums and copies count as nothing.

**The ceiling** is the fastest of three large square matrix products with the same number of threads, in float32 and in
bfloat16, run in turn with the measurements. "Of ceiling" is the median over the rounds of the achieved rate over the
ceiling of the same round and precision; "by CPU time" is the same with CPU instead of wall time, which other programs
disturb less (with several threads it includes their waiting for each other). bf16 is `torch.autocast`. Freed memory is
kept, as by learners (`rllib_multienv/process.py`).

`--compare` prints instead the times of all networks for the first d_model, in turn: a training step of `--batch` rows,
and inference of 8, with the ratio to the specific network within each round. `--images` prints the same of encoders of
images of 84 x 84 x 4 alone, with the ratio to the convolutions of Mnih et al. (2015). `--profile` prints instead the
operators of a training step and the nodes of its graph by their wall time, median over the repetitions.
"""

from __future__ import annotations

import argparse
import os
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import numpy as np
import torch
from gymnasium import spaces
from publish import publish
from timing import Spread, Timing, ratio, time_in_turn
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from rllib_multienv import AgnosticNetConfig, GeneratedNetConfig, SpecificNetConfig
from rllib_multienv.experiments.invocation import describe_machine
from rllib_multienv.nets import ActorCritic, ImageEncoderConfig, NetConfig
from rllib_multienv.nets.encoders import ImageEncoder
from rllib_multienv.nets.packed import Segments
from rllib_multienv.process import keep_freed_memory
from rllib_multienv.spaces.space_spec import SpaceSpec

CEILING_SIZES = (768, 1536, 2304)
_AUTOGRAD = "autograd::engine::evaluate_function: "
DTYPES = {"float32": torch.float32, "bf16": torch.bfloat16}


def sized(env_id: str, obs_size: int, action_size: int, discrete: bool) -> SpaceSpec:
    """An environment of these sizes as a network sees it."""
    actions = spaces.Discrete(action_size) if discrete else spaces.Box(-1, 1, (action_size,))
    return SpaceSpec.from_spaces(env_id, spaces.Box(-np.inf, np.inf, (obs_size,)), actions)


ENVIRONMENTS = {
    f"{obs}/{act}": sized(f"env-{obs}-{act}", obs, act, discrete)
    for obs, act, discrete in ((4, 2, True), (17, 6, False), (111, 8, False), (376, 17, False))
}


def observations(environments: Sequence[SpaceSpec], rows: int) -> dict[str, Tensor]:
    """Noise for each environment."""
    generator = torch.Generator().manual_seed(0)
    return {env.env_id: torch.randn(rows, env.obs_size, generator=generator) for env in environments}


def build(config: NetConfig, environments: Sequence[SpaceSpec]) -> ActorCritic:
    """The network for these environments, the same at every call."""
    torch.manual_seed(0)
    return config.build({env.env_id: env for env in environments})


def training_step(
    model: ActorCritic, obs: dict[str, Tensor], precision: str = "float32", *, accumulate: bool = False
) -> None:
    """Forward and backward of policy and value; the gradients add to those that are there if ``accumulate``."""
    if not accumulate:
        model.zero_grad(set_to_none=True)
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
        found = model(obs)
    outputs = [*found.policy.values(), *found.values.values()]
    torch.stack([output.float().square().sum() for output in outputs]).sum().backward()


def inference(model: ActorCritic, obs: dict[str, Tensor], precision: str = "float32") -> dict[str, Tensor]:
    """The policy without gradients."""
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
        return model.policy(obs)


def count_operations(work: Callable[[], object]) -> int:
    """Floating-point operations of ``work`` as the module's text defines them."""
    work()  # so that kernels that are kept are there
    formulas: list[int] = []
    with _stand_ins(formulas), FlopCounterMode(display=False) as counter:
        work()
    return counter.get_total_flops() + sum(formulas)


@contextmanager
def _stand_ins(formulas: list[int]) -> Iterator[None]:
    """Put cheap operations with the same graph in the place of attention and convolution, and note what these need."""

    def note(forward: int, *inputs: Tensor) -> None:
        trained = torch.is_grad_enabled() and any(value.requires_grad for value in inputs)
        formulas.append(forward * (3 if trained else 1))

    def attention(query: Tensor, key: Tensor, value: Tensor, **_: object) -> Tensor:
        note(4 * query.numel() * key.shape[-2], query, key, value)
        return query * key + value

    def convolution(tokens: Tensor, kernel: Tensor, segments: Segments) -> Tensor:
        pairs = sum(group.count * group.length * (group.length + 1) for group in segments.groups)
        note(pairs * tokens.shape[1], tokens, kernel)
        return tokens * kernel.sum(0)

    with (
        mock.patch("torch.nn.functional.scaled_dot_product_attention", attention),
        mock.patch("rllib_multienv.nets.sequence.causal_convolution", convolution),
    ):
        yield


def ceiling_tasks(sizes: Sequence[int]) -> dict[str, Callable[[], object]]:
    """Large matrix products: ``"float32 768"`` is of two matrices of 768 x 768."""
    tasks: dict[str, Callable[[], object]] = {}
    for name, dtype in DTYPES.items():
        for size in sizes:
            left, right, out = (torch.randn(size, size).to(dtype) for _ in range(3))
            tasks[f"{name} {size}"] = lambda a=left, b=right, c=out: torch.mm(a, b, out=c)
    return tasks


def ceiling(found: Mapping[str, Timing], precision: str, sizes: Sequence[int], *, cpu: bool = False) -> list[float]:
    """Operations per second (of wall or CPU time) of the fastest matrix product of each round."""
    rates = [[2 * size**3 / seconds for seconds in found[f"{precision} {size}"].of(cpu=cpu)] for size in sizes]
    return [max(rates_of_round) for rates_of_round in zip(*rates, strict=True)]


def share_of_ceiling(count: int, timing: Timing, ceilings: Sequence[float], *, cpu: bool = False) -> float:
    """Median over the rounds of the achieved rate over the ceiling."""
    pairs = zip(timing.of(cpu=cpu), ceilings, strict=True)
    return statistics.median(count / seconds / rate for seconds, rate in pairs)


@dataclass(frozen=True)
class Measured:
    """Two lines of the table, and the ceilings of their rounds by precision."""

    lines: list[str]
    ceilings: dict[str, list[float]]


def measure(config: AgnosticNetConfig, sizes: str, options: argparse.Namespace) -> Measured:
    """The training step and the inference of one network."""
    environment = ENVIRONMENTS[sizes]
    model = build(config, [environment])
    obs = observations([environment], options.batch)
    counts = {
        "training step": count_operations(lambda: training_step(model, obs)),
        "inference": count_operations(lambda: inference(model, obs)),
    }
    found = time_in_turn(
        {
            **ceiling_tasks(options.ceiling_sizes),
            "training step": lambda: training_step(model, obs, options.precision),
            "inference": lambda: inference(model, obs, options.precision),
        },
        repeats=options.repeats,
        min_seconds=options.min_seconds,
    )
    ceilings = {precision: ceiling(found, precision, options.ceiling_sizes) for precision in DTYPES}
    of_cpu = ceiling(found, options.precision, options.ceiling_sizes, cpu=True)
    lines = []
    for what, count in counts.items():
        timing = found[what]
        share = share_of_ceiling(count, timing, ceilings[options.precision])
        by_cpu = share_of_ceiling(count, timing, of_cpu, cpu=True)
        lines.append(
            f"| {config.d_model} | {sizes} | {what} | {count / 1e9:.4g} | {timing.wall.text(1e3)} | "
            f"{count / timing.median / 1e9:.3g} | {share:.3f} | {by_cpu:.3f} |"
        )
    return Measured(lines, ceilings)


def compare(options: argparse.Namespace) -> list[str]:
    """The table of all networks."""
    width = options.d_model[0]
    configs: dict[str, NetConfig] = {
        "specific": SpecificNetConfig(width=width),
        "generated": GeneratedNetConfig(width=width),
        "agnostic, S4, no transformer": AgnosticNetConfig(d_model=width),
    }
    lines = [
        f"{describe_machine()}, PyTorch {torch.__version__}; {torch.get_num_threads()} threads, width {width}, "
        f"{options.repeats} repetitions; load before the start {os.getloadavg()[0]:.1f}.",
        "",
        "| obs/act | what | " + " | ".join(f"{name}, ms | ratio by CPU time" for name in configs) + " |",
        "|---:|---|" + "---:|---:|" * len(configs),
    ]
    for sizes in options.sizes:
        environment = ENVIRONMENTS[sizes]
        models = {name: build(config, [environment]) for name, config in configs.items()}
        for what, rows, work in (("training step", options.batch, training_step), ("inference", 8, inference)):
            obs = observations([environment], rows)
            tasks: dict[str, Callable[[], object]] = {
                name: lambda model=model, work=work, obs=obs: work(model, obs) for name, model in models.items()
            }
            found = time_in_turn(tasks, repeats=options.repeats, min_seconds=options.min_seconds)
            cells = [
                f"{timing.wall.text(1e3)} | {ratio(timing, found['specific'], cpu=True).text()}"
                for timing in found.values()
            ]
            lines.append(f"| {sizes} | {what}, {rows} rows | {' | '.join(cells)} |")
    return lines


def nature(width: int) -> nn.Module:
    """The encoder of Mnih et al. (2015), whose sizes are those of the image, with ``width`` outputs."""
    return nn.Sequential(
        *(nn.Conv2d(4, 32, 8, 4), nn.ReLU(), nn.Conv2d(32, 64, 4, 2), nn.ReLU(), nn.Conv2d(64, 64, 3), nn.ReLU()),
        *(nn.Flatten(), nn.Linear(64 * 7 * 7, width), nn.ReLU()),
    )


def compare_images(options: argparse.Namespace) -> list[str]:
    """The table of encoders of images."""
    config = ImageEncoderConfig()
    encoders: dict[str, nn.Module] = {
        "Nature CNN": nature(config.width),
        "default": ImageEncoder(config),
        "paper()": ImageEncoder(ImageEncoderConfig.paper()),
    }

    def train(encoder: nn.Module, images: Tensor) -> None:
        encoder.zero_grad(set_to_none=True)
        encode(encoder, images).square().sum().backward()

    def encode(encoder: nn.Module, images: Tensor) -> Tensor:
        encoded: Tensor = encoder(images if isinstance(encoder, ImageEncoder) else images.float() / 255)
        return encoded

    lines = [
        f"{describe_machine()}, PyTorch {torch.__version__}; {torch.get_num_threads()} threads, images of 84 x 84 x 4 "
        f"to {config.width} features, {options.repeats} repetitions; load before the start {os.getloadavg()[0]:.1f}.",
        "",
        "| encoder | parameters | what | ms | ratio by CPU time |",
        "|---|---:|---|---:|---:|",
    ]
    for what, rows, work in (
        (f"training step, {options.batch} rows", options.batch, train),
        ("inference, 8 rows", 8, torch.no_grad()(encode)),
    ):
        images = torch.randint(256, (rows, 4, 84, 84), dtype=torch.uint8)
        tasks: dict[str, Callable[[], object]] = {
            name: lambda encoder=encoder, work=work, images=images: work(encoder, images)
            for name, encoder in encoders.items()
        }
        found = time_in_turn(tasks, repeats=options.repeats, min_seconds=options.min_seconds)
        for name, timing in found.items():
            size = sum(parameter.numel() for parameter in encoders[name].parameters())
            relative = ratio(timing, found["Nature CNN"], cpu=True).text()
            lines.append(f"| {name} | {size:,} | {what} | {timing.wall.text(1e3)} | {relative} |")
    return lines


def operators(config: AgnosticNetConfig, sizes: str, options: argparse.Namespace, top: int = 15) -> list[str]:
    """The operators of a training step by the time in themselves, the graph's nodes by that of all they call."""
    environment = ENVIRONMENTS[sizes]
    model = build(config, [environment])
    obs = observations([environment], options.batch)
    for _ in range(2):
        training_step(model, obs, options.precision)
    itself: dict[str, list[float]] = {}
    with_calls: dict[str, list[float]] = {}
    calls: dict[str, int] = {}
    for _ in range(options.repeats):
        with profile(activities=[ProfilerActivity.CPU]) as found:
            training_step(model, obs, options.precision)
        for event in found.key_averages():
            itself.setdefault(event.key, []).append(event.self_cpu_time_total / 1e3)
            with_calls.setdefault(event.key, []).append(event.cpu_time_total / 1e3)
            calls[event.key] = event.count
    total = sum(statistics.median(times) for times in itself.values())
    # The package's own autograd functions begin with an underscore; their backward is among the nodes of autograd.
    own = {name for name in calls if name.startswith("_") and not name.endswith("Backward")}
    nodes = {name: times for name, times in with_calls.items() if name in own or name.startswith(_AUTOGRAD)}

    def lines_of(times_of: Mapping[str, list[float]]) -> list[str]:
        medians = {name: statistics.median(times) for name, times in times_of.items()}
        largest = sorted(medians, key=lambda name: -medians[name])[:top]
        return [
            f"| {name.removeprefix(_AUTOGRAD)} | {medians[name]:.3g} | {medians[name] / total:.1%} | {calls[name]} |"
            for name in largest
        ]

    return [
        f"d_model {config.d_model}, {sizes}, {options.precision}, batch {options.batch}: a training step of "
        f"{total:.4g} ms under the profiler (medians of {options.repeats}), with "
        f"{sum(count for name, count in calls.items() if name.startswith('aten::'))} operators",
        "",
        "| operator | ms in itself | share | calls |",
        "|---|---:|---:|---:|",
        *lines_of(itself),
        "",
        "| node of the graph | ms with what it calls | share | calls |",
        "|---|---:|---:|---:|",
        *lines_of(nodes),
    ]


def table(configs: Sequence[AgnosticNetConfig], options: argparse.Namespace) -> list[str]:
    """The table of all measurements, with what it was taken on."""
    load = os.getloadavg()[0]
    found = [measure(config, sizes, options) for config in configs for sizes in options.sizes]
    lines = [
        f"{describe_machine()}, PyTorch {torch.__version__}; {torch.get_num_threads()} threads, {options.precision}, "
        f"{'paper' if options.paper else 'default'} sizes otherwise, batch {options.batch}; "
        f"{options.repeats} repetitions; load before the start {load:.1f}.",
        "",
        "| d_model | obs/act | what | GFLOP | ms, median (range) | GFLOP/s | of ceiling | by CPU time |",
        "|---:|---:|---|---:|---:|---:|---:|---:|",
        *(line for measured in found for line in measured.lines),
        "",
    ]
    for precision in DTYPES:
        rates = Spread.of([rate / 1e9 for measured in found for rate in measured.ceilings[precision]])
        lines.append(f"Ceiling in {precision}, over all rounds: {rates.text()} GFLOP/s.")
    return lines


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, help="of PyTorch; default: as many as it takes by itself")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--precision", choices=tuple(DTYPES), default="float32")
    parser.add_argument("--d-model", type=int, nargs="+", default=[64, 256])
    parser.add_argument("--paper", action="store_true", help="AgnosticNetConfig.paper(), d_model 256 only")
    parser.add_argument("--sizes", nargs="+", choices=tuple(ENVIRONMENTS), default=list(ENVIRONMENTS))
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--min-seconds", type=float, default=0.2, help="of each task in each repetition, at least")
    parser.add_argument("--compare", action="store_true", help="all networks instead")
    parser.add_argument("--images", action="store_true", help="encoders of images instead")
    parser.add_argument("--profile", action="store_true", help="the operators of a training step instead")
    parser.add_argument("--short", action="store_true", help="try the benchmark itself: smaller sizes, few repetitions")
    parser.add_argument("--output", type=Path, help="also write what is printed to this file")
    options = parser.parse_args(arguments)
    options.ceiling_sizes = CEILING_SIZES
    if options.short:
        options.repeats, options.min_seconds, options.ceiling_sizes = 2, 0.01, (512,)
        options.sizes = [sizes for sizes in options.sizes if ENVIRONMENTS[sizes].obs_size < 100]
        options.d_model = [size for size in options.d_model if size < 100] or [64]
    if options.threads:
        torch.set_num_threads(options.threads)
    keep_freed_memory()  # as learners do
    configs = [AgnosticNetConfig(d_model=size, num_transformer_layers=1) for size in options.d_model]
    if options.paper:
        configs = [AgnosticNetConfig.paper()]
    if options.compare:
        lines = compare(options)
    elif options.images:
        lines = compare_images(options)
    elif options.profile:
        blocks = [operators(config, sizes, options) for config in configs for sizes in options.sizes]
        lines = [line for block in blocks for line in [*block, ""]][:-1]
    else:
        lines = table(configs, options)
    text = "\n".join(lines)
    publish(text, options.output)


if __name__ == "__main__":
    main()
