"""Adaptation by gradients: the meta-gradient, the linear baseline, and the policies of many tasks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import pytest
import torch
from inner_rows import random_rows
from interfaces import interface
from torch import Tensor, nn

from rllib_multienv import AgnosticNetConfig, GeneratedNetConfig, MLPNetConfig, SpecificNetConfig
from rllib_multienv.inner_loop import InnerLoop, StepSizes, TaskPolicies, TaskRows, linear_advantages, start_parameters
from rllib_multienv.nets.actor_critic import OneEnvironmentActorCritic, Part

CLIP = 0.3


class TwoParameters(OneEnvironmentActorCritic):
    """A choice between two actions with logits ``a x + b`` and 0."""

    name = "a toy"
    twice_differentiable = True

    def __init__(self) -> None:
        super().__init__({"env": interface(1, 2, True)})
        self.a, self.b = nn.Parameter(torch.tensor(0.5)), nn.Parameter(torch.tensor(-0.3))

    def encode(self, part: Part, obs: Mapping[str, Tensor], media: Tensor | None = None) -> Tensor:
        return obs["env"]

    def decode(self, part: Part, rows: Tensor, counts: Mapping[str, int]) -> dict[str, Tensor]:
        first = self.a * rows + self.b  # [R, 1]
        return {"env": torch.cat([first, torch.zeros_like(first)], 1)}


@pytest.fixture(autouse=True)
def _in_double_precision() -> Any:
    torch.manual_seed(0)
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def meta_gradient(inner_loop: InnerLoop, network: Any, stages: list[TaskRows], kl_coeff: float = 0.0) -> list[Tensor]:
    own = {name: value.detach().requires_grad_() for name, value in start_parameters(network).items()}
    loss = inner_loop.meta_loss(network, "env", own, {}, stages, clip_param=CLIP, kl_coeff=kl_coeff)
    return list(torch.autograd.grad(loss, list(own.values())))


def meta_loss_at(
    inner_loop: InnerLoop, network: Any, stages: list[TaskRows], at: list[float], kl_coeff: float
) -> float:
    own = dict(zip("ab", (torch.tensor(value, requires_grad=True) for value in at), strict=True))
    return inner_loop.meta_loss(network, "env", own, {}, stages, clip_param=CLIP, kl_coeff=kl_coeff).item()


@pytest.mark.parametrize("method", ["maml", "promp"])
@pytest.mark.parametrize("steps", [1, 2])
def test_the_meta_gradient_is_that_of_finite_differences(method: Literal["maml", "promp"], steps: int) -> None:
    network = TwoParameters()
    stages = [random_rows(network, 20, seed) for seed in range(steps + 1)]
    inner_loop, kl_coeff, h = InnerLoop(method=method, lr=0.4, steps=steps), 0.2, 1e-5
    start = [network.a.item(), network.b.item()]
    for place, found in enumerate(meta_gradient(inner_loop, network, stages, kl_coeff)):
        ends = []
        for sign in (1, -1):
            moved = [value + sign * h * (number == place) for number, value in enumerate(start)]
            ends.append(meta_loss_at(inner_loop, network, stages, moved, kl_coeff))
        assert float(found) == pytest.approx((ends[0] - ends[1]) / (2 * h), rel=1e-6)


def test_the_first_order_gradient_is_that_at_the_adapted_parameters() -> None:
    network = TwoParameters()
    stages = [random_rows(network, 20, seed) for seed in range(2)]
    inner_loop = InnerLoop(method="maml", lr=0.4, order=1)
    adapted = inner_loop.adapted(network, "env", start_parameters(network), stages[0], {})
    moved = TwoParameters()
    with torch.no_grad():
        for name, parameter in start_parameters(moved).items():
            parameter.copy_(adapted[name])
    # No inner step: the plain gradient there.
    expected = meta_gradient(InnerLoop(method="maml", steps=0), moved, stages[1:])
    found = meta_gradient(inner_loop, network, stages)
    torch.testing.assert_close(found, expected)
    second = meta_gradient(InnerLoop(method="maml", lr=0.4), network, stages)
    assert not torch.allclose(torch.stack(second), torch.stack(found), rtol=1e-3)


def test_reptile_moves_the_start_to_what_is_adapted() -> None:
    network = TwoParameters()
    stages = [random_rows(network, 20, seed) for seed in range(2)]
    inner_loop = InnerLoop(method="reptile", lr=0.4)
    present: Any = start_parameters(network)
    for number, rows in enumerate(stages):
        present = inner_loop.adapted(network, "env", present, rows, {}, number=number)
    expected = [start.detach() - present[name].detach() for name, start in start_parameters(network).items()]
    torch.testing.assert_close(meta_gradient(inner_loop, network, stages), expected)


@pytest.mark.parametrize("order", [1, 2])
def test_step_sizes_are_learned(order: Literal[1, 2]) -> None:
    network = MLPNetConfig(hidden=(4,)).build({"env": interface(2, 2, False)})
    StepSizes.add_to(network, start_parameters(network), 0.1)
    stages = [random_rows(network, 10, seed) for seed in range(2)]
    parameters, sizes = start_parameters(network), StepSizes.of(network)
    assert parameters.keys() == sizes.keys()
    InnerLoop(order=order).meta_loss(network, "env", parameters, sizes, stages, clip_param=CLIP).backward()
    assert all(size.grad is not None and size.grad.abs().sum() > 0 for size in sizes.values())
    fixed = InnerLoop(lr=0.1).adapted(network, "env", parameters, stages[0], {})
    learned = InnerLoop(lr=9.0).adapted(network, "env", parameters, stages[0], sizes)
    torch.testing.assert_close(fixed, learned)


def test_later_steps_are_smaller() -> None:
    network = TwoParameters()
    rows, inner_loop = random_rows(network, 20, 0), InnerLoop(lr=0.4, lr_decay=0.5)
    start = {name: value.detach() for name, value in start_parameters(network).items()}
    ways = [
        (inner_loop.adapted(network, "env", start, rows, {}, number=number)["a"] - start["a"]).item()
        for number in (0, 2)
    ]
    assert ways[1] / ways[0] == pytest.approx(0.25)


@pytest.mark.parametrize("config", [MLPNetConfig(hidden=(4,)), GeneratedNetConfig(width=8), SpecificNetConfig()])
def test_networks_have_second_derivatives(config: Any) -> None:
    network = config.build({"env": interface(3, 2, False)}).double()
    stages = [random_rows(network, 12, seed) for seed in range(2)]
    inner_loop, h = InnerLoop(lr=0.2), 1e-6
    inner_loop.check(network, config.type)
    own = {name: value.detach().requires_grad_() for name, value in start_parameters(network).items()}
    found = torch.autograd.grad(
        inner_loop.meta_loss(network, "env", own, {}, stages, clip_param=CLIP), list(own.values()), allow_unused=True
    )
    way = {name: torch.randn_like(value) for name, value in own.items()}
    ends = []
    for sign in (1, -1):
        moved = {name: (value + sign * h * way[name]).detach().requires_grad_() for name, value in own.items()}
        ends.append(inner_loop.meta_loss(network, "env", moved, {}, stages, clip_param=CLIP).item())
    slope = sum(float((g * way[name]).sum()) for name, g in zip(own, found, strict=True) if g is not None)
    assert slope == pytest.approx((ends[0] - ends[1]) / (2 * h), rel=1e-4)


def test_the_sequence_network_says_that_it_is_first_order_only() -> None:
    network = AgnosticNetConfig(d_model=8, d_state=4).build({"env": interface(3, 2, False)})
    with pytest.raises(ValueError, match=r"order=2: the 'agnostic' network has first derivatives only. Set .*order=1"):
        InnerLoop().check(network, "agnostic")
    InnerLoop(order=1).check(network, "agnostic")


def test_the_baseline_explains_what_is_linear() -> None:
    """The reward is the observation, so that without a future the return is too, and nothing is left but noise."""
    rng = np.random.default_rng(0)
    features, noise = rng.uniform(-1, 1, (400, 1)), rng.normal(0, 0.1, 400)
    ends = np.arange(400) % 10 == 9
    found = linear_advantages(features, features[:, 0] + noise, ends, gamma=0.0, lambda_=1.0)
    assert np.corrcoef(found, noise)[0, 1] > 0.98
    assert found.mean() == pytest.approx(0, abs=1e-6) and found.std() == pytest.approx(1, abs=1e-5)


def test_advantages_end_with_the_episode() -> None:
    """Without discount they are returns, less a baseline that here depends on time alone, in some unit."""
    rewards = np.array([1.0, 0.0, 0.0, 0.0, 0.0, 5.0])
    ends = np.array([False, False, True, False, False, True])
    first, second = np.split(linear_advantages(np.zeros((6, 1)), rewards, ends, gamma=1.0, lambda_=1.0), 2)
    apart = second - first  # returns are 1, 0, 0 and 5, 5, 5
    assert apart / apart[0] == pytest.approx([1, 5 / 4, 5 / 4], rel=1e-5)


@pytest.mark.parametrize(
    "config", [MLPNetConfig(hidden=(4,)), GeneratedNetConfig(width=8), AgnosticNetConfig(d_model=8)]
)
def test_each_task_has_the_policy_that_its_own_episodes_make(config: Any) -> None:
    network = config.build({"env": interface(3, 2, False)}).double().eval()
    inner_loop = InnerLoop(lr=0.2, episodes=2, order=1)
    policies = TaskPolicies(inner_loop, network, "env", 3)
    rng, obs = np.random.default_rng(0), torch.randn(3, 3)
    start = policies(obs)
    kept = []
    for t in range(4):  # two episodes of two steps
        rows = random_rows(network, 3, t)
        columns = {name: getattr(rows, name).numpy() for name in TaskRows._fields[:-1]}
        rewards, ends = rng.normal(size=3), np.array([True, True, False]) & bool(t % 2)
        done = np.array([False, t == 3, False])  # the second task is over
        policies.observe(columns, rewards, ends, done, np.ones(3, bool))
        kept.append({**columns, "rewards": rewards, "ends": ends})
    found = policies(obs)
    torch.testing.assert_close(found[1:], start[1:])
    own = {key: np.stack([columns[key][0] for columns in kept]) for key in kept[0]}
    rows = inner_loop.rows(network, "env", own)
    adapted = inner_loop.adapted(network, "env", start_parameters(network), rows, {})
    with torch.no_grad():
        for name, parameter in start_parameters(network).items():
            parameter.copy_(adapted[name])
    torch.testing.assert_close(found[0], network.policy({"env": obs})["env"][0].detach(), check_dtype=False)
    assert not torch.allclose(found[0], start[0])
