"""MAESN's steps on latents: the meta-gradient, what they leave alone, and the policies of many tasks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from inner_rows import random_rows
from interfaces import interface
from torch import Tensor

from rllib_multienv import GeneratedNetConfig, MLPNetConfig
from rllib_multienv.inner_loop import TASK_LATENTS, TaskPolicies, TaskRows, start_parameters
from rllib_multienv.latent_loop import LatentLoop, TaskLatents, prior

TASK = 1


@pytest.fixture(autouse=True)
def _in_double_precision() -> Iterator[None]:
    torch.manual_seed(0)
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def make_network(config: Any = None, num_tasks: int = 3) -> Any:
    """Observations are one number and the noise; latents differ from task to task."""
    config = config or MLPNetConfig(hidden=(4,))
    network = config.build({"env": interface(3, 2, False)}).double()
    latents = TaskLatents(["env"], num_tasks, 2)
    network.add_module(TASK_LATENTS, latents)
    torch.nn.init.normal_(TaskLatents.of(network, "env"), std=0.5)
    return network


@pytest.mark.parametrize("config", [MLPNetConfig(hidden=(4,)), GeneratedNetConfig(width=8)])
@pytest.mark.parametrize("steps", [1, 2])
def test_the_meta_gradient_is_that_of_finite_differences(config: Any, steps: int) -> None:
    """By the policy, the latents of the tasks, and the step sizes at once."""
    network = make_network(config)
    stages = [random_rows(network, 20, seed) for seed in range(steps + 1)]
    inner_loop, h = LatentLoop(lr=0.4, steps=steps, prior_coeff=0.3), 1e-6
    sizes = {name: torch.rand(2) for name in prior(2)}

    def loss(values: dict[str, Tensor]) -> Tensor:
        trained = {name: value for name, value in values.items() if name not in sizes}
        own = {name: value for name, value in values.items() if name in sizes}
        return inner_loop.meta_loss(network, "env", inner_loop.of_task(trained, TASK), own, stages, clip_param=0.3)

    start = {**{n: v.detach() for n, v in inner_loop.trained(network, "env").items()}, **sizes}
    leaves = {name: value.clone().requires_grad_() for name, value in start.items()}
    found = torch.autograd.grad(loss(leaves), list(leaves.values()), allow_unused=True)
    of_table = dict(zip(leaves, found, strict=True))[TASK_LATENTS]
    assert of_table is not None and of_table[TASK].abs().min() > 0
    assert of_table[[0, 2]].abs().max() == 0  # of other tasks
    way = {name: torch.randn_like(value) for name, value in start.items()}
    ends = [
        loss({n: (v + sign * h * way[n]).detach().requires_grad_() for n, v in start.items()}).item()
        for sign in (1, -1)
    ]
    slope = sum(float((g * way[name]).sum()) for name, g in zip(leaves, found, strict=True) if g is not None)
    assert slope == pytest.approx((ends[0] - ends[1]) / (2 * h), rel=1e-4)


def test_steps_change_the_latent_alone() -> None:
    network = make_network()
    inner_loop = LatentLoop(lr=0.4)
    before = inner_loop.of_task(inner_loop.trained(network, "env"), TASK)
    after = inner_loop.adapted(network, "env", before, random_rows(network, 20, 0), {})
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == set(prior(2)) and before.keys() == after.keys()


def test_the_latents_before_the_steps_are_drawn_to_the_prior() -> None:
    network = make_network()
    rows = [random_rows(network, 10, 0), random_rows(network, 10, 1)]
    losses = []
    for coeff in (0.0, 0.5):
        inner_loop = LatentLoop(prior_coeff=coeff)
        start = inner_loop.of_task(inner_loop.trained(network, "env"), TASK)
        losses.append(inner_loop.meta_loss(network, "env", start, {}, rows, clip_param=0.3))
    mean, log_std = TaskLatents.of(network, "env")[TASK]
    normal = torch.distributions.Normal
    divergence = torch.distributions.kl_divergence(normal(mean, log_std.exp()), normal(0.0, 1.0)).sum()
    torch.testing.assert_close(losses[1] - losses[0], 0.5 * divergence)


def test_without_adaptation_noise_is_the_latent_of_the_prior() -> None:
    network, obs = make_network(), torch.randn(5, 3)
    expected = network.policy({"env": obs})["env"]
    torch.testing.assert_close(LatentLoop().policy(network, "env", prior(2), obs), expected)


def test_each_task_has_the_latent_that_its_own_episodes_make() -> None:
    network = make_network()
    inner_loop = LatentLoop(lr=0.2, episodes=1)
    table = TaskLatents.of(network, "env").detach()
    starts = inner_loop.latents(table)  # [3, D] each
    policies, obs = TaskPolicies(inner_loop, network, "env", 3, starts), torch.randn(3, 3)
    noise = obs[:, 1:]
    z = table[:, 0] + table[:, 1].exp() * noise  # [3, D]
    before = policies(obs)
    torch.testing.assert_close(before, network.policy({"env": torch.cat([obs[:, :1], z], 1)})["env"].detach())
    rng, kept = np.random.default_rng(0), []
    for t in range(4):
        rows = random_rows(network, 3, t)
        columns = {name: getattr(rows, name).numpy() for name in TaskRows._fields[:-1]}
        ends, done = np.array([t == 3, t == 3, False]), np.array([False, t == 3, False])  # the second task is over
        rewards = rng.normal(size=3)
        policies.observe(columns, rewards, ends, done, np.ones(3, bool))
        kept.append({**columns, "rewards": rewards, "ends": ends})
    found = policies(obs)
    torch.testing.assert_close(found[1:], before[1:])
    own = inner_loop.rows(network, "env", {key: np.stack([columns[key][0] for columns in kept]) for key in kept[0]})
    start = {name: value[0] for name, value in starts.items()}
    adapted = inner_loop.adapted(network, "env", {**start_parameters(network), **start}, own, {})
    torch.testing.assert_close(found[0], inner_loop.policy(network, "env", adapted, obs[:1])[0].detach())
    assert not torch.allclose(found[0], before[0])
