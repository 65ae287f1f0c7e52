"""Transfer with networks that have parameters of single environments."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from iql_runs import iql_config, noise, running_iql
from tiny_runs import TINY_NET, assert_same, changed, running, tiny_config, weights
from untrained_agent import save_untrained

from rllib_multienv import AgnosticNetConfig, EnvSpec, MultiEnvAgent, MultiEnvPPO, SingleNetConfig, SpecificNetConfig
from rllib_multienv.checkpoints import read_checkpoint
from rllib_multienv.nets import NetConfig, environment_of

OLD = ("CartPole-v1", "Pendulum-v1", "Acrobot-v1")
NEW = ("MountainCarContinuous-v0", "CartPole-v1")

SPECIFIC = SpecificNetConfig(width=8)
TABLE = dataclasses.replace(TINY_NET, context="embedding")
ABLATED = AgnosticNetConfig(d_model=8, embedding="gru", num_transformer_layers=1, res_mlp_depth=0, context="none")
OWNING = {"specific": SPECIFIC, "embedding": TABLE}

pytestmark = pytest.mark.usefixtures("ray_cluster")


def of_environment(names: Any, env_id: str | None) -> set[str]:
    return {name for name in names if environment_of(name) == env_id}


@pytest.fixture(scope="module", params=OWNING)
def trained(ray_cluster: None, request: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    net: NetConfig = OWNING[request.param]
    path = tmp_path_factory.mktemp(request.param)
    with running(tiny_config(OLD).rl_module(model_config=net)) as algo:
        algo.train()
        algo.save_to_path(path)
        return {"net": net, "path": path, "weights": weights(algo)}


def test_known_environments_keep_their_parameters_and_new_ones_begin_afresh(trained: dict[str, Any]) -> None:
    config = tiny_config(NEW).debugging(seed=5).rl_module(model_config=trained["net"])
    with running(config.copy(copy_frozen=False)) as algo:
        fresh = weights(algo)
    with running(config.initialize_from(trained["path"])) as algo:
        before = weights(algo)
        assert before.keys() == fresh.keys()
        kept = of_environment(before, None) | of_environment(before, "CartPole-v1")
        assert of_environment(before, "CartPole-v1")
        for name in kept:
            assert_same(before[name], trained["weights"][name], name)
        new = of_environment(before, "MountainCarContinuous-v0")
        assert new == before.keys() - kept
        for name in new:
            assert_same(before[name], fresh[name], name)
        runner = algo.env_runner.module.shared.network.state_dict()
        for name, tensor in runner.items():
            assert_same(tensor.numpy(), before[f"shared/network.{name}"], name)
        assert of_environment(runner, "MountainCarContinuous-v0")
        (optimizer,) = algo.learner_group._learner._optimizer_parameters
        assert sum(len(group["params"]) for group in optimizer.param_groups) == len(before)
        algo.train()
        assert changed(before, weights(algo)) == set(before)  # those of the new environment are trained, too
        moments = algo.agent_checkpoint().obs_moments
        # 32 steps each; before them, 32 of the first agent, and what random steps weigh.
        assert (moments["CartPole-v1"].count, moments["MountainCarContinuous-v0"].count) == (64, 1032)


def same_parameters(algo: MultiEnvPPO) -> dict[str, np.ndarray]:
    """The learners' parameters, which are the same on all of them."""
    first, *others = [result.get() for result in algo.learner_group.foreach_learner(parameters)]
    assert others
    for other in others:
        assert_same(other, first)
    return first


def parameters(learner: Any) -> dict[str, np.ndarray]:
    return {name: p.detach().numpy().copy() for name, p in learner.network.named_parameters()}


def test_parameters_belong_to_ids_and_not_to_places_in_a_list(trained: dict[str, Any]) -> None:
    config = tiny_config(reversed(OLD)).debugging(seed=5).rl_module(model_config=trained["net"])
    with running(config.initialize_from(trained["path"])) as algo:
        assert_same(weights(algo), trained["weights"])


def test_an_id_with_other_spaces_is_a_new_environment(trained: dict[str, Any]) -> None:
    other = EnvSpec("CartPole-v1", make="Acrobot-v1")
    config = tiny_config([other]).debugging(seed=5).rl_module(model_config=trained["net"])
    with running(config.copy(copy_frozen=False)) as algo:
        fresh = weights(algo)
    with running(config.initialize_from(trained["path"])) as algo:
        found = weights(algo)
        for name in of_environment(found, "CartPole-v1"):
            assert_same(found[name], fresh[name], name)
        for name in of_environment(found, None):
            assert_same(found[name], trained["weights"][name], name)


