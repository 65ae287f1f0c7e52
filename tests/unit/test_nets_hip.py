"""The network of HiP-BMDP: what tells tasks apart, new tasks, the models, and inference of an embedding."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from interfaces import actions_of, any_interface, described, interface, rows_of

from rllib_multienv import EnvSpec, HiPNetConfig, MultiEnvAgent
from rllib_multienv.checkpoints import AgentCheckpoint
from rllib_multienv.envs import probe_spaces
from rllib_multienv.envs.vector import EnvCopies
from rllib_multienv.evaluation.adapters import EmbeddingAdapter, make_adapter
from rllib_multienv.nets import HiPActorCritic
from rllib_multienv.nets.hip import Predicted

ENVS = described({"low": interface(4, 2, True), "high": interface(4, 2, True), "arm": interface(6, 2, False)})
OBS = {env_id: rows_of(one, 5) for env_id, one in ENVS.items()}
TASKS = {"right": [0.0, 0, 0, 0, 0.6], "left": [0.0, 0, 0, 0, -0.6]}


def network(**fields: object) -> HiPActorCritic:
    torch.manual_seed(0)
    return HiPNetConfig(**{"width": 8, "depth": 1, "context_size": 6, **fields}).build(ENVS)  # type: ignore[arg-type]


def numbers(net: HiPActorCritic, env_id: str) -> torch.Tensor:
    return net.models.numbers(env_id, actions_of(ENVS[env_id], 5))


@pytest.mark.parametrize("descriptions", ["id", "auto", "measured"])
def test_the_embedding_alone_tells_environments_apart(descriptions: str) -> None:
    net, obs = network(descriptions=descriptions), {env_id: OBS["low"] for env_id in ("low", "high")}
    actions = {env_id: numbers(net, "low") for env_id in obs}
    before, predicted = net(obs), net.models(obs, actions)
    assert not torch.equal(before.policy["low"], before.policy["high"])
    assert not torch.equal(predicted["low"].change, predicted["high"].change)
    with torch.no_grad():
        net.theta("high").copy_(net.theta("low"))
    after, predicted = net(obs), net.models(obs, actions)
    for left, right in ((after.policy["low"], after.policy["high"]), (after.values["low"], after.values["high"])):
        torch.testing.assert_close(left, right)
    torch.testing.assert_close(predicted["low"], predicted["high"])


def test_a_new_environment_begins_with_the_mean_of_those_of_its_sizes_and_leaves_again() -> None:
    net = network()
    assert net.knows_any
    names = set(net.state_dict())
    net.add_env("new", interface(4, 2, True))
    torch.testing.assert_close(net.theta("new"), (net.theta("low") + net.theta("high")) / 2)
    net.add_env("unlike", interface(3, 1, False))
    torch.testing.assert_close(net.theta("unlike"), net.thetas(("low", "high", "arm", "new")).mean(0))
    assert net.policy({"unlike": torch.zeros(2, 3)})["unlike"].shape == (2, 2)
    for env_id in ("new", "unlike"):
        net.remove_env(env_id)
    assert set(net.state_dict()) == names


def test_runners_have_neither_models_nor_values() -> None:
    net = network()
    net.drop_critic()
    assert not any(name.startswith(("models", "critic")) for name in net.state_dict())
    net.add_env("new", interface(4, 2, True))
    assert net.policy({"new": torch.zeros(1, 4)})["new"].shape == (1, 2)


def test_packed_predictions_are_those_of_each_environment() -> None:
    net = network()
    together = net.models(OBS, {env_id: numbers(net, env_id) for env_id in ENVS})
    for env_id, one in ENVS.items():
        alone = net.models({env_id: OBS[env_id]}, {env_id: numbers(net, env_id)})[env_id]
        assert alone.change.shape == alone.log_std.shape == (5, one.obs_size) and alone.reward.shape == (5,)
        torch.testing.assert_close(together[env_id], alone)


def test_models_take_images_and_mixed_actions() -> None:
    mixed = any_interface(3, [("categorical", 3), ("continuous", 2)], images=[(3, 16, 16)], mask=True)
    net = HiPNetConfig(width=8, depth=1).build({"mixed": mixed})
    rows, actions = rows_of(mixed, 4), net.models.numbers("mixed", actions_of(mixed, 4))
    assert net.models({"mixed": rows}, {"mixed": actions})["mixed"].change.shape == (4, 3)
    after = rows_of(mixed, 4, seed=1)
    assert net.models.changes("mixed", rows, after).shape == (4, 3)


def test_the_likelihood_is_that_of_a_gaussian_up_to_a_constant() -> None:
    predicted = Predicted(torch.tensor([[0.0, 2.0]]), torch.tensor([[0.0, math.log(2.0)]]), torch.zeros(1))
    # ((1 - 0) / 1)^2 / 2 + 0 and ((5 - 2) / 2)^2 / 2 + log 2.
    expected = (0.5 + 1.125 + math.log(2.0)) / 2
    assert predicted.negative_log_likelihood(torch.tensor([[1.0, 5.0]])).item() == pytest.approx(expected)
    weighted = predicted.negative_log_likelihood(torch.tensor([[1.0, 5.0]]), beta=0.5)
    assert weighted.item() == pytest.approx((0.5 + 2.0 * (1.125 + math.log(2.0))) / 2)


def test_what_the_models_cannot_predict_is_refused() -> None:
    for fields in ({"memory": "gru"}, {"inputs": ("previous_action",)}, {"world_attention": True}):
        with pytest.raises(ValueError, match="the models predict single steps"):
            HiPNetConfig(**fields)  # type: ignore[arg-type]


def test_an_agent_infers_which_way_actions_push_from_one_episode() -> None:
    specs = {e: EnvSpec(e, make="multienv/CartPoleHidden-v0", kwargs={"task": t}) for e, t in TASKS.items()}
    spaces = {env_id: probe_spaces(spec) for env_id, spec in specs.items()}
    config = HiPNetConfig(width=16, depth=1, context_size=4)
    torch.manual_seed(0)
    net = config.build(spaces)
    columns: dict[str, dict[str, torch.Tensor]] = {"obs": {}, "numbers": {}, "changes": {}}
    rng = np.random.default_rng(0)
    for env_id, spec in specs.items():
        copies, found = EnvCopies(spec, 8, seed=0), []
        obs = copies.reset()
        for _ in range(40):
            actions = rng.integers(2, size=8)
            step = copies.step(actions)
            after = step.obs.copy()
            for number, final in step.final_obs.items():
                after[number] = final
            found.append((obs, actions, after))
            obs = step.obs
        copies.close()
        rows, acted, following = (torch.from_numpy(np.concatenate(own)) for own in zip(*found, strict=True))
        columns["obs"][env_id], columns["numbers"][env_id] = rows, net.models.numbers(env_id, acted)
        columns["changes"][env_id] = net.models.changes(env_id, rows, following)
    optimizer = torch.optim.Adam(net.models.parameters(), lr=0.003)
    for _ in range(200):
        predicted = net.models(columns["obs"], columns["numbers"])
        optimizer.zero_grad()
        sum(predicted[e].negative_log_likelihood(columns["changes"][e], beta=0.5) for e in specs).backward()  # type: ignore[union-attr]
        optimizer.step()
    agent = MultiEnvAgent(
        AgentCheckpoint(
            space_specs=spaces, env_specs=specs, network=config, obs_moments={}, reward_moments={},
            weights=net.state_dict(), adapter={"type": "embedding"},
        )
    )  # fmt: skip
    unseen = EnvSpec("unseen", make="multienv/CartPoleHidden-v0", trial_episodes=2)
    agent.add_env(unseen)
    adapter = make_adapter({"type": "embedding"}, agent, "unseen", explore=True, generator=agent.generator(0))
    assert isinstance(adapter, EmbeddingAdapter)
    copies = EnvCopies(unseen, 2, seed=0)
    copies.set_tasks(np.array([TASKS["left"], TASKS["right"]]))
    adapter.begin(2)
    known = net.thetas(("left", "right")).detach()
    torch.testing.assert_close(adapter.embeddings, known.mean(0).expand(2, -1))
    obs, ended = copies.reset(), np.zeros(2, bool)
    while not ended.all():
        step = copies.step(adapter.act(obs))
        adapter.observe(step)
        ended |= step.episode_ends
        obs = step.obs
    copies.close()
    assert torch.cdist(adapter.embeddings, known).argmin(1).tolist() == [0, 1]
    assert agent.adapt("unseen", num_tasks=3, episodes=2).returns.shape == (3, 2)
    assert list(agent.network.interfaces) == ["right", "left", "unseen"]  # inference changes no agent


def test_other_networks_do_not_infer_embeddings() -> None:
    agent = MultiEnvAgent(
        AgentCheckpoint(space_specs={}, env_specs={}, network=HiPNetConfig(), obs_moments={}, reward_moments={},
                        weights={n: v for n, v in HiPNetConfig().build({}).state_dict().items() if "models" not in n
                                 and not n.startswith("critic")})
    )  # fmt: skip
    with pytest.raises(ValueError, match="inferred by a network of type 'hip' with its models"):
        make_adapter({"type": "embedding"}, agent, "any", explore=False, generator=agent.generator(0))
