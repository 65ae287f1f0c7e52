"""Multi-agent environments as turns and outcomes: PettingZoo's parallel and AEC ones, and RLlib's `MultiAgentEnv`."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import gymnasium as gym

from rllib_multienv.envs.errors import ENV_ERRORS, take_flag, take_reward
from rllib_multienv.spec import EnvSpec

__all__ = ["AgentsEnv", "Outcome", "agents_env", "first_turns", "role_agents", "roles_of"]


@dataclass(slots=True)
class Outcome:
    """What came of an agent's action.

    Attributes:
        reward: Sum of its rewards since the action.
        terminated: Its part ended by the environment's rules.
        truncated: Its part was cut off.
        observation: What it saw last, if its part is over.
        info: The info that came with it.
    """

    reward: float
    terminated: bool = False
    truncated: bool = False
    observation: Any = None
    info: Any = None

    @property
    def over(self) -> bool:
        """Whether the agent's part is over."""
        return self.terminated or self.truncated


class AgentsEnv(ABC):
    """One copy of a multi-agent environment, as turns and outcomes.

    Args:
        env: The environment.
        max_steps: Calls of `step` after which the agents that are left are truncated; None without a limit.
        show_index: Whether each agent sees its number beside its observation.

    Attributes:
        agents: All agents that may appear, in the environment's order.
        turns: ``{agent: (observation, info)}`` of the agents that act now; empty when the episode is over.
        outcomes: What came of earlier actions in the last `step`, by agent.
    """

    def __init__(self, env: Any, max_steps: int | None = None, show_index: bool = False) -> None:
        self.env, self._max_steps, self._steps = env, max_steps, 0
        self.agents: tuple[str, ...] = tuple(env.possible_agents)
        self._index = {agent: i for i, agent in enumerate(self.agents)} if show_index else None
        self.turns: dict[str, tuple[Any, Any]] = {}
        self.outcomes: dict[str, Outcome] = {}
        self._owed: dict[str, float] = {}  # rewards of agents that have acted and wait for their next turn
        self._seen: dict[str, Any] = {}  # what each agent saw at its last turn
        self.metadata = getattr(env, "metadata", {})
        self.render_mode = getattr(env, "render_mode", None)

    def observation_space(self, agent: str) -> gym.Space:
        """The space of an agent's observations."""
        # RLlib's attribute of that name is a space.
        space_of = getattr(self.env, "get_observation_space", None) or self.env.observation_space
        space: gym.Space = space_of(agent)
        if self._index is None:
            return space
        return gym.spaces.Dict({"agent": gym.spaces.Discrete(len(self._index)), "observation": space})

    def action_space(self, agent: str) -> gym.Space:
        """The space of an agent's actions."""
        space_of = getattr(self.env, "get_action_space", None) or self.env.action_space
        space: gym.Space = space_of(agent)
        return space

    def reset(self, seed: int | None = None) -> None:
        """Begin an episode."""
        self._steps, self._owed, self._seen, self.outcomes = 0, {}, {}, {}
        self._take(self._reset(seed))
        if not self.turns:
            raise ValueError("no agent acts after reset()")

    def _take(self, turns: dict[str, tuple[Any, Any]]) -> None:
        """Set the next turns."""
        self._seen.update({agent: seen for agent, (seen, _) in turns.items()})
        self.turns = {agent: (self._indexed(agent, seen), info) for agent, (seen, info) in turns.items()}

    def _indexed(self, agent: str, seen: Any) -> Any:
        return seen if self._index is None else {"agent": self._index[agent], "observation": seen}

    def step(self, actions: Mapping[str, Any]) -> None:
        """Let the agents of `turns` act."""
        self._owed.update(dict.fromkeys(self.turns, 0.0))
        self.outcomes = {}
        self._take(self._step({agent: actions[agent] for agent in self.turns}))
        self._steps += 1
        if self._steps == self._max_steps:
            for agent in list(self._owed):
                reward, last = self._so_far(agent)
                self._settle(agent, Outcome(reward, truncated=True, observation=last, info={}))
            for agent, (seen, info) in self.turns.items():
                if agent in self.outcomes:
                    self.outcomes[agent] = Outcome(self.outcomes[agent].reward, False, True, seen, info)
            self.turns = {}

    def _settle(self, agent: str, outcome: Outcome) -> None:
        """Note what came of an agent's action, if it has acted."""
        if agent in self._owed:
            outcome.reward += self._owed.pop(agent)
            if outcome.over:
                outcome.observation = self._indexed(agent, outcome.observation)
            self.outcomes[agent] = outcome

    def _so_far(self, agent: str) -> tuple[float, Any]:
        """The further reward of an agent that waits, and what it sees."""
        return 0.0, self._seen[agent]

    @abstractmethod
    def _reset(self, seed: int | None) -> dict[str, tuple[Any, Any]]:
        """Begin an episode; returns the first turns."""

    @abstractmethod
    def _step(self, actions: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
        """Act, `_settle` what is known now, and return the next turns."""

    def render(self) -> Any:
        """A picture, as the environment gives it."""
        return self.env.render()

    def close(self) -> None:
        """Close the environment."""
        self.env.close()


class _AtOnce(AgentsEnv):
    """Agents that act at the same time: PettingZoo's `ParallelEnv` and RLlib's `MultiAgentEnv`."""

    def _reset(self, seed: int | None) -> dict[str, tuple[Any, Any]]:
        observations, infos = self.env.reset(seed=seed)
        return {agent: (seen, infos.get(agent, {})) for agent, seen in observations.items()}

    def _step(self, actions: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
        observations, rewards, terminated, truncated, infos = self.env.step(actions)
        for agent, reward in rewards.items():
            if agent in self._owed:
                self._owed[agent] += take_reward(reward)
        flags = {
            agent: (self._flag(terminated, agent, "terminated"), self._flag(truncated, agent, "truncated"))
            for agent in {**observations, **self._owed}
        }
        turns = {}
        for agent, (ended, cut) in flags.items():
            seen, info = observations.get(agent), infos.get(agent, {})
            if ended or cut:
                last = self._seen.get(agent) if seen is None else seen
                self._settle(agent, Outcome(0.0, ended, cut and not ended, last, info))
            elif seen is not None:
                self._settle(agent, Outcome(0.0, info=info))
                turns[agent] = (seen, info)
        if not turns and self._owed:
            raise ValueError(f"{', '.join(self._owed)} left without being terminated or truncated")
        return turns

    @staticmethod
    def _flag(flags: Mapping[str, Any], agent: str, name: str) -> bool:
        """An agent's flag; RLlib's ``"__all__"`` is one for all agents."""
        return take_flag(flags.get(agent, False), name) or take_flag(flags.get("__all__", False), name)


class _InTurns(AgentsEnv):
    """PettingZoo's AEC environments, read with `last()`: one agent acts at a time."""

    def _reset(self, seed: int | None) -> dict[str, tuple[Any, Any]]:
        self.env.reset(seed=seed)
        return self._next_turn()

    def _step(self, actions: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
        (action,) = actions.values()
        self.env.step(action)
        return self._next_turn()

    def _so_far(self, agent: str) -> tuple[float, Any]:
        return take_reward(self.env._cumulative_rewards[agent]), self.env.observe(agent)

    def _next_turn(self) -> dict[str, tuple[Any, Any]]:
        """Take dead agents off, up to the next agent that acts."""
        while self.env.agents:
            agent = self.env.agent_selection
            seen, reward, terminated, truncated, info = self.env.last()
            ended, cut = take_flag(terminated, "terminated"), take_flag(truncated, "truncated")
            over = ended or cut
            self._settle(agent, Outcome(take_reward(reward), ended, cut and not ended, seen if over else None, info))
            if not over:
                return {agent: (seen, info)}
            self.env.step(None)
        return {}


def agents_env(env: Any, max_steps: int | None = None, show_index: bool = False) -> AgentsEnv | None:
    """The environment as an `AgentsEnv`; None if it is for a single agent."""
    if not hasattr(env, "possible_agents"):
        return None
    return (_InTurns if hasattr(env, "last") else _AtOnce)(env, max_steps, show_index)


def roles_of(env: AgentsEnv) -> dict[str, tuple[str, ...]]:
    """The agents of each role, in the environment's order. A role is named by its agents
    without their numbers, or by its first agent."""
    found: list[tuple[gym.Space, gym.Space, list[str]]] = []
    for agent in env.agents:
        spaces = env.observation_space(agent), env.action_space(agent)
        same = next((names for seen, act, names in found if (seen, act) == spaces), None)
        if same is None:
            found.append((*spaces, [agent]))
        else:
            same.append(agent)
    roles: dict[str, tuple[str, ...]] = {}
    for _, _, names in found:
        stems = {re.sub(r"[_-]?\d+$", "", str(name)) for name in names}
        stem = stems.pop() if len(stems) == 1 else str(names[0])
        roles[str(names[0]) if stem in roles else stem] = tuple(names)
    return roles


def role_agents(spec: EnvSpec, roles: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
    """The agents of a spec's role, or of the only role.

    Raises:
        ValueError: There is no such role, or there are several and the spec names none.
    """
    if spec.role in roles:
        return roles[spec.role]
    if not spec.role and len(roles) == 1:
        return next(iter(roles.values()))
    raise ValueError(f"Environment {spec.id!r} has the roles {', '.join(roles)}; {spec.role!r} is none of these.")


def first_turns(env: AgentsEnv) -> dict[str, tuple[Any, Any]]:
    """The turns after a reset; empty if that fails."""
    try:
        env.reset()
        return env.turns
    except ENV_ERRORS:  # whoever steps it will say so
        return {}
