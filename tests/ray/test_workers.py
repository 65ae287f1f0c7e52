"""Any number of runners, and a learner here or in a process of its own, train the same environments."""

from __future__ import annotations

import numpy as np
import pytest
from tiny_runs import assert_same, running, tiny_config, weights

ENVS = ("CartPole-v1", "Pendulum-v1", "Reacher-v4")

pytestmark = pytest.mark.usefixtures("ray_cluster")


@pytest.mark.parametrize(
    "envs, runners, learners, copies",
    [
        (ENVS, 0, 0, (1, 1, 1)),
        (ENVS, 1, 0, (1, 1, 1)),
        (ENVS, 2, 1, (1, 1, 1)),  # the environments are split
        (ENVS[:2], 3, 0, (2, 1)),  # the dearest environment is shared
    ],
)
def test_every_environment_is_trained(
    envs: tuple[str, ...], runners: int, learners: int, copies: tuple[int, ...]
) -> None:
    config = tiny_config(envs).env_runners(num_env_runners=runners).learners(num_learners=learners)
    with running(config) as algo:
        for iteration in (1, 2):
            before = weights(algo)
            result = algo.train()
            steps = {env_id: 32 * n * iteration for env_id, n in zip(envs, sorted(copies), strict=True)}
            if runners == 3:
                owners = algo.env_runner_group.foreach_env_runner(lambda r: r.owned, local_env_runner=False)
                steps = {e: 32 * iteration * sum(e in owned for owned in owners) for e in envs}
                assert sorted(steps.values()) == [32 * iteration, 64 * iteration]
            sampled = result["env_runners"]
            assert {e: int(n) for e, n in sampled["num_module_steps_sampled_lifetime"].items()} == steps
            assert sampled["num_env_steps_sampled_lifetime"] == sum(steps.values())
            for env_id in envs:
                assert result["learners"][env_id]["num_module_steps_trained_lifetime"] == steps[env_id]
                assert np.isfinite(result["learners"][env_id]["total_loss"])
            # Statistics of all runners together count every row once.
            moments = algo.agent_checkpoint().obs_moments
            assert {env_id: m.count for env_id, m in moments.items()} == steps
            after = weights(algo)
            assert all(np.isfinite(array).all() for array in after.values())
            assert not np.array_equal(before["shared/network.actor.encoder.lift.weight"],
                                      after["shared/network.actor.encoder.lift.weight"])  # fmt: skip
            on_runners = algo.env_runner_group.foreach_env_runner(
                lambda r: {n: t.numpy().copy() for n, t in r.module.shared.network.state_dict().items()}
            )
            assert len(on_runners) == runners + 1
            for found in on_runners:
                assert found
                assert_same(found, {name: after[f"shared/network.{name}"] for name in found})
        assert result["training_iteration"] == 2


def test_runners_start_where_a_checkpoint_of_another_layout_ended() -> None:
    """Saved with all in one process, restored into two runners: weights and statistics arrive before they sample."""
    with running(tiny_config(ENVS)) as algo:
        algo.train()
        path = algo.save_to_path()
        saved, moments = weights(algo), algo.agent_checkpoint().obs_moments
    with running(tiny_config(ENVS).env_runners(num_env_runners=2).debugging(seed=9)) as algo:
        algo.train()
        algo.restore_from_path(path)
        assert_same(weights(algo), saved)
        found = algo.env_runner_group.foreach_env_runner(
            lambda r: (
                {n: t.numpy().copy() for n, t in r.module.shared.network.state_dict().items()},
                {e: n.moments.total().count for e, n in r.statistics[0].normalizers.items()},
            )
        )
        for network, counts in found:
            assert_same(network, {name: saved[f"shared/network.{name}"] for name in network})
            assert counts == {env_id: m.count for env_id, m in moments.items()}
        result = algo.train()
        assert result["env_runners"]["num_env_steps_sampled_lifetime"] == 2 * 96
        assert {e: m.count for e, m in algo.agent_checkpoint().obs_moments.items()} == dict.fromkeys(ENVS, 64)
        runners = algo.env_runner_group.foreach_env_runner(
            lambda r: {n: t.numpy().copy() for n, t in r.module.shared.network.state_dict().items()}
        )
        after = weights(algo)
        for network in runners:
            assert_same(network, {name: after[f"shared/network.{name}"] for name in network})


def test_remote_evaluation_has_the_weights_and_statistics_of_training() -> None:
    config = tiny_config(ENVS[:2]).evaluation(evaluation_num_env_runners=1, evaluation_duration=2)
    with running(config) as algo:
        algo.train()
        results = algo.evaluate()["env_runners"]
        assert {env_id: len(returns) for env_id, returns in results["episode_returns"].items()} == {
            "CartPole-v1": 2,
            "Pendulum-v1": 2,
        }
        ((network, counts),) = algo.eval_env_runner_group.foreach_env_runner(
            lambda r: (
                {n: t.numpy().copy() for n, t in r.module.shared.network.state_dict().items()},
                {e: n.moments.total().count for e, n in r.statistics[0].normalizers.items()},
            ),
            local_env_runner=False,
        )
        after = weights(algo)
        assert_same(network, {name: after[f"shared/network.{name}"] for name in network})
        assert counts == {"CartPole-v1": 32, "Pendulum-v1": 32}