def test_an_agent_does_not_act_at_random(trained: dict[str, Any]) -> None:
    agent = MultiEnvAgent.from_checkpoint(trained["path"])
    assert agent.act("CartPole-v1", np.zeros(4, np.float32)) in (0, 1)
    for call in (agent.add_env, lambda env: agent.act(env, np.zeros(2, np.float32)), agent.evaluate):
        with pytest.raises(ValueError, match=r"MountainCar-v0: .*parameters for each.*act at random.*CartPole-v1"):
            call("MountainCar-v0")
    assert "MountainCar-v0" not in agent.space_specs


def test_moments_of_the_optimiser_follow_ids_when_a_run_is_restored(trained: dict[str, Any]) -> None:
    found: list[dict[str, np.ndarray]] = []
    for envs in (OLD, reversed(OLD)):
        with running(tiny_config(envs).rl_module(model_config=trained["net"])) as algo:
            algo.restore_from_path(str(trained["path"]))
            (optimizer,) = algo.learner_group._learner._optimizer_parameters
            names = algo.learner_group._learner.network.named_parameters()
            found.append({name: optimizer.state[p]["exp_avg"].numpy().copy() for name, p in names})
            assert_same(found[-1], found[0])  # before a step: with moments of other sizes torch would crash
            algo.train()
    assert of_environment(found[0], "Pendulum-v1")


