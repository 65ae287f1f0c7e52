"""SAC: losses against the equations, temperatures, and one agent for continuous, discrete and mixed actions."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from first_gradient import assert_same_parameters, of_learners
from interfaces import described, interface
from iql_runs import iql_config, running_iql
from offline_files import noise
from tiny_runs import TINY_NET, assert_goes_on_when_restored, assert_same, running, tiny_config, weights

from rllib_multienv import (
    CARENetConfig,
    DatasetEnv,
    DistralNetConfig,
    EnvSpec,
    GeneratedNetConfig,
    MLPNetConfig,
    MultiEnvAgent,
    MultiEnvSACConfig,
    SpecificNetConfig,
    TaskHeadsNetConfig,
)
from rllib_multienv.algorithms.sac.loss import sac_loss
from rllib_multienv.algorithms.sac.module import SACSharedModule
from rllib_multienv.algorithms.sac.temperature import Temperatures, target_entropy
from rllib_multienv.experience.schedule import Report, Schedule
from rllib_multienv.nets import NetConfig
from rllib_multienv.spaces.rows import ActionPart, ActionRow

ENVS = ("CartPole-v1", "Pendulum-v1", "Reacher-v4")
SUGAR = EnvSpec("diabetes", make=DatasetEnv, kwargs={"source": "sklearn.datasets:load_diabetes"})
MIXED = EnvSpec("mixed", make="toy_envs:Anything", kwargs={"mask": True})


def config(envs: Any = ENVS, net: NetConfig = TINY_NET, **training: Any) -> MultiEnvSACConfig:
    """Two copies, 16 time steps, minibatches of 8, three steps an iteration, seed 0, all in this process."""
    defaults = {"batch_size": 8, "min_replay_size": 32, "num_random_steps": 16, "update_to_data_ratio": 3 / 32}
    return (
        MultiEnvSACConfig()
        .environment(envs=list(envs))
        .env_runners(num_envs_per_env_runner=2, rollout_fragment_length=16)
        .rl_module(model_config=net)
        .training(**{**defaults, **training})
        .debugging(seed=0)
    )


def shared_module(net: NetConfig, interfaces: Any) -> Any:
    """SAC's module for learners, without an algorithm."""
    model_config = {"network": net.to_dict(), "interfaces": interfaces}
    return SACSharedModule(observation_space=None, action_space=None, inference_only=False, model_config=model_config)


class FewOfTheSecond(Schedule):
    """A whole fragment of the first environment, a quarter of one of the second."""

    def next(self, report: Report) -> dict[str, float]:
        return dict(zip(report.env_ids, (1.0, 0.25), strict=True))


def temperatures(learner: Any) -> dict[str, Any]:
    """State of a learner's temperatures."""
    (hook,) = [hook for hook in learner.hooks if isinstance(hook, Temperatures)]
    return hook.get_state()


def replayed(learner: Any) -> dict[str, dict[str, np.ndarray]]:
    """All transitions of a learner's replay stores."""
    return {env_id: store.get_state()["arrays"] for env_id, store in learner.replays.items()}


# The loss


def test_terms_of_a_drawn_action_are_those_of_the_equations() -> None:
    policy_q = torch.tensor([[[1.0], [2.0]], [[3.0], [0.0]]], requires_grad=True)
    loss = sac_loss(
        q_values=torch.tensor([[1.0, 2.0], [0.0, 4.0]]),
        rewards=torch.tensor([1.0, 3.0]),
        discounts=0.5,
        terminals=torch.tensor([False, True]),
        next_q_values=torch.tensor([[[4.0], [9.0]], [[6.0], [9.0]]]),
        next_logp=torch.tensor([[-2.0], [0.0]]),
        next_probs=torch.ones(2, 1),
        policy_q_values=policy_q,
        logp=torch.tensor([[-1.0], [2.0]]),
        probs=torch.ones(2, 1),
        alpha=0.5,
    )
    # Targets: 1 + 0.5 (4 + 0.5 * 2) = 3.5, and after a terminal state the reward alone, 3.
    assert loss.q.item() == pytest.approx(0.5 * (((2.5**2 + 1) / 2) + ((3.5**2 + 1) / 2)))
    # alpha log pi - Q: -0.5 - 1 and 1 - 0.
    assert loss.policy.item() == pytest.approx((-1.5 + 1.0) / 2)
    (gradient,) = torch.autograd.grad(loss.total, policy_q)
    assert gradient[:, :, 0].tolist() == [[-0.5, 0.0], [0.0, -0.5]]  # of the smaller estimate


