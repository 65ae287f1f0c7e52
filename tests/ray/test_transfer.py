"""Transfer: a run that starts from an agent of other environments."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_runs import TINY_NET, assert_same, changed, running, tiny_config, weights

from rllib_multienv import AgnosticNetConfig, MLPNetConfig, MultiEnvPPO, MultiEnvPPOConfig
from rllib_multienv.transfer import random_moments

pytestmark = pytest.mark.usefixtures("ray_cluster")

OLD = ("CartPole-v1", "Reacher-v4", "InvertedPendulum-v4")
NEW = ("Acrobot-v1", "CartPole-v1", "Pendulum-v1")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    path = tmp_path_factory.mktemp("old_agent")
    with running(tiny_config(OLD)) as algo:
        for _ in range(2):
            algo.train()
        algo.save_to_path(path)
        return {"path": path, "weights": weights(algo), "statistics": statistics(algo)}


def statistics(algo: MultiEnvPPO) -> dict[str, dict[str, tuple[float, Any, Any]]]:
    """Count, mean and squared deviations of observations and returns, by env id."""
    checkpoint = algo.agent_checkpoint()
    return {
        kind: {env_id: (m.count, m.mean, m.m2) for env_id, m in moments.items()}
        for kind, moments in (("obs", checkpoint.obs_moments), ("rewards", checkpoint.reward_moments))
    }


def runner_weights(algo: MultiEnvPPO) -> list[dict[str, np.ndarray]]:
    """The policy's weights on every runner."""
    return algo.env_runner_group.foreach_env_runner(
        lambda runner: {n: t.numpy().copy() for n, t in runner.module.shared.network.state_dict().items()}
    )


def test_the_network_is_the_trained_one(trained: dict[str, Any]) -> None:
    with running(tiny_config(NEW).debugging(seed=5).initialize_from(trained["path"])) as algo:
        assert_same(weights(algo), trained["weights"])
        for name, array in runner_weights(algo)[0].items():
            assert_same(array, trained["weights"][f"shared/network.{name}"])
        before = weights(algo)
        result = algo.train()
        assert changed(before, weights(algo)) == set(before)
        assert set(result["learners"]) >= set(NEW)


def test_remote_runners_begin_with_it_too(trained: dict[str, Any]) -> None:
    config = tiny_config(NEW).env_runners(num_env_runners=2).initialize_from(trained["path"])
    with running(config) as algo:
        runners = runner_weights(algo)
        assert len(runners) == 3
        for runner in runners:
            assert runner
            for name, array in runner.items():
                assert_same(array, trained["weights"][f"shared/network.{name}"], name)
        moments = algo.env_runner_group.foreach_env_runner(
            lambda runner: {
                env_id: (n.moments.total().count, n.moments.total().mean)
                for env_id, n in runner.statistics[0].normalizers.items()
            }
        )
        for found in moments:
            count, mean, _ = trained["statistics"]["obs"]["CartPole-v1"]
            assert_same(found["CartPole-v1"], (count, mean))
            assert found["Acrobot-v1"][0] == found["Pendulum-v1"][0] == 1000  # of random actions
        algo.train()
        # 16 steps of 2 copies, each row counted once, whoever saw it.
        assert statistics(algo)["obs"]["CartPole-v1"][0] == count + 32
        assert statistics(algo)["obs"]["Acrobot-v1"][0] == 1032


def test_a_remote_learner_begins_with_it_too(trained: dict[str, Any]) -> None:
    with running(tiny_config(NEW).learners(num_learners=1).initialize_from(trained["path"])) as algo:
        assert_same(weights(algo), trained["weights"])
        for name, array in runner_weights(algo)[0].items():
            assert_same(array, trained["weights"][f"shared/network.{name}"])


def test_the_optimiser_and_the_counters_are_fresh(trained: dict[str, Any]) -> None:
    with running(tiny_config(NEW).initialize_from(trained["path"])) as algo:
        (optimizer,) = algo.learner_group._learner._optimizer_parameters
        assert not optimizer.state
        result = algo.train()
        assert {float(state["step"]) for state in optimizer.state.values()} == {4.0}
        assert result["training_iteration"] == 1
        assert result["env_runners"]["num_env_steps_sampled_lifetime"] == 3 * 32


