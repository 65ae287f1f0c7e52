"""Several agents: exact trajectories of rows, roles, opponents, learners, resume, and acting without Ray."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray
from first_gradient import RecordsFirstGradient, of_learners
from gymnasium import spaces
from multi_agent_envs import Countdown, HideAndSeek, Relay
from pettingzoo.classic import tictactoe_v3
from ray.rllib.env.multi_agent_env import MultiAgentEnv
from tiny_runs import assert_goes_on_when_restored, make_runner, running, tiny_config

from rllib_multienv import EnvSpec, GeneratedNetConfig, MultiEnvAgent
from rllib_multienv.algorithms.ppo.learner import MultiEnvPPOLearner
from rllib_multienv.env_runners.assignment import environment_costs
from rllib_multienv.learners import RolloutData
from rllib_multienv.rollout import Rollout

pytestmark = pytest.mark.usefixtures("ray_cluster")

RELAY = EnvSpec("relay", make=Relay)
COUNTDOWN = EnvSpec("countdown", make=Countdown)
HIDE = EnvSpec("hide", make=HideAndSeek)
TICTACTOE = EnvSpec("tictactoe", make="pettingzoo.classic.tictactoe_v3")


def config(envs: list[Any], **training: Any) -> Any:
    made = tiny_config(envs, normalize_obs=False, **training)
    return made.rl_module(model_config=GeneratedNetConfig(width=16, depth=1))


def steps_of(rollouts: list[Rollout], row: int) -> list[tuple[Any, ...]]:
    """``(observation, reward, terminated, truncated)`` of a row's steps."""
    return [
        (tuple(r.obs[t, row]), r.rewards[t, row], r.terminated[t, row], r.truncated[t, row])
        for r in rollouts
        for t in np.flatnonzero(r.valid[:, row])
    ]


def test_rows_have_the_agents_trajectories_whatever_the_fragments() -> None:
    made = config([RELAY, COUNTDOWN]).env_runners(rollout_fragment_length=5)
    runner = make_runner(made)
    sampled = [runner.sample_rollouts() for _ in range(3)]  # 15 time steps: two rounds of seven turns, and one turn
    relay, countdown = ([rollouts[env_id] for rollouts in sampled] for env_id in ("relay", "countdown"))
    x, y, z = (steps_of(countdown, row) for row in (3, 4, 5))  # of the second copy
    first, second = [(0, 0), -1.0, False, False], [(0, 3), -1.0, False, False]
    assert [list(s) for s in x] == [first, second, [(0, 6), 1.0, True, False]] * 2
    assert y == [((1, 1), -2.0, False, False), ((1, 5), 1.0, True, False)] * 2
    assert z == [((2, 2), 0.0, False, False), ((2, 4), -1.0, False, True)] * 2
    a, b, c = (steps_of(relay, row) for row in (0, 1, 2))
    assert [s[1] for s in a[:5]] == [0.0, 1.0, 2.0, 3.0, 0.0] and [s[2] for s in a[:5]] == [False] * 3 + [True, False]
    assert [s[1:] for s in b[:3]] == [(10.0, False, False), (11.0, True, False), (10.0, False, False)]
    assert [s[0] for s in c[:4]] == [(2, 1), (2, 2), (2, 3), (2, 1)] and c[2][1:] == (23.0, False, True)
    # Bootstrap values: the last observation of an episode that is over, else what the agent acts on next.
    for rollout in relay + countdown:
        for b_, start, stop in rollout.chunks():
            last = rollout.final_obs[rollout.final_place(stop - 1, b_)]
            assert rollout.valid[start:stop, b_].all() and last[0] == b_ % 3
            assert last[1] > rollout.obs[stop - 1, b_, 1]


def test_actions_belong_to_the_observations_that_they_were_chosen_for() -> None:
    made = config([RELAY]).env_runners(num_envs_per_env_runner=1, rollout_fragment_length=4)
    runner = make_runner(made)
    rollout = runner.sample_rollouts()["relay"]
    env = runner.environments["relay"].copies.env.world.envs[0].env
    for row, agent in enumerate("abc"):
        taken = [actions[agent] for actions in env.seen_actions if agent in actions]
        assert rollout.actions[rollout.valid[:, row], row].tolist() == taken


class Recording(RecordsFirstGradient, MultiEnvPPOLearner):
    """Keeps its first gradient."""


def test_rows_without_steps_reach_no_loss_and_learners_agree() -> None:
    made = config([RELAY, COUNTDOWN, "CartPole-v1"], grad_clip=None, num_epochs=1).env_runners(
        rollout_fragment_length=7
    )
    sampled = make_runner(made).sample_rollouts()
    gradients, weights = [], None
    for num_learners, spoilt in ((0, False), (0, True), (2, False)):
        rollouts = {}
        for env_id, rollout in sampled.items():
            if spoilt:
                for array in (rollout.obs, rollout.rewards):
                    array[~rollout.valid] = 1e6
            rollouts[env_id] = [(ray.put(rollout), rollout.steps)]
        own = made.copy(copy_frozen=False).learners(num_learners=num_learners, learner_class=Recording)
        own.validate()
        group = own.build_learner_group()
        weights = weights or group.get_weights()
        group.set_weights(weights)
        group.update(
            training_data=RolloutData.of(rollouts, environment_costs(own)),
            timesteps={},
            num_epochs=1,
            num_minibatches=2,
        )
        gradients.append(of_learners(group, lambda learner: learner.first_gradient)[0])
        group.shutdown()
    np.testing.assert_array_equal(gradients[1], gradients[0])
    np.testing.assert_allclose(gradients[2], gradients[0], atol=1e-5 * np.abs(gradients[0]).max())


