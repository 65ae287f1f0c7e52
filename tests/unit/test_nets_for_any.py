"""Networks for any environments: packed equals separate, and no parameter belongs to one environment."""

from __future__ import annotations

import pickle
from copy import deepcopy
from dataclasses import replace
from typing import Any

import pytest
import torch
from interfaces import described, interface

from rllib_multienv.nets import (
    ActorCritic,
    AgnosticNetConfig,
    CARENetConfig,
    GeneratedNetConfig,
    NetConfig,
    SoftModularNetConfig,
    TaskEncoderNetConfig,
    TaskHeadsNetConfig,
)

FOUR = described(
    {
        "CartPole-v1": interface(4, 2, True),
        "Reacher-v4": interface(11, 2, False),
        "Acrobot-v1": interface(6, 3, True),
        "InvertedPendulum-v4": interface(4, 1, False),
    }
)
THREE = described(
    {
        "Pendulum-v1": interface(3, 1, False),
        "LunarLander-v3": interface(8, 4, True),
        "One": interface(1, 6, False),
    }
)


def agnostic(**fields: Any) -> AgnosticNetConfig:
    return AgnosticNetConfig(**{"d_model": 8, "d_state": 4, "num_transformer_layers": 1, **fields})


def generated(**fields: Any) -> GeneratedNetConfig:
    return GeneratedNetConfig(**{"width": 8, "generator_width": 8, "code_size": 16, **fields})


SMALL: dict[str, Any] = {"width": 8, "generator_width": 8, "code_size": 16}
MULTI_TASK = [
    TaskEncoderNetConfig(**SMALL, context_size=6),
    SoftModularNetConfig(**SMALL, context_size=6, depth=3, num_modules=3),
    CARENetConfig(**SMALL, context_size=6, encoder_width=5, num_encoders=3, depth=1),
]
# No parameter belongs to an environment.
AGNOSTIC = pytest.mark.parametrize("config", [agnostic(), generated(), *MULTI_TASK], ids=lambda config: config.type)
VARIANTS = [
    agnostic(),
    agnostic(embedding="s4d", num_heads=2),
    agnostic(embedding="gru", share_encoder=True),
    agnostic(context="embedding", res_mlp_depth=0, num_embedding_layers=2, num_transformer_layers=2),
    agnostic(context="none", num_transformer_layers=0, encoder_positions=False),
    agnostic(state_dependent_std=False),
    agnostic(state_dependent_std=False, context="none", num_embedding_layers=2),
    generated(),
    generated(depth=1, squash_mean=True),
    generated(state_dependent_std=False),
    *MULTI_TASK,
    *(replace(config, context="embedding") for config in MULTI_TASK),
    TaskHeadsNetConfig(**SMALL),
    *(
        network(descriptions=kind)
        for network in (agnostic, generated)
        for kind in ("auto", "measured", "auto+measured")
    ),
]


def observations(interfaces: dict[str, Any], dtype: torch.dtype = torch.float32) -> dict[str, torch.Tensor]:
    torch.manual_seed(1)
    return {env: torch.randn(3 + i, spec.obs_size, dtype=dtype) for i, (env, spec) in enumerate(interfaces.items())}


def build(config: NetConfig, interfaces: dict[str, Any] | None = None) -> ActorCritic:
    torch.manual_seed(0)
    return config.build(FOUR if interfaces is None else interfaces)


