"""Data through the driver of a run, copies of the weights, and the time until runners use new weights.

    python benchmarks/cluster.py [--iterations 5] [--short] [--output FILE]

`MultiEnvPPO` with two remote learners and two runners on each of two nodes. The nodes are processes of this machine,
each with its own object store: data between them is copied as between machines, only faster.

- *experience*: bytes that runners hand to learners in an iteration.
- *received* and *sent*: bytes that the driver deserialises and serialises in that time. They should be independent of
  the fragment's length. Fragments below 100 KB are in both: Ray sends small results together with their references,
  through the driver.
- *copies of the weights*: number of nodes whose object store has the new weights when runners have them: one for each
  node with runners, whatever their number, and the driver's.
- *until used*: from the end of the last learner's last gradient step to the first forward of the last runner with the
  new weights, by the machine's clock. In between are the driver's metrics, the weights' way by the driver, the end of
  `train()` and the beginning of the next.
"""

from __future__ import annotations

import argparse
import logging
import os
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ray
from publish import publish
from ray.cluster_utils import Cluster
from ray.experimental import get_object_locations
from timing import Spread

from rllib_multienv import AgnosticNetConfig, MultiEnvPPO, MultiEnvPPOConfig
from rllib_multienv.algorithms.ppo.learner import MultiEnvPPOLearner
from rllib_multienv.env_runners import MultiEnvRunner
from rllib_multienv.experiments.invocation import describe_machine

ENVS = ("CartPole-v1", "Acrobot-v1", "Pendulum-v1", "HalfCheetah-v4")
NODES, RUNNERS, LEARNERS = 2, 4, 2
#: Iterations before the first that counts: runners describe their environments, processes warm up.
WARM_UP = 2


class NotingLearner(MultiEnvPPOLearner):
    """Notes when the gradient steps of each update ended."""

    def build(self) -> None:
        """As any learner's."""
        self.ended: list[float] = []
        super().build()

    def after_gradient_based_update(self, **kwargs: Any) -> None:
        """As any learner's."""
        self.ended.append(time.monotonic())
        super().after_gradient_based_update(**kwargs)


class NotingRunner(MultiEnvRunner):
    """Knows when it first asked the network in a fragment."""

    began = 0.0

    def sample_fragments(self, env_ids: Any) -> tuple[Any, ...]:
        """As any runner's."""
        forward = self.module.forward_exploration

        def noting(*args: Any, **kwargs: Any) -> Any:
            self.began = time.monotonic()
            self.module.forward_exploration = forward
            return forward(*args, **kwargs)

        self.module.forward_exploration = noting
        return super().sample_fragments(env_ids)


@dataclass
class Traffic:
    """Bytes of one iteration.

    Attributes:
        received: By the driver.
        sent: By the driver.
        experience: From runners to learners.
        copies: Nodes that have the weights of the iteration's end.
    """

    received: int = 0
    sent: int = 0
    experience: int = 0
    copies: int = 0
    _put: list[Any] = field(default_factory=list)


@contextmanager
def counting(algo: MultiEnvPPO) -> Iterator[Traffic]:
    """Counts while the context is open; it should hold one iteration."""
    context = ray._private.worker.global_worker.get_serialization_context()
    sampling = algo._sampling
    serialize, deserialize, put, sample = context.serialize, context.deserialize_objects, ray.put, sampling.round
    traffic = Traffic()

    def counting_serialize(value: Any) -> Any:
        serialized = serialize(value)
        traffic.sent += serialized.total_bytes
        return serialized

    def counting_deserialize(objects: Any, *args: Any, **kwargs: Any) -> Any:
        traffic.received += sum(len(data) for data, *_ in objects if data is not None)
        return deserialize(objects, *args, **kwargs)

    def noting_put(value: Any, *args: Any, **kwargs: Any) -> Any:
        reference = put(value, *args, **kwargs)
        traffic._put.append(reference)
        return reference

    def noting_round() -> Any:
        sampled = sample()
        references = [reference for fragments in sampled.fragments.values() for reference, _ in fragments]
        for place in get_object_locations(references).values():
            traffic.experience += place["object_size"]
            traffic.received += 0 if place["node_ids"] else place["object_size"]
        return sampled

    context.serialize, context.deserialize_objects = counting_serialize, counting_deserialize
    ray.put, sampling.round = noting_put, noting_round
    try:
        yield traffic
    finally:
        context.serialize, context.deserialize_objects = serialize, deserialize
        ray.put, sampling.round = put, sample
    ask(algo, lambda runner: None)  # answered after the weights have come
    largest = max(get_object_locations(traffic._put).values(), key=lambda place: place["object_size"])
    traffic.copies = len(largest["node_ids"])