def test_statistics_of_known_environments_are_kept(trained: dict[str, Any]) -> None:
    with running(tiny_config(NEW).initialize_from(trained["path"])) as algo:
        now = statistics(algo)
        for kind in ("obs", "rewards"):
            assert now[kind].keys() == set(NEW)
            assert_same(now[kind]["CartPole-v1"], trained["statistics"][kind]["CartPole-v1"])
            assert now[kind]["Acrobot-v1"][0] == now[kind]["Pendulum-v1"][0] == 1000  # of random actions
        algo.train()
        assert statistics(algo)["obs"]["CartPole-v1"][0] == 64 + 32


def test_new_environments_begin_with_statistics_of_random_actions(trained: dict[str, Any]) -> None:
    with running(tiny_config(NEW).initialize_from(trained["path"])) as algo:
        spec = next(spec for spec in algo.config.env_specs if spec.id == "Pendulum-v1")
        for kind, moments in zip(
            ("obs", "rewards"), random_moments(spec, algo.config.space_specs[spec.id]), strict=True
        ):
            assert_same(statistics(algo)[kind][spec.id], (moments.count, moments.mean, moments.m2))
    with running(tiny_config(NEW)) as algo:  # without an agent there is nothing that expects normalised numbers
        assert statistics(algo)["obs"]["Pendulum-v1"][0] == 0


def test_frozen_parts_keep_their_weights(trained: dict[str, Any]) -> None:
    config = tiny_config(NEW).initialize_from(trained["path"], freeze=["encoder", "actor.res_mlp"])
    with running(config) as algo:
        for _ in range(2):
            algo.train()
        moved = changed(trained["weights"], weights(algo))
        frozen = {n for n in trained["weights"] if ".encoder." in n or "actor.res_mlp" in n}
        assert any("critic.encoder" in n for n in frozen) and any("actor.encoder" in n for n in frozen)
        assert moved == set(trained["weights"]) - frozen


def test_frozen_parts_stay_frozen_after_a_resume(trained: dict[str, Any], tmp_path: Path) -> None:
    with running(tiny_config(NEW).initialize_from(trained["path"], freeze="encoder")) as algo:
        algo.train()
        algo.save_to_path(tmp_path)
    with running(MultiEnvPPO.from_checkpoint(tmp_path)) as algo:
        before = weights(algo)
        algo.train()
        assert changed(before, weights(algo)) == {n for n in before if ".encoder." not in n}


def test_a_resumed_run_needs_no_first_agent(trained: dict[str, Any], tmp_path: Path) -> None:
    with running(tiny_config(OLD)) as algo:
        first = Path(algo.save_to_path(tmp_path / "first"))
    with running(tiny_config(NEW).initialize_from(first)) as algo:
        algo.train()
        algo.save_to_path(tmp_path / "second")
        expected = weights(algo)
    first.rename(tmp_path / "gone")
    with running(MultiEnvPPO.from_checkpoint(tmp_path / "second")) as algo:
        assert_same(weights(algo), expected)


def test_an_unknown_part_is_an_error_that_names_the_parts(trained: dict[str, Any]) -> None:
    config = tiny_config(NEW).initialize_from(trained["path"], freeze=["encodr"])
    with pytest.raises(ValueError, match=r"no part 'encodr'; its parts are .*actor\.encoder"):
        config.validate()


def test_freezing_everything_is_an_error(trained: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="nothing of the network would be left"):
        tiny_config(NEW).initialize_from(trained["path"], freeze=["actor", "critic"]).validate()


@pytest.mark.parametrize(
    "net, difference",
    [
        (AgnosticNetConfig(d_model=16, d_state=4), "d_model=8 there, 16"),
        (MLPNetConfig(), "type='agnostic' there, 'mlp'"),
    ],
)
def test_another_network_is_an_error_before_any_worker_starts(
    trained: dict[str, Any], net: Any, difference: str
) -> None:
    config = tiny_config(NEW[:1]).initialize_from(trained["path"]).rl_module(model_config=net)
    with pytest.raises(ValueError, match=difference):
        config.validate()
    with pytest.raises(ValueError, match=difference):
        config.build_algo()


