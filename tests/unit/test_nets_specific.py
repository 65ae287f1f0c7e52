"""The paper's specific agent: packed equals separate, and what is an environment's own stays its own."""

import pickle
from copy import deepcopy
from typing import Any

import pytest
import torch
from interfaces import interface

from rllib_multienv.nets import SpecificActorCritic, SpecificNetConfig, env_key, environment_of, frozen_parameters

# Ids that torch does not take as names of modules, and one that is an attribute of them.
FOUR = {
    "CartPole-v1": interface(4, 2, True),
    "a.b%2E": interface(11, 2, False),
    "forward": interface(6, 3, True),
    "InvertedPendulum-v4": interface(4, 1, False),
}


def observations(dtype: torch.dtype = torch.float32) -> dict[str, torch.Tensor]:
    torch.manual_seed(1)
    return {env: torch.randn(3 + i, spec.obs_size, dtype=dtype) for i, (env, spec) in enumerate(FOUR.items())}


def build(interfaces: dict[str, Any] | None = None, **fields: Any) -> SpecificActorCritic:
    torch.manual_seed(0)
    return SpecificNetConfig(**{"width": 8, **fields}).build(FOUR if interfaces is None else interfaces)


def count(net: torch.nn.Module) -> int:
    return sum(p.numel() for p in net.parameters())


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_packed_equals_separate(dtype: torch.dtype) -> None:
    net, obs = build().to(dtype), observations(dtype)
    policy, value, *_ = net(obs)
    tolerance = 1e-12 if dtype == torch.float64 else 1e-5
    for env_id, spec in FOUR.items():
        alone = {env_id: obs[env_id]}
        assert policy[env_id].shape == (len(obs[env_id]), spec.action_size * (1 if spec.discrete else 2))
        assert value[env_id].shape == (len(obs[env_id]),)
        torch.testing.assert_close(policy[env_id], net.policy(alone)[env_id], atol=tolerance, rtol=tolerance)
        torch.testing.assert_close(value[env_id], net.value(alone)[env_id], atol=tolerance, rtol=tolerance)


def test_no_gradient_reaches_the_parts_of_another_environment() -> None:
    net, obs = build(), observations()
    for env_id in FOUR:
        net.zero_grad(set_to_none=True)
        policy, value, *_ = net(obs)
        (policy[env_id].square().sum() + value[env_id].square().sum()).backward()
        reached = {n for n, p in net.named_parameters() if p.grad is not None and p.grad.abs().max() > 0}
        expected = {n for n, _ in net.named_parameters() if environment_of(n) in (None, env_id)}
        assert reached == expected
        assert any("middle" in name for name in reached)


def test_names_in_the_state_dict() -> None:
    names = set(build().state_dict())
    for env_id, spec in FOUR.items():
        own = {name for name in names if environment_of(name) == env_id}
        assert own == {name for name in names if f".{env_key(env_id)}." in name}
        decoders = {"logits"} if spec.discrete else {"mean", "log_std"}
        parts = [name.split(f".{env_key(env_id)}.") for name in own]
        assert {before for before, _ in parts} == {
            "actor.encoder",
            "actor.decoders",
            "critic.encoder",
            "critic.decoders",
        }
        assert {after.split(".")[0] for before, after in parts if "decoders" in before} == decoders | {"value"}
    shared = {name for name in names if environment_of(name) is None}
    assert {".".join(name.split(".")[:2]) for name in shared} == {"actor.middle", "critic.middle"}


def test_number_of_parameters_grows_with_the_environments() -> None:
    block = 2 * 8 + 2 * (8 * 8 + 8)
    shared = 2 * 2 * block
    assert count(build({})) == shared

    def own(spec: Any) -> int:
        outputs = [spec.action_size] if spec.discrete else [spec.action_size] * 2
        encoders = 2 * ((spec.obs_size + 1) * 8 + block)
        return encoders + sum(block + 2 * 8 + 9 * size for size in [*outputs, 1])

    assert count(build()) == shared + sum(own(spec) for spec in FOUR.values())
    deeper = build(encoder_depth=3, middle_depth=1, decoder_depth=2)
    extra = sum(2 * 2 + (2 if spec.discrete else 3) for spec in FOUR.values())  # encoders by 2 blocks, decoders by 1
    assert count(deeper) == count(build()) + (extra - 2) * block


def test_the_papers_sizes() -> None:
    config = SpecificNetConfig.paper(middle_depth=3)
    assert (config.width, config.encoder_depth, config.middle_depth, config.decoder_depth) == (256, 1, 3, 1)
    assert config.dropout == 0.1


