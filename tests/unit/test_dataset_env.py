"""Rows of a data set as an environment: order, splits, scores, errors, and what a snapshot restores."""

from __future__ import annotations

import pickle

import gymnasium as gym
import numpy as np
import pytest

from rllib_multienv import DatasetEnv, EnvSpec
from rllib_multienv.envs.dataset import DatasetError
from rllib_multienv.envs.probe import probe_spaces
from rllib_multienv.envs.vector import EnvCopies
from rllib_multienv.spec import resolve_env_specs

X = np.arange(20, dtype=np.float32).reshape(10, 2)
Y = np.arange(10) % 3


def labelled(**kwargs: object) -> DatasetEnv:
    return DatasetEnv((X, Y), **{"classes": 3, "test_fraction": 0.0, **kwargs})


def rows(env: DatasetEnv, count: int) -> list[int]:
    """The rows that are shown next."""
    return [env.reset(seed=0)[1]["row"], *(env.step(0) and env.reset()[1]["row"] for _ in range(count - 1))]


def test_an_epoch_shows_each_row_once_and_the_next_one_in_another_order() -> None:
    shown = rows(labelled(seed=1), 20)
    assert sorted(shown[:10]) == sorted(shown[10:]) == list(range(10))
    assert shown[:10] != shown[10:]
    assert shown == rows(labelled(seed=1), 20) != rows(labelled(seed=2), 20)
    assert rows(labelled(shuffle=False), 12) == [*range(10), 0, 1]


def test_copies_walk_parts_of_one_permutation() -> None:
    copies = EnvCopies(labelled().env_spec("data"), 4, seed=0)
    copies.reset()
    steps = [copies.step(np.zeros(4, np.int64)) for _ in range(5)]
    shown = [step.infos[b]["row"] for step in steps for b in range(4)]
    assert sorted(shown[:10]) == sorted(shown[10:]) == list(range(10))


def test_a_row_is_a_terminated_episode_whose_info_has_the_target() -> None:
    env = labelled(shuffle=False, standardize=False)
    obs, info = env.reset(seed=0)
    assert obs.tolist() == [0.0, 1.0] and info == {"row": 0}
    final, reward, terminated, truncated, info = env.step(0)
    assert final.tolist() == obs.tolist() and (reward, terminated, truncated) == (1.0, True, False)
    assert info == {"row": 0, "epoch": 0, "target": 0}
    env.reset()
    assert env.step(0)[1] == 0.0  # row 1 has class 1


def test_the_data_set_is_done_after_its_epochs_and_goes_on() -> None:
    env = labelled(epochs=2)
    rows(env, 20)
    assert not env.is_done and env.epoch == 1
    env.step(0)
    assert env.is_done and env.reset()[1]["row"] in range(10)


def test_splits_do_not_overlap_and_only_training_rows_standardise() -> None:
    source = (np.vstack([X, X + 1000.0]), np.tile(Y, 2))
    train, test, whole = (DatasetEnv(source, classes=3, split=split) for split in ("train", "test", "all"))
    assert (train.num_rows, test.num_rows, whole.num_rows) == (16, 4, 20)
    seen = [{env.row_at(p) for p in range(env.num_rows)} for env in (labelled_order(train), labelled_order(test))]
    assert not seen[0] & seen[1] and seen[0] | seen[1] == set(range(20))
    values = train.observations(np.array(sorted(seen[0])))
    np.testing.assert_allclose(values.mean(0), 0.0, atol=1e-5)
    np.testing.assert_allclose(values.std(0), 1.0, atol=1e-5)
    assert abs(test.observations(np.array(sorted(seen[1]))).mean()) > 1e-3


def labelled_order(env: DatasetEnv) -> DatasetEnv:
    env.reset(seed=0)
    return env