def test_choices_are_taken_in_expectation() -> None:
    probs, q = torch.tensor([[0.25, 0.75]]), torch.tensor([[[1.0, 2.0]], [[3.0, 0.0]]])
    loss = sac_loss(
        q_values=torch.zeros(2, 1),
        rewards=torch.zeros(1),
        discounts=torch.tensor([0.5]),
        terminals=torch.tensor([False]),
        next_q_values=q,
        next_logp=probs.log(),
        next_probs=probs,
        policy_q_values=q,
        logp=probs.log(),
        probs=probs,
        alpha=2.0,
    )
    entropy = -(0.25 * math.log(0.25) + 0.75 * math.log(0.75))
    value = 0.25 * 1.0 + 0.75 * 0.0 + 2.0 * entropy
    assert loss.policy.item() == pytest.approx(-value)
    assert loss.q.item() == pytest.approx((0.5 * value) ** 2)


@pytest.mark.parametrize(
    "net",
    [
        TINY_NET,
        GeneratedNetConfig(width=8),
        SpecificNetConfig(width=8),
        TaskHeadsNetConfig(width=8),
        CARENetConfig(width=8, num_encoders=2, encoder_width=4),
        DistralNetConfig(tasks=SpecificNetConfig(width=8), distilled=GeneratedNetConfig(width=8)),
    ],
    ids=lambda net: net.type,
)
def test_packed_losses_and_gradients_are_those_of_each_environment_alone(net: NetConfig) -> None:
    torch.manual_seed(0)
    interfaces = described(
        {"cart": interface(4, 2, True), "arm": interface(6, 2, False), "pole": interface(3, 1, False)}
    )
    for one in interfaces.values():
        one.squashed = True
    shared = shared_module(net, interfaces)
    batch = {}
    for size, (env_id, one) in enumerate(interfaces.items(), start=3):
        actions = torch.randint(2, (size,)) if one.discrete else torch.rand(size, one.action_size)
        obs = {key: torch.randn(size, one.obs_size) for key in ("obs", "new_obs")}
        batch[env_id] = {**obs, "actions": actions, "noise": torch.randn(size, 2 * one.action_size)}

    def gradients(batches: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        shared.zero_grad()
        for own in batches:
            for out in shared.forward_train(own).values():
                (
                    out["qf_preds"].sum() + (out["probs"] * (out["logp"] - out["policy_qf"].min(0).values)).sum()
                ).backward(retain_graph=True)
        return {name: p.grad.clone() for name, p in shared.named_parameters() if p.grad is not None}

    together, apart = gradients([batch]), gradients([{env_id: own} for env_id, own in batch.items()])
    assert together.keys() == apart.keys()
    assert not any(name.startswith("targets") for name in together)
    for name, gradient in together.items():
        torch.testing.assert_close(gradient, apart[name], rtol=1e-3, atol=1e-5, msg=lambda m, name=name: f"{name}: {m}")


def test_the_policy_s_loss_does_not_train_q() -> None:
    interfaces = described({"arm": interface(6, 2, False)})
    shared = shared_module(GeneratedNetConfig(width=8), interfaces)
    obs = torch.randn(4, 6)
    out = shared.forward_train(
        {"arm": {"obs": obs, "new_obs": obs, "actions": torch.rand(4, 2), "noise": torch.randn(4, 4)}}
    )
    out["arm"]["policy_qf"].sum().backward()
    reached = {name.split(".")[0] for name, p in shared.named_parameters() if p.grad is not None and p.grad.any()}
    assert reached == {"network"}
    assert all(p.requires_grad for p in shared.action_values.parameters())


# Temperatures


def test_a_temperature_moves_until_the_entropy_is_at_its_target() -> None:
    hook, q = Temperatures(), torch.tensor([0.0, 1.0, 3.0])
    for _ in range(2000):
        policy = torch.distributions.Categorical(logits=q / hook.of("a", 5.0))  # the soft optimal policy
        hook.step("a", policy.entropy().item(), target=0.4, lr=0.01, initial=5.0)
    assert policy.entropy().item() == pytest.approx(0.4, abs=0.01)
    assert hook.of("b", 5.0) == 5.0
    hook.step("b", math.nan, target=0.4, lr=0.01, initial=5.0)
    assert hook.of("b", 5.0) == 5.0


def test_temperatures_step_as_torch_s_adam() -> None:
    hook, log = Temperatures(), torch.tensor(math.log(0.3), dtype=torch.float64, requires_grad=True)
    adam = torch.optim.Adam([log], lr=0.05)
    for entropy in (1.0, -2.0, 0.5, 0.1):
        hook.step("a", entropy, target=0.2, lr=0.05, initial=0.3)
        adam.zero_grad()
        (log * (entropy - 0.2)).backward()
        adam.step()
    assert hook.of("a", 0.3) == pytest.approx(log.exp().item(), rel=1e-9)


def test_target_entropies_count_components_and_a_share_of_choices() -> None:
    assert target_entropy(ActionRow((ActionPart("continuous", 6),)), 0.5) == -6.0
    assert target_entropy(ActionRow((ActionPart("categorical", 4),)), 0.5) == pytest.approx(0.5 * math.log(4))
    parts = ActionPart("categorical", 3), ActionPart("bernoulli", 2), ActionPart("continuous", 2)
    assert target_entropy(ActionRow(parts), 1.0) == pytest.approx(math.log(3) + 2 * math.log(2) - 2)


# The algorithm


@pytest.mark.usefixtures("ray_cluster")
def test_continuous_discrete_and_mixed_actions_and_supervised_rows_train_in_one_agent(tmp_path: Path) -> None:
    with running(config([*ENVS, MIXED, SUGAR], GeneratedNetConfig(width=16), n_step=3)) as algo:
        before = weights(algo)
        results = [algo.train() for _ in range(2)]
        after = weights(algo)
        path = algo.save_to_path(tmp_path / "checkpoint")
    untrained = {name for name, array in after.items() if np.array_equal(array, before[name])}
    values = ("shared/network.critic", "shared/network.encoders.critic")
    assert untrained == {name for name in after if name.startswith(values)}
    learned = results[-1]["learners"]
    for env_id in (*ENVS, "mixed"):
        assert math.isfinite(learned[env_id]["total_loss"]) and learned[env_id]["alpha"] != 1.0
    assert learned["diabetes"]["r2"] < 1.0 and "qf_loss" not in learned["diabetes"]
    agent = MultiEnvAgent.from_checkpoint(path)
    squashed = {env_id: spaces.squashed for env_id, spaces in agent.space_specs.items()}
    assert squashed == {"CartPole-v1": False, "Pendulum-v1": True, "Reacher-v4": True, "mixed": True, "diabetes": False}
    agent.add_env("InvertedPendulum-v4")
    assert agent.space_specs["InvertedPendulum-v4"].squashed
    assert np.isfinite(agent.evaluate("Pendulum-v1", episodes=1).mean)


@pytest.mark.usefixtures("ray_cluster")
@pytest.mark.parametrize("combiner", ["weighted_sum", "grad_norm"])
def test_two_learners_take_the_steps_and_have_the_temperatures_of_one(combiner: str) -> None:
    parameters, found = [], []
    for num_learners in (0, 2):
        made = config(batch_size=9, gradient_combiner=combiner)
        with running(made.learners(num_learners=num_learners)) as algo:
            for _ in range(3):
                algo.train()
            parameters.append(weights(algo))
            found.append(of_learners(algo.learner_group, temperatures))
            if num_learners:
                assert_same_parameters(algo.learner_group)
    for name, array in parameters[0].items():
        np.testing.assert_allclose(parameters[1][name], array, rtol=2e-3, atol=2e-5, err_msg=name)
    (one,), (first, second) = found
    assert first == second and set(first) == set(ENVS)
    for env_id in ENVS:
        assert first[env_id]["value"] == pytest.approx(one[env_id]["value"], abs=1e-6)
        assert first[env_id]["steps"] == one[env_id]["steps"] == 9


@pytest.mark.usefixtures("ray_cluster")
@pytest.mark.parametrize(
    "net", [TINY_NET, MLPNetConfig(hidden=(8,), state_dependent_std=True)], ids=["agnostic", "mlp"]
)
def test_a_restored_run_continues_as_it_would_have(tmp_path: Path, net: NetConfig) -> None:
    envs = ENVS if net is TINY_NET else ENVS[1:2]
    assert_goes_on_when_restored(config(envs, net, num_random_steps=40, normalize_rewards=True), tmp_path)


@pytest.mark.usefixtures("ray_cluster")
@pytest.mark.parametrize("columns", [1, 2])
def test_distral_trains_both_policies_and_resumes(tmp_path: Path, columns: int) -> None:
    both = {"tasks": SpecificNetConfig(width=8), "distilled": GeneratedNetConfig(width=8)}
    made = config(ENVS, DistralNetConfig(columns=columns, **both), alpha_lr=0.0, initial_alpha=0.1)
    with running(made) as algo:
        before = weights(algo)
        result = algo.train()
        after = weights(algo)
    moved = {name for name, array in after.items() if not np.array_equal(array, before[name])}
    assert any("network.distilled.actor.blocks" in name for name in moved)
    assert {name for name in after if "network.tasks.actor" in name} <= moved
    assert result["learners"]["Pendulum-v1"]["alpha"] == pytest.approx(0.1)
    assert_goes_on_when_restored(made, tmp_path)


def test_distral_refuses_several_choices_before_anything_starts() -> None:
    with pytest.raises(ValueError, match="environment 'mixed': Distral takes a single choice or continuous actions"):
        config([MIXED], DistralNetConfig()).validate()


def test_the_distilled_policy_becomes_what_the_tasks_policies_have_in_common() -> None:
    net = DistralNetConfig(tasks=SpecificNetConfig(width=8), distilled=GeneratedNetConfig(width=8))
    shared = shared_module(net, described({"a": interface(3, 2, True), "b": interface(3, 2, True)}))
    obs = torch.zeros(4, 3)
    actions, rewards = torch.zeros(4, dtype=torch.int64), torch.zeros(4)
    columns = {"obs": obs, "new_obs": obs, "actions": actions, "rewards": rewards}
    optimizer = torch.optim.Adam(shared.network.distilled.parameters(), lr=0.05)
    network = shared.network
    with torch.no_grad():  # one policy is certain of action 0, the other undecided
        network.tasks.actor.decoders["env:a"]["logits"][1][1].bias.copy_(torch.tensor([8.0, 0.0]))
    for _ in range(200):
        found = shared.forward_train({"a": dict(columns), "b": dict(columns)})
        optimizer.zero_grad()
        sum((found[e]["probs"] * found[e]["logp"]).sum(1).mean() for e in ("a", "b")).backward()
        optimizer.step()
    distilled = network.distilled_policy({"a": obs})["a"].softmax(1)[0, 0].item()
    assert distilled == pytest.approx((1.0 + 0.5) / 2, abs=0.02)


@pytest.mark.usefixtures("ray_cluster")
def test_environments_come_and_go_and_those_that_stay_keep_their_temperatures() -> None:
    with running(config()) as algo:
        algo.train()
        (before,) = of_learners(algo.learner_group, temperatures)
        algo.add_env("Acrobot-v1")
        algo.remove_env("Reacher-v4")
        (after,) = of_learners(algo.learner_group, temperatures)
        assert after == {env_id: before[env_id] for env_id in ("CartPole-v1", "Pendulum-v1")}
        algo.train()
        (after,) = of_learners(algo.learner_group, temperatures)
        assert {env_id: state["steps"] for env_id, state in after.items()} == {
            "CartPole-v1": 6, "Pendulum-v1": 6, "Acrobot-v1": 3,
        }  # fmt: skip


@pytest.mark.usefixtures("ray_cluster")
def test_actions_are_random_at_first_and_then_the_policy_s() -> None:
    with running(config(["Pendulum-v1"], num_random_steps=20, min_replay_size=1000)) as algo:
        algo.train()
        actions = of_learners(algo.learner_group, replayed)[0]["Pendulum-v1"]["actions"][:, 0]
    rng = np.random.default_rng(np.random.SeedSequence([0, 1]).generate_state(1)[0])
    expected = np.concatenate([rng.uniform(-1.0, 1.0, (2, 1))[:, 0] for _ in range(10)])
    np.testing.assert_allclose(actions[:20], expected, rtol=1e-6)
    assert len(set(actions)) == 32


@pytest.mark.usefixtures("ray_cluster")
def test_steps_and_rows_follow_from_the_data() -> None:
    made = config(["CartPole-v1", "Pendulum-v1"], update_to_data_ratio=0.5, batch_sizes_by="steps")
    made.environment(schedule=FewOfTheSecond())
    with running(made) as algo:
        algo.train()  # 32 and 8 steps; Pendulum's are too few
        result = algo.train()["learners"]
        assert of_learners(algo.learner_group, lambda learner: learner.num_steps) == [2 * 10]  # half of (32 + 8) / 2
        # The 16 rows of both together are shared out as 64 to 16 steps.
        assert result["CartPole-v1"]["num_module_steps_trained"] == 10 * 13
        assert "Pendulum-v1" not in result


@pytest.mark.usefixtures("ray_cluster")
def test_replay_stores_begin_with_data_sets() -> None:
    source = noise(3, 1)
    made = config(["Pendulum-v1", "CartPole-v1"], normalize_rewards=True).offline_data(datasets={"Pendulum-v1": source})
    with running(made) as algo:
        result = algo.train()
        stored = of_learners(algo.learner_group, replayed)[0]["Pendulum-v1"]
        algo.train()
        (second,) = of_learners(algo.learner_group, lambda learner: len(learner.replays["Pendulum-v1"]))
        (scale,) = of_learners(algo.learner_group, lambda learner: learner.replays["Pendulum-v1"].reward_scale)
    raw = source()
    assert len(stored["rewards"]) == 200 + 32 and second == 200 + 64
    np.testing.assert_allclose(stored["rewards"][:200], raw["rewards"], rtol=1e-6)
    np.testing.assert_allclose(stored["obs"][:200], raw["observations"], atol=1e-5)
    assert scale != 1.0 and result["learners"]["Pendulum-v1"]["num_module_steps_trained"] == 3 * 8


@pytest.mark.usefixtures("ray_cluster")
def test_agents_of_ppo_and_iql_are_starting_points_and_the_other_way_round(tmp_path: Path) -> None:
    with running(tiny_config(["CartPole-v1", "Pendulum-v1"])) as algo:
        algo.train()
        ppo = algo.save_to_path(tmp_path / "ppo")
        of_ppo = weights(algo)
    with running_iql(iql_config({"pendulum": noise(3, 1), "cart": noise(4, 2, discrete=True)})) as iql:
        iql.train()
        offline = iql.save_to_path(str(tmp_path / "iql"))
        of_iql = weights(iql)
    with running(config(ENVS[:2]).initialize_from(ppo)) as algo:
        start = weights(algo)
        assert_same({name: start[name] for name in of_ppo}, of_ppo)
    with running(config(ENVS[:2]).initialize_from(offline)) as algo:
        start = weights(algo)
        for name, array in of_iql.items():
            q = name.replace("/targets.", "/action_values.")  # both begin with Q itself
            assert_same(start[name], of_iql[q] if q != name else array, name)
        algo.train()
        sac = algo.save_to_path(tmp_path / "sac")
        of_sac = weights(algo)
    with running(tiny_config(["Pendulum-v1"]).initialize_from(sac)) as algo:
        start = weights(algo)
        assert_same(start, {name: of_sac[name] for name in start})
        algo.train()
    with running_iql(iql_config({"pendulum": noise(3, 1)}).initialize_from(sac)) as iql:
        name = next(name for name in of_sac if "/action_values." in name)
        assert_same(weights(iql)[name], of_sac[name])


def test_settings_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(ValueError, match="target_entropy='high': must be a number or 'auto'"):
        config(target_entropy="high")
    with pytest.raises(ValueError, match="n_step must be 1 where a data set fills its replay store"):
        config(["Pendulum-v1"], n_step=2).offline_data(datasets={"Pendulum-v1": noise(3, 1)}).validate()