@pytest.mark.parametrize(
    "name, gone",
    [
        ("actor.middle.blocks.0.1.weight", False),
        ("actor.middle.blocks.0.1.weight", True),
        ("critic.encoder.env:CartPole-v1.0.bias", True),
        ("actor.decoders.env:CartPole-v1.logits.1.1.weight", False),
        ("actor.something.new", False),
    ],
)
def test_what_is_transferred_must_fit(tmp_path: Path, name: str, gone: bool) -> None:
    def change(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        changed = {**weights, name: torch.zeros(3, 5)}
        if gone:
            del changed[name]
        return changed

    path = save_untrained(tmp_path / "agent", OLD, SPECIFIC, change)
    config = tiny_config(NEW).rl_module(model_config=SPECIFIC).initialize_from(path)
    there = "missing there" if gone else r"\(3, 5\) there"
    with pytest.raises(ValueError, match=rf"does not fit.*{name}' \({there}"):
        config.validate()
    with pytest.raises(ValueError, match=r"does not fit"):
        config.build_algo()


def test_what_stays_behind_may_be_anything(tmp_path: Path) -> None:
    path = save_untrained(tmp_path / "agent", OLD, SPECIFIC, lambda w: {**w, "actor.x.env:Acrobot-v1": torch.zeros(1)})
    tiny_config(NEW).rl_module(model_config=SPECIFIC).initialize_from(path).validate()


def test_the_shared_middle_can_be_frozen(tmp_path: Path) -> None:
    path = save_untrained(tmp_path / "agent", OLD, SPECIFIC)
    config = tiny_config(NEW).rl_module(model_config=SPECIFIC)
    with running(config.initialize_from(path, freeze=["middle", "env:CartPole-v1"])) as algo:
        before = weights(algo)
        algo.train()
        assert changed(before, weights(algo)) == of_environment(before, "MountainCarContinuous-v0")


@pytest.mark.parametrize("net, part", [(SPECIFIC, "encoder"), (SPECIFIC, "actor"), (TABLE, "context")])
def test_what_was_never_trained_cannot_be_frozen(tmp_path: Path, net: NetConfig, part: str) -> None:
    path = save_untrained(tmp_path / "agent", OLD, net)
    with pytest.raises(ValueError, match=r"parameters of MountainCarContinuous-v0, which are not in the checkpoint"):
        tiny_config(NEW).rl_module(model_config=net).initialize_from(path, freeze=[part]).validate()
    config = tiny_config(OLD[:2]).rl_module(model_config=net).initialize_from(path, freeze=[part])
    with running(config) as algo:
        with pytest.raises(ValueError, match="parameters of MountainCarContinuous-v0"):
            algo.add_env("MountainCarContinuous-v0")
        algo.remove_env("Pendulum-v1")
        algo.train()


def test_ablations_are_transferred(tmp_path: Path) -> None:
    path = save_untrained(tmp_path / "agent", OLD, ABLATED)
    with running(tiny_config(NEW).rl_module(model_config=ABLATED).initialize_from(path)) as algo:
        before = weights(algo)
        expected = {f"shared/network.{name}": t.numpy() for name, t in (read_checkpoint(path).weights or {}).items()}
        assert_same(before, expected)
        algo.train()
        # A GRU over one token, as in the decoder of V and of a single action, never uses its recurrent weights.
        recurrent = {name for name in before if "decoders" in name and "weight_hh" in name}
        assert changed(before, weights(algo)) >= before.keys() - recurrent


def test_one_environment_under_another_id(tmp_path: Path) -> None:
    net = SingleNetConfig(width=8)
    path = save_untrained(tmp_path / "agent", ["CartPole-v1"], net)
    config = tiny_config([EnvSpec("again", make="CartPole-v1")]).rl_module(model_config=net).initialize_from(path)
    with running(config) as algo:
        before = weights(algo)
        expected = {f"shared/network.{name}": t.numpy() for name, t in (read_checkpoint(path).weights or {}).items()}
        assert_same(before, expected)
        algo.train()
        assert changed(before, weights(algo)) == set(before)
    with pytest.raises(ValueError, match=r"does not fit.*'actor\.decoder.*\(2.* there, \(3.* here\)"):
        tiny_config(["Acrobot-v1"]).rl_module(model_config=net).initialize_from(path).validate()
    with pytest.raises(ValueError, match=r"has one environment, 'CartPole-v1'; cannot add 'Acrobot-v1'"):
        MultiEnvAgent.from_checkpoint(path).act("Acrobot-v1", np.zeros(6, np.float32))


def test_several_learners_have_the_same_new_parameters(tmp_path: Path) -> None:
    path = save_untrained(tmp_path / "agent", OLD, SPECIFIC)
    config = tiny_config(NEW).rl_module(model_config=SPECIFIC).debugging(seed=None).initialize_from(path)
    with running(config.learners(num_learners=2)) as algo:
        first = same_parameters(algo)
        for name, tensor in (read_checkpoint(path).weights or {}).items():
            if environment_of(name) in (None, "CartPole-v1"):
                assert_same(first[name], tensor.numpy(), name)
        algo.add_env("Pendulum-v1")
        added = same_parameters(algo)
        assert added.keys() - first.keys() == of_environment(added, "Pendulum-v1") != set()
        assert_same({name: added[name] for name in first}, first)
        algo.train()
        after = same_parameters(algo)
        assert changed(added, after) == set(added)
        algo.remove_env("CartPole-v1")
        assert same_parameters(algo).keys() == added.keys() - of_environment(added, "CartPole-v1")
        assert np.isfinite(algo.train()["learners"]["Pendulum-v1"]["total_loss"])


def test_a_run_goes_on_with_the_environments_that_came(tmp_path: Path) -> None:
    with running(tiny_config(OLD[:2]).rl_module(model_config=SPECIFIC)) as algo:
        algo.train()
        algo.add_env("Acrobot-v1")
        algo.train()
        algo.save_to_path(tmp_path)
        saved = algo.learner_group._learner.get_state()
    with running(MultiEnvPPO.from_checkpoint(tmp_path)) as algo:
        restored = algo.learner_group._learner.get_state()
        for part in ("rl_module", "optimizer"):
            assert_same(restored[part], saved[part])
        algo.train()


def test_evaluation_has_the_parameters_of_environments_that_came() -> None:
    config = tiny_config(OLD[:1]).rl_module(model_config=SPECIFIC)
    with running(config.evaluation(evaluation_duration=1, evaluation_interval=1)) as algo:
        algo.train()
        algo.add_env("MountainCarContinuous-v0")
        algo.train()
        learned = weights(algo)
        evaluated = algo.eval_env_runner.module.shared.network.state_dict()
        assert of_environment(evaluated, "MountainCarContinuous-v0")
        for name, tensor in evaluated.items():
            assert_same(tensor.numpy(), learned[f"shared/network.{name}"], name)


def test_action_values_are_transferred_by_environment(tmp_path: Path) -> None:
    cart, pendulum, lander = noise(4, 2, discrete=True), noise(3, 1), noise(8, 4, discrete=True)
    with running_iql(iql_config({"lander": lander, "pendulum": pendulum}).rl_module(model_config=TABLE)) as algo:
        algo.train()
        algo.save_to_path(tmp_path)
        old = weights(algo)
    config = iql_config({"cart": cart, "lander": lander}).rl_module(model_config=TABLE).initialize_from(tmp_path)
    with running_iql(config) as algo:
        before = weights(algo)
        for name in before:
            origin = name.replace("targets.", "action_values.")
            if environment_of(name) != "cart":
                assert_same(before[name], old[origin], name)
            else:
                assert name not in old
            assert_same(before[name], before[origin])
        assert len(of_environment(before, "cart")) == 2 + 2 * 2  # actor, V, and each Q twice
        algo.train()
        assert changed(before, weights(algo)) >= of_environment(before, "cart")


def test_offline_training_of_a_single_network(tmp_path: Path) -> None:
    net = SingleNetConfig(width=8)
    with running_iql(iql_config({"pendulum": noise(3, 1)}).rl_module(model_config=net)) as algo:
        algo.train()
        algo.save_to_path(tmp_path)
        old = weights(algo)
    again = iql_config({"pendulum": noise(3, 1)}).rl_module(model_config=net)
    with running_iql(again.initialize_from(tmp_path)) as algo:
        before = weights(algo)
        assert_same(
            {n: a for n, a in before.items() if "targets" not in n}, {n: old[n] for n in before if "targets" not in n}
        )
        algo.train()
        assert changed(before, weights(algo)) == set(before)
