"""Networks for any observation and action: mixed actions and action masks."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from interfaces import actions_of, any_interface, described, rows_of

from rllib_multienv.nets import (
    ActorCritic,
    AgnosticNetConfig,
    GeneratedNetConfig,
    MLPNetConfig,
    NetConfig,
    SingleNetConfig,
    SpecificNetConfig,
    distribution_for,
)

ENVS = described(
    {
        "vector": any_interface(4, [("categorical", 2)]),
        "gaussian": any_interface(3, [("continuous", 2)]),
        "mixed": any_interface(5, [("categorical", 3), ("bernoulli", 2), ("continuous", 2)]),
        "multi": any_interface(4, [("categorical", 3), ("categorical", 3)]),
        "masked": any_interface(2, [("categorical", 4)], mask=True),
        "masked mixed": any_interface(4, [("bernoulli", 3), ("continuous", 1)], mask=True),
    }
)
FOR_ANY = [
    AgnosticNetConfig(d_model=8, d_state=4),
    AgnosticNetConfig(d_model=8, d_state=4, share_encoder=True, state_dependent_std=False),
    GeneratedNetConfig(width=8, generator_width=8, code_size=16),
    GeneratedNetConfig(width=8, generator_width=8, code_size=16, state_dependent_std=False),
    SpecificNetConfig(width=8),
]
FOR_ONE = [MLPNetConfig(hidden=(8,)), MLPNetConfig(hidden=(8,), squash_mean=True), SingleNetConfig(width=8)]


def build(config: NetConfig, envs: dict[str, Any]) -> ActorCritic:
    torch.manual_seed(0)
    return config.build(envs)


def observations(envs: dict[str, Any]) -> dict[str, torch.Tensor]:
    return {env_id: rows_of(one, 3 + seed, seed) for seed, (env_id, one) in enumerate(envs.items())}


def check(env_id: str, obs: torch.Tensor, inputs: torch.Tensor) -> None:
    """Distribution inputs have the row's width; forbidden actions are not drawn; all numbers are finite."""
    one = ENVS[env_id]
    assert inputs.shape == (len(obs), one.action.num_inputs)
    dist = distribution_for(one).from_logits(inputs)
    assert dist.logp(actions_of(one, len(obs))).shape == (len(obs),)
    actions = dist.sample(torch.Generator().manual_seed(0))
    assert actions.shape == ((len(obs),) if one.discrete else (len(obs), one.action.width))
    for values in (dist.logp(actions), dist.entropy(), dist.kl(dist)):
        assert values.isfinite().all()
    if env_id == "masked":
        assert set(actions.tolist()) <= {0, 2}
        assert (dist.entropy() > 0.6).all()  # two of four are allowed, and nearly as likely as each other
    if env_id == "masked mixed":
        assert not actions[:, 1].any()


@pytest.mark.parametrize("config", FOR_ANY, ids=lambda config: config.type)
def test_packed_equals_separate(config: NetConfig) -> None:
    net, obs = build(config, ENVS), observations(ENVS)
    policy, values, _ = net(obs)
    for env_id, rows in obs.items():
        check(env_id, rows, policy[env_id])
        alone = net({env_id: rows})
        torch.testing.assert_close(policy[env_id], alone.policy[env_id], atol=2e-5, rtol=2e-5)
        torch.testing.assert_close(values[env_id], alone.values[env_id], atol=2e-5, rtol=2e-5)
        assert net({env_id: rows[:0]}).policy[env_id].shape == (0, ENVS[env_id].action.num_inputs)


@pytest.mark.parametrize("config", FOR_ONE, ids=lambda config: config.type)
@pytest.mark.parametrize("env_id", list(ENVS))
def test_networks_for_one_environment(config: NetConfig, env_id: str) -> None:
    net, obs = build(config, {env_id: ENVS[env_id]}), rows_of(ENVS[env_id], 5)
    check(env_id, obs, net.policy({env_id: obs})[env_id])
    assert net.value({env_id: obs})[env_id].shape == (5,)


@pytest.mark.parametrize("config", [*FOR_ANY, *FOR_ONE[1:]], ids=lambda config: config.type)
def test_logits_and_gaussians_depend_on_the_observation_and_are_learned(config: NetConfig) -> None:
    envs = {"mixed": ENVS["mixed"]}
    net, obs = build(config, envs), rows_of(ENVS["mixed"], 5)
    inputs = net.policy({"mixed": obs})["mixed"]
    assert (inputs[0, :7] != inputs[1, :7]).all()  # logits and means
    assert (inputs[:, 5:7].abs() < 1).all()
    inputs.square().sum().backward()
    for name, parameter in net.named_parameters():
        if not name.startswith("critic") and "log_std.weights" not in name:
            assert parameter.grad is not None and parameter.grad.isfinite().all(), name


