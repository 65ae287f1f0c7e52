"""AEEnv: many environments, games and data sets as one stream, without Ray.

One environment is shown at a time. After each step ``next_env_fn`` chooses the one that is shown next; the others wait
where they are.
"""

from __future__ import annotations

import importlib
import importlib.util
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import gymnasium as gym
import numpy as np

from rllib_multienv.envs.dataset import TARGET, DatasetEnv
from rllib_multienv.envs.make import make_env
from rllib_multienv.experience.registry import registered_envs, select
from rllib_multienv.experience.schedule import AGENT, Step
from rllib_multienv.spec import EnvSpec

__all__ = ["AEEnv", "Step", "until_done"]

Steps = dict[str, Step]
NextEnv = Callable[[Steps, Any, Sequence[Any]], Any]
EnvTransition = Callable[[Any, Any], None]


def until_done(last_step_data: Steps, curr_env: Any, available_envs: Sequence[Any]) -> Any:
    """The ``next_env_fn`` where none is given: the same environment until all its agents are done, then the next."""
    return None if all(last_step_data[agent].done for agent in curr_env.agent_names) else curr_env


class AEEnv:
    """Environments, games and data sets as one environment.

    ``reset()`` and ``step(actions)`` return a `Step` for each agent. Its observation is what the agent acts on next;
    its reward and ``done`` are those of the action that was taken, also where ``next_env_fn`` has chosen another
    environment since. Then ``information["last"]`` has the last step in the environment that was left. A labelled data
    set shows pairs (X, Y), and has no reward; with ``reveal="next"`` it is an environment as any other. A single agent
    is called ``"agent"``.

    Turn-based games are parallel: all agents observe at each step, the action of the agent whose turn it is counts, and
    its information has ``active=True``.

    Attributes may be changed between steps; they count from the next one on.

    Args:
        envs: Environments: `DatasetEnv`, Gymnasium's, PettingZoo's (parallel or turn-based), `EnvSpec` or ids. None:
            all registered environments and data sets that are installed; they are made when they are first shown.
        include: Patterns of tags (`registry`), of which one must match.
        exclude: Patterns of tags, of which none may match.
        next_env_fn: ``next_env_fn(last_step_data, curr_env, available_envs)`` returns the environment that is shown
            next, one of ``available_envs`` (None: the one after the present one). These are the objects that were
            given, each with an attribute ``agent_names``. Default: `until_done`.
        env_transition_fn: ``env_transition_fn(old_env, new_env)`` is called before another environment is shown. The
            networks of this package need no change then.
        seed: Of the first reset of each environment.

    Attributes:
        env: The environment that is shown.
        agent_names: Its agents.
    """

    def __init__(
        self,
        envs: Iterable[Any] | None = None,
        include: Iterable[str] = (),
        exclude: Iterable[str] = (),
        next_env_fn: NextEnv | None = None,
        env_transition_fn: EnvTransition | None = None,
        *,
        seed: int | None = None,
    ) -> None:
        self.include, self.exclude = list(include), list(exclude)
        self.next_env_fn, self.env_transition_fn = next_env_fn, env_transition_fn
        given = registered_envs() if envs is None else list(envs)
        self._is_given = envs is not None
        self._members = [_Member(env, None if seed is None else seed + number) for number, env in enumerate(given)]
        if not self._members:
            raise ValueError("AEEnv has no environment: envs is empty.")
        self._current: _Member | None = None
        self._available()

    # What is shown

    @property
    def env(self) -> Any:
        """The environment that is shown."""
        return self._shown.env

    @property
    def agent_names(self) -> tuple[str, ...]:
        """The agents of the environment that is shown."""
        return self._shown.stream.agent_names

    agents = agent_names

    @property
    def is_supervised(self) -> bool:
        """Whether a labelled data set is shown."""
        return isinstance(self._shown.stream, _Rows) and self.env.is_supervised

    @property
    def available_envs(self) -> Sequence[Any]:
        """The environments that the tags select."""
        return _Environments(self._available())

    @property
    def _shown(self) -> _Member:
        if self._current is None:
            self._current = self._available()[0]
        return self._current

    def _available(self) -> list[_Member]:
        if not self.include and not self.exclude:
            return self._members
        # By position, because two environments may have the same id.
        specs = [replace(m.spec, id=str(n), tags=m.tags) for n, m in enumerate(self._members)]
        return [self._members[int(spec.id)] for spec in select(specs, self.include, self.exclude)]

    def reset(self) -> Steps:
        """Begin again in the environment that is shown, or in the first one."""
        if self._shown not in self._available():
            self._current = self._available()[0]
        return self._shown.stream.reset()

    def step(self, actions: Mapping[str, Any]) -> Steps:
        """Act in the environment that is shown, and show the next one.

        Args:
            actions: By agent; of a data set, a prediction for each row that is shown (it may be missing).
        """
        old = self._shown
        taken = old.stream.step(actions)
        new = self._next(taken)
        if new is old and not old.stream.is_done:
            return taken
        if new is not old and self.env_transition_fn is not None:
            self.env_transition_fn(old.env, new.env)
        self._current = new
        shown = new.stream.shown() if not new.stream.is_done else new.stream.reset()
        return {**taken, **{agent: _after(taken.get(agent), step) for agent, step in shown.items()}}

    def _next(self, taken: Steps) -> _Member:
        members, old = self._available(), self._shown
        chosen = (self.next_env_fn or until_done)(taken, old.env, _Environments(members))
        if chosen is None:
            return members[(members.index(old) + 1) % len(members)] if old in members else members[0]
        for member in members:
            if member.is_made and member.env is chosen:
                return member
        if chosen is old.env:  # the tags do not select it any more
            return members[0]
        raise ValueError(f"next_env_fn returned {chosen!r}, which is not one of available_envs.")

    def close(self) -> None:
        """Close all environments that were made."""
        for member in self._members:
            if member.is_made:
                member.env.close()

    def training_settings(self) -> dict[str, Any]:
        """Settings of ``environment(...)`` for training on the same environments, tags and ``next_env_fn``."""
        specs = [member.spec for member in self._members] if self._is_given else []
        if not specs:
            specs = list(registered_envs(self.include, self.exclude))
        return {
            "envs": specs,
            "include": tuple(self.include),
            "exclude": tuple(self.exclude),
            "schedule": self.next_env_fn,
        }


