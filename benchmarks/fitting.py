"""Supervised fitting of functions of several environments' observations: learning without reinforcement.

    python benchmarks/fitting.py [--steps 1000] [--rates 5e-4 1e-3] [--short] [--output FILE]

Four environments with 3, 8, 11 and 11 observations; policy means (or logits) and values are trained to equal fixed
random functions of normal observations. Adam, batch 128 of each environment, gradients clipped at 0.5. The first table
has the mean squared error over the variance of the target on other observations, mean over the environments: policy /
value.

In the second table the policies follow moving targets: every 40 steps, as many as an update of PPO has, 0.3 times
another random function is added to each. It has the mean squared error at the end of the 40 steps over the mean square
of the addition, after the first, the fourth and the eighth move, and for each environment the mean from the third on. A
network that cannot follow at all would have 1, 4 and 8.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from network import sized
from publish import publish
from torch import Tensor

from rllib_multienv.nets import AgnosticNetConfig, GeneratedNetConfig, NetConfig, SpecificNetConfig

ENVS: dict[str, Any] = {
    env_id: sized(env_id, obs, actions, discrete)
    for env_id, obs, actions, discrete in (
        ("Pendulum-v1", 3, 1, False),
        ("InvertedDoublePendulum-v4", 11, 1, False),
        ("LunarLander-v3", 8, 4, True),
        ("Hopper-v4", 11, 3, False),
    )
}
NETWORKS: dict[str, NetConfig] = {
    "specific, width 64": SpecificNetConfig(width=64),
    "agnostic, d_model 32, without codes": AgnosticNetConfig(d_model=32, num_transformer_layers=1, position_codes=0),
    "agnostic, d_model 32": AgnosticNetConfig(d_model=32, num_transformer_layers=1),
    "agnostic, d_model 64, without codes": AgnosticNetConfig(d_model=64, num_transformer_layers=1, position_codes=0),
    "agnostic, d_model 64": AgnosticNetConfig(d_model=64, num_transformer_layers=1),
    "agnostic, d_model 64, no transformer": AgnosticNetConfig(d_model=64),
    "generated, width 64": GeneratedNetConfig(),
}
BATCH, TEST = 128, 512
UNITS = 32
MOVE_STEPS, MOVE_SIZE, MOVES = 40, 0.3, 8


def random_function(seed: int, inputs: int, outputs: int) -> Callable[[Tensor], Tensor]:
    """A wide layer of tanh units, ``[B, inputs]`` to ``[B, outputs]``."""
    generator = torch.Generator().manual_seed(seed)
    first = torch.randn(inputs, UNITS, generator=generator) * 1.5 / math.sqrt(inputs)
    bias = torch.randn(UNITS, generator=generator) / 2
    last = torch.randn(UNITS, outputs, generator=generator) * 1.5 / math.sqrt(UNITS)
    return lambda x: torch.tanh(x @ first + bias) @ last


class Fit:
    """A network, its targets, and the optimiser."""

    def __init__(self, config: NetConfig, rate: float, seed: int) -> None:
        torch.manual_seed(seed)
        self.network = config.build(ENVS)
        self.optimizer = torch.optim.Adam(self.network.parameters(), lr=rate, eps=1e-5)
        self.sizes = [(env.obs_size, env.action_size) for env in ENVS.values()]
        self.policies = [random_function(10 + k, *size) for k, size in enumerate(self.sizes)]
        self.values = [random_function(50 + k, inputs, 1) for k, (inputs, _) in enumerate(self.sizes)]
        self.generator = torch.Generator().manual_seed(seed + 1)
        self.test = self.draw(TEST)

    def draw(self, size: int) -> dict[str, Tensor]:
        """Observations of every environment."""
        return {e: torch.randn(size, env.obs_size, generator=self.generator) for e, env in ENVS.items()}

    def pairs(self, policies: Mapping[str, Tensor], obs: Mapping[str, Tensor]) -> list[tuple[Tensor, Tensor]]:
        """Output and target of each policy."""
        found = []
        for k, (env_id, env) in enumerate(ENVS.items()):
            policy, wanted = policies[env_id][:, : env.action_size], self.policies[k](obs[env_id])
            if env.discrete:  # a constant added to all logits changes nothing
                policy, wanted = (x - x.mean(1, keepdim=True) for x in (policy, wanted))
            found.append((policy, wanted))
        return found

    def errors(self, obs: Mapping[str, Tensor]) -> list[tuple[Tensor, Tensor]]:
        """Squared errors over variances, of policy and value, for every environment."""
        policies, values, *_ = self.network(obs)
        of_values = [(values[env_id], self.values[k](obs[env_id])[:, 0]) for k, env_id in enumerate(ENVS)]

        def error(given: Tensor, wanted: Tensor) -> Tensor:
            return (given - wanted).square().mean() / wanted.var()

        return [(error(*p), error(*v)) for p, v in zip(self.pairs(policies, obs), of_values, strict=True)]

    def step(self) -> None:
        """One gradient step on fresh observations."""
        self.optimizer.zero_grad()
        torch.stack([error for pair in self.errors(self.draw(BATCH)) for error in pair]).sum().backward()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), 0.5)
        self.optimizer.step()

    def move(self, number: int) -> None:
        """Add another random function to each policy's target; the first replaces it."""
        added = [random_function(1000 + 100 * number + k, *size) for k, size in enumerate(self.sizes)]
        old = self.policies
        self.policies = [
            (lambda x, k=k: MOVE_SIZE * added[k](x) + (old[k](x) if number else 0.0)) for k in range(len(added))
        ]

    @torch.no_grad()
    def distances(self) -> list[float]:
        """Distance of each policy from its target, in units of one move."""
        policies = self.network.policy(self.test)
        return [float((p - wanted).square().mean()) / MOVE_SIZE**2 for p, wanted in self.pairs(policies, self.test)]

    @torch.no_grad()
    def score(self) -> tuple[float, float]:
        """Errors of policy and value on the test's observations, means over the environments."""
        policy, value = torch.tensor(self.errors(self.test)).mean(0).tolist()
        return policy, value


