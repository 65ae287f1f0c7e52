"""What a runner returns and logs: chunks of whole episodes, and per-environment metrics of them."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import numpy as np
import pytest
import torch
from ray.rllib.core.columns import Columns
from tiny_runs import TINY_NET, make_runner, running, tiny_config
from toy_envs import Counter, Grid

from rllib_multienv import EnvSpec
from rllib_multienv.connectors import NormalizeObservations

COUNTER = EnvSpec("counter", make=Counter, num_envs=3)


def episodes_of(fragments: list[list[Any]]) -> dict[str, list[Any]]:
    """Chunks by episode, in the order of their appearance."""
    found: dict[str, list[Any]] = defaultdict(list)
    for fragment in fragments:
        for chunk in fragment:
            found[chunk.id_].append(chunk)
    return found


@pytest.mark.parametrize("length", [1, 2, 5, 16])
def test_episodes_keep_their_identity_across_fragments(length: int) -> None:
    runner = make_runner(tiny_config([COUNTER]).env_runners(rollout_fragment_length=length))
    episodes = episodes_of([runner.sample() for _ in range(32 // length)])
    assert len(episodes) >= 3 * 32 // 6
    for chunks in episodes.values():
        assert [c.t_started for c in chunks] == np.cumsum([0, *map(len, chunks)])[:-1].tolist()
        assert not any(c.is_done for c in chunks[:-1])
        assert {c.module_id for c in chunks} == {c.agent_id for c in chunks} == {"counter"}
        if chunks[-1].is_done:
            counts = sum(map(len, chunks))
            assert counts in (3, 4, 5, 6)
            assert chunks[-1].is_terminated == (counts % 2 == 1)  # episode e lasts 3 + e % 4, even ones are terminated


def test_logged_returns_are_the_sums_of_raw_rewards() -> None:
    runner = make_runner(tiny_config([COUNTER]).env_runners(rollout_fragment_length=7))
    episodes = episodes_of([runner.sample() for _ in range(5)])
    whole = [c for c in episodes.values() if c[-1].is_done]
    assert any(len(chunks) > 1 for chunks in whole)
    returns = [sum(float(c.get_rewards().sum()) for c in chunks) for chunks in whole]
    lengths = [sum(map(len, chunks)) for chunks in whole]
    metrics = runner.get_metrics()
    assert sorted(metrics["episode_returns"]["counter"].peek()) == pytest.approx(sorted(returns))
    assert metrics["module_episodes"]["counter"].peek() == len(whole)
    # The means were logged in each of five rounds; the last is over everything.
    runner.sample()
    more = runner.get_metrics()
    mean = more["module_episode_return_mean"]["counter"].peek()
    every = returns + more["episode_returns"]["counter"].peek()
    assert mean == pytest.approx(np.mean(every))
    assert more["module_episode_return_min"]["counter"].peek() == pytest.approx(min(every))
    assert more["module_episode_return_max"]["counter"].peek() == pytest.approx(max(every))
    assert 3 <= more["module_episode_len_mean"]["counter"].peek() <= 6
    assert sum(lengths) <= 7 * 3 * 5


def test_observations_are_those_that_the_module_saw() -> None:
    runner = make_runner(tiny_config([COUNTER]))
    for _ in range(3):
        (normalize,) = runner._env_to_module[NormalizeObservations]
        chunks = runner.sample()  # the statistics in use stand still within a fragment
        for chunk in chunks:
            obs = chunk.get_observations()
            batch = {"counter": {Columns.OBS: torch.from_numpy(obs[:-1])}}
            outputs = runner.module.forward_inference(batch)["counter"][Columns.ACTION_DIST_INPUTS].numpy()
            np.testing.assert_allclose(
                outputs, chunk.get_extra_model_outputs(Columns.ACTION_DIST_INPUTS), rtol=1e-4, atol=1e-5
            )
            logp = torch.log_softmax(torch.from_numpy(outputs), -1).numpy()
            actions = chunk.get_actions()
            np.testing.assert_allclose(
                logp[np.arange(len(chunk)), actions],
                chunk.get_extra_model_outputs(Columns.ACTION_LOGP),
                rtol=1e-4,
                atol=1e-5,
            )
            # Counter's second component rises by one with every step, whatever the normalisation.
            steps = np.diff(obs[:, 1])
            assert steps.min() > 0
            np.testing.assert_allclose(steps, steps[0], rtol=1e-3)
        assert normalize.normalizers["counter"].moments.total().count > 0


def test_rollouts_by_environment_and_copies_per_environment() -> None:
    config = tiny_config([COUNTER, EnvSpec("grid", make=Grid), EnvSpec("CartPole-v1", num_envs=5)])
    runner = make_runner(config.env_runners(rollout_fragment_length=6))
    sampled = runner.sample_rollouts()
    assert list(sampled) == ["counter", "grid", "CartPole-v1"]
    assert {e: rollout.steps for e, rollout in sampled.items()} == {"counter": 18, "grid": 12, "CartPole-v1": 30}
    assert {e: r.rewards.shape for e, r in sampled.items()} == {
        "counter": (6, 3),
        "grid": (6, 2),
        "CartPole-v1": (6, 5),
    }
    grid = sampled["grid"]
    assert list(grid.chunks()) == [(0, 0, 6), (1, 0, 6)]  # no episode ended: one chunk per copy
    assert grid.final_rows.tolist() == [10, 11] and grid.obs.shape == (6, 2, 4) and grid.final_obs.shape == (2, 4)
    assert set(grid.actions.flatten().tolist()) <= {0, 1, 2}  # not 5, 6, 7
    assert sampled["counter"].first.T.tolist()[0] == [True, False, False, True, False, False]


def test_sample_takes_timesteps_or_episodes() -> None:
    runner = make_runner(tiny_config([COUNTER, "CartPole-v1"]))
    assert sum(map(len, runner.sample(num_timesteps=11))) == 15  # five copies, three time steps
    with pytest.raises(ValueError, match="not both"):
        runner.sample(num_timesteps=1, num_episodes=1)
    for count in (1, 2, 7):
        by_env: dict[str, list[Any]] = defaultdict(list)
        for chunk in runner.sample(num_episodes=count):
            by_env[chunk.module_id].append(chunk)
        assert set(by_env) == {"counter", "CartPole-v1"}
        for chunks in by_env.values():
            assert sum(c.is_done for c in chunks) == count
            assert len({c.id_ for c in chunks}) == count
    for chunk in runner.sample():
        assert chunk.t_started == 0  # after that, copies begin new episodes together


def test_force_reset_begins_new_episodes() -> None:
    runner = make_runner(tiny_config([COUNTER]).env_runners(rollout_fragment_length=2))
    first, again = runner.sample(), runner.sample(force_reset=True)
    assert {c.t_started for c in again} == {0}
    assert not {c.id_ for c in first} & {c.id_ for c in again}


def test_same_seed_same_experience() -> None:
    def actions(seed: int | None) -> list[Any]:
        runner = make_runner(tiny_config(["CartPole-v1"]).debugging(seed=seed))
        return [c.get_actions().tolist() for _ in range(3) for c in runner.sample()]

    assert actions(3) == actions(3)
    assert actions(3) != actions(4)
    assert actions(None) != actions(None)


def test_metrics_of_training(ray_cluster: None) -> None:
    config = tiny_config([COUNTER, "CartPole-v1"]).rl_module(model_config=TINY_NET)
    with running(config) as algo:
        for iteration in (1, 2, 3):
            result = algo.train()["env_runners"]
            expected = {"counter": 48, "CartPole-v1": 32}
            assert result["num_module_steps_sampled"] == expected
            assert result["num_module_steps_sampled_lifetime"] == {e: n * iteration for e, n in expected.items()}
            assert result["num_env_steps_sampled_lifetime"] == 80 * iteration
        for key in ("return_mean", "return_min", "return_max", "len_mean"):
            assert set(result[f"module_episode_{key}"]) == {"counter", "CartPole-v1"}
        returns, least, most = (result[f"module_episode_return_{k}"]["CartPole-v1"] for k in ("mean", "min", "max"))
        assert least <= returns <= most
        assert returns == result["module_episode_len_mean"]["CartPole-v1"]  # one per step
        means = list(result["module_episode_return_mean"].values())
        assert result["episode_return_average"] == pytest.approx(np.mean(means))
        assert result["episode_return_median"] == pytest.approx(np.median(means))
        assert result["episode_return_worst"] == min(means)
