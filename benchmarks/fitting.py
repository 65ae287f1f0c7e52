"""How fast networks fit functions of the observations of several environments at once: learning without reinforcement.

    python benchmarks/fitting.py [--steps 1000] [--rates 5e-4 1e-3] [--short] [--output FILE]

Four environments with 3, 8, 11 and 11 observations; policy means (or logits) and values are to be fixed random
functions of normal observations. Adam, batch 128 of each environment, gradients clipped at 0.5. The table has the mean
squared error over the variance of what is to be fitted, on other observations, as the mean over the environments:
policy / value.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from publish import publish
from torch import Tensor

from rllib_multienv.nets import AgnosticNetConfig, NetConfig, SpecificNetConfig

ENVS: dict[str, Any] = {
    env_id: SimpleNamespace(
        obs_size=obs, action_size=actions, discrete=discrete, action_low=(-1.0,) * actions, action_high=(1.0,) * actions
    )
    for env_id, obs, actions, discrete in (
        ("Pendulum-v1", 3, 1, False),
        ("InvertedDoublePendulum-v4", 11, 1, False),
        ("LunarLander-v3", 8, 4, True),
        ("Hopper-v4", 11, 3, False),
    )
}
NETWORKS: dict[str, NetConfig] = {
    "specific, width 64": SpecificNetConfig(width=64),
    "agnostic, d_model 32": AgnosticNetConfig(d_model=32),
    "agnostic, d_model 32, 32 codes": AgnosticNetConfig(d_model=32, position_codes=32),
    "agnostic, d_model 64": AgnosticNetConfig(d_model=64),
    "agnostic, d_model 64, 64 codes": AgnosticNetConfig(d_model=64, position_codes=64),
}
BATCH, TEST = 128, 512
UNITS = 32


def random_function(seed: int, inputs: int, outputs: int) -> Callable[[Tensor], Tensor]:
    """A wide layer of tanh units, ``[B, inputs]`` to ``[B, outputs]``."""
    generator = torch.Generator().manual_seed(seed)
    first = torch.randn(inputs, UNITS, generator=generator) * 1.5 / math.sqrt(inputs)
    bias = torch.randn(UNITS, generator=generator) / 2
    last = torch.randn(UNITS, outputs, generator=generator) * 1.5 / math.sqrt(UNITS)
    return lambda x: torch.tanh(x @ first + bias) @ last


class Fit:
    """A network, what it is to fit, and the optimiser."""

    def __init__(self, config: NetConfig, rate: float, seed: int) -> None:
        torch.manual_seed(seed)
        self.network = config.build(ENVS)
        self.optimizer = torch.optim.Adam(self.network.parameters(), lr=rate, eps=1e-5)
        sizes = [(env.obs_size, env.action_size) for env in ENVS.values()]
        self.policies = [random_function(10 + k, inputs, outputs) for k, (inputs, outputs) in enumerate(sizes)]
        self.values = [random_function(50 + k, inputs, 1) for k, (inputs, _) in enumerate(sizes)]
        self.generator = torch.Generator().manual_seed(seed + 1)
        self.test = self.draw(TEST)

    def draw(self, size: int) -> dict[str, Tensor]:
        """Observations of every environment."""
        return {e: torch.randn(size, env.obs_size, generator=self.generator) for e, env in ENVS.items()}

    def errors(self, obs: Mapping[str, Tensor]) -> list[tuple[Tensor, Tensor]]:
        """Squared errors over variances, of policy and value, for every environment."""
        policies, values = self.network(obs)
        found = []
        for k, (env_id, env) in enumerate(ENVS.items()):
            policy, wanted = policies[env_id][:, : env.action_size], self.policies[k](obs[env_id])
            if env.discrete:  # what all logits have in common means nothing
                policy, wanted = (x - x.mean(1, keepdim=True) for x in (policy, wanted))
            value, wanted_value = values[env_id], self.values[k](obs[env_id])[:, 0]
            found.append(
                (
                    (policy - wanted).square().mean() / wanted.var(),
                    (value - wanted_value).square().mean() / wanted_value.var(),
                )
            )
        return found

    def step(self) -> None:
        """One gradient step on fresh observations."""
        self.optimizer.zero_grad()
        torch.stack([error for pair in self.errors(self.draw(BATCH)) for error in pair]).sum().backward()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), 0.5)
        self.optimizer.step()

    @torch.no_grad()
    def score(self) -> tuple[float, float]:
        """Errors of policy and value on the test's observations, means over the environments."""
        policy, value = torch.tensor(self.errors(self.test)).mean(0).tolist()
        return policy, value


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
        networks = {name: networks[name] for name in ("specific, width 64", "agnostic, d_model 32, 32 codes")}
    marks = sorted({max(1, options.steps // 10), max(1, options.steps * 3 // 10), options.steps})
    lines = [
        "| network | learning rate | " + " | ".join(f"{mark:,} steps" for mark in marks) + " | CPU ms a step |",
        "|---|---:|" + "---:|" * (len(marks) + 1),
    ]
    for name, config in networks.items():
        for rate in options.rates:
            fit, cells = Fit(config, rate, options.seed), [name, f"{rate:g}"]
            start = time.process_time()
            for step in range(1, options.steps + 1):
                fit.step()
                if step in marks:
                    cells.append("{:.3f} / {:.3f}".format(*fit.score()))
            cells.append(f"{1000 * (time.process_time() - start) / options.steps:.1f}")
            lines.append("| " + " | ".join(cells) + " |")
    text = "\n".join([f"torch {torch.__version__}; seed {options.seed}", "", *lines])
    publish(text, options.output)


if __name__ == "__main__":
    main()