def _after(taken: Step | None, shown: Step) -> Step:
    """What an agent is shown next, with the outcome of its last action."""
    if taken is None:
        return shown
    return Step(shown.observation, taken.reward, taken.done, {**shown.information, "last": taken})


class _Environments(Sequence[Any]):
    """Environments, made when they are looked at."""

    def __init__(self, members: Sequence[_Member]) -> None:
        self._members = members

    def __len__(self) -> int:
        return len(self._members)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [member.env for member in self._members[index]]
        return self._members[index].env


class _Member:
    """One environment of an AEEnv, made when it is first needed."""

    def __init__(self, given: Any, seed: int | None) -> None:
        self._given, self._seed = given, seed
        self._stream: _Stream | None = None
        if not isinstance(given, str | EnvSpec | Mapping):
            self.stream  # noqa: B018 (it is made already)

    @property
    def is_made(self) -> bool:
        return self._stream is not None

    @property
    def stream(self) -> _Stream:
        if self._stream is None:
            env = self._given
            if isinstance(env, str | EnvSpec | Mapping):
                env = _made(EnvSpec.of(env))
            self._stream = _stream(env, self._seed)
            env.agent_names = self._stream.agent_names
        return self._stream

    @property
    def env(self) -> Any:
        return self.stream.env

    @property
    def spec(self) -> EnvSpec:
        if _is_pettingzoo(self._given):
            module = type(self._given.unwrapped).__module__.split(".")
            name = self._given.metadata.get("name", "")
            make = ".".join([*module[:2], name])
            if module[0] == "pettingzoo" and importlib.util.find_spec(make) is not None:
                return EnvSpec(name, make=make)
            return EnvSpec(name or "game", make=lambda: self._given)
        return EnvSpec.of(self._given) if not isinstance(self._given, DatasetEnv) else _dataset_spec(self._given)

    @property
    def tags(self) -> tuple[str, ...]:
        own = getattr(self._given, "tags", None)
        return tuple(own) if own else self.spec.tags


def _dataset_spec(env: DatasetEnv) -> EnvSpec:
    return env.env_spec() if env.has_targets else EnvSpec(env.name, make=DatasetEnv)


def _is_pettingzoo(env: Any) -> bool:
    return hasattr(env, "possible_agents")


def _made(spec: EnvSpec) -> Any:
    make = str(spec.make)
    if make.startswith("pettingzoo."):
        return importlib.import_module(make).env(**spec.kwargs)
    env = make_env(spec)
    # A data set itself, without the wrappers of `gym.make`.
    return env.unwrapped if isinstance(env.unwrapped, DatasetEnv) else env


def _stream(env: Any, seed: int | None) -> _Stream:
    if isinstance(env, DatasetEnv) and env.reveal == "never":
        return _Rows(env, seed)
    if isinstance(env, gym.Env):
        return _SingleAgent(env, seed)
    if _is_pettingzoo(env):
        return (_Turns if hasattr(env, "agent_iter") else _Parallel)(env, seed)
    raise TypeError(
        f"{env!r} is neither a DatasetEnv, nor an environment of Gymnasium or PettingZoo, nor an id or an EnvSpec."
    )


