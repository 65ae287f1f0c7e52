"""The agnostic network: packed equals separate, no parameter belongs to one environment."""

import pickle
from copy import deepcopy
from typing import Any

import pytest
import torch
from interfaces import described, interface

from rllib_multienv.nets import AgnosticActorCritic, AgnosticNetConfig

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
SMALL: dict[str, Any] = {"d_model": 8, "d_state": 4, "num_transformer_layers": 1}


def observations(interfaces: dict[str, Any], dtype: torch.dtype = torch.float32) -> dict[str, torch.Tensor]:
    torch.manual_seed(1)
    return {env: torch.randn(3 + i, spec.obs_size, dtype=dtype) for i, (env, spec) in enumerate(interfaces.items())}


def build(interfaces: dict[str, Any] | None = None, **fields: Any) -> AgnosticActorCritic:
    torch.manual_seed(0)
    return AgnosticNetConfig(**(SMALL | fields)).build(FOUR if interfaces is None else interfaces)


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"embedding": "s4d", "num_heads": 2},
        {"embedding": "gru", "share_encoder": True},
        {
            "context": "embedding",
            "res_mlp_depth": 0,
            "num_embedding_layers": 2,
            "num_transformer_layers": 2,
        },
        {"context": "none", "num_transformer_layers": 0, "encoder_positions": False},
        {"state_dependent_std": False},
        {"state_dependent_std": False, "context": "none", "num_embedding_layers": 2},
    ],
)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_packed_equals_separate(fields: dict[str, Any], dtype: torch.dtype) -> None:
    everything = FOUR | THREE
    net = build(everything, **fields).to(dtype)
    obs = observations(everything, dtype)
    policy, value, _ = net(obs)
    tolerance = 1e-10 if dtype == torch.float64 else 2e-5
    for env_id, spec in everything.items():
        alone = {env_id: obs[env_id]}
        assert policy[env_id].shape == (len(obs[env_id]), spec.action_size * (1 if spec.discrete else 2))
        assert value[env_id].shape == (len(obs[env_id]),)
        assert torch.allclose(policy[env_id], net.policy(alone)[env_id], atol=tolerance, rtol=tolerance)
        assert torch.allclose(value[env_id], net.value(alone)[env_id], atol=tolerance, rtol=tolerance)
        one = net.policy({env_id: obs[env_id][:1]})[env_id]
        assert torch.allclose(policy[env_id][:1], one, atol=tolerance, rtol=tolerance)


def test_gradients_of_packed_equal_those_of_separate() -> None:
    net, obs = build().double(), observations(FOUR, torch.float64)

    def loss(policy: dict[str, torch.Tensor], value: dict[str, torch.Tensor]) -> torch.Tensor:
        return sum((policy[e].sin().sum() + value[e].cos().sum() for e in policy), torch.zeros(()))

    loss(*net(obs)[:2]).backward()
    packed = [p.grad.clone() for p in net.parameters()]
    net.zero_grad()
    for env_id in FOUR:
        loss(*net({env_id: obs[env_id]})[:2]).backward()
    for together, parameter in zip(packed, net.parameters(), strict=True):
        assert torch.allclose(together, parameter.grad, atol=1e-10)


def test_environments_without_samples_get_empty_outputs() -> None:
    net, obs = build(), observations(FOUR)
    expected = net.policy({"Acrobot-v1": obs["Acrobot-v1"]})["Acrobot-v1"]
    policy, value, _ = net(obs | {"Reacher-v4": torch.zeros(0, 11), "CartPole-v1": torch.zeros(0, 4)})
    assert (policy["Reacher-v4"].shape, policy["CartPole-v1"].shape) == ((0, 4), (0, 2))
    assert value["Reacher-v4"].shape == (0,)
    assert torch.allclose(policy["Acrobot-v1"], expected, atol=1e-5)
    assert net.policy({"CartPole-v1": torch.zeros(0, 4)})["CartPole-v1"].shape == (0, 2)


def test_state_of_four_loads_strictly_into_three_others() -> None:
    source, target = build(FOUR), build(THREE)
    target.load_state_dict(source.state_dict(), strict=True)
    added = build(FOUR)
    for env_id, spec in THREE.items():
        added.add_env(env_id, spec)
    for env_id in FOUR:
        added.remove_env(env_id)
    obs = observations(THREE)
    for env_id, out in target.policy(obs).items():
        assert torch.equal(out, added.policy(obs)[env_id])


def test_number_of_parameters_does_not_depend_on_the_number_of_environments() -> None:
    sixteen = described({f"env-{i}": interface(1 + i, 1 + i, bool(i % 2)) for i in range(16)})

    def count(config: AgnosticNetConfig, interfaces: dict[str, Any]) -> int:
        return sum(p.numel() for p in config.build(interfaces).parameters())

    for config in (AgnosticNetConfig(), AgnosticNetConfig.paper(num_embedding_layers=1)):
        assert count(config, sixteen) == count(config, dict([next(iter(sixteen.items()))]))
    table = AgnosticNetConfig(**SMALL, context="embedding")
    assert count(table, sixteen) == count(table, {}) + 16 * 2 * 8


@pytest.mark.parametrize("fields", [{}, {"embedding": "s4d"}, {"embedding": "gru"}, {"context": "embedding"}])
def test_gradients_reach_every_parameter(fields: dict[str, Any]) -> None:
    net = build(**fields)
    policy, value, _ = net(observations(FOUR))
    sum((x.square().sum() for x in (*policy.values(), *value.values())), torch.zeros(())).backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name
        # A GRU over one token never uses its recurrent weights.
        assert parameter.grad.abs().max() > 0 or ("value" in name and "weight_hh" in name), name


