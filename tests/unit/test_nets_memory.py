"""Memory between encoders and decoders: steps equal sequences, resets and environments stay apart."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from interfaces import described, interface
from torch import Tensor

from rllib_multienv.nets import (
    AgnosticNetConfig,
    CARENetConfig,
    GeneratedNetConfig,
    MLPNetConfig,
    NetConfig,
    SingleNetConfig,
    SoftModularNetConfig,
    SpecificNetConfig,
    TaskEncoderNetConfig,
    TaskHeadsNetConfig,
    net_config_from_dict,
)
from rllib_multienv.nets.actor_critic import ActorCritic

ENVS = described({"cart": interface(4, 2, True), "leg": interface(6, 3, False), "arm": interface(6, 1, False)})
T, B = 9, 3
NETWORKS = {
    "agnostic": AgnosticNetConfig(d_model=8, d_state=4),
    "shared encoder": AgnosticNetConfig(d_model=8, d_state=4, share_encoder=True),
    "specific": SpecificNetConfig(width=8),
    "generated": GeneratedNetConfig(width=8),
    "soft_modular": SoftModularNetConfig(width=8),
    "care": CARENetConfig(width=8),
    "task_encoder": TaskEncoderNetConfig(width=8),
    "task_heads": TaskHeadsNetConfig(width=8),
    "single": SingleNetConfig(width=8),
    "mlp": MLPNetConfig(hidden=(8, 6)),
}
MEMORIES = ["gru", "s4", "belief"]


def network(name: str, memory: str, **fields: Any) -> ActorCritic:
    torch.manual_seed(0)
    config: NetConfig = dataclasses.replace(NETWORKS[name], memory=memory, memory_size=6, **fields)
    return config.build({"leg": ENVS["leg"]} if name in ("single", "mlp") else ENVS)


def fragment(net: ActorCritic) -> tuple[dict[str, Tensor], dict[str, Tensor], dict[str, Tensor]]:
    """Observations [T, B, I], resets [T, B] and a state in the middle of an episode [B, D]."""
    generator = torch.Generator().manual_seed(1)
    obs = {env_id: torch.randn(T, B, one.obs_size, generator=generator) for env_id, one in net.interfaces.items()}
    first = {env_id: torch.rand(T, B, generator=generator) < 0.3 for env_id in obs}
    fresh = net.initial_state(dict.fromkeys(obs, B))
    return obs, first, {e: torch.randn(state.shape, generator=generator) for e, state in fresh.items()}


@pytest.mark.parametrize("memory", MEMORIES)
@pytest.mark.parametrize("name", NETWORKS)
def test_a_sequence_with_resets_equals_its_steps(name: str, memory: str) -> None:
    net = network(name, memory, memory_layers=2)
    obs, first, start = fragment(net)
    whole = net({e: o.flatten(0, 1) for e, o in obs.items()}, start, first)
    fresh, state = net.initial_state(dict.fromkeys(obs, B)), start
    for t in range(T):
        before = {e: torch.where(first[e][t, :, None], fresh[e], state[e]) for e in obs}
        step = net({e: o[t] for e, o in obs.items()}, before)
        state = step.state
        for env_id in obs:
            for packed, alone in ((whole.policy, step.policy), (whole.values, step.values)):
                torch.testing.assert_close(packed[env_id].unflatten(0, (T, B))[t], alone[env_id], atol=1e-5, rtol=1e-5)
    for env_id in obs:
        torch.testing.assert_close(whole.state[env_id], state[env_id], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("memory", MEMORIES)
def test_two_chunks_with_the_state_handed_over_have_the_gradient_of_one(memory: str) -> None:
    net = network("generated", memory)
    obs, first, start = fragment(net)

    def gradient(cuts: list[int]) -> Tensor:
        net.zero_grad()
        total, state = torch.zeros(()), start
        for begin, end in zip([0, *cuts], [*cuts, T], strict=True):
            flat = {e: o[begin:end].flatten(0, 1) for e, o in obs.items()}
            found = net(flat, state, {e: f[begin:end] for e, f in first.items()})
            state = found.state
            total = total + sum(found.policy[e].square().sum() + found.values[e].square().sum() for e in obs)
        total.backward()
        return torch.cat([p.grad.flatten() for p in net.parameters() if p.grad is not None])

    torch.testing.assert_close(gradient([4]), gradient([]), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("memory", MEMORIES)
def test_time_steps_without_a_row_are_passed_over(memory: str) -> None:
    net = network("specific", memory)
    obs, first, start = fragment(net)
    valid = {e: torch.rand(T, B, generator=torch.Generator().manual_seed(2)) < 0.7 for e in obs}
    first = {e: torch.zeros_like(f) for e, f in first.items()}
    found = net({e: o[valid[e]] for e, o in obs.items()}, start, first, valid)
    own = {e: [o[:, b][valid[e][:, b]] for b in range(B)] for e, o in obs.items()}
    for env_id in obs:
        for b, rows in enumerate(own[env_id]):
            alone = net({env_id: rows}, {env_id: start[env_id][b : b + 1]}, {env_id: first[env_id][: len(rows), :1]})
            values = torch.zeros(T, B)
            values[valid[env_id]] = found.values[env_id].detach()
            torch.testing.assert_close(values[:, b][valid[env_id][:, b]], alone.values[env_id], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("memory", MEMORIES)
@pytest.mark.parametrize("name", ["agnostic", "specific", "generated"])
def test_packed_equals_separate_also_for_fragments_of_different_lengths(name: str, memory: str) -> None:
    net = network(name, memory)
    obs, first, _ = fragment(net)
    obs["leg"], first["leg"] = obs["leg"][:2], first["leg"][:2]
    flat = {e: o.flatten(0, 1) for e, o in obs.items()}
    together = net(flat, None, first)
    for env_id in ENVS:
        alone = net({env_id: flat[env_id]}, None, {env_id: first[env_id]})
        torch.testing.assert_close(together.policy[env_id], alone.policy[env_id], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(together.values[env_id], alone.values[env_id], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("memory", MEMORIES)
def test_the_state_matters_and_a_reset_forgets_it(memory: str) -> None:
    net = network("agnostic", memory)
    obs, _, start = fragment(net)
    step = {e: o[0] for e, o in obs.items()}
    fresh, again = net(step), net(step, start)
    reset = net(step, start, {e: torch.ones(1, B, dtype=torch.bool) for e in ENVS})
    for env_id in ENVS:
        assert not torch.allclose(again.policy[env_id], fresh.policy[env_id])
        assert not torch.allclose(again.values[env_id], fresh.values[env_id])
        torch.testing.assert_close(reset.policy[env_id], fresh.policy[env_id])


def test_without_memory_the_state_is_empty() -> None:
    for name in ("agnostic", "mlp"):
        net = NETWORKS[name].build({"leg": ENVS["leg"]})
        assert net.initial_state({"leg": 3}) == {} and net({"leg": torch.zeros(3, 6)}).state == {}
        assert not [parameter for parameter, _ in net.named_parameters() if "memory" in parameter]


@pytest.mark.parametrize("name", NETWORKS)
def test_a_runner_without_the_critic_has_the_whole_state(name: str) -> None:
    net = network(name, "gru")
    obs, first, start = fragment(net)
    flat = {e: o.flatten(0, 1) for e, o in obs.items()}
    expected = net(flat, start, first, parts=("actor",))
    net.drop_critic()
    assert not [child for child, _ in net.named_modules() if "critic" in child]
    found = net(flat, start, first, parts=("actor",))
    for env_id in obs:
        assert torch.equal(found.policy[env_id], expected.policy[env_id])
        assert torch.equal(found.state[env_id], expected.state[env_id])


def test_values_alone_remember_too() -> None:
    net = network("generated", "gru")
    obs, first, start = fragment(net)
    flat = {e: o.flatten(0, 1) for e, o in obs.items()}
    both, alone = net(flat, start, first), net(flat, start, first, parts=("critic",))
    for env_id in obs:
        assert torch.equal(both.values[env_id], alone.values[env_id])


def test_the_config_is_checked_and_comes_back_from_a_file() -> None:
    config = GeneratedNetConfig(memory="s4", memory_size=8, inputs=("previous_action", "previous_reward"))
    assert net_config_from_dict(config.to_dict()) == config
    for fields, message in (
        ({"memory": "lstm"}, "memory='lstm'"),
        ({"memory": "s4", "memory_size": 7}, "memory_size=7"),
        ({"max_seq_len": 0}, "max_seq_len=0"),
        ({"inputs": ("reward",)}, r"inputs=\('reward',\)"),
    ):
        with pytest.raises(ValueError, match=message):
            GeneratedNetConfig(**fields)


def test_s4_remembers_over_as_many_steps_as_a_fragment_has() -> None:
    net = network("mlp", "s4")
    obs = torch.zeros(200, 2, 6)
    obs[0, 0] = 1.0
    first = torch.zeros(200, 2, dtype=torch.bool)
    policy = net({"leg": obs.flatten(0, 1)}, None, {"leg": first}).policy["leg"].unflatten(0, (200, 2))
    difference = (policy[:, 0] - policy[:, 1]).abs().amax(1).detach().numpy()  # [T]
    assert np.all(difference[[1, 20, 100]] > 1e-4)