def test_the_mean_score_of_numbers_is_r_squared() -> None:
    y = np.array([1.0, 2.0, 4.0, 9.0])
    env = DatasetEnv((np.zeros((4, 1)), y), test_fraction=0.0)
    scores = env.scores(np.arange(4), np.full((4, 1), y.mean(), np.float32))
    assert abs(scores.mean()) < 1e-6  # the mean explains nothing
    assert env.scores(np.arange(4), y[:, None]).tolist() == [1.0] * 4
    assert env.action_space.contains(np.array([9.0], np.float32))


def test_bandit_rewards_are_scores_costs_or_a_function() -> None:
    def reward(**kwargs: object) -> float:
        env = labelled(objective="bandit", shuffle=False, **kwargs)
        env.reset(seed=0)
        return env.step(2)[1]  # of class 0

    costs = np.array([[0, 1, 5], [1, 0, 1], [1, 1, 0]])
    assert (reward(), reward(reward_fn=costs), reward(reward_fn=lambda a, y: a - y)) == (0.0, -5.0, 2.0)
    assert not labelled(objective="bandit").is_supervised and labelled().is_supervised


def test_the_last_target_is_revealed() -> None:
    env = labelled(reveal="next", shuffle=False, rows_per_episode=3, standardize=False)
    assert env.observation_space.shape == (5,)
    assert env.reset(seed=0)[0].tolist() == [0, 1, 0, 0, 0]
    assert env.step(0)[0].tolist() == [2, 3, 1, 0, 0]
    assert env.step(0)[0].tolist() == [4, 5, 0, 1, 0]
    obs, reward, terminated, _, _ = env.step(2)
    assert terminated and obs[2:].tolist() == [0, 0, 1] and reward == pytest.approx(1 / 3)
    assert env.reset()[0].tolist() == [6, 7, 0, 0, 0]


def test_evaluation_shows_each_row_of_the_test_split_once_every_time() -> None:
    spec = DatasetEnv((X, Y), classes=3).env_spec("data")
    copies = EnvCopies(spec, 3, seed=0, evaluation=True)
    assert copies.evaluation_episodes == 2
    for _ in range(2):
        copies.reset()
        infos = copies.step(np.zeros(3, np.int64)).infos
        assert [infos[b]["row"] for b in range(2)] == sorted({infos[b]["row"] for b in range(2)})
        assert infos[2]["row"] == infos[0]["row"]


def test_targets_are_the_networks_actions() -> None:
    copies = EnvCopies(labelled().env_spec("data"), 2, seed=0)
    copies.reset()
    step = copies.step(np.zeros(2, np.int64))
    assert step.targets.tolist() == [Y[step.infos[b]["row"]] for b in range(2)]
    numbers = EnvCopies(DatasetEnv((X, X[:, 0]), test_fraction=0.0).env_spec("data"), 10, seed=0)
    numbers.reset()
    targets = numbers.step(np.zeros((10, 1), np.float32)).targets
    assert targets.shape == (10, 1) and (targets.min(), targets.max()) == pytest.approx((-1.0, 1.0))
    bandit = EnvCopies(labelled(objective="bandit").env_spec("data"), 2, seed=0)
    bandit.reset()
    assert bandit.step(np.zeros(2, np.int64)).targets is None


def test_a_snapshot_resumes_in_the_middle_of_an_epoch_without_the_rows() -> None:
    source = (np.random.default_rng(0).normal(size=(5000, 4)), np.zeros(5000, np.int64))
    spec = DatasetEnv(source, classes=2).env_spec("data")
    copies, again = EnvCopies(spec, 2, seed=0), EnvCopies(spec, 2, seed=5)
    copies.reset()
    for _ in range(7):
        copies.step(np.zeros(2, np.int64))
    state = copies.snapshot()
    assert state is not None and len(pickle.dumps(state)) < 10_000
    again.restore(state)
    for _ in range(3000):
        mine, theirs = (c.step(np.zeros(2, np.int64)) for c in (copies, again))
        assert [i["row"] for i in mine.infos] == [i["row"] for i in theirs.infos]


def test_permuting_labels_changes_no_observation() -> None:
    one, other = labelled(seed=0), DatasetEnv((X, Y[::-1].copy()), classes=3, test_fraction=0.0, seed=0)
    for env in (one, other):
        env.reset()
    for _ in range(10):
        assert one.step(0)[0].tolist() == other.step(0)[0].tolist()
        one.reset(), other.reset()


