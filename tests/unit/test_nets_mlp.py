"""The plain MLP has the interface of all networks and exactly one environment."""

from typing import Any

import pytest
import torch
from interfaces import any_interface, interface

from rllib_multienv.nets import MLPNetConfig, NetworkActionValues
from rllib_multienv.nets.mlp import MLPActionValues


def _interface(discrete: bool, obs_size: int = 3) -> Any:
    return interface(obs_size, 2, discrete)


def test_outputs_and_parameters() -> None:
    for discrete in (True, False):
        net = MLPNetConfig().build({"env": _interface(discrete)})
        policy, value, *_ = net({"env": torch.randn(5, 3)})
        assert policy["env"].shape == (5, 2 if discrete else 4)
        assert value["env"].shape == (5,)
        together = [*net.actor_parameters(), *net.critic_parameters()]
        assert {id(p) for p in together} == {id(p) for p in net.parameters()}
        assert len(together) == len(list(net.parameters()))


def test_log_std_does_not_depend_on_the_observation() -> None:
    net = MLPNetConfig().build({"env": _interface(False)})
    log_std = net.policy({"env": torch.randn(5, 3)})["env"][:, 2:]
    assert torch.equal(log_std, torch.zeros(5, 2))


def test_squashed_means_stay_within_the_bounds() -> None:
    for squash in (True, False):
        torch.manual_seed(0)
        net = MLPNetConfig(squash_mean=squash).build({"env": _interface(False)})
        torch.nn.init.constant_(net.actor[-1].bias, 3.0)
        mean, log_std = net.policy({"env": torch.randn(5, 3)})["env"].chunk(2, 1)
        assert (mean.abs() < 1).all() == squash
        assert torch.equal(log_std, torch.zeros(5, 2))


def test_several_environments_are_refused() -> None:
    with pytest.raises(ValueError, match="exactly one environment, got 2"):
        MLPNetConfig().build({"a": _interface(True), "b": _interface(True)})
    net = MLPNetConfig().build({"a": _interface(True)})
    with pytest.raises(ValueError, match="cannot add 'b'"):
        net.add_env("b", _interface(True))
    with pytest.raises(ValueError, match="only environment"):
        net.remove_env("a")
    with pytest.raises(KeyError, match="'b'"):
        net.policy({"b": torch.zeros(1, 3)})


def test_estimates_side_by_side_are_those_of_separate_mlps() -> None:
    one = interface(3, 2, False)
    critic = MLPNetConfig(hidden=(8, 5), activation="tanh").build_critic({"e": one}, num_estimates=2)
    assert isinstance(critic, MLPActionValues)
    obs, actions = torch.randn(4, 3), torch.rand(4, 2)
    found = critic({"e": obs}, {"e": actions})["e"]  # [2, 4]
    for number in range(2):
        rows = torch.cat([obs, actions], 1)
        for layer, (weight, bias) in enumerate(zip(critic.weights, critic.biases, strict=True)):
            rows = (torch.tanh(rows) if layer else rows) @ weight[number].T + bias[number, 0]
        torch.testing.assert_close(found[number], rows[:, 0])
    assert not torch.allclose(found[0], found[1])
    image = any_interface(3, [("continuous", 2)], images=[(3, 16, 16)])
    assert isinstance(MLPNetConfig().build_critic({"e": image}), NetworkActionValues)
