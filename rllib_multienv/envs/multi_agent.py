"""Copies of a multi-agent environment as rows of the one policy.

Agents with equal spaces form a *role*. Each agent of each copy is a row of its role. A row's step is one action of its
agent: the reward is what the agent received from that action to its next turn, and the next observation is what it sees
there, or the last one if its part is over. Agents that wait, are dead or have not come yet have no step.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from rllib_multienv.envs import snapshot
from rllib_multienv.envs.agents import AgentsEnv, Outcome, role_agents, roles_of
from rllib_multienv.envs.copies import VectorStep
from rllib_multienv.envs.errors import ENV_ERRORS, EnvFailure, describe
from rllib_multienv.envs.make import close_env, make_env
from rllib_multienv.spec import EnvSpec, SpaceSpec

__all__ = ["MultiAgentCopies", "RoleCopies"]


class MultiAgentCopies:
    """All copies of a multi-agent environment. Its roles are stepped together, each through a `RoleCopies`.

    Args:
        spec: The environment.
        first: The first copy.
        num_copies: Number of copies.

    Attributes:
        envs: The copies.
        roles: Agents of each role.
        restarted: bool ``[copies]``, the copies that began an episode in the last step.

    Raises:
        EnvFailure: A copy cannot be made, or has other agents than the first.
    """

    def __init__(self, spec: EnvSpec, first: AgentsEnv, num_copies: int) -> None:
        self.spec, self.envs = spec, [first]
        self.roles = roles_of(first)
        self.restarted = np.zeros(num_copies, dtype=bool)
        try:
            for b in range(1, num_copies):
                self.envs.append(make_env(spec))
                if roles_of(self.envs[b]) != self.roles:
                    reason = f"it has the roles {roles_of(self.envs[b])}, but copy 0 has {self.roles}"
                    raise EnvFailure(spec.id, "make", reason, b)
        except BaseException:
            self.close()
            raise
        self._place = {agent: (role, i) for role, agents in self.roles.items() for i, agent in enumerate(agents)}
        self._views: dict[str, RoleCopies] = {}
        self._sent: dict[str, Sequence[Any]] = {}
        self._steps: dict[str, VectorStep] = {}
        self._begun: dict[str, tuple[np.ndarray, list[Any]]] = {}

    def role(self, spec: EnvSpec, mask_in_info: bool) -> RoleCopies:
        """The rows of a role."""
        agents = role_agents(spec, self.roles)
        name = self._place[agents[0]][0]
        env = self.envs[0]
        spaces = spec.space_spec(
            env.observation_space(agents[0]), env.action_space(agents[0]), mask_in_info=mask_in_info, agents=agents
        )
        self._views[name] = RoleCopies(self, name, spaces)
        return self._views[name]

    def reset(self, role: str, seeds: Sequence[int | None]) -> tuple[np.ndarray, list[Any]]:
        """First observations ``[R, ...]`` and infos of a role; the first role that asks resets all copies."""
        if role not in self._begun:
            self._begun = {}
            for view in self._views.values():
                view.begin()
            for b, env in enumerate(self.envs):
                self._reset_copy(b, env, seeds[b])
            self._begun = {name: (view.obs.copy(), list(view.infos)) for name, view in self._views.items()}
            self._sent, self._steps = {}, {}
        return self._begun.pop(role)

    def _reset_copy(self, b: int, env: AgentsEnv, seed: int | None = None) -> None:
        try:
            env.reset(seed)
            self._show(b, env)
        except ENV_ERRORS as error:
            raise EnvFailure(self.spec.id, "reset", describe(error), b) from error

    def _show(self, b: int, env: AgentsEnv) -> None:
        """Give every agent that acts next what it sees."""
        for agent, (seen, info) in env.turns.items():
            role, i = self._place[agent]
            if role in self._views:
                self._views[role].show(b, i, seen, info)

    def send(self, role: str, actions: Sequence[Any]) -> None:
        """The actions ``[R, ...]`` of a role in the next step."""
        self._sent[role] = actions

    def step(self, role: str) -> VectorStep:
        """The step of a role; all copies step when the first role asks, and need the actions of all roles."""
        if role not in self._steps:
            missing = self._views.keys() - self._sent.keys()
            if missing:
                raise RuntimeError(f"Environment {self.spec.id!r}: no actions of {', '.join(sorted(missing))}.")
            for view in self._views.values():
                view.begin()
            self.restarted = np.zeros(len(self.envs), dtype=bool)
            for b, env in enumerate(self.envs):
                self._step_copy(b, env)
            self._steps = {name: view.result() for name, view in self._views.items()}
            self._sent = {}
        return self._steps.pop(role)

    def _step_copy(self, b: int, env: AgentsEnv) -> None:
        actions = {}
        for agent in env.turns:
            role, i = self._place[agent]
            actions[agent] = self._sent[role][self._views[role].row(b, i)]
        try:
            env.step(actions)
            for agent, outcome in env.outcomes.items():
                role, i = self._place[agent]
                self._views[role].settle(b, i, outcome)
            self._show(b, env)
        except ENV_ERRORS as error:
            raise EnvFailure(self.spec.id, "step", describe(error), b) from error
        if not env.turns:
            self.restarted[b] = True
            self._reset_copy(b, env)
            for agent in env.outcomes:
                role, i = self._place[agent]
                self._views[role].restarted(b, i)

    def close(self) -> None:
        """Close all copies."""
        for env in self.envs:
            close_env(self.spec.id, env)


class RoleCopies:
    """The rows of one role: agent i of copy b is row ``b * A + i``.

    Attributes:
        world: All copies.
        space_spec: Spaces of the role.
        num_envs: Rows R, copies times agents of the role.
        obs: ``[R, ...]``, what each agent saw at its last turn.
        acting: bool ``[R]``, the rows that act next.
    """

    def __init__(self, world: MultiAgentCopies, role: str, spaces: SpaceSpec) -> None:
        self.world, self._role, self.space_spec = world, role, spaces
        self.agents = world.roles[role]
        self.num_envs = len(world.envs) * len(self.agents)
        first = world.envs[0]
        self.metadata, self.render_mode = first.metadata, first.render_mode
        self.single_observation_space = first.observation_space(self.agents[0])
        self.single_action_space = first.action_space(self.agents[0])
        self.obs = spaces.reader.empty(self.num_envs)
        self.obs[...] = 0  # of agents that have not come yet
        self.infos: list[Any] = [{} for _ in range(self.num_envs)]
        self.acting = np.zeros(self.num_envs, dtype=bool)
        self.begin()

    def row(self, b: int, i: int) -> int:
        """The row of agent i of copy b."""
        return b * len(self.agents) + i

    def begin(self) -> None:
        """Begin to collect a step."""
        rows = self.num_envs
        self.obs = self.obs.copy()
        self.acting = np.zeros(rows, dtype=bool)
        self._rewards = np.zeros(rows)
        self._flags = np.zeros((2, rows), dtype=bool)
        self._waits = np.ones(rows, dtype=bool)
        self._final: dict[int, np.ndarray] = {}
        self._reset_infos: dict[int, Any] = {}
        self._step_infos: list[Any] = [{} for _ in range(rows)]

    def show(self, b: int, i: int, seen: Any, info: Any) -> None:
        """An agent acts next."""
        row = self.row(b, i)
        self.space_spec.reader.read(self.obs, row, seen, info)
        self.infos[row] = info
        self.acting[row] = True

    def settle(self, b: int, i: int, outcome: Outcome) -> None:
        """An agent's step is complete."""
        row = self.row(b, i)
        self._rewards[row] = outcome.reward
        self._flags[:, row] = outcome.terminated, outcome.truncated
        self._waits[row] = False
        self._step_infos[row] = outcome.info
        if outcome.over:
            last = self.space_spec.reader.empty(1)
            self.space_spec.reader.read(last, 0, outcome.observation, outcome.info, ended=True)
            self._final[row] = last[0]

    def restarted(self, b: int, i: int) -> None:
        """An agent whose step ended the episode is in a new one."""
        row = self.row(b, i)
        self._reset_infos[row] = self.infos[row]

    def result(self) -> VectorStep:
        """The step."""
        return VectorStep(
            obs=self.obs,
            rewards=self._rewards,
            terminated=self._flags[0],
            truncated=self._flags[1],
            final_obs=self._final,
            is_reset=self._waits,
            infos=self._step_infos,
            reset_infos=self._reset_infos,
            acting=self.acting,
        )

    def send(self, actions: Sequence[Any]) -> None:
        """See `MultiAgentCopies.send`."""
        self.world.send(self._role, actions)

    def step_copies(self, actions: Sequence[Any]) -> VectorStep:
        """See `SyncCopies.step_copies`."""
        self.send(actions)
        return self.world.step(self._role)

    def reset_copies(self, seeds: Sequence[int | None]) -> tuple[np.ndarray, list[Any]]:
        """See `SyncCopies.reset_copies`; one seed for each copy."""
        return self.world.reset(self._role, seeds)

    def capture(self) -> list[bytes | None]:
        """See `SyncCopies.capture`."""
        return [snapshot.capture_env(env) for env in self.world.envs]

    def restore(self, states: Sequence[bytes]) -> None:
        """See `SyncCopies.restore`."""
        for env, state in zip(self.world.envs, states, strict=True):
            snapshot.restore_env(env, state)

    def show_all(self, obs: np.ndarray) -> None:
        """Show the agents of restored copies what they see; ``obs`` ``[R, ...]`` is what each saw last."""
        self.obs = obs
        self.begin()
        for b, env in enumerate(self.world.envs):
            for i, agent in enumerate(self.agents):
                if agent in env.turns:
                    self.show(b, i, *env.turns[agent])

    def close(self) -> None:
        """Close all copies, of all roles."""
        self.world.close()