def fixed(networks: Mapping[str, NetConfig], rates: Sequence[float], marks: Sequence[int], seed: int) -> list[str]:
    """The first table."""
    lines = [
        "| network | learning rate | " + " | ".join(f"{mark:,} steps" for mark in marks) + " | CPU ms a step |",
        "|---|---:|" + "---:|" * (len(marks) + 1),
    ]
    for name, config in networks.items():
        for rate in rates:
            fit, cells = Fit(config, rate, seed), [name, f"{rate:g}"]
            start = time.process_time()
            for step in range(1, marks[-1] + 1):
                fit.step()
                if step in marks:
                    cells.append("{:.3f} / {:.3f}".format(*fit.score()))
            cells.append(f"{1000 * (time.process_time() - start) / marks[-1]:.1f}")
            lines.append("| " + " | ".join(cells) + " |")
    return lines


def moving(networks: Mapping[str, NetConfig], rates: Sequence[float], moves: int, seed: int) -> list[str]:
    """The second table."""
    marks = sorted({1, (moves + 1) // 2, moves})
    titles = [f"move {mark}" for mark in marks] + list(ENVS)
    lines = ["| network | learning rate | " + " | ".join(titles) + " |", "|---|---:|" + "---:|" * len(titles)]
    for name, config in networks.items():
        for rate in rates:
            fit, found = Fit(config, rate, seed), []
            for number in range(moves):
                fit.move(number)
                for _ in range(MOVE_STEPS):
                    fit.step()
                found.append(fit.distances())
            of_moves = torch.tensor(found)  # [moves, environments]
            numbers = [of_moves[mark - 1].mean() for mark in marks] + [*of_moves[min(2, moves - 1) :].mean(0)]
            lines.append(f"| {name} | {rate:g} | " + " | ".join(f"{float(n):.2f}" for n in numbers) + " |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--rates", type=float, nargs="+", default=[5e-4, 1e-3])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--short", action="store_true", help="try the benchmark itself")
    parser.add_argument("--output", type=Path, help="also write the table to this file")
    options = parser.parse_args()
    torch.set_num_threads(1)
    networks = dict(NETWORKS)
    if options.short:
        options.steps, options.rates = 20, [1e-3]
        networks = {name: networks[name] for name in ("specific, width 64", "agnostic, d_model 32")}
    marks = sorted({max(1, options.steps // 10), max(1, options.steps * 3 // 10), options.steps})
    lines = fixed(networks, options.rates, marks, options.seed)
    lines += ["", *moving(networks, options.rates, 2 if options.short else MOVES, options.seed)]
    text = "\n".join([f"torch {torch.__version__}; seed {options.seed}", "", *lines])
    publish(text, options.output)


if __name__ == "__main__":
    main()
