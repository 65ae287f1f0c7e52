"""Attention between the environments of a world: who sees whom, and that nothing changes where nobody is seen."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from interfaces import described, interface
from torch import Tensor

from rllib_multienv.nets import (
    AgnosticNetConfig,
    GeneratedNetConfig,
    MLPNetConfig,
    NetConfig,
    SpecificNetConfig,
    net_config_from_dict,
)
from rllib_multienv.nets.actor_critic import ActorCritic

B = 3
NETWORKS: dict[str, NetConfig] = {
    "agnostic": AgnosticNetConfig(d_model=8, d_state=4),
    "shared encoder": AgnosticNetConfig(d_model=8, d_state=4, share_encoder=True),
    "specific": SpecificNetConfig(width=8),
    "generated": GeneratedNetConfig(width=8),
}


def environments(**copies: int) -> dict[str, Any]:
    """Oracle, guess and another environment in one world with so many ``copies``, and one that is alone."""
    envs = described(
        {
            "guess": interface(2, 5, True),
            "oracle": interface(5, 2, True),
            "other": interface(3, 2, False),
            "alone": interface(4, 2, True),
        }
    )
    for env_id, env in envs.items():
        env.world, env.world_copies = "" if env_id == "alone" else "quiz", copies.get(env_id, 1)
    return envs


def network(
    name: str = "generated", *, trained: bool = True, copies: dict[str, int] | None = None, **fields: Any
) -> Any:
    """A network with world attention, whose output maps are not zero where it is ``trained``."""
    torch.manual_seed(0)
    config = dataclasses.replace(NETWORKS[name], **{"world_attention": True, **fields})
    net = config.build(environments(**(copies or {})))
    if trained:
        for parameter_name, parameter in net.named_parameters():
            if parameter_name.endswith("out.weight") and parameter_name.startswith("world_attention"):
                torch.nn.init.normal_(parameter, std=0.5)
    return net


def without_attention(net: ActorCritic, name: str) -> ActorCritic:
    other: ActorCritic = network(name, world_attention=False)
    other.load_state_dict({k: v for k, v in net.state_dict().items() if not k.startswith("world_attention")})
    return other


def observations(net: ActorCritic, count: int = B, seed: int = 1) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        env_id: torch.randn(count * one.world_copies, one.obs_size, generator=generator)
        for env_id, one in net.interfaces.items()
    }


def depends(output: Tensor, given: Tensor) -> Tensor:
    """bool [rows of the output, rows of what is given], whether a row has a gradient by another."""
    rows = [torch.autograd.grad(row.sum(), given, retain_graph=True, allow_unused=True)[0] for row in output]
    return torch.stack([torch.zeros(len(given), dtype=torch.bool) if g is None else (g != 0).any(1) for g in rows])


@pytest.mark.parametrize("name", NETWORKS)
def test_an_output_depends_on_the_members_of_its_own_world_alone(name: str) -> None:
    net = network(name)
    obs = {env_id: rows.requires_grad_() for env_id, rows in observations(net).items()}
    outputs = net(obs)
    for found in (outputs.policy, outputs.values):
        for member in ("guess", "oracle", "other"):
            for seen in ("guess", "oracle", "other"):
                assert torch.equal(depends(found[member], obs[seen]), torch.eye(B, dtype=torch.bool))
            assert not depends(found[member], obs["alone"]).any()
            assert not depends(found["alone"], obs[member]).any()


def test_copies_of_one_environment_see_each_other() -> None:
    net = network(copies={"guess": 2})
    obs = {env_id: rows.requires_grad_() for env_id, rows in observations(net).items()}
    seen = depends(net(obs).policy["guess"], obs["guess"])
    assert torch.equal(seen, torch.block_diag(*[torch.ones(2, 2)] * B).bool())


def test_permuting_copies_permutes_their_outputs() -> None:
    net = network(copies={"guess": 2})
    obs = observations(net)
    swapped = {**obs, "guess": obs["guess"].view(B, 2, -1).flip(1).flatten(0, 1)}
    before, after = net(obs), net(swapped)
    expected = before.policy["guess"].view(B, 2, -1).flip(1).flatten(0, 1)
    torch.testing.assert_close(after.policy["guess"], expected)
    torch.testing.assert_close(after.policy["oracle"], before.policy["oracle"])


@pytest.mark.parametrize("name", NETWORKS)
def test_worlds_together_equal_worlds_apart_in_any_order_of_members(name: str) -> None:
    net = network(name, copies={"oracle": 2})
    obs = observations(net)
    together = net(dict(reversed(obs.items())))
    for b in range(B):
        copies = {env_id: one.world_copies for env_id, one in net.interfaces.items()}
        apart = net({env_id: rows[b * copies[env_id] : (b + 1) * copies[env_id]] for env_id, rows in obs.items()})
        for env_id, k in copies.items():
            own = slice(b * k, (b + 1) * k)
            torch.testing.assert_close(together.policy[env_id][own], apart.policy[env_id], atol=1e-5, rtol=1e-5)
            torch.testing.assert_close(together.values[env_id][own], apart.values[env_id], atol=1e-5, rtol=1e-5)


def test_members_without_a_row_are_as_if_they_did_not_exist() -> None:
    net = network()
    obs = {env_id: torch.cat([rows, rows + 1]) for env_id, rows in observations(net).items()}  # two time steps
    valid = {env_id: torch.ones(2, B, dtype=torch.bool) for env_id in obs}
    valid["oracle"][1, 2] = False
    found = net({e: rows[valid[e].flatten()] for e, rows in obs.items()}, valid=valid)
    for t in range(2):
        for b in range(B):
            present = {e: rows[t * B + b : t * B + b + 1] for e, rows in obs.items() if valid[e][t, b]}
            alone = net(present)
            torch.testing.assert_close(found.policy["guess"][t * B + b], alone.policy["guess"][0], atol=1e-5, rtol=1e-5)


def test_a_row_that_is_not_present_neither_sees_nor_is_seen() -> None:
    net = network(copies={"guess": 2}, memory="gru", memory_size=6)
    obs = {env_id: rows.requires_grad_() for env_id, rows in observations(net).items()}
    present = {"guess": torch.tensor([True, False] * B)}
    outputs = net(obs, parts=("actor",), present=present)
    assert torch.equal(depends(outputs.policy["guess"], obs["guess"]), torch.eye(2 * B, dtype=torch.bool))
    seen = depends(outputs.policy["guess"], obs["oracle"])
    assert torch.equal(seen, torch.block_diag(*[torch.tensor([[True], [False]])] * B))
    exists = {env_id: torch.ones(1, len(rows), dtype=torch.bool) for env_id, rows in obs.items()}
    exists["guess"] &= present["guess"]
    given = {**obs, "guess": obs["guess"][present["guess"]]}
    first = {env_id: torch.zeros_like(valid) for env_id, valid in exists.items()}
    without = net(given, first=first, valid=exists, parts=("actor",))
    torch.testing.assert_close(outputs.policy["guess"][present["guess"]], without.policy["guess"])
    torch.testing.assert_close(outputs.policy["oracle"], without.policy["oracle"])


def test_an_environment_alone_is_as_without_attention() -> None:
    net = network()
    obs, without = observations(net), without_attention(net, "generated")
    assert torch.equal(net({"guess": obs["guess"]}).policy["guess"], without({"guess": obs["guess"]}).policy["guess"])
    assert torch.equal(net(obs).policy["alone"], without(obs).policy["alone"])


@pytest.mark.parametrize("name", NETWORKS)
def test_a_new_network_acts_as_without_attention_and_its_gate_has_a_gradient(name: str) -> None:
    net = network(name, trained=False)
    obs, without = observations(net), without_attention(net, name)
    found = net(obs)
    for env_id in obs:
        assert torch.equal(found.policy[env_id], without(obs).policy[env_id])
    sum(value.square().sum() for value in (*found.policy.values(), *found.values.values())).backward()
    gates = {
        n: p.grad for n, p in net.named_parameters() if n.startswith("world_attention") and n.endswith("out.weight")
    }
    assert all(gradient is not None and gradient.abs().sum() > 0 for gradient in gates.values())


@pytest.mark.parametrize("name", NETWORKS)
def test_with_one_seed_all_other_parameters_are_those_of_a_network_without_attention(name: str) -> None:
    plain = dict(network(name, world_attention=False).named_parameters())
    others = {n: p for n, p in network(name).named_parameters() if not n.startswith("world_attention")}
    assert list(others) == list(plain) and all(torch.equal(others[n], plain[n]) for n in plain)


def test_without_world_attention_there_are_no_parameters_and_worlds_do_nothing() -> None:
    net = network(world_attention=False)
    obs = observations(net)
    assert not [name for name, _ in net.named_parameters() if "world" in name]
    torch.testing.assert_close(net(obs).policy["guess"], net({"guess": obs["guess"]}).policy["guess"])


@pytest.mark.parametrize("memory", ["gru", "s4"])
def test_what_a_member_shows_for_a_moment_is_remembered(memory: str) -> None:
    net = network(memory=memory, memory_size=6)
    obs = observations(net)
    steps = {env_id: torch.stack([rows] * 4) for env_id, rows in obs.items()}  # [T, B, I]
    changed = {**steps, "oracle": steps["oracle"].clone()}
    changed["oracle"][1, 0] += 1.0
    first = {env_id: torch.zeros(4, B, dtype=torch.bool) for env_id in obs}
    before, after = (
        net({e: rows.flatten(0, 1) for e, rows in of.items()}, None, first).policy["guess"].unflatten(0, (4, B))
        for of in (steps, changed)
    )
    moved = (before - after).abs().amax(2) > 1e-6  # [T, B]
    assert moved[:, 0].tolist() == [False, True, True, True] and not moved[:, 1:].any()


def test_a_runner_without_the_critic_acts_alike() -> None:
    net = network(memory="gru")
    obs = observations(net)
    expected = net(obs, parts=("actor",)).policy
    net.drop_critic()
    assert not [name for name, _ in net.named_modules() if "critic" in name]
    assert all(torch.equal(found, expected[env_id]) for env_id, found in net(obs, parts=("actor",)).policy.items())


def test_members_with_different_numbers_of_worlds_are_an_error() -> None:
    net = network()
    obs = observations(net)
    with pytest.raises(ValueError, match="'quiz': its environments have different numbers of worlds"):
        net({**obs, "oracle": obs["oracle"][:2]})


def test_the_config_comes_back_from_a_file() -> None:
    config = MLPNetConfig(world_attention=True)
    assert net_config_from_dict(config.to_dict()) == config
    with pytest.raises(ValueError, match="world_attention=True: must be False with memory='belief'"):
        MLPNetConfig(world_attention=True, memory="belief")