@pytest.mark.parametrize("config", [*FOR_ANY, *FOR_ONE], ids=lambda config: config.type)
def test_the_mask_does_not_change_what_is_allowed(config: NetConfig) -> None:
    envs, obs = {"masked": ENVS["masked"]}, rows_of(ENVS["masked"], 6)
    net, everything = build(config, envs), obs.clone()
    everything[:, -4:] = 1
    masked, free = (net.policy({"masked": rows})["masked"] for rows in (obs, everything))
    assert torch.equal(masked[:, ::2], free[:, ::2])
    assert (masked[:, 1::2] < -1e8).all() and (free.abs() < 10).all()
    values = [net.value({"masked": rows})["masked"] for rows in (obs, everything)]
    assert torch.equal(*values)


def test_rows_may_begin_anywhere_in_memory() -> None:
    net, obs = build(FOR_ANY[2], ENVS), rows_of(ENVS["masked"], 6)  # rows of 12 bytes
    assert obs.shape[1] == 12
    flat = torch.cat([torch.zeros(3, dtype=torch.uint8), obs.flatten()])
    expected = net.policy({"masked": obs})["masked"]
    for rows in (1, 6):
        shifted = flat[3 : 3 + 12 * rows].view(rows, 12)
        torch.testing.assert_close(net.policy({"masked": shifted})["masked"], expected[:rows])


def test_rows_of_another_width_or_dtype_are_named() -> None:
    net = build(FOR_ANY[2], ENVS)
    with pytest.raises(ValueError, match=r"masked: observations have shape \(1, 2\), expected \[B, 12\]"):
        net.policy({"masked": torch.zeros(1, 2)})
    with pytest.raises(ValueError, match=r"masked: observations have dtype torch.float32, expected torch.uint8"):
        net.policy({"masked": torch.zeros(1, 12)})


@pytest.mark.parametrize("config", FOR_ANY, ids=lambda config: config.type)
def test_one_set_of_parameters_for_all_actions(config: NetConfig) -> None:
    if config.type == "specific":
        return
    net, few = build(config, ENVS), build(config, {"vector": ENVS["vector"]})
    few.load_state_dict(net.state_dict(), strict=True)


@pytest.mark.parametrize("config", FOR_ANY, ids=lambda config: config.type)
def test_bf16_masks_too(config: NetConfig) -> None:
    net, obs = build(config, ENVS), observations(ENVS)
    with torch.autocast("cpu", torch.bfloat16):
        outputs = net(obs)
    total = torch.zeros(())
    for env_id, rows in obs.items():
        check(env_id, rows, outputs.policy[env_id])
        dist = distribution_for(ENVS[env_id]).from_logits(outputs.policy[env_id])
        total = total + dist.entropy().float().sum() + outputs.values[env_id].float().sum()
    total.backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in net.parameters())


@pytest.mark.parametrize("config", FOR_ANY, ids=lambda config: config.type)
def test_action_values_of_any_action(config: NetConfig) -> None:
    torch.manual_seed(0)
    values, obs = config.build_critic(ENVS), observations(ENVS)
    actions = {env_id: actions_of(ENVS[env_id], len(rows)) for env_id, rows in obs.items()}
    together = values(obs, actions)
    for env_id, rows in obs.items():
        assert together[env_id].shape == (2, len(rows))
        alone = values({env_id: rows}, {env_id: actions[env_id]})[env_id]
        torch.testing.assert_close(together[env_id], alone, rtol=1e-4, atol=1e-5)
    # Every column of a mixed action matters: the choice, a bit, a number.
    for column, other in ((0, (actions["mixed"][:, 0] + 1) % 3), (1, 1 - actions["mixed"][:, 1]), (4, 0.123)):
        changed = actions["mixed"].clone()
        changed[:, column] = other
        found = values({"mixed": obs["mixed"]}, {"mixed": changed})["mixed"]
        assert (found != together["mixed"]).all()


@pytest.mark.parametrize("config", FOR_ONE, ids=lambda config: config.type)
@pytest.mark.parametrize("env_id", ["mixed", "multi", "masked", "masked mixed"])
def test_action_values_of_one_environment(config: NetConfig, env_id: str) -> None:
    values, obs = config.build_critic({env_id: ENVS[env_id]}), rows_of(ENVS[env_id], 5)
    found = values({env_id: obs}, {env_id: actions_of(ENVS[env_id], 5)})[env_id]
    assert found.shape == (2, 5) and found.isfinite().all()