@pytest.mark.parametrize(
    ("source", "kwargs", "message"),
    [
        ((np.array([[1.0], [np.nan]]), Y[:2]), {"classes": 3}, "Column 'x' has 1 rows with a NaN .* row 1"),
        ((X[:2], np.array([1.0, np.nan])), {}, "Column 'y' has 1 rows with a NaN or infinite label"),
        ((X[:2], np.array([0, -1])), {"classes": 3}, "row 1 has the label -1 .*missing"),
        ((X[:2], np.array([0, 3])), {"classes": 3}, "row 1 has the label 3, but there are 3 classes"),
        ((X, Y), {}, "whole numbers from 0 to 2: set classes=3 .* or regression=True"),
        ((X, Y[:5]), {"classes": 3}, "X has 10 rows, but Y has 5"),
        ((X[:0], Y[:0]), {}, "no rows"),
        ((X, Y), {"classes": 3, "test_fraction": 0.0, "split": "test"}, "its split 'test' is empty .*test_fraction"),
        ((X, Y), {"classes": 3, "split": "tets"}, "no split 'tets'; it has train, test, all"),
        ((X, Y), {"classes": 3, "y": "z"}, "no column 'z'; it has x, y"),
        ((X, Y), {"classes": 3, "objective": "bandits"}, "objective='bandits' .*Did you mean 'bandit'"),
        ({"x": X, "words": ["a"] * 9 + [None]}, {"y": "words"}, "no text in row 9|unsupported type"),
        (X, {"objective": "bandit"}, "has no targets"),
        (3, {}, "A data set is arrays"),
        ("digits", {}, "'module:function'"),
    ],
)
def test_errors_name_the_column_and_the_row(source: object, kwargs: dict[str, object], message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        DatasetEnv(source, **kwargs)


def test_a_single_row_is_trained_on_and_evaluated() -> None:
    env = DatasetEnv((X[:1], Y[:1]), classes=3)
    assert env.num_rows == 1 and rows(env, 3) == [0, 0, 0]
    copies = EnvCopies(env.env_spec("one"), 2, seed=0, evaluation=True)
    copies.reset()
    assert [copies.step(np.zeros(2, np.int64)).infos[b]["row"] for b in range(2)] == [0, 0]


def test_an_iterator_without_end_is_cut_and_can_be_trained_on() -> None:
    def forever() -> object:
        n = 0
        while True:
            yield np.array([float(n), 1.0]), n % 2 == 0
            n += 1

    with pytest.warns(UserWarning, match="first max_rows=50"):
        env = DatasetEnv(forever(), max_rows=50)
    spec = env.env_spec("stream")
    assert env.num_rows == 40 and isinstance(env.action_space, gym.spaces.Discrete)
    assert probe_spaces(pickle.loads(pickle.dumps(spec))).obs_size == 2


def test_a_data_set_is_an_environment_to_train_on() -> None:
    env = labelled(name="toy", batch_size=4)
    (spec,) = resolve_env_specs([env])
    assert (spec.id, spec.num_envs) == ("toy", 4)
    assert spec == resolve_env_specs(env)[0] == pickle.loads(pickle.dumps(spec))
    with pytest.raises(DatasetError, match="no targets to train for"):
        EnvSpec.of(DatasetEnv(X))


def test_an_environment_that_gymnasium_made_is_one_too() -> None:
    assert EnvSpec.of(gym.make("CartPole-v1")) == EnvSpec("CartPole-v1")
    assert EnvSpec.of(gym.make("CartPole-v1", max_episode_steps=7)) == EnvSpec("CartPole-v1", max_episode_steps=7)


def test_offline_transitions_are_the_targets_with_reward_one() -> None:
    data = labelled().transitions()
    assert data["actions"].tolist() == Y.tolist()
    assert data["rewards"].tolist() == [1.0] * 10 and data["terminals"].all()
