"""Action values: the same numbers packed as one at a time, the same parameters for any environments."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from torch import nn

from rllib_multienv.nets import (
    AgnosticNetConfig,
    MLPNetConfig,
    NetConfig,
    SingleNetConfig,
    SpecificNetConfig,
    build_action_values,
)


@dataclass(frozen=True)
class Sizes:
    description: str
    obs_size: int
    action_size: int
    discrete: bool
    action_low: tuple[float, ...] = ()
    action_high: tuple[float, ...] = ()


def box(description: str, obs_size: int, action_size: int) -> Sizes:
    return Sizes(description, obs_size, action_size, False, (-1.0,) * action_size, (1.0,) * action_size)


INTERFACES = {
    "cart": Sizes("cart", 4, 2, True),
    "ant": box("ant", 27, 8),
    "acrobot": Sizes("acrobot", 6, 3, True),
    "pendulum": box("pendulum", 3, 1),
    "reacher": box("reacher", 11, 2),
}
TINY = AgnosticNetConfig(d_model=8, d_state=4)


def batch(generator: torch.Generator, env_id: str, size: int) -> tuple[torch.Tensor, torch.Tensor]:
    interface = INTERFACES[env_id]
    obs = torch.randn(size, interface.obs_size, generator=generator)
    if interface.discrete:
        return obs, torch.randint(interface.action_size, (size,), generator=generator)
    return obs, torch.rand(size, interface.action_size, generator=generator) * 2 - 1


@pytest.mark.parametrize("embedding", ["s4", "s4d", "gru"])
@pytest.mark.parametrize("context", ["computed", "embedding", "none"])
def test_packed_equals_one_at_a_time(embedding: str, context: str) -> None:
    torch.manual_seed(0)
    config = AgnosticNetConfig(d_model=8, d_state=4, embedding=embedding, context=context)
    values = build_action_values(config, INTERFACES)
    generator = torch.Generator().manual_seed(1)
    batches = {env_id: batch(generator, env_id, 2 + n) for n, env_id in enumerate(INTERFACES)}
    obs, actions = ({env_id: pair[i] for env_id, pair in batches.items()} for i in (0, 1))
    together = values(obs, actions)
    for env_id in INTERFACES:
        assert together[env_id].shape == (2, len(obs[env_id]))
        alone = values({env_id: obs[env_id]}, {env_id: actions[env_id]})[env_id]
        torch.testing.assert_close(together[env_id], alone, rtol=1e-4, atol=1e-5)


def test_no_parameter_belongs_to_an_environment() -> None:
    few = build_action_values(TINY, {"cart": INTERFACES["cart"]}).state_dict()
    many = build_action_values(TINY, INTERFACES)
    many.load_state_dict(few, strict=True)
    assert {name: p.shape for name, p in many.state_dict().items()} == {name: p.shape for name, p in few.items()}


@pytest.mark.parametrize(
    "config", [TINY, MLPNetConfig(hidden=(16, 16)), SingleNetConfig(width=8)], ids=["agnostic", "mlp", "single"]
)
@pytest.mark.parametrize("env_id", ["acrobot", "reacher"])
def test_every_estimate_depends_on_observation_and_action(config: NetConfig, env_id: str) -> None:
    torch.manual_seed(0)
    values = build_action_values(config, {env_id: INTERFACES[env_id]})
    generator = torch.Generator().manual_seed(1)
    obs, actions = batch(generator, env_id, 5)
    before = values({env_id: obs}, {env_id: actions})[env_id]
    other_actions = (actions + 1) % 3 if INTERFACES[env_id].discrete else -actions
    assert (values({env_id: obs}, {env_id: other_actions})[env_id] != before).all()
    assert (values({env_id: -obs}, {env_id: actions})[env_id] != before).all()
    assert (before[0] != before[1]).all()  # two estimates, not one twice


def test_a_value_does_not_depend_on_the_order_in_which_observation_and_action_could_be_confused() -> None:
    # [obs 3, action 1] and [obs 2, action 2] have the same four numbers; only positions tell them apart.
    torch.manual_seed(0)
    values = build_action_values(TINY, {"a": box("a", 3, 1), "b": box("b", 2, 2)})
    numbers = torch.rand(5, 4) * 2 - 1
    found = values({"a": numbers[:, :3], "b": numbers[:, :2]}, {"a": numbers[:, 3:], "b": numbers[:, 2:]})
    assert (found["a"] - found["b"]).abs().max() > 1e-4


def test_discrete_values_are_those_of_the_actions_taken() -> None:
    torch.manual_seed(0)
    values = build_action_values(MLPNetConfig(hidden=(16,)), {"acrobot": INTERFACES["acrobot"]})
    obs = torch.randn(1, 6).expand(3, 6)
    every = values({"acrobot": obs}, {"acrobot": torch.arange(3)})["acrobot"]
    again = values({"acrobot": obs}, {"acrobot": torch.tensor([2, 1, 0])})["acrobot"]
    torch.testing.assert_close(again, every.flip(1))


def test_mlp_estimates_are_plain_mlps() -> None:
    torch.manual_seed(0)
    values = build_action_values(MLPNetConfig(hidden=(16, 8), activation="relu"), {"reacher": INTERFACES["reacher"]})
    obs, actions = batch(torch.Generator().manual_seed(1), "reacher", 7)
    found = values({"reacher": obs}, {"reacher": actions})["reacher"]
    for estimate in range(2):
        hidden = torch.cat([obs, actions], 1)
        for number, (weight, bias) in enumerate(zip(values.weights, values.biases, strict=True)):
            hidden = (hidden if number == 0 else nn.functional.relu(hidden)) @ weight[estimate] + bias[estimate]
        torch.testing.assert_close(found[estimate], hidden[:, 0])


def test_single_estimates_have_no_dropout() -> None:
    values = build_action_values(SingleNetConfig(width=8, dropout=0.5), {"reacher": INTERFACES["reacher"]})
    obs, actions = batch(torch.Generator().manual_seed(1), "reacher", 7)
    found = [values({"reacher": obs}, {"reacher": actions})["reacher"] for _ in range(2)]
    assert torch.equal(*found)


def test_there_are_none_for_specific_networks() -> None:
    with pytest.raises(
        ValueError, match="no action values for networks of type 'specific'; only for 'agnostic', 'mlp'"
    ):
        build_action_values(SpecificNetConfig(width=8), INTERFACES)
