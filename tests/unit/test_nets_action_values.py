"""Action values: the same numbers packed as one at a time, the same parameters for any environments."""

from __future__ import annotations

import pytest
import torch
from interfaces import described, interface

from rllib_multienv.nets import (
    AgnosticNetConfig,
    GeneratedNetConfig,
    MLPNetConfig,
    NetConfig,
    SingleNetConfig,
    SpecificNetConfig,
)

INTERFACES = described(
    {
        "cart": interface(4, 2, True),
        "ant": interface(27, 8, False),
        "acrobot": interface(6, 3, True),
        "pendulum": interface(3, 1, False),
        "reacher": interface(11, 2, False),
    }
)
TINY = AgnosticNetConfig(d_model=8, d_state=4)


def batch(generator: torch.Generator, env_id: str, size: int) -> tuple[torch.Tensor, torch.Tensor]:
    interface = INTERFACES[env_id]
    obs = torch.randn(size, interface.obs_size, generator=generator)
    if interface.discrete:
        return obs, torch.randint(interface.action_size, (size,), generator=generator)
    return obs, torch.rand(size, interface.action_size, generator=generator) * 2 - 1


@pytest.mark.parametrize(
    "config",
    [
        *(
            AgnosticNetConfig(d_model=8, d_state=4, embedding=embedding, context=context)  # type: ignore[arg-type]
            for embedding in ("s4", "s4d", "gru")
            for context in ("computed", "embedding", "none")
        ),
        SpecificNetConfig(width=8),
        GeneratedNetConfig(width=8),
    ],
)
def test_packed_equals_one_at_a_time(config: NetConfig) -> None:
    torch.manual_seed(0)
    values = config.build_critic(INTERFACES)
    generator = torch.Generator().manual_seed(1)
    batches = {env_id: batch(generator, env_id, 2 + n) for n, env_id in enumerate(INTERFACES)}
    obs, actions = ({env_id: pair[i] for env_id, pair in batches.items()} for i in (0, 1))
    together = values(obs, actions)
    for env_id in INTERFACES:
        assert together[env_id].shape == (2, len(obs[env_id]))
        alone = values({env_id: obs[env_id]}, {env_id: actions[env_id]})[env_id]
        torch.testing.assert_close(together[env_id], alone, rtol=1e-4, atol=1e-5)


def test_no_parameter_belongs_to_an_environment() -> None:
    few = TINY.build_critic({"cart": INTERFACES["cart"]}).state_dict()
    many = TINY.build_critic(INTERFACES)
    many.load_state_dict(few, strict=True)
    assert {name: p.shape for name, p in many.state_dict().items()} == {name: p.shape for name, p in few.items()}


@pytest.mark.parametrize(
    "config",
    [TINY, MLPNetConfig(hidden=(16, 16)), SingleNetConfig(width=8), SpecificNetConfig(width=8), GeneratedNetConfig()],
    ids=lambda config: config.type,
)
@pytest.mark.parametrize("env_id", ["acrobot", "reacher"])
def test_every_estimate_depends_on_observation_and_action(config: NetConfig, env_id: str) -> None:
    torch.manual_seed(0)
    values = config.build_critic({env_id: INTERFACES[env_id]})
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
    values = TINY.build_critic(described({"a": interface(3, 1, False), "b": interface(2, 2, False)}))
    numbers = torch.rand(5, 4) * 2 - 1
    found = values({"a": numbers[:, :3], "b": numbers[:, :2]}, {"a": numbers[:, 3:], "b": numbers[:, 2:]})
    assert (found["a"] - found["b"]).abs().max() > 1e-4


def test_discrete_values_are_those_of_the_actions_taken() -> None:
    torch.manual_seed(0)
    values = MLPNetConfig(hidden=(16,)).build_critic({"acrobot": INTERFACES["acrobot"]})
    obs = torch.randn(1, 6).expand(3, 6)
    every = values({"acrobot": obs}, {"acrobot": torch.arange(3)})["acrobot"]
    again = values({"acrobot": obs}, {"acrobot": torch.tensor([2, 1, 0])})["acrobot"]
    torch.testing.assert_close(again, every.flip(1))


def test_estimates_are_policy_networks_of_observation_and_action() -> None:
    torch.manual_seed(0)
    values = SingleNetConfig(width=8).build_critic({"reacher": INTERFACES["reacher"]})
    obs, actions = batch(torch.Generator().manual_seed(1), "reacher", 7)
    found = values({"reacher": obs}, {"reacher": actions})["reacher"]
    for estimate, network in zip(found, values.estimates, strict=True):
        torch.testing.assert_close(estimate, network.policy({"reacher": torch.cat([obs, actions], 1)})["reacher"][:, 0])


@pytest.mark.parametrize("config", [SingleNetConfig(width=8, dropout=0.5), SpecificNetConfig(width=8, dropout=0.5)])
def test_estimates_have_no_dropout(config: NetConfig) -> None:
    values = config.build_critic({"reacher": INTERFACES["reacher"]})
    obs, actions = batch(torch.Generator().manual_seed(1), "reacher", 7)
    found = [values({"reacher": obs}, {"reacher": actions})["reacher"] for _ in range(2)]
    assert torch.equal(*found)


def test_one_estimate_or_several() -> None:
    obs, actions = batch(torch.Generator().manual_seed(1), "reacher", 7)
    for config in (TINY, MLPNetConfig(hidden=(8,)), SpecificNetConfig(width=8)):
        for number in (1, 3):
            values = config.build_critic({"reacher": INTERFACES["reacher"]}, num_estimates=number)
            assert values({"reacher": obs}, {"reacher": actions})["reacher"].shape == (number, 7)


def test_environments_come_and_go() -> None:
    obs, actions = batch(torch.Generator().manual_seed(1), "ant", 5)
    for config in (TINY, SpecificNetConfig(width=8), GeneratedNetConfig(width=8)):
        values = config.build_critic({"cart": INTERFACES["cart"]})
        before = {name: tuple(tensor.shape) for name, tensor in values.state_dict().items()}
        values.add_env("ant", INTERFACES["ant"])
        assert values({"ant": obs}, {"ant": actions})["ant"].shape == (2, 5)
        values.remove_env("ant")
        assert {name: tuple(tensor.shape) for name, tensor in values.state_dict().items()} == before


def test_what_only_values_of_states_need_is_left_out() -> None:
    values = SpecificNetConfig(width=8).build_critic(INTERFACES)
    assert not [name for name, _ in values.named_parameters() if "critic" in name or "log_std" in name]
