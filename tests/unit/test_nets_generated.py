"""The generated network: weights are kept in inference until a parameter changes; values over bins; action values."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from interfaces import described, interface

from rllib_multienv.nets import GeneratedActorCritic, GeneratedNetConfig
from rllib_multienv.nets.generated import Generator

ENVS = described({"cart": interface(4, 2, True), "leg": interface(6, 3, False), "arm": interface(11, 2, False)})
TINY = GeneratedNetConfig(width=8, generator_width=8, code_size=16)


def build(config: GeneratedNetConfig = TINY) -> GeneratedActorCritic:
    torch.manual_seed(0)
    return config.build(ENVS)


def observations() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return {env_id: torch.randn(5, one.obs_size, generator=generator) for env_id, one in ENVS.items()}


def test_weights_are_generated_once_in_inference(monkeypatch: pytest.MonkeyPatch) -> None:
    net, obs, calls = build(), observations(), []
    original = Generator.forward

    def counted(self: Generator, descriptions: torch.Tensor) -> torch.Tensor:
        calls.append(len(descriptions))
        return original(self, descriptions)

    monkeypatch.setattr(Generator, "forward", counted)
    with torch.no_grad():
        first = net.policy(obs)
        assert sorted(calls) == [2, 5, 5, 21]  # logits, mean, log_std and the first layer, of all environments at once
        again = net.policy(obs)
        assert len(calls) == 4
        net.policy({"leg": obs["leg"]})
        assert sorted(calls[4:]) == [3, 3, 6]
    assert all(torch.equal(first[env_id], again[env_id]) for env_id in ENVS)
    net.policy(obs)
    assert len(calls) == 11  # with gradients at every call


def _step(net: GeneratedActorCritic) -> None:
    optimiser = torch.optim.Adam(net.parameters(), lr=0.1, fused=True)
    sum((x.square().sum() for x in net.policy(observations()).values()), torch.zeros(())).backward()
    optimiser.step()


def _load(net: GeneratedActorCritic) -> None:
    torch.manual_seed(5)
    net.load_state_dict(TINY.build(ENVS).state_dict())


def _in_place(net: GeneratedActorCritic) -> None:
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.1)


@pytest.mark.parametrize("change", [_step, _load, _in_place])
def test_changed_parameters_change_what_is_kept(change: Callable[[GeneratedActorCritic], None]) -> None:
    net, obs = build(), observations()
    with torch.no_grad():
        before = net.policy(obs)
    change(net)
    with torch.no_grad():
        after, fresh = net.policy(obs), copy.deepcopy(net).policy(obs)
    for env_id in ENVS:
        assert not torch.allclose(before[env_id], after[env_id])
        assert torch.equal(after[env_id], fresh[env_id])


def test_an_environment_that_comes_back_with_other_sizes_gets_other_weights() -> None:
    net = build()
    with torch.no_grad():
        net.policy({"leg": torch.zeros(2, 6)})
        net.remove_env("leg")
        net.add_env("leg", interface(7, 1, False, description="another leg"))
        assert net.policy({"leg": torch.zeros(2, 7)})["leg"].shape == (2, 2)


@pytest.mark.parametrize("kind", ["two_hot", "hl_gauss"])
def test_values_over_bins(kind: str) -> None:
    net, obs = build(GeneratedNetConfig(width=8, value_head=kind, num_value_bins=31)), observations()  # type: ignore[arg-type]
    outputs, values = net(obs), net.value(obs)
    for env_id in ENVS:
        assert outputs.values[env_id].shape == (5, 31)
        assert values[env_id].shape == (5,)
        torch.testing.assert_close(values[env_id], net.read_values(outputs.values)[env_id])
        torch.testing.assert_close(values[env_id], net.value({env_id: obs[env_id]})[env_id])
    assert net(obs | {"leg": torch.zeros(0, 6)}).values["leg"].shape == (0, 31)


def test_action_values_have_no_parameter_of_an_environment_and_none_without_use() -> None:
    few, many = TINY.build_critic({"cart": ENVS["cart"]}), TINY.build_critic(ENVS)
    many.load_state_dict(few.state_dict(), strict=True)
    assert not [name for name, _ in many.named_parameters() if "log_std" in name or "mean" in name or "critic" in name]


def test_components_of_actions_are_told_from_those_of_observations() -> None:
    torch.manual_seed(0)
    values = TINY.build_critic(described({"a": interface(3, 1, False), "b": interface(2, 2, False)}))
    numbers = torch.rand(5, 4) * 2 - 1
    found = values({"a": numbers[:, :3], "b": numbers[:, :2]}, {"a": numbers[:, 3:], "b": numbers[:, 2:]})
    assert (found["a"] - found["b"]).abs().max() > 1e-4


@pytest.mark.parametrize(
    ("field", "value"),
    [("width", 0), ("depth", 0), ("generator_width", 1.5), ("code_size", -1), ("dropout", 1.0), ("value_head", "bins")],
)
def test_bad_fields_are_named(field: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"^{field}="):
        GeneratedNetConfig(**{field: value})  # type: ignore[arg-type]


def test_bf16_is_near_float32_in_training_and_inference_whichever_comes_first() -> None:
    net, obs = build(GeneratedNetConfig()), observations()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        rounded = net.policy(obs)
    with torch.no_grad():
        exact = net.policy(obs)
    with torch.autocast("cpu", torch.bfloat16):
        trained = net(obs)
    sum((x.float().square().sum() for x in trained.policy.values()), torch.zeros(())).backward()
    for env_id in ENVS:
        assert 0 < (rounded[env_id] - exact[env_id]).abs().max() < 0.05
        assert 0 < (trained.policy[env_id] - exact[env_id]).abs().max() < 0.05
    assert all(p.grad is None or p.grad.isfinite().all() for p in net.parameters())


def test_with_words_a_permuted_environment_is_nearly_the_same() -> None:
    words = ("angle hinge pole", "velocity hinge pole", "position slide cart", "velocity slide cart")
    order = [2, 0, 3, 1]
    envs = {"one": interface(4, 2, True, description="one"), "two": interface(4, 2, True, description="two")}
    envs["one"].obs_names, envs["two"].obs_names = words, tuple(words[i] for i in order)
    obs = torch.randn(64, 4, generator=torch.Generator().manual_seed(0))
    differences = []
    for kind in ("id", "auto"):
        torch.manual_seed(0)
        net = GeneratedNetConfig(descriptions=kind).build(envs)  # type: ignore[arg-type]
        with torch.no_grad():
            one, two = (net.encode("actor", {env: own}) for env, own in (("one", obs), ("two", obs[:, order])))
        one, two = one - one.mean(0), two - two.mean(0)  # without what the environments' own descriptions add
        differences.append((one - two).norm().item() / one.norm().item())
    assert differences[1] < 0.6 < 1.0 < differences[0]
