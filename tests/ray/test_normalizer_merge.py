"""Statistics that several runners collect are those of all rows at once, and nothing is counted twice."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from tiny_runs import running, tiny_config
from toy_envs import Counter

from rllib_multienv import EnvSpec
from rllib_multienv.connectors import NormalizeObservations, RewardScale
from rllib_multienv.normalization import Moments
from rllib_multienv.spec import SpaceSpec

SPEC = EnvSpec("counter", make=Counter)
SPACES = {"counter": SpaceSpec.from_spaces("counter", Counter().observation_space, Counter().action_space)}
GAMMA = 0.9


def observe(piece: NormalizeObservations, rows: np.ndarray) -> None:
    """One fragment [T, B, I] is counted."""
    piece.count("counter", fragment(np.zeros(rows.shape[:2])), rows.astype(np.float32))


def fragment(rewards: np.ndarray, done: np.ndarray | None = None, valid: np.ndarray | None = None) -> Any:
    """What statistics look at in a rollout."""
    nothing = np.zeros(rewards.shape, bool)
    return SimpleNamespace(
        rewards=rewards,
        clipped_rewards=rewards,
        done=nothing if done is None else done,
        value_ends=nothing,
        valid=~nothing if valid is None else valid,
    )


def assert_moments(moments: Moments, rows: np.ndarray) -> None:
    assert moments.count == len(rows)
    np.testing.assert_allclose(moments.mean, rows.mean(0), rtol=1e-12)
    np.testing.assert_allclose(moments.variance, rows.var(0), rtol=1e-12)


@pytest.mark.parametrize("num_runners", [1, 2, 5])
def test_observation_statistics_merge_exactly_round_after_round(num_runners: int) -> None:
    rng = np.random.default_rng(0)
    local, *remote = (NormalizeObservations(space_specs=SPACES) for _ in range(num_runners + 1))
    seen = np.empty((0, 2))
    for number in range(4):
        for index, piece in enumerate(remote):
            # Runners see different amounts from different distributions, of a mean far from zero.
            rows = rng.normal((1e3 + 5 * number, -3.0), (1.0 + index, 20.0), (5 + 7 * index, 3, 2)).astype(np.float32)
            observe(piece, rows)
            seen = np.concatenate([seen, rows.reshape(-1, 2)])
        merged = local.merge_states([piece.get_state() for piece in remote])
        for piece in (local, *remote):
            piece.set_state(json.loads(json.dumps(merged)))
            assert_moments(piece.normalizers["counter"].moments.total(), seen)


def test_merging_again_without_new_rows_changes_nothing() -> None:
    local, *remote = (NormalizeObservations(space_specs=SPACES) for _ in range(3))
    rows = np.random.default_rng(1).normal(size=(4, 3, 2))
    observe(remote[0], rows)
    states = []
    for _ in range(3):
        merged = local.merge_states([piece.get_state() for piece in remote])
        for piece in (local, *remote):
            piece.set_state(merged)
        states.append(merged)
    assert states[0] == states[1] == states[2]
    assert states[0]["counter"]["base"]["count"] == 12


def test_runner_that_does_not_own_an_environment_adds_nothing() -> None:
    spaces = {**SPACES, "other": SPACES["counter"]}
    local, first, second = (NormalizeObservations(space_specs=spaces) for _ in range(3))
    observe(first, np.ones((2, 2, 2)))
    merged = local.merge_states([first.get_state(), second.get_state()])
    assert (merged["counter"]["base"]["count"], merged["other"]["base"]["count"]) == (4, 0)


def discounted(rewards: np.ndarray, dones: np.ndarray) -> np.ndarray:
    """Discounted returns so far [T * B] of each copy, restarted with each episode, written down step by step."""
    seen = []
    for b in range(rewards.shape[1]):
        running_return = 0.0
        for t in range(len(rewards)):
            running_return = GAMMA * running_return + rewards[t, b]
            seen.append(running_return)
            if dones[t, b]:
                running_return = 0.0
    return np.array(seen)[:, None]


def test_reward_statistics_merge_exactly_and_returns_go_on_across_fragments() -> None:
    rng = np.random.default_rng(2)
    local, *remote = (RewardScale(num_envs={"counter": 3}, gammas={"counter": GAMMA}) for _ in range(3))
    rewards, dones = rng.normal(5.0, 2.0, (2, 40, 3)), rng.random((2, 40, 3)) < 0.1
    for first in range(0, 40, 10):
        for piece, r, d in zip(remote, rewards, dones, strict=True):
            piece.count("counter", fragment(r[first : first + 10], d[first : first + 10]))
        merged = local.merge_states([piece.get_state() for piece in remote])
        for piece in (local, *remote):
            piece.set_state(merged)
    every = np.concatenate([discounted(r, d) for r, d in zip(rewards, dones, strict=True)])
    for piece in (local, *remote):
        assert_moments(piece.normalizers["counter"].moments.total(), every)
        assert piece.scale("counter") == pytest.approx(every.std(), rel=1e-6)


def test_steps_that_only_reset_are_not_counted() -> None:
    piece = RewardScale(num_envs={"counter": 1}, gammas={"counter": 0.5})
    rewards = np.array([[1.0], [1.0], [0.0], [4.0]])
    dones, valid = np.array([[False], [True], [False], [False]]), np.array([[True], [True], [False], [True]])
    piece.count("counter", fragment(rewards, dones, valid))
    assert_moments(piece.normalizers["counter"].moments.total(), np.array([[1.0], [1.5], [4.0]]))


def statistics(algo: Any) -> list[tuple[str, Moments]]:
    pieces = [p for p in algo.env_runner._env_to_module.connectors if hasattr(p, "normalizers")]
    return [(type(p).__name__, p.normalizers["counter"].moments.total()) for p in pieces]


def test_one_process_counts_what_it_samples(ray_cluster: None) -> None:
    with running(tiny_config([SPEC])) as algo:
        for iteration in (1, 2, 3):
            result = algo.train()["env_runners"]
            assert result["num_module_steps_sampled_lifetime"]["counter"] == 32 * iteration
            found = statistics(algo)
            assert [name for name, _ in found] == ["NormalizeObservations", "RewardScale"]
            assert [m.count for _, m in found] == [32 * iteration] * 2


def test_two_remote_runners_of_one_environment(ray_cluster: None) -> None:
    config = tiny_config([SPEC]).env_runners(num_env_runners=2)
    with running(config) as algo:
        for iteration in (1, 2, 3, 4):
            result = algo.train()["env_runners"]
            assert result["num_module_steps_sampled_lifetime"]["counter"] == 64 * iteration
            assert [m.count for _, m in statistics(algo)] == [64 * iteration] * 2
        remote = algo.env_runner_group.foreach_env_runner(
            lambda runner: runner.get_state(components="env_to_module_connector"), local_env_runner=False
        )
        (_, moments), _ = statistics(algo)
        for state in remote:
            piece = next(s for name, s in state["env_to_module_connector"].items() if "NormalizeObs" in name)["counter"]
            assert piece["base"] == moments.to_dict()
            assert piece["delta"]["count"] == 0
        # Counter's observations do not depend on actions: every copy has been through the same episodes.
        rows = [(e, t) for e in range(40) for t in range(3 + e % 4)][: 16 * 4] * 4
        assert_moments(moments, np.array(rows, float))
