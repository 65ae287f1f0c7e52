"""Recording gives the true steps of whole episodes, in the shares that were asked for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from toy_envs import Breaking, Counter, Grid
from untrained_agent import save_untrained

from rllib_multienv import EnvSpec, MultiEnvAgent
from rllib_multienv.envs.errors import EnvFailure, NonFiniteError
from rllib_multienv.offline import RawDataset
from rllib_multienv.offline.behaviours import RANDOM, Behaviour
from rllib_multienv.offline.recording import record_steps

COUNTER = EnvSpec("counter", make=Counter)
CARTPOLE = EnvSpec("CartPole-v1")


class Echo(gym.Env):
    """Observes the last action that it was given, in float64; episodes last five steps."""

    def __init__(self) -> None:
        self.observation_space = gym.spaces.Box(-10, 10, (2,), np.float64)
        self.action_space = gym.spaces.Box(np.array([-1.0, 0.0]), np.array([3.0, 0.2]), dtype=np.float64)
        self.steps = 0

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[np.ndarray, dict]:
        super().reset(seed=seed)
        self.steps = 0
        return np.full(2, 7.0), {}

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict]:
        self.steps += 1
        assert self.action_space.contains(action), action
        return np.array(action), float(action[0]), False, self.steps == 5, {}


ECHO = EnvSpec("echo", make=Echo)


RANDOM_ACTIONS = Behaviour(policy=RANDOM)


def constant(action: Any, name: str = "constant", **options: Any) -> Behaviour:
    def policy(observations: np.ndarray) -> np.ndarray:
        return np.full((len(observations), *np.shape(action)), action)

    policy.__name__ = name
    return Behaviour(policy=policy, **options)


def assert_equal(one: RawDataset, other: RawDataset) -> None:
    for key in ("observations", "actions", "rewards", "terminals", "timeouts", "next_observations"):
        np.testing.assert_array_equal(getattr(one, key), getattr(other, key), err_msg=key)
    assert one.metadata == other.metadata


@pytest.mark.parametrize("backend", ["auto", "async"])
def test_every_step_is_a_true_one(backend: Any) -> None:
    env = EnvSpec("counter", make=Counter, backend=backend)
    raw = record_steps(env, [RANDOM_ACTIONS], num_steps=101, seed=0, num_envs=3)
    assert len(raw) == 101
    assert raw.timeouts is not None and raw.next_observations is not None
    assert raw.observations.dtype == raw.next_observations.dtype == raw.rewards.dtype == np.float32
    began = []
    for row, (episode, t) in enumerate(raw.observations.astype(int).tolist()):
        over = t + 1 == 3 + episode % 4
        assert raw.next_observations[row].tolist() == [episode, t + 1]
        assert raw.rewards[row] == 100 * episode + t + 1 + raw.actions[row]
        assert raw.terminals[row] == (over and episode % 2 == 0)
        assert raw.timeouts[row] == (over and episode % 2 == 1) or row == 100
        if row and not (raw.terminals | raw.timeouts)[row - 1]:
            assert (episode, t) == tuple(raw.next_observations[row - 1].tolist())
        else:
            assert t == 0
            began.append(episode)
    assert set(raw.actions.tolist()) == {0, 1, 2}
    # The three copies in turn: in the order in which their episodes began.
    assert began == sorted(began) and began[:6] == [0, 0, 0, 1, 1, 1]


def test_the_last_episode_of_a_behaviour_is_cut() -> None:
    # Episodes last 3, 4, 5, 6, 3 steps and so on.
    behaviours = [constant(action, name=f"always {action}") for action in (1, 2)]
    raw = record_steps(COUNTER, behaviours, num_steps=20, seed=0, num_envs=1)
    assert raw.timeouts is not None and raw.next_observations is not None
    assert raw.actions.tolist() == [1] * 10 + [2] * 10
    assert np.flatnonzero(raw.terminals).tolist() == [2, 12]
    assert np.flatnonzero(raw.timeouts).tolist() == [6, 9, 16, 19]
    assert raw.next_observations[[9, 19]].tolist() == [[2, 3], [2, 3]]
    first, second = json.loads(raw.metadata["behaviours"])
    assert first == {
        "name": "always 1",
        "share": 1.0,
        "steps": 10,
        "episodes": 2,
        "mean_return": (1 + 2 + 3 + 3 + 4 * 100 + 10 + 4) / 2,
    }
    assert second["mean_return"] == first["mean_return"] + 3.5
    # An episode that ends with the last step is none that was cut.
    whole = record_steps(COUNTER, behaviours[:1], num_steps=3, seed=0)
    assert whole.terminals.tolist() == [False, False, True]
    assert whole.timeouts is not None and not whole.timeouts.any()


def test_a_terminal_state_at_the_time_limit_is_terminal_only() -> None:
    # Its first episode terminates after three steps, where the limit would cut it.
    env = EnvSpec("counter", make=Counter, max_episode_steps=3)
    raw = record_steps(env, [constant(0)], num_steps=6, seed=0, num_envs=1)
    assert raw.terminals.tolist() == [False, False, True, False, False, False]
    assert raw.timeouts is not None
    assert raw.timeouts.tolist() == [False, False, False, False, False, True]


def test_shares_are_of_steps() -> None:
    behaviours = [constant(0, share=3), constant(1, share=1), constant(2, share=0.5)]
    raw = record_steps(COUNTER, behaviours, num_steps=90, seed=0)
    assert np.bincount(raw.actions).tolist() == [60, 20, 10]
    with pytest.raises(ValueError, match=r"share of 0\.5 of 3 steps is none"):
        record_steps(COUNTER, behaviours, num_steps=3, seed=0)
    with pytest.raises(ValueError, match="No behaviour"):
        record_steps(COUNTER, [], num_steps=3, seed=0)
    for share in (0, -1, float("nan")):
        with pytest.raises(ValueError, match="share="):
            constant(0, share=share)


def test_a_seed_says_everything(tmp_path: Path) -> None:
    agent = MultiEnvAgent.from_checkpoint(save_untrained(tmp_path / "agent", ["CartPole-v1"]))

    def record(seed: int | None) -> RawDataset:
        behaviours = [Behaviour(checkpoint=agent, noise=0.3), RANDOM_ACTIONS]
        return record_steps(CARTPOLE, behaviours, num_steps=200, seed=seed)

    first = record(5)
    assert_equal(record(5), first)
    assert not np.array_equal(record(6).observations, first.observations)
    drawn = record(None)
    assert_equal(record(drawn.metadata["seed"]), drawn)


def test_recorded_actions_lead_to_recorded_states() -> None:
    raw = record_steps(CARTPOLE, [RANDOM_ACTIONS], num_steps=300, seed=2)
    assert raw.next_observations is not None
    env: Any = gym.make("CartPole-v1").unwrapped
    env.reset(seed=0)
    for row in range(300):
        env.state = raw.observations[row].astype(np.float64)
        env.steps_beyond_terminated = None
        obs, reward, terminated, _, _ = env.step(int(raw.actions[row]))
        np.testing.assert_allclose(raw.next_observations[row], obs, rtol=1e-4, atol=1e-5)
        assert (reward, terminated) == (raw.rewards[row], raw.terminals[row])


def test_an_agent_explores_or_not(tmp_path: Path) -> None:
    agent = MultiEnvAgent.from_checkpoint(save_untrained(tmp_path / "agent", ["Pendulum-v1"]))
    env = EnvSpec("Pendulum-v1")
    raw = {
        explore: record_steps(env, [Behaviour(checkpoint=agent, explore=explore)], num_steps=60, seed=0, num_envs=1)
        for explore in (False, True)
    }
    np.testing.assert_allclose(raw[False].actions, agent.act(env, raw[False].observations), atol=1e-5)
    assert np.abs(raw[True].actions - agent.act(env, raw[True].observations)).max() > 0.1


def test_actions_are_stored_as_they_were_given() -> None:
    raw = record_steps(ECHO, [constant((0.1, 5.0)), RANDOM_ACTIONS], num_steps=60, seed=0)
    assert raw.next_observations is not None
    np.testing.assert_array_equal(raw.next_observations, raw.actions)
    assert raw.actions.dtype == np.float32
    np.testing.assert_allclose(raw.actions[:30], np.tile([0.1, 0.2], (30, 1)), atol=1e-6)  # 5.0 was clipped
    grid = EnvSpec("grid", make=Grid, max_episode_steps=4)
    raw = record_steps(grid, [RANDOM_ACTIONS], num_steps=50, seed=0)
    assert raw.observations.shape == (50, 1)
    assert set(raw.actions.tolist()) == {5, 6, 7}
    assert raw.next_observations is not None
    np.testing.assert_array_equal(raw.next_observations[:, 0], raw.actions - 6)


def test_noise_of_continuous_actions() -> None:
    raw = record_steps(ECHO, [constant((1.0, 0.1), noise=0.25)], num_steps=2000, seed=0)
    low, high = np.float32([-1, 0]), np.float32([3, 0.2])
    assert (raw.actions >= low).all() and (raw.actions <= high).all()
    # A quarter of half the range, 2 and 0.1; four standard deviations to the bounds, so next to nothing is clipped.
    np.testing.assert_allclose(raw.actions.std(0), [0.5, 0.025], rtol=0.1)
    np.testing.assert_allclose(raw.actions.mean(0), [1.0, 0.1], rtol=0.1)
    wild = record_steps(ECHO, [constant((1.0, 0.1), noise=10.0)], num_steps=200, seed=0).actions
    assert (wild >= low).all() and (wild <= high).all() and {-1.0, 3.0} <= set(wild[:, 0].tolist())


def test_noise_of_discrete_actions() -> None:
    raw = record_steps(COUNTER, [constant(1, noise=0.3)], num_steps=2000, seed=0)
    assert np.bincount(raw.actions, minlength=3) / 2000 == pytest.approx([0.1, 0.8, 0.1], abs=0.03)
    with pytest.raises(ValueError, match=r"noise=1\.5.*discrete"):
        record_steps(COUNTER, [constant(1, noise=1.5)], num_steps=20, seed=0)
    with pytest.raises(ValueError, match="noise=-1"):
        constant((1.0, 0.1), noise=-1)


@pytest.mark.parametrize(
    ("env", "action", "words"),
    [
        (COUNTER, 3, "gave the action 3; environment 'counter' takes 0 to 2"),
        (COUNTER, 0.5, r"gave the action 0\.5"),
        (COUNTER, (1, 1), r"actions of shape \(8, 2\) for 8 observations; environment 'counter' takes \(8,\)"),
        (ECHO, (float("nan"), 0.1), "not finite"),
        (ECHO, (0.1,), r"takes \(8, 2\)"),
    ],
)
def test_what_is_no_action_is_refused(env: EnvSpec, action: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words) as caught:
        record_steps(env, [constant(action, name="the culprit")], num_steps=20, seed=0)
    assert "'the culprit'" in str(caught.value)


def test_a_policy_that_fails_is_named() -> None:
    def mine(observations: np.ndarray) -> np.ndarray:
        return observations[:, 9]

    with pytest.raises(ValueError, match=r"Policy 'mine' failed on observations of shape \(8, 2\).*IndexError"):
        record_steps(COUNTER, [Behaviour(policy=mine)], num_steps=20, seed=0)


def test_an_environment_that_fails_is_named() -> None:
    for fault, error in (("step", EnvFailure), ("nan_obs", NonFiniteError), ("inf_reward", NonFiniteError)):
        env = EnvSpec("broken", make=Breaking, kwargs={"fault": fault})
        with pytest.raises(error, match="broken"):
            record_steps(env, [RANDOM_ACTIONS], num_steps=100, seed=0)


def test_metadata() -> None:
    env = EnvSpec("mine", make="Pendulum-v1", kwargs={"g": 9.0}, max_episode_steps=30)
    raw = record_steps(env, [RANDOM_ACTIONS], num_steps=40, seed=4, ref_min_score=-1200.0, ref_max_score=-150.0)
    assert gym.make(raw.metadata["env_id"], **json.loads(raw.metadata["env_kwargs"])).unwrapped.g == 9.0  # type: ignore[attr-defined]
    found = {key: raw.metadata[key] for key in ("max_episode_steps", "seed", "ref_min_score", "ref_max_score")}
    assert found == {"max_episode_steps": 30, "seed": 4, "ref_min_score": -1200.0, "ref_max_score": -150.0}
    assert json.loads(raw.metadata["versions"])["gymnasium"] == gym.__version__
    for wrong in ({"num_steps": 0}, {"seed": -1}, {"num_envs": 0}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            record_steps(env, [RANDOM_ACTIONS], **{"num_steps": 4, "seed": 0, **wrong})
