"""What acts while experience is recorded: random actions, a trained agent, or a function; each with noise if wanted."""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from rllib_multienv.agent import MultiEnvAgent
from rllib_multienv.envs.make import describe
from rllib_multienv.gym_ids import did_you_mean
from rllib_multienv.space_spec import SpaceSpec
from rllib_multienv.spec import EnvSpec

#: Raw observations ``[B, ...]`` and a source of randomness to B actions in the environment's units.
Act = Callable[[np.ndarray, np.random.Generator], np.ndarray]
#: Raw observations ``[B, ...]`` to B actions in the environment's units.
Policy = Callable[[np.ndarray], np.ndarray]

RANDOM = "random"


@dataclass(frozen=True, kw_only=True)
class Behaviour:
    """One way to act in an environment, and how much of a recording is its.

    Attributes:
        name: For tables and for the metadata of the data set.
        share: Of the environment steps; shares need not sum to 1.
        act: Raw observations ``[B, ...]`` as the environment gives them, and a random generator, to B actions as the
            environment takes them.
    """

    name: str
    share: float
    act: Act

    def __post_init__(self) -> None:
        """Check the share."""
        if not (isinstance(self.share, int | float) and math.isfinite(self.share) and self.share > 0):
            raise ValueError(f"Behaviour {self.name!r}: share={self.share!r}: must be a number above 0.")


def random_behaviour(spaces: SpaceSpec, *, share: float = 1.0) -> Behaviour:
    """Uniformly random actions between the bounds in use."""
    return Behaviour(
        name=RANDOM,
        share=share,
        act=lambda observations, generator: random_actions(spaces, len(observations), generator),
    )


