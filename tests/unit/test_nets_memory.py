"""Memory between encoders and decoders: steps equal sequences, resets and environments stay apart."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from interfaces import RunningSum, described, interface
from torch import Tensor

from rllib_multienv.nets import AgnosticNetConfig, GeneratedNetConfig, MLPNetConfig, SpecificNetConfig
from rllib_multienv.nets.actor_critic import ActorCritic

ENVS = described({"cart": interface(4, 2, True), "leg": interface(6, 3, False), "arm": interface(6, 1, False)})
T, B = 5, 3


def networks() -> list[ActorCritic]:
    torch.manual_seed(0)
    found: list[ActorCritic] = [
        AgnosticNetConfig(d_model=8, d_state=4).build(ENVS),
        AgnosticNetConfig(d_model=8, d_state=4, share_encoder=True).build(ENVS),
        SpecificNetConfig(width=8).build(ENVS),
        GeneratedNetConfig(width=8).build(ENVS),
    ]
    for net in found:
        parts = ("actor",) if net.shares_encoder else ("actor", "critic")
        net.memory = torch.nn.ModuleDict({part: RunningSum(8) for part in parts})
    return found


def fragment() -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    generator = torch.Generator().manual_seed(1)
    obs = {env_id: torch.randn(T, B, one.obs_size, generator=generator) for env_id, one in ENVS.items()}
    first = {env_id: torch.rand(T, B, generator=generator) < 0.3 for env_id in ENVS}
    return obs, first


@pytest.mark.parametrize("number", range(4))
def test_a_sequence_equals_its_steps(number: int) -> None:
    net, (obs, first) = networks()[number], fragment()
    start = net.initial_state(dict.fromkeys(ENVS, B))
    whole = net({e: o.flatten(0, 1) for e, o in obs.items()}, start, first)
    state: Any = start
    for t in range(T):
        step = net({e: o[t] for e, o in obs.items()}, state, {e: f[t : t + 1] for e, f in first.items()})
        state = step.state
        for env_id in ENVS:
            for packed, alone in ((whole.policy, step.policy), (whole.values, step.values)):
                torch.testing.assert_close(packed[env_id].unflatten(0, (T, B))[t], alone[env_id], atol=1e-5, rtol=1e-5)
    for env_id in ENVS:
        assert whole.state[env_id].keys() == start[env_id].keys()
        for part, final in whole.state[env_id].items():
            torch.testing.assert_close(final, state[env_id][part], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("number", range(4))
def test_packed_equals_separate_also_for_fragments_of_different_lengths(number: int) -> None:
    net, (obs, first) = networks()[number], fragment()
    obs["leg"], first["leg"] = obs["leg"][:2], first["leg"][:2]
    flat = {e: o.flatten(0, 1) for e, o in obs.items()}
    together = net(flat, None, first)
    for env_id in ENVS:
        alone = net({env_id: flat[env_id]}, None, {env_id: first[env_id]})
        torch.testing.assert_close(together.policy[env_id], alone.policy[env_id], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(together.values[env_id], alone.values[env_id], atol=1e-5, rtol=1e-5)


def test_the_state_matters_and_a_reset_forgets_it() -> None:
    net, (obs, _) = networks()[0], fragment()
    step = {e: o[0] for e, o in obs.items()}
    fresh = net(step)
    again = net(step, fresh.state)
    reset = net(step, fresh.state, {e: torch.ones(1, B, dtype=torch.bool) for e in ENVS})
    for env_id in ENVS:
        assert not torch.allclose(again.policy[env_id], fresh.policy[env_id])
        torch.testing.assert_close(reset.policy[env_id], fresh.policy[env_id])


def test_without_memory_the_state_is_empty() -> None:
    net = AgnosticNetConfig(d_model=8, d_state=4).build(ENVS)
    assert net.initial_state({"cart": 3}) == {}
    assert net({"cart": torch.zeros(3, 4)}, {}).state == {}
    mlp = MLPNetConfig(hidden=(8,)).build({"cart": ENVS["cart"]})
    assert mlp({"cart": torch.zeros(3, 4)}).state == {}


def test_dropping_the_critic_drops_its_memory() -> None:
    net, (obs, _) = networks()[0], fragment()
    expected = net.policy({"cart": obs["cart"][0]})["cart"]
    net.drop_critic()
    assert not [name for name, _ in net.named_modules() if "critic" in name]
    assert torch.equal(net.policy({"cart": obs["cart"][0]})["cart"], expected)
