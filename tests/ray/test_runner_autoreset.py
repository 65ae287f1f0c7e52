"""Episodes are the same whether the vector environment resets in the step that ends an episode or in the next."""

from __future__ import annotations

from itertools import groupby
from typing import Any

import numpy as np
import pytest
from gymnasium.vector import AutoresetMode
from next_step import next_step_counters
from ray.rllib.core.columns import Columns
from tiny_runs import make_runner, tiny_config
from toy_envs import Counter

from rllib_multienv import EnvSpec
from rllib_multienv.connectors import NormalizeObservations, RewardScale

SPEC = EnvSpec("counter", make=Counter)
B = 2


def sampled(mode: AutoresetMode, fragments: int, length: int, normalize: bool) -> tuple[Any, list[list[Any]]]:
    """A runner, and its chunks per fragment."""
    config = tiny_config([SPEC], normalize_obs=normalize).env_runners(
        rollout_fragment_length=length, num_envs_per_env_runner=B, explore=False
    )
    runner = make_runner(config)
    if mode is AutoresetMode.NEXT_STEP:
        runner.environments["counter"].copies = next_step_counters(B)
    return runner, [runner.sample() for _ in range(fragments)]


def by_episode(fragments: list[list[Any]]) -> list[list[tuple[Any, ...]]]:
    """Transitions of every episode in one list, in order of the episodes' number (and of the copies)."""
    chunks = [chunk for fragment in fragments for chunk in fragment]
    firsts: dict[str, int] = {}
    for chunk in chunks:
        firsts.setdefault(chunk.id_, len(firsts))
    chunks.sort(key=lambda c: (firsts[c.id_], c.t_started))
    episodes = []
    for _, parts in groupby(chunks, key=lambda c: c.id_):
        rows = []
        for chunk in parts:
            assert chunk.t_started == len(rows)
            obs, actions, rewards = chunk.get_observations(), chunk.get_actions(), chunk.get_rewards()
            logits = chunk.get_extra_model_outputs(Columns.ACTION_DIST_INPUTS)
            for t in range(len(chunk)):
                last = t + 1 == len(chunk)
                rows.append(
                    (
                        *obs[t].tolist(),
                        int(actions[t]),
                        float(rewards[t]),
                        *obs[t + 1].tolist(),
                        *np.round(logits[t], 5).tolist(),
                        last and chunk.is_terminated,
                        last and chunk.is_truncated,
                    )
                )
        episodes.append(rows)
    return sorted(episodes, key=lambda rows: rows[0][0])


@pytest.mark.parametrize("length", [1, 4, 7, 64])
def test_same_experience(length: int) -> None:
    # NEXT_STEP needs a step more per episode, so the shorter of two lists of episodes is compared.
    fragments = -(-64 // length)
    _, same = sampled(AutoresetMode.SAME_STEP, fragments, length, normalize=False)
    _, following = sampled(AutoresetMode.NEXT_STEP, fragments, length, normalize=False)
    a, b = by_episode(same), by_episode(following)
    assert 2 * B < len(b) < len(a)
    for left, right in zip(a[: len(b)], b, strict=True):
        common = min(len(left), len(right))
        assert left[:common] == right[:common]
    whole = [rows for rows in b if rows[-1][-1] or rows[-1][-2]]
    assert len(whole) >= len(b) - B
    for rows in whole:
        number = int(rows[0][0])
        assert len(rows) == 3 + number % 4
        assert rows[-1][-2:] == (number % 2 == 0, number % 2 == 1)
        assert [row[1] for row in rows] == list(range(len(rows)))  # observations acted on
        assert [row[5] for row in rows] == list(range(1, len(rows) + 1))  # observations after the actions


@pytest.mark.parametrize("mode", [AutoresetMode.SAME_STEP, AutoresetMode.NEXT_STEP])
def test_only_experience_is_counted(mode: AutoresetMode) -> None:
    runner, fragments = sampled(mode, 4, 16, normalize=True)
    steps = sum(len(chunk) for fragment in fragments for chunk in fragment)
    assert runner.get_metrics()["num_env_steps_sampled"].peek() == steps
    assert steps == 4 * 16 * B if mode is AutoresetMode.SAME_STEP else steps < 4 * 16 * B
    for kind in (NormalizeObservations, RewardScale):
        (piece,) = runner._env_to_module[kind]
        assert piece.normalizers["counter"].moments.total().count == steps
    rows = [(e, t) for e in range(99) for t in range(3 + e % 4)][: steps // B]
    (piece,) = runner._env_to_module[NormalizeObservations]
    np.testing.assert_allclose(piece.normalizers["counter"].moments.total().mean, np.mean(rows, axis=0), rtol=1e-12)