def test_an_environment_that_comes_gets_parts_and_one_that_goes_leaves_none() -> None:
    net, obs = build(dropout=0.5).double().eval(), observations(torch.float64)
    before, state = net.policy(obs), {name: tensor.clone() for name, tensor in net.state_dict().items()}
    net.add_env("new", interface(5, 2, False))
    assert count(net) > sum(tensor.numel() for tensor in state.values())
    out = net.policy({**obs, "new": torch.randn(2, 5, dtype=torch.float64)})
    assert out["new"].shape == (2, 4) and out["new"].dtype == torch.float64
    assert not any(module.training for module in net.modules())
    for env_id, expected in before.items():
        torch.testing.assert_close(out[env_id], expected)
    net.add_env("new", interface(5, 2, False))  # known: nothing happens
    assert torch.equal(net.policy({"new": torch.ones(1, 5)})["new"], net.policy({"new": torch.ones(1, 5)})["new"])
    net.remove_env("new")
    assert {name: t.tolist() for name, t in net.state_dict().items()} == {n: t.tolist() for n, t in state.items()}
    net.remove_env("forward")
    assert not [name for name in net.state_dict() if environment_of(name) == "forward"]
    with pytest.raises(KeyError, match="forward"):
        net.policy(obs)


def test_the_order_of_parameters_does_not_depend_on_the_order_of_environments() -> None:
    turned = build(dict(reversed(FOUR.items())))
    assert [name for name, _ in turned.named_parameters()] == [name for name, _ in build().named_parameters()]
    assert [p.shape for p in turned.actor_parameters()] == [p.shape for p in build().actor_parameters()]
    turned.load_state_dict(build().state_dict())
    assert torch.equal(turned.policy(observations())["forward"], build().policy(observations())["forward"])


def test_a_network_reduced_to_its_policy_takes_environments_too() -> None:
    net = build()
    # The same rows in both calls: with others beside them a matrix product may round otherwise.
    rows = {"forward": observations()["forward"]}
    expected = net.policy(rows)["forward"]
    del net.critic
    net.add_env("new", interface(5, 2, False))
    net.remove_env("CartPole-v1")
    assert torch.equal(net.policy(rows)["forward"], expected)
    assert net.policy({"new": torch.zeros(1, 5)})["new"].shape == (1, 4)


def test_parts_can_be_frozen() -> None:
    net = build()
    names = {name for name, _ in net.named_parameters()}
    for part in ("encoder", "middle", "decoders"):
        frozen = frozen_parameters(net, [part])
        assert frozen == {name for name in names if name.split(".")[1] == part}
    assert frozen_parameters(net, ["actor.middle"]) == {name for name in names if name.startswith("actor.middle")}
    assert frozen_parameters(net, [env_key("a.b%2E")]) == {name for name in names if environment_of(name) == "a.b%2E"}


def test_environments_without_samples_get_empty_outputs() -> None:
    net, obs = build(), observations()
    policy, value, *_ = net(obs | {"forward": torch.zeros(0, 6)})
    assert policy["forward"].shape == (0, 3) and value["forward"].shape == (0,)
    torch.testing.assert_close(policy["CartPole-v1"], net.policy(obs)["CartPole-v1"])
    assert net({}) == ({}, {}, {}, {})


def test_actor_and_critic_parameters_are_disjoint_and_complete() -> None:
    net = build()
    actor, critic = ({id(p) for p in ps} for ps in (net.actor_parameters(), net.critic_parameters()))
    assert not actor & critic
    assert actor | critic == {id(p) for p in net.parameters()}


def test_the_start_is_a_nearly_uniform_policy() -> None:
    torch.manual_seed(0)
    policy, value, *_ = SpecificNetConfig().build(FOUR)(observations())
    assert torch.softmax(policy["forward"], -1).sub(1 / 3).abs().max() < 0.05
    mean, log_std = policy["a.b%2E"].chunk(2, -1)
    assert mean.abs().max() < 0.1
    assert (log_std + 0.5).abs().max() < 0.1
    assert all(v.isfinite().all() and v.abs().max() < 5 for v in value.values())


def test_squashing_touches_the_means_alone() -> None:
    obs = observations()
    plain, squashed = (build(squash_mean=squash).policy(obs) for squash in (False, True))
    assert torch.equal(plain["forward"], squashed["forward"])
    mean, log_std = plain["a.b%2E"].chunk(2, 1)
    assert torch.equal(squashed["a.b%2E"], torch.cat([torch.tanh(mean), log_std], 1))


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
    net, obs = build(), observations()
    expected = net.policy(obs)["forward"]
    assert torch.equal(deepcopy(net).policy(obs)["forward"], expected)
    assert torch.equal(pickle.loads(pickle.dumps(net)).policy(obs)["forward"], expected)