def test_discrete_environments_leave_the_gaussian_decoders_alone() -> None:
    net = build()
    net.policy(observations({"CartPole-v1": FOUR["CartPole-v1"]}))["CartPole-v1"].square().sum().backward()
    reached = {name for name, parameter in net.named_parameters() if parameter.grad is not None}
    assert any(name.startswith("actor.decoders.logits") for name in reached)
    assert not any("mean" in name or "log_std" in name or name.startswith("critic") for name in reached)


def test_actor_and_critic_parameters_are_disjoint_and_complete() -> None:
    for share in (False, True):
        net = build(share_encoder=share)
        actor, critic = ({id(p) for p in ps} for ps in (net.actor_parameters(), net.critic_parameters()))
        assert not actor & critic
        assert actor | critic == {id(p) for p in net.parameters()}


def test_dropout_acts_in_training_only() -> None:
    net, obs = build(dropout=0.3), observations(FOUR)
    net.train()
    assert not torch.equal(net.policy(obs)["Reacher-v4"], net.policy(obs)["Reacher-v4"])
    net.eval()
    assert torch.equal(net.policy(obs)["Reacher-v4"], net.policy(obs)["Reacher-v4"])
    assert torch.equal(net.value(obs)["Reacher-v4"], net.value(obs)["Reacher-v4"])


def test_start_is_a_nearly_uniform_policy_and_a_value_near_zero() -> None:
    torch.manual_seed(0)
    net = AgnosticNetConfig().build(FOUR)
    policy, value, _ = net(observations(FOUR))
    assert torch.softmax(policy["Acrobot-v1"], -1).sub(1 / 3).abs().max() < 0.15
    mean, log_std = policy["Reacher-v4"].chunk(2, -1)
    assert mean.abs().max() < 0.5
    assert (log_std + 0.5).abs().max() < 0.5
    assert all(v.abs().max() < 0.5 for v in value.values())


def test_squashing_touches_the_means_alone() -> None:
    obs = observations(FOUR)
    for env_id, squashed in build(squash_mean=True).policy(obs).items():
        plain = build().policy(obs)[env_id]
        if FOUR[env_id].discrete:
            assert torch.equal(squashed, plain)
            continue
        (mean, log_std), (squashed_mean, squashed_log_std) = plain.chunk(2, 1), squashed.chunk(2, 1)
        assert torch.equal(squashed_mean, torch.tanh(mean))
        assert torch.equal(squashed_log_std, log_std)


@pytest.mark.parametrize("codes", [0, 32])
@pytest.mark.parametrize("context", ["computed", "embedding", "none"])
def test_deviations_of_the_task_alone(context: str, codes: int) -> None:
    two_joints = described({"Reacher-v4": interface(11, 2, False), "Slider": interface(5, 2, False)})
    net = build(FOUR | two_joints, state_dependent_std=False, context=context, position_codes=codes)
    deviations = {
        e: p.chunk(2, 1)[1] for e, p in net.policy(observations(FOUR | two_joints)).items() if e in two_joints
    }
    for log_std in deviations.values():
        assert torch.equal(log_std, log_std[:1].expand_as(log_std))  # whatever the observation
        assert not torch.equal(log_std[0, 0], log_std[0, 1])
        assert (log_std + 0.5).abs().max() < 0.5
    # Environments differ where something tells them apart.
    nothing = context == "none" and codes == 0
    assert torch.equal(*(log_std[0] for log_std in deviations.values())) == nothing
    assert (
        net.state_dict().keys() == build(FOUR | two_joints, context=context, position_codes=codes).state_dict().keys()
    )


def test_deviations_of_the_task_alone_are_learned() -> None:
    net = build(state_dependent_std=False)
    net.policy(observations(FOUR))["Reacher-v4"].chunk(2, 1)[1].sum().backward()
    reached = {name.split(".", 2)[1] for name, p in net.named_parameters() if p.grad is not None and p.grad.any()}
    assert reached == {"context", "res_mlp", "decoders"}


def test_wrong_observations_are_named() -> None:
    net = build()
    with pytest.raises(KeyError, match="Nope"):
        net.policy({"Nope": torch.zeros(1, 4)})
    with pytest.raises(ValueError, match="CartPole-v1"):
        net.value({"CartPole-v1": torch.zeros(1, 5)})
    with pytest.raises(ValueError, match="CartPole-v1"):
        net.add_env("CartPole-v1", interface(5, 2, True))
    with pytest.raises(KeyError, match="Nope"):
        net.remove_env("Nope")


def test_copies_and_pickles_give_the_same_outputs() -> None:
    net, obs = build(), observations(FOUR)
    with torch.no_grad():
        expected = net.policy(obs)["Reacher-v4"]
        assert torch.equal(deepcopy(net).policy(obs)["Reacher-v4"], expected)
        assert torch.equal(pickle.loads(pickle.dumps(net)).policy(obs)["Reacher-v4"], expected)


@pytest.mark.parametrize("std_of_state", [True, False])
def test_training_works_after_inference_mode(std_of_state: bool) -> None:
    net, obs = build(state_dependent_std=std_of_state), observations(FOUR)
    with torch.inference_mode():
        expected = net.policy(obs)["Reacher-v4"].clone()
    for parameter in net.actor.encoder.trunk.embedding.kernels.parameters():
        parameter.requires_grad_(False)
    out = net.policy(obs)["Reacher-v4"]
    assert torch.allclose(out, expected, atol=1e-6)
    out.sum().backward()
