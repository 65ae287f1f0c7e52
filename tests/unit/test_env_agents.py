"""Multi-agent environments as turns and outcomes: rewards, ends and last observations of every agent."""

from __future__ import annotations

from typing import Any

from multi_agent_envs import Countdown, Relay

from rllib_multienv import EnvSpec
from rllib_multienv.envs.agents import AgentsEnv, agents_env, roles_of
from rllib_multienv.envs.measure import random_rollout
from rllib_multienv.envs.probe import probe_roles


def played(env: AgentsEnv, steps: int) -> dict[str, list[tuple[Any, ...]]]:
    """Each agent's ``(observation, action, reward, terminated, truncated, last observation)`` in ``steps`` steps."""
    found: dict[str, list[tuple[Any, ...]]] = {agent: [] for agent in env.agents}
    pending: dict[str, tuple[Any, int]] = {}
    env.reset(seed=0)
    for number in range(steps):
        actions = {agent: number % 2 for agent in env.turns}
        pending |= {agent: (tuple(seen), actions[agent]) for agent, (seen, _) in env.turns.items()}
        env.step(actions)
        for agent, o in env.outcomes.items():
            last = tuple(o.observation) if o.over else None
            found[agent].append((*pending.pop(agent), o.reward, o.terminated, o.truncated, last))
        if not env.turns:
            assert not pending
            env.reset()
    return found


def test_agents_of_a_parallel_environment_die_join_and_end_apart() -> None:
    env = agents_env(Relay())
    assert env is not None
    found = played(env, 4)
    assert found["a"] == [
        ((0, 0), 0, 0.0, False, False, None),
        ((0, 1), 1, 1.0, False, False, None),
        ((0, 2), 0, 2.0, False, False, None),
        ((0, 3), 1, 3.0, True, False, (0, 4)),
    ]
    assert found["b"] == [((1, 0), 0, 10.0, False, False, None), ((1, 1), 1, 11.0, True, False, (1, 2))]
    assert found["c"] == [
        ((2, 1), 1, 21.0, False, False, None),
        ((2, 2), 0, 22.0, False, False, None),
        ((2, 3), 1, 23.0, False, True, (2, 4)),
    ]


def test_a_reward_in_turns_counts_from_an_agents_action_to_its_next_turn() -> None:
    env = agents_env(Countdown())
    assert env is not None
    found = played(env, 7)
    # x acts at 0, 3 and 6, y at 1 and 5, z at 2 and 4.
    assert found["x"] == [
        ((0, 0), 0, 1.0 - 2.0, False, False, None),
        ((0, 3), 1, 1.0 - 2.0, False, False, None),
        ((0, 6), 0, 1.0, True, False, (0, 7)),
    ]
    assert found["y"] == [((1, 1), 1, 1.0 - 3.0, False, False, None), ((1, 5), 1, 1.0, True, False, (1, 6))]
    assert found["z"] == [((2, 2), 0, 1.0 - 1.0, False, False, None), ((2, 4), 0, 1.0 - 2.0, False, True, (2, 7))]


def test_a_time_limit_truncates_the_agents_that_are_left() -> None:
    env = agents_env(Countdown(), max_steps=4)
    assert env is not None
    found = played(env, 4)
    assert [step[2:] for step in found["x"]] == [(-1.0, False, False, None), (1.0, False, True, (0, 4))]
    assert [step[2:] for step in found["y"]] == [(1.0 - 2.0, False, True, (1, 4))]
    assert [step[2:] for step in found["z"]] == [(1.0 - 1.0, False, True, (2, 4))]


def test_agents_with_equal_spaces_are_one_role() -> None:
    env = agents_env(Relay())
    assert env is not None
    assert roles_of(env) == {"a": ("a", "b", "c")}


def test_components_of_several_agents_are_measured_over_their_own_steps() -> None:
    ((spec, spaces),) = probe_roles(EnvSpec("countdown", make=Countdown))
    rollout = random_rollout(spec, spaces)
    assert rollout.valid.sum(0).tolist()[:3] == [642, 428, 428]  # 1,500 turns: 214 episodes of 7, and 2
    x = rollout.valid[:, 0]
    assert rollout.obs[x, 0, 1].tolist()[:4] == [0, 3, 6, 0] and rollout.next_obs[x, 0, 1].tolist()[:3] == [3, 6, 7]
