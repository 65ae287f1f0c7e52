"""Rollouts: chunks of episodes, quotas, and RLlib's episodes for a user's learner connectors and back."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from ray.rllib.connectors.connector_v2 import ConnectorV2
from rollouts import ends
from tiny_runs import learner_batch, make_runner, running, tiny_config
from toy_envs import Counter

from rllib_multienv import EnvSpec
from rllib_multienv.connectors import RolloutConnector
from rllib_multienv.rollout import EpisodeView

COUNTER = EnvSpec("counter", make=Counter)


def test_chunks_are_runs_of_steps_of_one_episode() -> None:
    rollout = ends((5, 2), terminated=[(1, 0), (4, 0)], truncated=[(2, 1)], resets=[(3, 1)])
    assert list(rollout.chunks()) == [(0, 0, 2), (0, 2, 5), (1, 0, 3), (1, 4, 5)]
    assert rollout.steps == 9


def test_what_copies_do_beyond_their_quota_is_no_experience() -> None:
    quota = [1, 2, 0]
    limited = ends((4, 3), terminated=[(1, 0), (3, 0), (2, 1)]).limited(quota)
    assert list(limited.chunks()) == [(0, 0, 2), (1, 0, 3), (1, 3, 4)]
    assert quota == [0, 1, 0]  # the second copy is in its second episode
    assert limited.final_rows.tolist() == [3, 7, 10]


def test_episodes_of_a_rollout_are_those_that_the_runner_samples() -> None:
    made = tiny_config([COUNTER, "CartPole-v1"])
    rollouts = make_runner(made).sample_rollouts()
    view = EpisodeView({env_id: [rollout] for env_id, rollout in rollouts.items()})
    sampled = make_runner(made).sample()
    assert len(view.episodes) == len(sampled)
    for episode, expected in zip(view.episodes, sampled, strict=True):
        assert (episode.module_id, len(episode)) == (expected.module_id, len(expected))
        assert (episode.is_terminated, episode.is_truncated) == (expected.is_terminated, expected.is_truncated)
        for get in ("get_observations", "get_actions", "get_rewards"):
            np.testing.assert_array_equal(getattr(episode, get)(), getattr(expected, get)())


def test_changes_in_episodes_are_in_the_rollouts_and_nowhere_else() -> None:
    rollouts = {env_id: [r] for env_id, r in make_runner(tiny_config([COUNTER])).sample_rollouts().items()}
    before = rollouts["counter"][0]
    view = EpisodeView(rollouts)
    (unchanged,) = view.changed_rollouts()["counter"]
    for name in ("obs", "actions", "rewards", "valid", "final_obs"):
        np.testing.assert_array_equal(getattr(unchanged, name), getattr(before, name))
    for array in vars(before).values():
        if isinstance(array, np.ndarray):
            array.flags.writeable = False  # as in the object store
    first = view.episodes[0]
    first.set_actions(new_data=1 - first.get_actions(0), at_indices=0)
    first.set_rewards(new_data=7.0, at_indices=1)
    removed = view.episodes.pop(1)
    (changed,) = view.changed_rollouts()["counter"]
    assert changed.rewards[1, 0] == 7.0 != before.rewards[1, 0]
    assert changed.actions[0, 0] == 1 - before.actions[0, 0]
    assert changed.steps == before.steps - len(removed) and not changed.valid[len(first) : len(first) + 4, 0].any()
    view.episodes.append(make_runner(tiny_config([COUNTER])).sample()[0])
    with pytest.raises(ValueError, match="added an episode of 'counter'"):
        view.changed_rollouts()


class Shifted(RolloutConnector):
    """A user's own piece on rollouts."""

    def __call__(self, *, batch: dict[str, Any], rollouts: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        rollouts["counter"] = [replace(r, rewards=r.rewards + 1.0) for r in rollouts["counter"]]
        return batch


class Doubled(ConnectorV2):
    """A user's own piece on episodes."""

    def __call__(self, *, batch: dict[str, Any], episodes: list[Any], **kwargs: Any) -> dict[str, Any]:
        for episode in episodes:
            for t in range(len(episode)):
                episode.set_rewards(new_data=2.0 * episode.get_rewards(t), at_indices=t)
        return batch


@pytest.mark.parametrize("pieces", [[Shifted(), Doubled()], [Doubled(), Shifted()]])
def test_pieces_on_rollouts_and_on_episodes_work_one_after_another(pieces: list[Any]) -> None:
    made = tiny_config([COUNTER], normalize_rewards=False, gamma=0.0).learners(
        learner_connector=lambda obs_space, action_space: list(pieces)
    )
    rollouts = make_runner(made).sample_rollouts()
    batch = learner_batch(made, made.get_multi_rl_module_spec().build(), rollouts)
    raw = rollouts["counter"].rewards[rollouts["counter"].valid]
    expected = 2.0 * (raw + 1.0) if isinstance(pieces[0], Shifted) else 2.0 * raw + 1.0
    np.testing.assert_allclose(batch["counter"]["value_targets"].numpy(), expected, rtol=1e-6)


@pytest.mark.usefixtures("ray_cluster")
def test_a_renamed_environment_gives_identical_losses() -> None:
    losses = []
    for names in (("CartPole-v1", "Reacher-v4"), ("z", "a")):
        envs = [EnvSpec(name, make=make) for name, make in zip(names, ("CartPole-v1", "Reacher-v4"), strict=True)]
        with running(tiny_config(envs)) as algo:
            for _ in range(2):
                result = algo.train()["learners"]
        keys = ("total_loss", "policy_loss", "vf_loss", "entropy", "mean_kl_loss", "vf_explained_var")
        losses.append([[float(result[name][key]) for key in keys] for name in names])
    assert losses[0] == losses[1]
