"""Evaluation is deterministic, has the asked number of episodes of each environment, and changes nothing."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
import torch
from ray.rllib.callbacks.callbacks import RLlibCallback
from ray.rllib.core.columns import Columns
from tiny_runs import assert_same, make_runner, running, tiny_config, weights
from toy_envs import Counter

from rllib_multienv import AgnosticNetConfig, EnvSpec, MultiEnvPPO, MultiEnvPPOConfig
from rllib_multienv.connectors import NormalizeObservations

pytestmark = pytest.mark.usefixtures("ray_cluster")

DROPOUT = AgnosticNetConfig(d_model=8, d_state=4, dropout=0.5)
ENVS = (EnvSpec("counter", make=Counter), "CartPole-v1")


def config(episodes: int = 5, dropout: bool = True, **evaluation: Any) -> MultiEnvPPOConfig:
    made = tiny_config(ENVS).evaluation(evaluation_duration=episodes, evaluation_duration_unit="episodes", **evaluation)
    return made.rl_module(model_config=DROPOUT) if dropout else made


def statistics(algo: MultiEnvPPO) -> list[Any]:
    pieces = algo.env_runner._env_to_module.connectors
    return [
        {e: n.moments.total().to_dict() for e, n in p.normalizers.items()} for p in pieces if hasattr(p, "normalizers")
    ]


def whole_state(algo: MultiEnvPPO) -> dict[str, Any]:
    runner = algo.env_runner
    return {
        "weights": weights(algo),
        "statistics": statistics(algo),
        "observations": {e: env.obs.copy() for e, env in runner.environments.items()},
        "episodes": {e: [(r.id_, r.length, r.return_) for r in env.running] for e, env in runner.environments.items()},
        "actions": runner.get_state(components="module_to_env_connector")["module_to_env_connector"],
        "updates": algo.learner_group._learner.num_updates,
        "torch": torch.get_rng_state().numpy(),
        "numpy": list(np.random.get_state())[1:],
        "python": list(random.getstate()),
    }


def test_training_goes_on_as_if_there_had_been_no_evaluation() -> None:
    after = []
    # Without evaluation runners from the start, with them, and never evaluating.
    for made, evaluate in ((config(), True), (config(evaluation_interval=1), False), (config(), False)):
        with running(made) as algo:
            for _ in range(2):
                algo.train()
                if evaluate:
                    algo.evaluate()
            state = whole_state(algo)
        del state["episodes"]  # their names are random
        after.append(state)
    assert_same(after[0], after[2])
    assert_same(after[1], after[2])


def test_evaluation_changes_nothing() -> None:
    with running(config()) as algo:
        algo.train()
        before = whole_state(algo)
        for _ in range(2):
            algo.evaluate()
            assert_same(whole_state(algo), before)


def test_exactly_so_many_episodes_of_each_environment() -> None:
    for episodes in (1, 5):
        with running(config(episodes)) as algo:
            result = algo.evaluate()["env_runners"]
            assert result["module_episodes"] == {"counter": episodes, "CartPole-v1": episodes}
            returns = result["episode_returns"]
            assert {e: len(r) for e, r in returns.items()} == {"counter": episodes, "CartPole-v1": episodes}
            for env_id, values in returns.items():
                for key, expected in (("mean", np.mean), ("min", np.min), ("max", np.max), ("std", np.std)):
                    assert result[f"module_episode_return_{key}"][env_id] == pytest.approx(expected(values))
            means = list(result["module_episode_return_mean"].values())
            assert result["episode_return_average"] == pytest.approx(np.mean(means))
            again = algo.evaluate()["env_runners"]
            assert again["module_episodes"] == {"counter": episodes, "CartPole-v1": episodes}


def test_results_have_an_evaluation_only_in_iterations_with_one() -> None:
    with running(config(1, dropout=False, evaluation_interval=3)) as algo:
        assert ["evaluation" in algo.train() for _ in range(7)] == [False, False, True, False, False, True, False]


def test_more_episodes_than_the_smoothing_window_all_count() -> None:
    with running(config(7).reporting(metrics_num_episodes_for_smoothing=2)) as algo:
        result = algo.evaluate()["env_runners"]
        for env_id, values in result["episode_returns"].items():
            assert len(values) == 7
            assert result["module_episode_return_mean"][env_id] == pytest.approx(np.mean(values))
            assert result["module_episode_return_min"][env_id] == min(values)
        # Copies of Counter take 4 and 3 of the 7 episodes, the first of which last 3, 4, 5 and 6 steps.
        assert result["module_episode_len_mean"]["counter"] == pytest.approx((18 + 12) / 7)


def test_episodes_beyond_the_number_are_seen_by_nobody() -> None:
    seen: list[str] = []

    class Ends(RLlibCallback):
        def on_episode_start(self, *, episode: Any, **kwargs: Any) -> None:
            seen.append(f"start {episode.module_id}")

        def on_episode_end(self, *, episode: Any, **kwargs: Any) -> None:
            seen.append(f"end {episode.module_id}")

    with running(config(3).callbacks(Ends)) as algo:
        seen.clear()
        algo.evaluate()
        for env_id in ("counter", "CartPole-v1"):
            assert (seen.count(f"start {env_id}"), seen.count(f"end {env_id}")) == (3, 3)


def test_actions_are_deterministic_unless_asked_otherwise() -> None:
    with running(config()) as algo:
        algo.evaluate()
        runner = algo.eval_env_runner
        for chunk in runner.sample(num_episodes=2):
            logits = chunk.get_extra_model_outputs(Columns.ACTION_DIST_INPUTS)
            np.testing.assert_array_equal(chunk.get_actions(), logits.argmax(-1))
    with running(config(evaluation_config={"explore": True})) as algo:
        algo.evaluate()
        chunks = [c for _ in range(3) for c in algo.eval_env_runner.sample(num_episodes=2)]
        greedy = [c.get_extra_model_outputs(Columns.ACTION_DIST_INPUTS).argmax(-1) for c in chunks]
        assert any((c.get_actions() != g).any() for c, g in zip(chunks, greedy, strict=True))


def test_training_statistics_are_used_and_left_alone() -> None:
    with running(config()) as algo:
        for _ in range(2):
            algo.train()
        algo.evaluate()
        runner = algo.eval_env_runner
        (normalize,) = runner._env_to_module[NormalizeObservations]
        (training,) = algo.env_runner._env_to_module[NormalizeObservations]
        moments = normalize.normalizers["counter"].moments.total()
        assert moments.to_dict() == training.normalizers["counter"].moments.total().to_dict()
        assert moments.count == 64
        first = runner.sample(num_episodes=1)[0].get_observations(0)
        # The first observation of an episode is (number of the episode, 0).
        expected = (0 - moments.mean[1]) / np.sqrt(moments.variance[1] + 1e-8)
        assert first[1] == pytest.approx(expected, rel=1e-5)


def test_no_dropout_in_sampling_and_evaluation() -> None:
    runner = make_runner(config())
    for chunk in [*runner.sample(), *runner.sample(explore=False)]:
        batch = {chunk.module_id: {Columns.OBS: torch.from_numpy(chunk.get_observations()[:-1])}}
        # The dropped units would differ from call to call.
        outputs = runner.module.forward_exploration(batch)[chunk.module_id][Columns.ACTION_DIST_INPUTS]
        sampled = chunk.get_extra_model_outputs(Columns.ACTION_DIST_INPUTS)
        np.testing.assert_allclose(outputs.numpy(), sampled, rtol=1e-4, atol=1e-5)
    full = config().copy()
    full.validate()
    module = full.get_multi_rl_module_spec().build()
    one, two = (module.forward_train(batch)[chunk.module_id][Columns.ACTION_DIST_INPUTS] for _ in range(2))
    assert not torch.equal(one, two)  # but it is there in training
    values = [module.shared.compute_values(batch)[chunk.module_id] for _ in range(2)]
    assert torch.equal(*values)


def test_results_of_an_evaluation_interval() -> None:
    with running(config(2, evaluation_interval=2)) as algo:
        assert "evaluation" not in algo.train()
        result = algo.train()["evaluation"]["env_runners"]
        assert result["module_episodes"] == {"counter": 2, "CartPole-v1": 2}
        assert set(result["module_episode_return_std"]) == {"counter", "CartPole-v1"}


def test_remote_evaluation_runners_share_the_episodes() -> None:
    with running(config(5, evaluation_num_env_runners=2)) as algo:
        algo.train()
        before = whole_state(algo)
        result = algo.evaluate()["env_runners"]
        assert_same(whole_state(algo), before)
        assert result["module_episodes"] == {"counter": 5, "CartPole-v1": 5}
        for env_id, values in result["episode_returns"].items():
            assert len(values) == 5
            assert result["module_episode_return_mean"][env_id] == pytest.approx(np.mean(values))
        counts = algo.eval_env_runner_group.foreach_env_runner(
            lambda r: r._env_to_module[NormalizeObservations][0].normalizers["counter"].moments.total().count,
            local_env_runner=False,
        )
        assert counts == [32.0, 32.0]


def test_evaluation_beside_training_sees_the_latest_agent_each_time() -> None:
    made = tiny_config(("CartPole-v1",)).evaluation(
        evaluation_interval=1,
        evaluation_num_env_runners=1,
        evaluation_parallel_to_training=True,
        evaluation_duration="auto",
        evaluation_duration_unit="timesteps",
    )
    # Long enough an iteration for episodes to end beside it.
    with running(made.env_runners(rollout_fragment_length=512)) as algo:
        numbers = 0
        for iteration in range(5):
            evaluated = algo.train()["evaluation"].get("env_runners")
            (_, remote) = algo.eval_env_runner_group.foreach_env_runner(lambda runner: runner._weights_seq_no)
            assert remote == iteration  # the agent before this iteration's update, which goes on meanwhile
            if evaluated is not None:  # on a busy machine an evaluation may not finish an episode in time
                numbers += 1
                assert evaluated["num_env_steps_sampled"] >= 100
                assert len(evaluated["episode_returns"]["CartPole-v1"]) == evaluated["num_episodes"] > 0
        assert numbers >= 2
