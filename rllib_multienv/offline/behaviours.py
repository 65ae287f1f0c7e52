"""Behaviours that act while experience is recorded: random actions, a trained agent or a function, each with noise."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gymnasium.spaces import Box, Discrete

from rllib_multienv.agent import MultiEnvAgent
from rllib_multienv.checkpoints import check_complete
from rllib_multienv.envs.copies import VectorStep
from rllib_multienv.envs.errors import describe
from rllib_multienv.envs.previous import PreviousInputs
from rllib_multienv.offline.formats.arrays import find_function
from rllib_multienv.spaces.space_spec import SpaceSpec
from rllib_multienv.spec import EnvSpec

#: B observations to B actions in the environment's units. Observations are arrays ``[B, ...]`` of a Box or Discrete
#: space, and of any other the parts by path (`SpaceSpec.unpack`).
Policy = Callable[[Any], Any]
#: The same of raw observations ``[B, ...]``, with a source of randomness.
Act = Callable[[np.ndarray, np.random.Generator], Any]
#: Is told of each step and of its actions ``[B, ...]``.
Follow = Callable[[Any, VectorStep], None]

RANDOM = "random"


@dataclass(frozen=True, kw_only=True)
class Behaviour:
    """One way to act, and its share of a recording.

    Attributes:
        policy: ``"random"`` (uniform between the bounds, among the actions that a mask allows), a function of B
            observations that returns B actions in the environment's units (see `Policy`), or its name,
            ``"module:function"``.
        checkpoint: Instead of ``policy``, a trained agent, or the folder of its checkpoint.
        share: Of the environment steps; shares need not sum to 1.
        noise: Discrete actions: the share that are replaced by random ones. Continuous actions: the standard deviation
            of Gaussian noise in halves of the range between the bounds; results outside the bounds are clipped. Actions
            of several parts: the share that are replaced.
        explore: Draw an agent's actions from its distribution (the default) or take the mode.

    Raises:
        ValueError: A value is not allowed.
    """

    policy: str | Policy | None = None
    checkpoint: str | Path | MultiEnvAgent | None = None
    share: float = 1.0
    noise: float = 0.0
    explore: bool | None = None

    def __post_init__(self) -> None:
        """Check all fields."""
        if (self.policy is None) == (self.checkpoint is None):
            raise ValueError(f"give either 'policy' ({RANDOM!r} or 'module:function') or 'checkpoint'.")
        if not (callable(self.policy) or isinstance(self.policy or self.checkpoint, str | Path | MultiEnvAgent)):
            key = "policy" if self.checkpoint is None else "checkpoint"
            raise ValueError(f"{key}={getattr(self, key)!r}: must be a name.")
        if not (_is_number(self.share) and self.share > 0):
            raise ValueError(f"share={self.share!r}: must be a number above 0.")
        if not (_is_number(self.noise) and self.noise >= 0):
            raise ValueError(f"noise={self.noise!r}: must be a number, 0 or more.")
        if self.policy == RANDOM and self.noise:
            raise ValueError("'noise' disturbs a policy or an agent; random actions have none.")
        if self.explore is not None and self.checkpoint is None:
            raise ValueError("'explore' is for an agent from a 'checkpoint'.")
        if not isinstance(self.explore, bool | None):
            raise ValueError(f"explore={self.explore!r}: must be true or false.")

    @property
    def name(self) -> str:
        """For tables, messages and the metadata of the data set."""
        if callable(self.policy):
            return getattr(self.policy, "__name__", "policy")
        return "agent" if isinstance(self.checkpoint, MultiEnvAgent) else str(self.policy or self.checkpoint)

    def settings(self) -> dict[str, Any]:
        """The fields that matter, JSON-able."""
        if self.policy == RANDOM:
            return {"policy": RANDOM, "share": float(self.share)}
        common = {"share": float(self.share), "noise": float(self.noise)}
        if self.checkpoint is None:
            return {"policy": self.name, **common}
        return {"checkpoint": self.name, **common, "explore": self.explore is not False}

    def check(self) -> None:
        """Check that the function or the checkpoint exists.

        Raises:
            ValueError: It does not; names the nearest functions.
        """
        if isinstance(self.checkpoint, str | Path):
            try:
                check_complete(self.checkpoint)
            except FileNotFoundError as error:
                raise ValueError(str(error)) from error
        elif isinstance(self.policy, str) and self.policy != RANDOM:
            find_function(self.policy, "Policy")

    def actor(self, env: EnvSpec, spaces: SpaceSpec) -> tuple[Act, Follow]:
        """The function that acts in ``env``, whose spaces are ``spaces``, and one that is told of each step.

        The first takes raw observations ``[B, ...]`` and a random generator, and returns B actions within the bounds in
        use. Real numbers are rounded to float32, which data sets store.

        Raises:
            ValueError: There is no such function or checkpoint, or the agent cannot act in this environment. Later: the
                function raised, or returned no actions of this environment.
        """
        is_share = not isinstance(spaces.action_space, Box)
        if is_share and self.noise > 1:
            raise ValueError(
                f"Behaviour {self.name!r}: noise={self.noise!r}: environment {spaces.env_id!r} has discrete actions, "
                "where it is the share of random ones, 0 to 1."
            )
        act, follow = self._undisturbed(env, spaces)
        half_range = (np.asarray(spaces.action_high) - np.asarray(spaces.action_low)) / 2
        if isinstance(spaces.action_space, Box):
            half_range = half_range.reshape(spaces.action_space.shape)

        def disturbed(observations: np.ndarray, generator: np.random.Generator) -> Any:
            actions = _env_actions(act(observations, generator), spaces, len(observations), self.name)
            if not self.noise:
                return actions
            if is_share:
                replaced = generator.random(len(actions)) < self.noise
                others = _random_actions(spaces, observations, generator)
                mixed = [other if new else own for new, other, own in zip(replaced, others, actions, strict=True)]
                return np.stack(mixed) if isinstance(actions, np.ndarray) else mixed
            actions = actions + self.noise * half_range * generator.standard_normal(actions.shape)
            return _env_actions(actions, spaces, len(observations), self.name)

        return disturbed, follow

    def _undisturbed(self, env: EnvSpec, spaces: SpaceSpec) -> tuple[Act, Follow]:
        if self.policy == RANDOM:
            return lambda observations, generator: _random_actions(spaces, observations, generator), _ignore
        if self.policy is not None:
            policy = find_function(self.policy, "Policy") if isinstance(self.policy, str) else self.policy

            def act(observations: np.ndarray, generator: np.random.Generator) -> Any:
                try:
                    return policy(observations if spaces.reader.is_plain else spaces.unpack(observations))
                except Exception as error:
                    raise ValueError(
                        f"Policy {self.name!r} failed on observations of shape {observations.shape} of environment "
                        f"{spaces.env_id!r}: {describe(error)}"
                    ) from error

            return act, _ignore
        assert self.checkpoint is not None
        agent = self.checkpoint
        if not isinstance(agent, MultiEnvAgent):
            agent = MultiEnvAgent.from_checkpoint(agent)
        acting = _AgentActing(agent, agent.add_env(env), explore=self.explore is not False)
        return acting.act, acting.follow


class _AgentActing:
    """An agent in the copies of an environment, with what it remembers of each."""

    def __init__(self, agent: MultiEnvAgent, env_id: str, *, explore: bool) -> None:
        self._agent, self._env_id, self._explore = agent, env_id, explore
        self._spaces = agent.space_specs[env_id]
        self._state: torch.Tensor | None = None
        self._previous: PreviousInputs | None = None

    def act(self, observations: np.ndarray, generator: np.random.Generator) -> Any:
        """B actions for raw observations ``[B, ...]``."""
        draws = None
        if self._explore:
            draws = torch.Generator(device=self._agent.device).manual_seed(int(generator.integers(2**62)))
        if self._spaces.inputs:
            self._previous = self._previous or PreviousInputs(self._spaces, len(observations))
            observations = self._previous.added(observations)
        actions, self._state = self._agent.act_on_raw(self._env_id, observations, self._explore, draws, self._state)
        return actions

    def follow(self, actions: Any, step: VectorStep) -> None:
        """Follow a step with these actions ``[B, ...]``."""
        self._state = self._agent.begun(self._state, step.terminated | step.truncated | step.is_reset)
        if self._previous is not None:
            self._previous.act(actions)
            self._previous.follow(step)


def _ignore(actions: Any, step: VectorStep) -> None:
    """A behaviour that remembers nothing."""


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _random_actions(spaces: SpaceSpec, observations: np.ndarray, generator: np.random.Generator) -> Any:
    """B uniformly random actions between the bounds in use, among those that the masks in raw observations allow."""
    count, allowed = len(observations), spaces.reader.actions_allowed(observations)
    if allowed is None and isinstance(spaces.action_space, Discrete):
        return spaces.action_to_env(generator.integers(spaces.action_size, size=count))
    if not isinstance(spaces.action_space, Box):
        return spaces.action_to_env(spaces.writer.random_rows(count, generator, allowed))
    low, high = np.asarray(spaces.action_low), np.asarray(spaces.action_high)
    actions: np.ndarray
    if np.issubdtype(spaces.action_space.dtype, np.integer):
        actions = generator.integers(low.astype(np.int64), high.astype(np.int64), size=(count, len(low)), endpoint=True)
    else:
        actions = generator.uniform(low, high, size=(count, len(low)))
    return actions.reshape(count, *spaces.action_space.shape)


def _env_actions(actions: Any, spaces: SpaceSpec, count: int, name: str) -> Any:
    """Check a behaviour's actions, and clip them to the environment's bounds."""
    space = spaces.action_space
    if not isinstance(space, Box | Discrete):
        outside = [action for action in actions if not space.contains(action)]
        if len(actions) != count or outside:
            given = f"the action {outside[0]!r}" if outside else f"{len(actions)} actions for {count} observations"
            raise ValueError(f"Behaviour {name!r} gave {given}; environment {spaces.env_id!r} takes {space}.")
        return actions
    actions = np.asarray(actions)
    shape = (count, *(space.shape or ()))
    if actions.shape != shape:
        raise ValueError(
            f"Behaviour {name!r} gave actions of shape {actions.shape} for {count} observations; environment "
            f"{spaces.env_id!r} takes {shape}."
        )
    if spaces.discrete:
        first = int(spaces.action_space.start)  # type: ignore[attr-defined]
        allowed = (actions == np.rint(actions)) & (actions >= first) & (actions < first + spaces.action_size)
        if not allowed.all():
            raise ValueError(
                f"Behaviour {name!r} gave the action {actions[int(np.argmin(allowed))]}; environment "
                f"{spaces.env_id!r} takes {first} to {first + spaces.action_size - 1}."
            )
        return actions.astype(np.int64)
    if not np.isfinite(actions).all():
        raise ValueError(f"Behaviour {name!r} gave an action that is not finite.")
    # Bounds rounded inwards: 0.2 is a little more as float32 than as float64.
    low, high = (np.asarray(side, np.float64).reshape(shape[1:]) for side in (spaces.action_low, spaces.action_high))
    low32, high32 = low.astype(np.float32), high.astype(np.float32)
    low32 = np.where(low32 < low, np.nextafter(low32, np.float32(np.inf)), low32)
    high32 = np.where(high32 > high, np.nextafter(high32, np.float32(-np.inf)), high32)
    clipped = np.clip(actions.astype(np.float32), low32, high32)
    is_integer = np.issubdtype(space.dtype, np.integer)
    return np.rint(clipped).astype(space.dtype) if is_integer else clipped