@pytest.mark.parametrize("config", VARIANTS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_packed_equals_separate(config: NetConfig, dtype: torch.dtype) -> None:
    everything = FOUR | THREE
    net = build(config, everything).to(dtype)
    obs = observations(everything, dtype)
    policy, value, *_ = net(obs)
    tolerance = 1e-10 if dtype == torch.float64 else 2e-5
    for env_id, spec in everything.items():
        alone = {env_id: obs[env_id]}
        assert policy[env_id].shape == (len(obs[env_id]), spec.action_size * (1 if spec.discrete else 2))
        assert value[env_id].shape == (len(obs[env_id]),)
        assert torch.allclose(policy[env_id], net.policy(alone)[env_id], atol=tolerance, rtol=tolerance)
        assert torch.allclose(value[env_id], net.value(alone)[env_id], atol=tolerance, rtol=tolerance)
        one = net.policy({env_id: obs[env_id][:1]})[env_id]
        assert torch.allclose(policy[env_id][:1], one, atol=tolerance, rtol=tolerance)


@AGNOSTIC
def test_gradients_of_packed_equal_those_of_separate(config: NetConfig) -> None:
    net, obs = build(config).double(), observations(FOUR, torch.float64)

    def loss(policy: dict[str, torch.Tensor], value: dict[str, torch.Tensor]) -> torch.Tensor:
        return sum((policy[e].sin().sum() + value[e].cos().sum() for e in policy), torch.zeros(()))

    loss(*net(obs)[:2]).backward()
    packed = [p.grad.clone() for p in net.parameters()]
    net.zero_grad()
    for env_id in FOUR:
        loss(*net({env_id: obs[env_id]})[:2]).backward()
    for together, parameter in zip(packed, net.parameters(), strict=True):
        assert torch.allclose(together, parameter.grad, atol=1e-10)


@AGNOSTIC
def test_environments_without_samples_get_empty_outputs(config: NetConfig) -> None:
    net, obs = build(config), observations(FOUR)
    expected = net.policy({"Acrobot-v1": obs["Acrobot-v1"]})["Acrobot-v1"]
    policy, value, *_ = net(obs | {"Reacher-v4": torch.zeros(0, 11), "CartPole-v1": torch.zeros(0, 4)})
    assert (policy["Reacher-v4"].shape, policy["CartPole-v1"].shape) == ((0, 4), (0, 2))
    assert value["Reacher-v4"].shape == (0,)
    assert torch.allclose(policy["Acrobot-v1"], expected, atol=1e-5)
    assert net.policy({"CartPole-v1": torch.zeros(0, 4)})["CartPole-v1"].shape == (0, 2)


@AGNOSTIC
def test_state_of_four_loads_strictly_into_three_others(config: NetConfig) -> None:
    source, target = build(config, FOUR), build(config, THREE)
    target.load_state_dict(source.state_dict(), strict=True)
    added = build(config, FOUR)
    for env_id, spec in THREE.items():
        added.add_env(env_id, spec)
    for env_id in FOUR:
        added.remove_env(env_id)
    obs = observations(THREE)
    for env_id, out in target.policy(obs).items():
        assert torch.equal(out, added.policy(obs)[env_id])


def test_number_of_parameters_does_not_depend_on_the_number_of_environments() -> None:
    sixteen = described({f"env-{i}": interface(1 + i, 1 + i, bool(i % 2)) for i in range(16)})

    def count(config: NetConfig, interfaces: dict[str, Any]) -> int:
        return sum(p.numel() for p in config.build(interfaces).parameters())

    for config in (AgnosticNetConfig(), AgnosticNetConfig.paper(num_embedding_layers=1), GeneratedNetConfig()):
        assert count(config, sixteen) == count(config, dict([next(iter(sixteen.items()))]))
    table = agnostic(context="embedding")
    assert count(table, sixteen) == count(table, {}) + 16 * 2 * 8


@pytest.mark.parametrize(
    "config",
    [
        *(agnostic(), agnostic(embedding="s4d"), agnostic(embedding="gru"), agnostic(context="embedding"), generated()),
        *(*MULTI_TASK, replace(MULTI_TASK[1], context="embedding"), TaskHeadsNetConfig(**SMALL)),
    ],
)
def test_gradients_reach_every_parameter(config: NetConfig) -> None:
    net = build(config)
    policy, value, *_ = net(observations(FOUR))
    sum((x.square().sum() for x in (*policy.values(), *value.values())), torch.zeros(())).backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name
        # A GRU over one token never uses its recurrent weights.
        assert parameter.grad.abs().max() > 0 or ("value" in name and "weight_hh" in name), name


@AGNOSTIC
def test_discrete_environments_leave_the_gaussian_decoders_alone(config: NetConfig) -> None:
    net = build(config)
    net.policy(observations({"CartPole-v1": FOUR["CartPole-v1"]}))["CartPole-v1"].square().sum().backward()
    reached = {name for name, parameter in net.named_parameters() if parameter.grad is not None}
    assert any(name.startswith("actor.decoders.logits") for name in reached)
    assert not any("mean" in name or "log_std" in name or name.startswith("critic") for name in reached)


@pytest.mark.parametrize("config", [agnostic(), agnostic(share_encoder=True), generated(value_head="two_hot")])
def test_actor_and_critic_parameters_are_disjoint_and_complete(config: NetConfig) -> None:
    net = build(config)
    actor, critic = ({id(p) for p in ps} for ps in (net.actor_parameters(), net.critic_parameters()))
    assert not actor & critic
    assert actor | critic == {id(p) for p in net.parameters()}


@pytest.mark.parametrize("config", [agnostic(dropout=0.3), generated(dropout=0.3)])
def test_dropout_acts_in_training_only(config: NetConfig) -> None:
    net, obs = build(config), observations(FOUR)
    net.train()
    assert not torch.equal(net.policy(obs)["Reacher-v4"], net.policy(obs)["Reacher-v4"])
    net.eval()
    assert torch.equal(net.policy(obs)["Reacher-v4"], net.policy(obs)["Reacher-v4"])
    assert torch.equal(net.value(obs)["Reacher-v4"], net.value(obs)["Reacher-v4"])


@pytest.mark.parametrize("config", [AgnosticNetConfig(), GeneratedNetConfig()])
def test_start_is_a_nearly_uniform_policy(config: NetConfig) -> None:
    policy, value, *_ = build(config)(observations(FOUR))
    assert torch.softmax(policy["Acrobot-v1"], -1).sub(1 / 3).abs().max() < 0.15
    mean, log_std = policy["Reacher-v4"].chunk(2, -1)
    assert mean.abs().max() < 0.5
    assert (log_std + 0.5).abs().max() < 0.5
    assert all(v.abs().max() < (0.5 if config.type == "agnostic" else 5.0) for v in value.values())


@pytest.mark.parametrize(
    ("plain", "squashing"), [(agnostic(), agnostic(squash_mean=True)), (generated(), generated(squash_mean=True))]
)
def test_squashing_touches_the_means_alone(plain: NetConfig, squashing: NetConfig) -> None:
    obs = observations(FOUR)
    unsquashed = build(plain).policy(obs)
    for env_id, squashed in build(squashing).policy(obs).items():
        if FOUR[env_id].discrete:
            assert torch.equal(squashed, unsquashed[env_id])
            continue
        (mean, log_std), (squashed_mean, squashed_log_std) = unsquashed[env_id].chunk(2, 1), squashed.chunk(2, 1)
        assert torch.equal(squashed_mean, torch.tanh(mean))
        assert torch.equal(squashed_log_std, log_std)


@pytest.mark.parametrize(
    ("make", "fields"),
    [
        *((agnostic, {"context": c, "position_codes": n}) for c in ("computed", "embedding", "none") for n in (0, 32)),
        (generated, {}),
    ],
)
def test_deviations_of_the_task_alone(make: Any, fields: dict[str, Any]) -> None:
    two_joints = described({"Reacher-v4": interface(11, 2, False), "Slider": interface(5, 2, False)})
    net = build(make(state_dependent_std=False, **fields), FOUR | two_joints)
    policies = net.policy(observations(FOUR | two_joints))
    deviations = [policies[env_id].chunk(2, 1)[1] for env_id in two_joints]
    for log_std in deviations:
        assert torch.equal(log_std, log_std[:1].expand_as(log_std))  # whatever the observation
        assert (log_std + 0.5).abs().max() < 0.5
        assert make is generated or not torch.equal(log_std[0, 0], log_std[0, 1])  # generated biases start at zero
    # Environments differ where something tells them apart.
    nothing = fields.get("context") == "none" and fields["position_codes"] == 0
    assert torch.equal(*(log_std[0] for log_std in deviations)) == (nothing or make is generated)
    assert net.state_dict().keys() == build(make(**fields), FOUR | two_joints).state_dict().keys()


@pytest.mark.parametrize(
    ("config", "parts"),
    [
        (agnostic(state_dependent_std=False), {"context", "res_mlp", "decoders"}),
        (generated(state_dependent_std=False), {"decoders"}),
    ],
)
def test_deviations_of_the_task_alone_are_learned(config: NetConfig, parts: set[str]) -> None:
    net = build(config)
    net.policy(observations(FOUR))["Reacher-v4"].chunk(2, 1)[1].sum().backward()
    reached = {name.split(".", 2)[1] for name, p in net.named_parameters() if p.grad is not None and p.grad.any()}
    assert reached == parts


@AGNOSTIC
def test_wrong_observations_are_named(config: NetConfig) -> None:
    net = build(config)
    with pytest.raises(KeyError, match="Nope"):
        net.policy({"Nope": torch.zeros(1, 4)})
    with pytest.raises(ValueError, match="CartPole-v1"):
        net.value({"CartPole-v1": torch.zeros(1, 5)})
    with pytest.raises(ValueError, match="CartPole-v1"):
        net.add_env("CartPole-v1", interface(5, 2, True))
    with pytest.raises(KeyError, match="Nope"):
        net.remove_env("Nope")


@AGNOSTIC
def test_copies_and_pickles_give_the_same_outputs(config: NetConfig) -> None:
    net, obs = build(config), observations(FOUR)
    with torch.no_grad():
        expected = net.policy(obs)["Reacher-v4"]
        assert torch.equal(deepcopy(net).policy(obs)["Reacher-v4"], expected)
        assert torch.equal(pickle.loads(pickle.dumps(net)).policy(obs)["Reacher-v4"], expected)


@pytest.mark.parametrize("config", [agnostic(), agnostic(state_dependent_std=False), generated()])
def test_training_works_after_inference_mode(config: NetConfig) -> None:
    net, obs = build(config), observations(FOUR)
    with torch.inference_mode():
        expected = net.policy(obs)["Reacher-v4"].clone()
    for parameter in net.actor.encoder.parameters():
        parameter.requires_grad_(False)
    out = net.policy(obs)["Reacher-v4"]
    assert torch.allclose(out, expected, atol=1e-6)
    out.sum().backward()


@pytest.mark.parametrize(
    "config", [agnostic(), agnostic(embedding="s4d"), agnostic(embedding="gru"), generated()], ids=str
)
def test_renaming_changes_no_output(config: NetConfig) -> None:
    environments = {"one": interface(4, 2, True, description="pole"), "two": interface(6, 3, False, description="leg")}
    obs = {"one": torch.randn(5, 4), "two": torch.randn(3, 6)}
    found = []
    for names in ({"one": "one", "two": "two"}, {"one": "z", "two": "a"}):
        net = build(config, {names[e]: one for e, one in environments.items()})
        policy, values, *_ = net({names[e]: own for e, own in obs.items()})
        found.append([output[names[e]] for output in (policy, values) for e in environments])
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


@AGNOSTIC
def test_the_description_tells_environments_apart(config: NetConfig) -> None:
    alike = {"one": interface(4, 2, True, description="pole"), "two": interface(4, 2, True, description="cart")}
    net, obs = build(config, alike), torch.randn(5, 4)
    for output in (net.policy, net.value):
        assert not torch.allclose(*output({"one": obs, "two": obs}).values())
    net.remove_env("two")
    net.add_env("two", alike["one"])
    for output in (net.policy, net.value):
        torch.testing.assert_close(*output({"one": obs, "two": obs}).values())
