"""Networks for any observation and action: images, text, mixed actions and action masks."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
import torch
from interfaces import actions_of, any_interface, described, rows_of

from rllib_multienv.nets import (
    ActorCritic,
    AgnosticNetConfig,
    CARENetConfig,
    GeneratedNetConfig,
    ImageEncoderConfig,
    MLPNetConfig,
    NetConfig,
    SingleNetConfig,
    SpecificNetConfig,
    TaskHeadsNetConfig,
    TextEncoderConfig,
    distribution_for,
    net_config_from_dict,
)

ENVS = described(
    {
        "vector": any_interface(4, [("categorical", 2)]),
        "gaussian": any_interface(3, [("continuous", 2)]),
        "mixed": any_interface(5, [("categorical", 3), ("bernoulli", 2), ("continuous", 2)]),
        "multi": any_interface(4, [("categorical", 3), ("categorical", 3)]),
        "masked": any_interface(2, [("categorical", 4)], mask=True),
        "masked mixed": any_interface(4, [("bernoulli", 3), ("continuous", 1)], mask=True),
        "image": any_interface(1, [("categorical", 3)], images=[(20, 16, 3)]),
        "frames": any_interface(1, [("categorical", 2)], images=[(24, 24, 4, True)]),
        "camera": any_interface(3, [("continuous", 2)], images=[(20, 16, 3)]),
        "text": any_interface(2, [("categorical", 3)], texts=[12]),
        "all": any_interface(
            3, [("categorical", 3), ("continuous", 1)], images=[(16, 17, 1), (20, 16, 3)], texts=[12, 7], mask=True
        ),
    }
)
MEDIA = ["image", "frames", "camera", "text", "all"]
SMALL: dict[str, Any] = {
    "image_encoder": ImageEncoderConfig(channels=(4, 8), blocks=(0, 1), positions=2, width=8),
    "text_encoder": TextEncoderConfig(channels=4, width=8),
}
FOR_ANY = [
    AgnosticNetConfig(d_model=8, d_state=4, **SMALL),
    AgnosticNetConfig(d_model=8, d_state=4, share_encoder=True, state_dependent_std=False, **SMALL),
    GeneratedNetConfig(width=8, generator_width=8, code_size=16, **SMALL),
    GeneratedNetConfig(width=8, generator_width=8, code_size=16, state_dependent_std=False, **SMALL),
    SpecificNetConfig(width=8, **SMALL),
    CARENetConfig(width=8, generator_width=8, code_size=16, encoder_width=16, **SMALL),
    TaskHeadsNetConfig(width=8, generator_width=8, code_size=16, **SMALL),
]
FOR_ONE = [
    MLPNetConfig(hidden=(8,), **SMALL),
    MLPNetConfig(hidden=(8, 8), squash_mean=True, **SMALL),
    SingleNetConfig(width=8, **SMALL),
]


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
    policy, values, *_ = net(obs)
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
        if not name.startswith(("critic", "encoders")) and "log_std.weights" not in name:
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
    if config.type in ("specific", "task_heads"):
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
@pytest.mark.parametrize("env_id", ["mixed", "multi", "masked", "masked mixed", "all"])
def test_action_values_of_one_environment(config: NetConfig, env_id: str) -> None:
    values, obs = config.build_critic({env_id: ENVS[env_id]}), rows_of(ENVS[env_id], 5)
    found = values({env_id: obs}, {env_id: actions_of(ENVS[env_id], 5)})[env_id]
    assert found.shape == (2, 5) and found.isfinite().all()


@pytest.mark.parametrize("config", FOR_ANY, ids=lambda config: config.type)
@pytest.mark.parametrize("env_id", MEDIA)
def test_every_image_and_text_matters_to_policy_values_and_action_values(config: NetConfig, env_id: str) -> None:
    one, obs = ENVS[env_id], rows_of(ENVS[env_id], 2)
    net, q = build(config, ENVS), config.build_critic(ENVS)
    actions = {env_id: actions_of(one, 2)}
    row = one.observation
    place = 4 * row.numbers
    before = [net.policy({env_id: obs})[env_id], net.value({env_id: obs})[env_id], *q({env_id: obs}, actions)[env_id]]
    for size in [*(image.size for image in row.images), *row.texts]:
        changed = obs.clone()
        changed[:, place : place + size] = 255 - obs[:, place : place + size]
        place += size
        rows = {env_id: changed}
        after = [net.policy(rows)[env_id], net.value(rows)[env_id], *q(rows, actions)[env_id]]
        assert all((old != new).any(-1).all() for old, new in zip(before, after, strict=True))


@pytest.mark.parametrize("config", FOR_ANY, ids=lambda config: config.type)
def test_gradients_of_packed_equal_those_of_separate(config: NetConfig) -> None:
    net, obs = build(config, ENVS).double(), observations(ENVS)

    def backward(rows: dict[str, torch.Tensor]) -> None:
        outputs = net(rows)
        # Masked logits are constants; without their size the sum is exact.
        parts = [value.clamp(min=-100).sin().sum() for value in (*outputs.policy.values(), *outputs.values.values())]
        torch.stack(parts).sum().backward()

    backward(obs)
    packed = {name: p.grad.clone() for name, p in net.named_parameters() if p.grad is not None}
    assert {name for name, _ in net.named_parameters() if name.startswith("encoders.")} <= packed.keys()
    net.zero_grad()
    for env_id, rows in obs.items():
        backward({env_id: rows})
    for name, parameter in net.named_parameters():
        if name in packed:
            assert parameter.grad is not None
            torch.testing.assert_close(packed[name], parameter.grad, atol=1e-9, rtol=1e-9)
            assert not name.startswith("encoders.") or parameter.grad.any(), name


@pytest.mark.parametrize("config", FOR_ANY[:4], ids=lambda config: config.type)
def test_parameters_load_strictly_into_environments_with_images_and_text_of_other_sizes(config: NetConfig) -> None:
    others = {
        "large": any_interface(1, [("categorical", 6)], images=[(40, 84, 12)]),
        "tiny": any_interface(7, [("continuous", 3)], images=[(1, 1, 1), (3, 2, 2, True)], texts=[1]),
    }
    for build_it in (config.build, config.build_critic):
        source, target = build_it(ENVS), build_it(described(others))
        target.load_state_dict(source.state_dict(), strict=True)
    net = build(config, described(others))
    for env_id, one in others.items():
        check_shape = net({env_id: rows_of(one, 2)}).policy[env_id]
        assert check_shape.shape == (2, one.action.num_inputs) and check_shape.isfinite().all()


@pytest.mark.parametrize("config", [*FOR_ANY, *FOR_ONE], ids=lambda config: config.type)
def test_actor_and_critic_share_the_encoders_and_a_runner_drops_what_values_need(config: NetConfig) -> None:
    envs = {"all": ENVS["all"]}
    net, obs = build(config, envs), {"all": rows_of(ENVS["all"], 3)}
    actor, critic = ([id(p) for p in found] for found in (net.actor_parameters(), net.critic_parameters()))
    assert not set(actor) & set(critic) and len(set(actor)) == len(actor)
    assert {*actor, *critic} == {id(p) for p in net.parameters()}
    assert id(net.get_parameter("encoders.image.first.bias")) in actor
    expected = net.policy(obs)["all"]
    net.drop_critic()
    assert not [name for name, _ in net.named_parameters() if "critic" in name]
    assert torch.equal(net.policy(obs)["all"], expected)


@pytest.mark.parametrize("config", FOR_ANY[1:3], ids=lambda config: config.type)
@pytest.mark.parametrize("memory", ["gru", "s4", "belief"])
def test_memory_remembers_images(config: NetConfig, memory: Any) -> None:
    net = build(replace(config, memory=memory), ENVS)
    obs = {env_id: rows_of(ENVS[env_id], 6) for env_id in ("all", "vector")}  # two copies, three time steps
    first = {env_id: torch.zeros(3, 2, dtype=torch.bool) for env_id in obs}
    whole, state = net(obs, None, first), None
    for t in range(3):
        step = net({env_id: rows[2 * t : 2 * t + 2] for env_id, rows in obs.items()}, state)
        state = step.state
        for env_id in obs:
            torch.testing.assert_close(whole.policy[env_id][2 * t : 2 * t + 2], step.policy[env_id])
            torch.testing.assert_close(whole.values[env_id][2 * t : 2 * t + 2], step.values[env_id])


def test_encoders_are_made_where_environments_need_them_or_the_config_asks() -> None:
    vectors = {"vector": ENVS["vector"]}
    image = {"image": ENVS["image"]}
    for config in (AgnosticNetConfig(d_model=8, d_state=4), GeneratedNetConfig(width=8), SpecificNetConfig(width=8)):
        assert build(config, vectors).encoders is None
        names = {name.split(".")[1] for name in build(config, image).state_dict() if name.startswith("encoders.")}
        assert names == {"image", "actor", "critic"}
        asked = replace(config, image_encoder=ImageEncoderConfig(channels=(4,), blocks=(1,)))
        later = build(asked, vectors)
        later.add_env("image", ENVS["image"])
        assert later.policy({"image": rows_of(ENVS["image"], 2)})["image"].shape == (2, 3)
        for net in (build(config, vectors), config.build_critic(vectors)):
            with pytest.raises(ValueError, match=r"'image' has images .* image_encoder: true in its model_config"):
                net.add_env("image", ENVS["image"])
            with pytest.raises(ValueError, match=r"'text' has texts .* text_encoder: true in its model_config"):
                net.add_env("text", ENVS["text"])
    with pytest.raises(ValueError, match=r"hidden=\(\)"):
        MLPNetConfig(hidden=()).build(image)


def test_encoder_sizes_in_files() -> None:
    config = net_config_from_dict(
        {"type": "generated", "image_encoder": {"channels": [8, 8], "blocks": [1, 1]}, "text_encoder": True}
    )
    assert config.image_encoder == ImageEncoderConfig(channels=(8, 8), blocks=(1, 1))
    assert config.text_encoder == TextEncoderConfig()
    assert net_config_from_dict(json.loads(json.dumps(config.to_dict()))) == config
    assert net_config_from_dict(GeneratedNetConfig().to_dict()) == GeneratedNetConfig()
    with pytest.raises(ValueError, match="unknown field 'chanels' of the image_encoder; did you mean 'channels'"):
        net_config_from_dict({"type": "mlp", "image_encoder": {"chanels": [8]}})
    for fields, message in (
        ({"channels": [8, 0], "blocks": [1, 1]}, "image_encoder: channels="),
        ({"channels": [8]}, "image_encoder: blocks="),
        ({"stride": 0}, "image_encoder: stride="),
    ):
        with pytest.raises(ValueError, match=message):
            net_config_from_dict({"type": "mlp", "image_encoder": fields})
    with pytest.raises(ValueError, match="text_encoder: window=4: must be odd"):
        TextEncoderConfig(window=4)