def test_agents_with_different_spaces_are_environments_of_their_own() -> None:
    made = config([HIDE, "CartPole-v1"])
    with running(made) as algo:
        assert list(algo.config.space_specs) == ["hide@hider", "hide@seeker", "CartPole-v1"]
        result = algo.train()["env_runners"]
        assert result["agent_return_mean"]["hide@hider"].keys() == {"hider_0", "hider_1"}
        assert result["module_episode_return_mean"]["hide@seeker"] == -6.0
        path = algo.save_to_path()
    agent = MultiEnvAgent.from_checkpoint(path)
    result = agent.evaluate("hide@seeker", episodes=3)
    assert result.returns == [-6.0] * 3 and result.agents == ["seeker"] * 3


def test_a_run_with_several_agents_resumes_exactly(tmp_path: Path) -> None:
    made = config([HIDE, COUNTDOWN, TICTACTOE]).env_runners(rollout_fragment_length=9)
    assert_goes_on_when_restored(made, tmp_path)


def test_the_learner_has_one_seat_beside_opponents_and_its_wins_are_counted() -> None:
    made = (
        config([TICTACTOE])
        .env_runners(rollout_fragment_length=60)
        .multi_agent(opponents="random")
        .evaluation(evaluation_interval=1, evaluation_duration=6, opponents=["random"])
    )
    with running(made) as algo:
        (rollout,) = algo.env_runner.sample_rollouts().values()
        ends = [(b, rollout.rewards[stop - 1, b]) for b, _, stop in rollout.chunks() if rollout.done[stop - 1, b]]
        # The learner's seat alternates from game to game, so in each copy both seats end as many games, or one more.
        played = [sum(b == row for b, _ in ends) for row in range(4)]
        assert abs(played[0] - played[1]) <= 1 and abs(played[2] - played[3]) <= 1 and min(played) >= 2
        result = algo.train()
        won = result["evaluation"]["env_runners"]["win_rate"]["tictactoe"]["random"]
        drawn = result["evaluation"]["env_runners"]["draw_rate"]["tictactoe"]["random"]
        assert won.keys() == drawn.keys() == {"player_1", "player_2"}
        assert all(0 <= won[seat] + drawn[seat] <= 1 and (won[seat] * 6) % 1 == 0 for seat in won)
    with running(config([TICTACTOE]).multi_agent(opponents="pool", pool_interval=1, pool_size=2)) as algo:
        for _ in range(3):
            algo.train()
        assert len(algo.env_runner._pool.members) == 2


class TwoArms(MultiAgentEnv):
    """RLlib's kind: "left" acts at even times only; "right" at each. Truncated for all after three steps."""

    def __init__(self) -> None:
        super().__init__()
        self.possible_agents = self.agents = ["left", "right"]
        box, choice = spaces.Box(0.0, 9.0, (1,), np.float32), spaces.Discrete(2)
        self.observation_spaces = dict.fromkeys(self.agents, box)
        self.action_spaces = dict.fromkeys(self.agents, choice)

    def _obs(self) -> dict[str, Any]:
        seen = np.array([self.time], np.float32)
        return {"left": seen, "right": seen} if self.time % 2 == 0 else {"right": seen}

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[dict[str, Any], dict[str, Any]]:
        self.time = 0
        return self._obs(), {}

    def step(self, action_dict: dict[str, Any]) -> tuple[dict[str, Any], ...]:
        assert set(action_dict) == set(self._obs())
        self.time += 1
        rewards = {"left": float(self.time), "right": 5.0}
        return self._obs(), rewards, {"__all__": False}, {"__all__": self.time == 3}, {}


def test_rllibs_multi_agent_environments_train() -> None:
    with running(config([EnvSpec("arms", make=TwoArms)])) as algo:
        (rollout,) = algo.env_runner.sample_rollouts().values()
        # "left" acts at times 0 and 2 and is paid for what it waits; "right" acts at each time.
        assert [s[1:] for s in steps_of([rollout], 0)[:2]] == [(3.0, False, False), (3.0, False, True)]
        assert [s[1:] for s in steps_of([rollout], 1)[:3]] == [(5.0, False, False)] * 2 + [(5.0, False, True)]


def test_the_agent_plays_in_pettingzoos_own_loop() -> None:
    with running(config([TICTACTOE])) as algo:
        agent = MultiEnvAgent.from_checkpoint(algo.save_to_path())
    env = tictactoe_v3.env()
    env.reset(seed=0)
    moves = 0
    for _ in env.agent_iter():
        observation, _, terminated, truncated, _ = env.last()
        action = None if terminated or truncated else agent.act("tictactoe", observation)
        if action is not None:
            assert observation["action_mask"][action] == 1
            moves += 1
        env.step(action)
    assert 5 <= moves <= 9
    games = agent.evaluate("tictactoe", episodes=4, opponent="random")
    assert len(games) == 8 and sorted(games.agents) == ["player_1"] * 4 + ["player_2"] * 4
    assert set(games.returns) <= {-1.0, 0.0, 1.0}


def test_bad_settings_of_several_agents_are_named() -> None:
    with pytest.raises(Exception, match=r"'countdown'.*has several agents.*backend='sync'"):
        make_runner(config([EnvSpec("countdown", make=Countdown, backend="async")]))
    with pytest.raises(ValueError, match="opponents='pol'"):
        config([TICTACTOE]).multi_agent(opponents="pol")
    with pytest.raises(ValueError, match="chess"):
        config(["pettingzoo.classic.ches_v6"])