def agent_behaviour(
    agent: MultiEnvAgent,
    env: EnvSpec,
    spaces: SpaceSpec,
    *,
    name: str = "agent",
    share: float = 1.0,
    explore: bool = True,
    noise: float = 0.0,
) -> Behaviour:
    """A trained agent.

    Args:
        agent: It, from a checkpoint.
        env: Where it is to act.
        spaces: Of ``env``.
        name: See :class:`Behaviour`.
        share: See :class:`Behaviour`.
        explore: Draw actions from the policy's distribution; otherwise take its mode.
        noise: See :func:`with_noise`.

    Raises:
        ValueError: The agent cannot act in this environment, or the noise is not in its range.
    """
    env_id = agent.add_env(env)

    def act(observations: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        draws = None
        if explore:
            draws = torch.Generator(device=agent.device).manual_seed(int(generator.integers(2**62)))
        return agent.act(env_id, observations, explore=explore, generator=draws)

    return Behaviour(name=name, share=share, act=with_noise(act, spaces, noise, name))


def policy_behaviour(
    policy: str | Policy, spaces: SpaceSpec, *, name: str | None = None, share: float = 1.0, noise: float = 0.0
) -> Behaviour:
    """A function of observations.

    Args:
        policy: Takes raw observations ``[B, ...]`` and returns B actions of the environment; or its name,
            ``"module:function"``.
        spaces: Of the environment.
        name: See :class:`Behaviour`; default: the function's.
        share: See :class:`Behaviour`.
        noise: See :func:`with_noise`.

    Raises:
        ValueError: There is no such function, or the noise is not in its range; later: the function raised.
    """
    function = find_policy(policy) if isinstance(policy, str) else policy
    shown = name or (policy if isinstance(policy, str) else str(getattr(policy, "__name__", "policy")))

    def act(observations: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        try:
            return function(observations)
        except Exception as error:
            raise ValueError(
                f"Policy {shown!r} failed on observations of shape {observations.shape} of environment "
                f"{spaces.env_id!r}: {describe(error)}"
            ) from error

    return Behaviour(name=shown, share=share, act=with_noise(act, spaces, noise, shown))


def find_policy(name: str) -> Policy:
    """The function that ``"module:function"`` names.

    Raises:
        ValueError: There is none; names the nearest ones.
    """
    module_name, _, function_name = name.rpartition(":")
    if not module_name or not function_name:
        raise ValueError(f"Policy {name!r}: a policy is named by 'module:function', or is {RANDOM!r}.")
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise ValueError(
            f"Policy {name!r}: cannot import {module_name!r} ({error}). Is the folder on PYTHONPATH?"
        ) from error
    found = getattr(module, function_name, None)
    if not callable(found):
        public = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
        raise ValueError(
            f"Policy {name!r}: module {module_name!r} has no function {function_name!r}."
            f"{did_you_mean(function_name, public)}"
        )
    return found


def random_actions(spaces: SpaceSpec, count: int, generator: np.random.Generator) -> np.ndarray:
    """Uniformly random actions between the bounds in use, ``[count]`` or ``[count, A]``."""
    if spaces.discrete:
        return spaces.action_to_env(generator.integers(spaces.action_size, size=count))
    low, high = np.asarray(spaces.action_low), np.asarray(spaces.action_high)
    if np.issubdtype(spaces.action_space.dtype, np.integer):
        return generator.integers(low.astype(np.int64), high.astype(np.int64), size=(count, len(low)), endpoint=True)
    return generator.uniform(low, high, size=(count, len(low)))


def check_noise(noise: float, name: str, spaces: SpaceSpec | None = None) -> None:
    """Raise a ValueError if ``noise`` is none (of the actions of ``spaces``, where they are known)."""
    if isinstance(noise, bool) or not isinstance(noise, int | float) or not math.isfinite(noise) or noise < 0:
        raise ValueError(f"Behaviour {name!r}: noise={noise!r}: must be a number, 0 or more.")
    if spaces is not None and spaces.discrete and noise > 1:
        raise ValueError(
            f"Behaviour {name!r}: noise={noise!r}: environment {spaces.env_id!r} has discrete actions, where it is the "
            "share of random ones, 0 to 1."
        )


def with_noise(act: Act, spaces: SpaceSpec, noise: float, name: str) -> Act:
    """The same way to act, disturbed.

    Args:
        act: What is disturbed.
        spaces: Of the environment.
        noise: Discrete actions: the share that are drawn at random instead. Continuous ones: the standard deviation of
            Gaussian noise, in halves of the range between the bounds; what then lies outside is clipped.
        name: Of the behaviour, for messages.

    Raises:
        ValueError: ``noise`` is negative, or above 1 for discrete actions.
    """
    check_noise(noise, name, spaces)
    if noise == 0:
        return act
    half = (np.asarray(spaces.action_high) - np.asarray(spaces.action_low)) / 2

    def disturbed(observations: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        actions = env_actions(act(observations, generator), spaces, len(observations), name)
        if spaces.discrete:
            at_random = generator.random(len(actions)) < noise
            return np.where(at_random, random_actions(spaces, len(actions), generator), actions)
        return actions + noise * half * generator.standard_normal(actions.shape)

    return disturbed


def env_actions(actions: np.ndarray, spaces: SpaceSpec, count: int, name: str) -> np.ndarray:
    """Check a behaviour's actions, and bring them into the environment's bounds.

    Args:
        actions: What it gave.
        spaces: Of the environment.
        count: B, how many actions are expected.
        name: Of the behaviour, for messages.

    Returns:
        ``[B]`` (discrete) or ``[B, A]``, clipped to the bounds in use. Real numbers are rounded to float32, whatever
        the space's dtype: data sets store that.

    Raises:
        ValueError: Shape or values are not those of the environment's actions.
    """
    actions = np.asarray(actions)
    shape = (count,) if spaces.discrete else (count, spaces.action_size)
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
    clipped = np.clip(actions.astype(np.float32), *_float32_bounds(spaces))
    integers = np.issubdtype(spaces.action_space.dtype, np.integer)
    return np.rint(clipped).astype(spaces.action_space.dtype) if integers else clipped


def _float32_bounds(spaces: SpaceSpec) -> tuple[np.ndarray, np.ndarray]:
    """The bounds in use, rounded inwards: 0.2 is a little more as float32 than as float64."""
    low, high = np.asarray(spaces.action_low, np.float64), np.asarray(spaces.action_high, np.float64)
    low32, high32 = low.astype(np.float32), high.astype(np.float32)
    inward_low = np.where(low32 < low, np.nextafter(low32, np.float32(np.inf)), low32)
    inward_high = np.where(high32 > high, np.nextafter(high32, np.float32(-np.inf)), high32)
    return inward_low, inward_high