def ask(algo: MultiEnvPPO, what: Callable[[Any], Any]) -> list[Any]:
    """What ``what`` says of each runner."""
    return algo.env_runner_group.foreach_env_runner(what, local_env_runner=False)


def configure(length: int) -> MultiEnvPPOConfig:
    """The run, with fragments of ``length`` time steps."""
    return (
        MultiEnvPPOConfig()
        .environment(envs=list(ENVS))
        .env_runners(
            env_runner_cls=NotingRunner,
            num_env_runners=RUNNERS,
            num_envs_per_env_runner=8,
            rollout_fragment_length=length,
        )
        .rl_module(model_config=AgnosticNetConfig(d_model=16, num_transformer_layers=1))
        .learners(num_learners=LEARNERS, num_cpus_per_learner=1, learner_class=NotingLearner)
        .training(num_epochs=1, num_minibatches=2)
        .debugging(seed=0)
    )


def measure(length: int, iterations: int) -> tuple[list[Traffic], list[float], int]:
    """Traffic of each iteration, seconds until each iteration's weights were used, and the weights' bytes."""
    algo = configure(length).build_algo()
    try:
        for _ in range(WARM_UP):
            algo.train()
        traffic, delays = [], []
        for _ in range(iterations):
            with counting(algo) as found:
                algo.train()
            traffic.append(found)
        for _ in range(iterations):
            algo.train()
            ended = algo.learner_group.foreach_learner(lambda learner: learner.ended[-2])
            delays.append(max(ask(algo, lambda runner: runner.began)) - max(result.get() for result in ended))
        module = algo.learner_group.get_state(components=["learner/rl_module"], inference_only=True)
        weights = module["learner"]["rl_module"]["shared"].values()
        return traffic, delays, sum(array.nbytes for array in weights)
    finally:
        algo.stop()


@contextmanager
def two_nodes() -> Iterator[None]:
    """A cluster whose driver is on a node without runners or learners."""
    root = Path(__file__).parents[1]
    paths = [str(root), str(root / "benchmarks"), *filter(None, [os.environ.get("PYTHONPATH")])]
    os.environ["PYTHONPATH"] = os.pathsep.join(paths)
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    for _ in range(NODES):
        cluster.add_node(num_cpus=(RUNNERS + LEARNERS) // NODES)
    ray.init(address=cluster.address, log_to_driver=False)
    try:
        yield
    finally:
        ray.shutdown()
        cluster.shutdown()


def thousands(numbers: list[int]) -> str:
    """Kilobytes, median and range."""
    found = Spread.of([number / 1000 for number in numbers])
    return f"{found.median:,.1f} ({found.low:,.1f} to {found.high:,.1f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--iterations", type=int, default=5)
    parser.add_argument("--short", action="store_true", help="try the benchmark itself")
    parser.add_argument("--output", type=Path, help="also write the table to this file")
    options = parser.parse_args()
    lengths: tuple[int, ...] = (32, 128, 512)
    if options.short:
        lengths, options.iterations = (8,), 1
    warnings.filterwarnings("ignore", category=DeprecationWarning)
    logging.getLogger("ray").setLevel(logging.ERROR)
    lines = [
        "| fragment, time steps | experience, KB | received, KB | sent, KB | copies of the weights | until used, ms |",
        "|---:|---:|---:|---:|---:|---:|",
    ]
    with two_nodes():
        for length in lengths:
            traffic, delays, weights = measure(length, options.iterations)
            cells = [str(length)]
            cells += [thousands([getattr(t, name) for t in traffic]) for name in ("experience", "received", "sent")]
            cells += [", ".join(map(str, sorted({t.copies for t in traffic})))]
            cells += [Spread.of(delays).text(scale=1000)]
            lines.append("| " + " | ".join(cells) + " |")
    head = (
        f"{describe_machine()}; ray {ray.__version__}; {len(ENVS)} environments x 8 copies, {RUNNERS} runners and "
        f"{LEARNERS} learners on {NODES} nodes (processes of this machine), weights of {weights / 1000:,.1f} KB. "
        f"Numbers of an iteration, median and range of {options.iterations}."
    )
    text = "\n".join([head, "", *lines])
    publish(text, options.output)


if __name__ == "__main__":
    main()
