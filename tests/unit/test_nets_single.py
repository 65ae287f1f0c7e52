"""The paper's single-environment agent: residual MLPs with the interface of all networks and one environment."""

from typing import Any

import pytest
import torch
from interfaces import interface

from rllib_multienv.nets import SingleNetConfig, frozen_parameters


def _interface(discrete: bool, obs_size: int = 3) -> Any:
    return interface(obs_size, 2, discrete)


def _build(discrete: bool, **fields: Any) -> Any:
    torch.manual_seed(0)
    return SingleNetConfig(**{"width": 8, **fields}).build({"env": _interface(discrete)})


@pytest.mark.parametrize("discrete", [True, False])
def test_outputs_and_parameters(discrete: bool) -> None:
    net = _build(discrete)
    policy, value, *_ = net({"env": torch.randn(5, 3)})
    assert policy["env"].shape == (5, 2 if discrete else 4)
    assert value["env"].shape == (5,)
    actor, critic = ({id(p) for p in ps} for ps in (net.actor_parameters(), net.critic_parameters()))
    assert not actor & critic
    assert actor | critic == {id(p) for p in net.parameters()}


@pytest.mark.parametrize("discrete", [True, False])
def test_gradients_reach_every_parameter(discrete: bool) -> None:
    net = _build(discrete)
    policy, value, *_ = net({"env": torch.randn(5, 3)})
    (policy["env"].square().sum() + value["env"].square().sum()).backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().max() > 0, name


def test_the_start_is_a_nearly_uniform_policy() -> None:
    net, obs = SingleNetConfig().build({"env": _interface(False, 17)}), {"env": torch.randn(50, 17)}
    mean, log_std = net.policy(obs)["env"].chunk(2, 1)
    assert mean.abs().max() < 0.1
    assert (log_std + 0.5).abs().max() < 0.1
    assert 0.1 < net.value(obs)["env"].std() < 3


def test_log_std_depends_on_the_observation_and_is_bounded() -> None:
    net, obs = _build(False), {"env": torch.randn(5, 3)}
    log_std = net.policy(obs)["env"][:, 2:]
    assert (log_std[0] != log_std[1]).all()
    with torch.no_grad():
        net.actor.decoder[-1].weight.mul_(1e6)
    log_std = net.policy(obs)["env"][:, 2:]
    assert log_std.min() >= -5 and log_std.max() <= 2
    assert log_std.max() - log_std.min() > 6.9


def test_squashing_touches_the_means_alone() -> None:
    obs = {"env": torch.randn(5, 3)}
    for discrete in (True, False):
        plain, squashed = (_build(discrete, squash_mean=squash).policy(obs)["env"] for squash in (False, True))
        if discrete:
            assert torch.equal(plain, squashed)
        else:
            assert torch.equal(squashed, torch.cat([torch.tanh(plain[:, :2]), plain[:, 2:]], 1))
            assert not torch.equal(squashed, plain)


def test_the_papers_sizes() -> None:
    config = SingleNetConfig.paper(squash_mean=True)
    assert (config.width, config.depth, config.dropout, config.squash_mean) == (256, 2, 0.1, True)
    block = 2 * 256 + 2 * (256 * 256 + 256)
    tower = 2 * block + 2 * 256  # and the norm before the output
    layers = (17 + 1) * 256 * 2 + 257 * (2 * 6) + 257
    assert (
        sum(p.numel() for p in config.build({"HalfCheetah-v4": interface(17, 6, False)}).parameters())
        == 2 * tower + layers
    )


def test_dropout_acts_in_training_only() -> None:
    net, obs = _build(True, dropout=0.5), {"env": torch.randn(5, 3)}
    assert not torch.equal(net.policy(obs)["env"], net.policy(obs)["env"])
    net.eval()
    assert torch.equal(net.policy(obs)["env"], net.policy(obs)["env"])


def test_parts_can_be_frozen() -> None:
    net = _build(False)
    for part in ("encoder", "middle", "decoder"):
        frozen = frozen_parameters(net, [part])
        assert frozen == {name for name, _ in net.named_parameters() if f".{part}." in name}
        assert {name.split(".")[0] for name in frozen} == {"actor", "critic"}


def test_several_environments_are_refused() -> None:
    with pytest.raises(ValueError, match="single-environment network is for exactly one environment, got 2"):
        SingleNetConfig().build({"a": _interface(True), "b": _interface(True)})
    with pytest.raises(ValueError, match="got 0"):
        SingleNetConfig().build({})
    net = _build(True)
    with pytest.raises(ValueError, match=r"single-environment network.*'env'; cannot add 'b'"):
        net.add_env("b", _interface(True))
    with pytest.raises(ValueError, match="another interface"):
        net.add_env("env", _interface(True, 4))
    with pytest.raises(ValueError, match="only environment"):
        net.remove_env("env")
    with pytest.raises(KeyError, match="'b'"):
        net.policy({"b": torch.zeros(1, 3)})
    with pytest.raises(ValueError, match=r"env: observations have shape \(1, 4\), expected \[B, 3\]"):
        net.value({"env": torch.zeros(1, 4)})
