"""Small multi-agent environments with known trajectories."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from gymnasium import spaces
from pettingzoo import AECEnv, ParallelEnv


class Relay(ParallelEnv):
    """Agents a, b and c. Observations are ``[number of the agent, time]``, rewards ``10 * number + time`` of the step.

    b dies at time 2, c joins at time 1; at time 4 a terminates and c is truncated at once.
    """

    metadata: ClassVar = {"name": "relay"}
    possible_agents: ClassVar = ["a", "b", "c"]

    def __init__(self) -> None:
        self.agents: list[str] = []
        self.seen_actions: list[dict[str, Any]] = []

    def observation_space(self, agent: str) -> spaces.Box:
        return spaces.Box(-100.0, 100.0, (2,), np.float32)

    def action_space(self, agent: str) -> spaces.Discrete:
        return spaces.Discrete(2)

    def _obs(self, agents: list[str]) -> dict[str, Any]:
        return {a: np.array([self.possible_agents.index(a), self.time], np.float32) for a in agents}

    def reset(self, seed: int | None = None, options: Any = None) -> tuple[dict[str, Any], dict[str, Any]]:
        self.time, self.agents = 0, ["a", "b"]
        return self._obs(self.agents), {a: {"time": 0} for a in self.agents}

    def step(self, actions: dict[str, Any]) -> tuple[dict[str, Any], ...]:
        assert set(actions) == set(self.agents)
        self.seen_actions.append(dict(actions))
        acted = list(self.agents)
        rewards = {a: 10.0 * self.possible_agents.index(a) + self.time for a in acted}
        self.time += 1
        present = acted + (["c"] if self.time == 1 else [])
        terminated = {a: (a == "b" and self.time == 2) or (a == "a" and self.time == 4) for a in present}
        truncated = {a: a == "c" and self.time == 4 for a in present}
        self.agents = [a for a in present if not (terminated[a] or truncated[a])]
        return self._obs(present), rewards, terminated, truncated, {a: {"time": self.time} for a in present}


class Countdown(AECEnv):
    """x, y and z act in turns, z before y in the second round. Each action gives 1 to its agent and -1 to the others.

    Observations are ``[number of the agent, actions so far]``. y is out after its second action, and the episode ends
    for all with the seventh.
    """

    metadata: ClassVar = {"name": "countdown"}
    ORDER: ClassVar = ["x", "y", "z", "x", "z", "y", "x"]

    def __init__(self) -> None:
        super().__init__()
        self.possible_agents = ["x", "y", "z"]

    def observation_space(self, agent: str) -> spaces.Box:
        return spaces.Box(-100.0, 100.0, (2,), np.float32)

    def action_space(self, agent: str) -> spaces.Discrete:
        return spaces.Discrete(3)

    def observe(self, agent: str) -> np.ndarray:
        return np.array([self.possible_agents.index(agent), self.count], np.float32)

    def reset(self, seed: int | None = None, options: Any = None) -> None:
        self.agents = self.possible_agents[:]
        self.count = 0
        self.rewards = dict.fromkeys(self.agents, 0.0)
        self._cumulative_rewards = dict.fromkeys(self.agents, 0.0)
        self.terminations = dict.fromkeys(self.agents, False)
        self.truncations = dict.fromkeys(self.agents, False)
        self.infos = {a: {} for a in self.agents}
        self.agent_selection = self.ORDER[0]

    def step(self, action: Any) -> None:
        if self.terminations[self.agent_selection] or self.truncations[self.agent_selection]:
            self._was_dead_step(action)
            return
        agent = self.agent_selection
        assert agent == self.ORDER[self.count]
        self._cumulative_rewards[agent] = 0.0
        self.rewards = {a: 1.0 if a == agent else -1.0 for a in self.agents}
        self.count += 1
        if self.count == 6:
            self.terminations["y"] = True
        if self.count == 7:
            self.terminations["x"] = True
            self.truncations["z"] = True
        else:
            self.agent_selection = self.ORDER[self.count]
        self._accumulate_rewards()
        self._deads_step_first()


class HideAndSeek(ParallelEnv):
    """Two hiders (Box, Discrete) and a seeker (Discrete, Box); three steps, rewards 1 and -2 a step."""

    metadata: ClassVar = {"name": "hide"}
    possible_agents: ClassVar = ["hider_0", "seeker", "hider_1"]

    def observation_space(self, agent: str) -> spaces.Space:
        return spaces.Discrete(4) if agent == "seeker" else spaces.Box(-1.0, 9.0, (3,), np.float32)

    def action_space(self, agent: str) -> spaces.Space:
        return spaces.Box(-1.0, 1.0, (2,), np.float32) if agent == "seeker" else spaces.Discrete(3)

    def _obs(self) -> dict[str, Any]:
        return {
            a: self.time if a == "seeker" else np.array([i, self.time, 0], np.float32)
            for i, a in enumerate(self.possible_agents)
        }

    def reset(self, seed: int | None = None, options: Any = None) -> tuple[dict[str, Any], dict[str, Any]]:
        self.time, self.agents = 0, list(self.possible_agents)
        return self._obs(), {a: {} for a in self.agents}

    def step(self, actions: dict[str, Any]) -> tuple[dict[str, Any], ...]:
        assert np.shape(actions["seeker"]) == (2,) and actions["hider_1"] in range(3)
        self.time += 1
        over, agents = self.time == 3, self.agents
        if over:
            self.agents = []
        rewards = {a: -2.0 if a == "seeker" else 1.0 for a in agents}
        return self._obs(), rewards, dict.fromkeys(agents, over), dict.fromkeys(agents, False), {a: {} for a in agents}
