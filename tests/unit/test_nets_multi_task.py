"""Networks of the multi-task literature: routing on toys whose routing is known, heads, contexts, plain baselines."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from interfaces import described, interface
from torch import Tensor, nn

from rllib_multienv.nets import (
    CARENetConfig,
    GeneratedNetConfig,
    MixtureOfEncoders,
    MLPNetConfig,
    NetConfig,
    SoftModularNetConfig,
    SoftModules,
    SpecificNetConfig,
    TaskEncoderNetConfig,
    TaskHeadsNetConfig,
    environment_of,
    net_config_from_dict,
    num_parameters,
    same_size,
)
from rllib_multienv.nets.layout import Layout
from rllib_multienv.nets.task_encoder import TaskNetConfig

ENVS = described({"cart": interface(4, 2, True), "leg": interface(6, 3, False), "arm": interface(11, 2, False)})
NETWORKS: list[NetConfig] = [TaskEncoderNetConfig(), SoftModularNetConfig(), CARENetConfig(), TaskHeadsNetConfig()]
BY_TYPE = pytest.mark.parametrize("config", NETWORKS, ids=lambda config: config.type)

ROWS, WIDTH = 64, 8
#: Two environments go left, and two right; the others of their words say nothing.
DIRECTIONS = {
    name: SimpleNamespace(**{**vars(interface(4, 2, True)), "description": name})
    for name in ("push red left", "push blue left", "push red right", "push blue right")
}


def trained_on_two_functions(config: TaskNetConfig, seed: int) -> tuple[Any, Layout, Tensor]:
    """Hidden layers that were taught one function of their rows on the left, and another on the right."""
    torch.manual_seed(seed)
    middle = config.make_middle()
    assert middle is not None
    for env_id, one in DIRECTIONS.items():
        middle.context.add_env(env_id, one)
    left, right = (nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.Tanh(), nn.Linear(WIDTH, WIDTH)) for _ in range(2))
    layout = Layout.of(dict.fromkeys(DIRECTIONS, ROWS), DIRECTIONS, config, torch.zeros(1))
    optimiser = torch.optim.Adam(middle.parameters(), lr=1e-2)
    for _ in range(500):
        rows = torch.randn(4 * ROWS, WIDTH)
        with torch.no_grad():
            targets = 3 * torch.cat([left(rows[: 2 * ROWS]), right(rows[2 * ROWS :])])
        optimiser.zero_grad()
        (middle(rows, layout) - targets).square().mean().backward()
        optimiser.step()
    return middle, layout, rows


@pytest.mark.parametrize("seed", [0, 1])
def test_care_gives_each_group_of_environments_an_encoder(seed: int) -> None:
    config = CARENetConfig(width=WIDTH, depth=1, num_encoders=2, encoder_width=16, context_size=8)
    middle, layout, rows = trained_on_two_functions(config, seed)
    assert isinstance(middle, MixtureOfEncoders)
    shares = middle.attention(layout, rows)  # [4, 2]
    torch.testing.assert_close(shares.sum(1), torch.ones(4))
    torch.testing.assert_close(shares[::2], shares[1::2], atol=0.05, rtol=0)  # red as blue
    left, right = shares[0].argmax(), shares[2].argmax()
    assert left != right
    assert shares[0, left] > 0.65 and shares[2, right] > 0.65


@pytest.mark.parametrize("seed", [0, 1])
def test_soft_modules_route_each_group_of_environments_apart(seed: int) -> None:
    config = SoftModularNetConfig(width=WIDTH, depth=2, num_modules=2, context_size=16, context="words")
    middle, layout, rows = trained_on_two_functions(config, seed)
    assert isinstance(middle, SoftModules)
    (routing,) = middle.routing(rows, layout)  # [4 * ROWS, 2, 2]
    torch.testing.assert_close(routing.sum(2), torch.ones(4 * ROWS, 2))
    heard = routing.unflatten(0, (4, ROWS)).mean(1)[:, :, 0]  # [4, 2], how much is heard of the first module
    torch.testing.assert_close(heard[::2], heard[1::2], atol=0.1, rtol=0)
    apart = (heard[0] - heard[2]).abs()
    assert apart.max() > 0.6  # one module of the last layer hears another one on each side


@BY_TYPE
def test_the_plain_network_of_the_same_size_is_within_five_percent(config: NetConfig) -> None:
    wanted = num_parameters(config, ENVS)
    for plain in (GeneratedNetConfig(), SpecificNetConfig()):
        found = same_size(plain, config, ENVS)
        assert type(found) is type(plain)
        assert num_parameters(found, ENVS) == pytest.approx(wanted, rel=0.05)


def test_a_plain_network_needs_a_width_and_room_for_it() -> None:
    with pytest.raises(ValueError, match=r"plain=MLPNetConfig.* with a width"):
        same_size(MLPNetConfig(), CARENetConfig(), ENVS)
    with pytest.raises(ValueError, match="of a size that GeneratedNetConfig can have"):
        same_size(GeneratedNetConfig(generator_width=512, code_size=512), SpecificNetConfig(width=1), ENVS)


@BY_TYPE
def test_files_and_checkpoints_know_the_network_by_its_type(config: NetConfig) -> None:
    assert net_config_from_dict(config.to_dict()) == config
    assert type(net_config_from_dict({"type": config.type})) is type(config)


def test_vectors_of_ones_own_are_read_from_files_and_must_be_there_for_each_environment() -> None:
    fields = {"type": "care", "context": "vectors", "context_vectors": {"cart": [0.0, 1.0], "leg": [1.0, 0.0]}}
    config = net_config_from_dict(fields)
    assert net_config_from_dict(config.to_dict()) == config
    net = config.build({env_id: ENVS[env_id] for env_id in ("cart", "leg")})
    assert net.policy({"cart": torch.zeros(2, 4)})["cart"].shape == (2, 2)
    with pytest.raises(ValueError, match=r"context_vectors: there is none for 'arm'.*\['cart', 'leg'\]"):
        net.add_env("arm", ENVS["arm"])
    with pytest.raises(ValueError, match=r"context_vectors: there is none for 'arm'"):
        config.check_environments(ENVS)
    for vectors in ({}, {"cart": [0.0], "leg": [1.0, 0.0]}, [0.0, 1.0], {"cart": "ab", "leg": "cd"}):
        with pytest.raises(ValueError, match=r"^context_vectors="):
            net_config_from_dict(fields | {"context_vectors": vectors})
    with pytest.raises(ValueError, match=r"^context_vectors="):
        CARENetConfig(context_vectors={"cart": (1.0,)})


@pytest.mark.parametrize("kind", [TaskEncoderNetConfig, SoftModularNetConfig, CARENetConfig])
def test_an_environment_that_is_added_gets_an_embedding(kind: type[TaskNetConfig]) -> None:
    net = kind(width=8, context="embedding").build({"cart": ENVS["cart"]})
    before = net.policy({"cart": torch.ones(2, 4)})["cart"]
    net.add_env("leg", ENVS["leg"])
    assert {environment_of(name) for name, _ in net.named_parameters()} == {None, "cart", "leg"}
    assert net.policy({"leg": torch.zeros(3, 6)})["leg"].shape == (3, 6)
    net.remove_env("leg")
    assert torch.equal(net.policy({"cart": torch.ones(2, 4)})["cart"], before)


@pytest.mark.parametrize("encoder", ["generated", "shared"])
def test_heads_are_an_environments_own_and_all_else_is_shared(encoder: Any) -> None:
    envs = {"a": interface(4, 2, True), "b": interface(4, 3, False)}
    net = TaskHeadsNetConfig(width=8, encoder=encoder).build(envs)
    obs = {env_id: torch.randn(3, 4) for env_id in envs}
    policy, value, *_ = net(obs)
    (policy["a"].square().sum() + value["a"].square().sum()).backward()
    reached = {name for name, p in net.named_parameters() if p.grad is not None and p.grad.abs().max() > 0}
    assert reached == {name for name, _ in net.named_parameters() if environment_of(name) in (None, "a")}
    assert all("decoders" in name for name, _ in net.named_parameters() if environment_of(name) is not None)
    net.add_env("c", interface(4, 1, True))
    torch.testing.assert_close(net.policy(obs)["b"], policy["b"])
    net.remove_env("c")
    assert {environment_of(name) for name, _ in net.named_parameters()} == {None, "a", "b"}


def test_a_shared_first_layer_needs_observations_of_one_size() -> None:
    config = TaskHeadsNetConfig(width=8, encoder="shared")
    differ = r'encoder="shared": observations .* equally many numbers, not .*\'cart\': 4, \'leg\': 6.*"generated"'
    for check in (config.build, config.check_environments):
        with pytest.raises(ValueError, match=differ):
            check({env_id: ENVS[env_id] for env_id in ("cart", "leg")})
    net = config.build({"cart": ENVS["cart"]})
    with pytest.raises(ValueError, match=r'encoder="shared": .*\'cart\': 4, \'arm\': 11'):
        net.add_env("arm", ENVS["arm"])
    assert list(net.interfaces) == ["cart"]