class _Stream(ABC):
    """An environment as a stream of steps of its agents."""

    def __init__(self, env: Any, seed: int | None) -> None:
        self.env, self._seed = env, seed
        self._last: Steps | None = None

    @property
    @abstractmethod
    def agent_names(self) -> tuple[str, ...]:
        """All agents."""

    @abstractmethod
    def _reset(self, seed: int | None) -> Steps: ...

    @abstractmethod
    def _step(self, actions: Mapping[str, Any]) -> Steps: ...

    @property
    def is_done(self) -> bool:
        """Whether all agents are done, or nothing was shown yet."""
        return self._last is None or all(step.done for step in self._last.values())

    def shown(self) -> Steps:
        """Where it stands, without the outcome of the last action."""
        assert self._last is not None
        return {agent: step._replace(reward=None) for agent, step in self._last.items()}

    def reset(self) -> Steps:
        """Begin again."""
        seed, self._seed = self._seed, None
        self._last = self._reset(seed)
        return self._last

    def step(self, actions: Mapping[str, Any]) -> Steps:
        """Act."""
        if self._last is None:
            raise RuntimeError("AEEnv.step() before reset().")
        self._last = self._step(actions)
        return self._last


class _SingleAgent(_Stream):
    """A Gymnasium environment."""

    agent_names = (AGENT,)

    def _reset(self, seed: int | None) -> Steps:
        observation, info = self.env.reset(seed=seed)
        return {AGENT: Step(observation, None, False, info)}

    def _step(self, actions: Mapping[str, Any]) -> Steps:
        observation, reward, terminated, truncated, info = self.env.step(actions[AGENT])
        return {AGENT: Step(observation, reward, terminated or truncated, {**info, "terminated": terminated})}


class _Rows(_Stream):
    """A data set, ``batch_size`` rows at a time."""

    agent_names = (AGENT,)
    env: DatasetEnv

    def _reset(self, seed: int | None) -> Steps:
        self.env.reset(seed=seed)
        self.env.position = 0
        self._next_rows()
        return {AGENT: self._show(None, False)}

    def _step(self, actions: Mapping[str, Any]) -> Steps:
        rows, action, information = self._rows, actions.get(AGENT), {}
        reward: Any = None
        if self.env.has_targets:
            information[TARGET] = self.env.targets(rows)
            if action is not None:
                predictions = np.asarray(action).reshape(len(rows), *np.shape(self.env.targets(rows))[1:])
                information["score"] = float(self.env.scores(rows, predictions).mean())
                if not self.env.is_supervised:
                    rewards = self.env.rewards(rows, predictions)
                    reward = rewards if self.env.batch_size else float(rewards[0])
        done = self.env.is_done
        if not done:
            self._next_rows()
        step = self._show(reward, done)
        return {AGENT: step._replace(information={**step.information, **information})}

    def _next_rows(self) -> None:
        self._rows = self.env.next_batch(self.env.batch_size or 1)

    def _show(self, reward: Any, done: bool) -> Step:
        rows = self._rows if self.env.batch_size else self._rows[0]
        x = self.env.observations(rows)
        observation = (x, self.env.targets(rows)) if self.env.is_supervised else x
        return Step(observation, reward, done, {"rows": rows, "epoch": self.env.epoch})


class _Parallel(_Stream):
    """A parallel environment of PettingZoo."""

    @property
    def agent_names(self) -> tuple[str, ...]:
        return tuple(self.env.possible_agents)

    def _reset(self, seed: int | None) -> Steps:
        observations, infos = self.env.reset(seed=seed)
        return {agent: Step(observations.get(agent), None, False, infos.get(agent, {})) for agent in self.agent_names}

    def _step(self, actions: Mapping[str, Any]) -> Steps:
        assert self._last is not None
        acting = {agent: actions[agent] for agent in self.env.agents}
        observations, rewards, terminated, truncated, infos = self.env.step(acting)
        steps = dict(self._last)  # agents that are done stay as they were
        for agent in acting:
            done = bool(terminated.get(agent, True) or truncated.get(agent, False))
            steps[agent] = Step(observations.get(agent), rewards.get(agent), done, infos.get(agent, {}))
        return steps


class _Turns(_Stream):
    """A turn-based environment of PettingZoo as parallel: one agent's action counts, and all observe."""

    @property
    def agent_names(self) -> tuple[str, ...]:
        return tuple(self.env.possible_agents)

    def _reset(self, seed: int | None) -> Steps:
        self.env.reset(seed=seed)
        return self._read(first=True)

    def _step(self, actions: Mapping[str, Any]) -> Steps:
        env = self.env
        over = env.terminations[env.agent_selection] or env.truncations[env.agent_selection]
        env.step(None if over else actions[env.agent_selection])
        steps = self._read()
        while env.agents and (env.terminations[env.agent_selection] or env.truncations[env.agent_selection]):
            env.step(None)  # PettingZoo wants every agent to be told that it is over
        return steps

    def _read(self, first: bool = False) -> Steps:
        env, steps = self.env, dict(self._last or {})
        for agent in env.agents:
            done = bool(env.terminations[agent] or env.truncations[agent])
            info = {**env.infos[agent], "active": agent == env.agent_selection and not done}
            steps[agent] = Step(env.observe(agent), None if first else env.rewards[agent], done, info)
        return steps