def test_the_network_is_the_checkpoints_where_none_is_set(trained: dict[str, Any], tmp_path: Path) -> None:
    config = MultiEnvPPOConfig().environment(envs=list(NEW)).env_runners(num_envs_per_env_runner=2)
    config.initialize_from(trained["path"]).debugging(seed=0)
    config.env_runners(rollout_fragment_length=16).training(num_epochs=1, num_minibatches=1)
    assert config.network_config == TINY_NET
    with running(config.copy(copy_frozen=False)) as algo:
        assert_same(weights(algo), trained["weights"])
        algo.save_to_path(tmp_path)
    with running(MultiEnvPPO.from_checkpoint(tmp_path)) as algo:
        assert algo.config.network_config == TINY_NET
    wider = AgnosticNetConfig(d_model=16)
    assert config.rl_module(model_config=wider).network_config == wider
    assert MultiEnvPPOConfig().rl_module(model_config=wider).initialize_from(trained["path"]).network_config == wider


@pytest.mark.parametrize("folder", ["run", "run/trial_00000"])
def test_a_folder_of_a_run_or_a_trial_is_its_newest_checkpoint(
    trained: dict[str, Any], tmp_path: Path, folder: str
) -> None:
    newest = tmp_path / "run" / "trial_00000" / "checkpoint_000001"
    shutil.copytree(trained["path"], newest)
    config = tiny_config(NEW).initialize_from(tmp_path / folder)
    config.validate()
    assert config.initial_checkpoint == str(newest)


def test_dropout_may_differ(trained: dict[str, Any]) -> None:
    net = AgnosticNetConfig(**{**TINY_NET.__dict__, "dropout": 0.1})
    tiny_config(NEW).initialize_from(trained["path"]).rl_module(model_config=net).validate()


def test_a_folder_that_is_no_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no-such-folder"):
        tiny_config(NEW).initialize_from(tmp_path / "no-such-folder")
    (tmp_path / "something").touch()
    with pytest.raises(ValueError, match="is not a checkpoint of rllib_multienv"):
        tiny_config(NEW).initialize_from(tmp_path)


def test_parts_that_are_reset_begin_anew(trained: dict[str, Any]) -> None:
    reset = ("actor.decoders.log_std.", "critic.")
    with running(tiny_config(NEW).initialize_from(trained["path"], reset=[part[:-1] for part in reset])) as algo:
        found = weights(algo)
    same = {name for name, value in trained["weights"].items() if np.array_equal(found[name], value)}
    kept = {name for name in found if not name.removeprefix("shared/network.").startswith(reset)}
    assert same >= kept and any("actor.encoder" in name for name in kept)
    begun_anew = {name for name in found.keys() - kept if name.endswith(("qkv.weight", "lift.weight"))}
    assert begun_anew and not same & begun_anew


def test_a_part_cannot_be_reset_and_frozen_or_unknown(trained: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"'actor.decoders.log_std.* frozen and reset at once"):
        tiny_config(NEW).initialize_from(trained["path"], freeze="actor", reset="log_std").validate()
    with pytest.raises(ValueError, match="reset: the network has no part 'logstd'"):
        tiny_config(NEW).initialize_from(trained["path"], reset=["logstd"]).validate()


def test_shrunk_parameters_lie_between_the_trained_and_the_fresh(trained: dict[str, Any]) -> None:
    with running(tiny_config(NEW).debugging(seed=5)) as algo:
        fresh = weights(algo)
    start = (
        tiny_config(NEW)
        .debugging(seed=5)
        .initialize_from(trained["path"], freeze="encoder", reset="actor.decoders.log_std", shrink=0.75)
    )
    with running(start) as algo:
        found = weights(algo)
        runner = runner_weights(algo)[0]
    for name, value in found.items():
        share = 1.0 if ".encoder." in name else 0.0 if ".actor.decoders.log_std." in name else 0.75
        np.testing.assert_allclose(
            value, share * trained["weights"][name] + (1.0 - share) * fresh[name], rtol=1e-6, atol=1e-7, err_msg=name
        )
    for name, value in runner.items():
        assert_same(value, found[f"shared/network.{name}"])


@pytest.mark.parametrize("shrink", [0.0, -0.5, 1.5, float("nan")])
def test_a_share_that_is_none(trained: dict[str, Any], shrink: float) -> None:
    with pytest.raises(ValueError, match=r"shrink=.*: must be a number in \(0, 1\]"):
        tiny_config(NEW).initialize_from(trained["path"], shrink=shrink)
