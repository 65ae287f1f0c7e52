"""Descriptions of components by what they do in a short random rollout, for networks with ``descriptions="measured"``.

One formula for all environments: statistics of each component of the observation and of the action, whatever it is
called and in whatever order the components come. The rollout is seeded, so an environment that is deterministic for its
seed is measured alike always.
"""

from __future__ import annotations

import contextlib
import time
import warnings
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from rllib_multienv.envs.vector import EnvCopies
from rllib_multienv.spec import EnvSpec, SpaceSpec

__all__ = ["RandomRollout", "describe_rollout", "random_rollout", "with_measurements"]

_COPIES, _STEPS = 4, 1500
_TIME_LIMIT_S = 60.0
#: Deviations below this are not told apart from none.
_SMALL = 1e-3
_DECIMALS = 4


def with_measurements(spec: EnvSpec, spaces: SpaceSpec) -> SpaceSpec:
    """The spaces with the components measured in 6,000 random steps, unless they have been before.

    Raises:
        EnvFailure: The environment failed.
        NonFiniteError: It gave an observation or a reward that is not finite.
    """
    if spaces.obs_measured:
        return spaces
    rollout = random_rollout(spec, spaces)
    obs, actions, rewards, next_obs = (
        column[rollout.valid] for column in (rollout.obs, rollout.actions, rollout.rewards, rollout.next_obs)
    )
    found = describe_rollout(obs, actions, rewards, next_obs)
    if spaces.inputs:  # what actions do to these is the same in all environments, and says nothing of them
        own = spaces.without_inputs.obs_size
        found = found[0], describe_rollout(obs[:, :own], actions, rewards, next_obs[:, :own])[1]
    of_observation, of_action = (tuple(map(tuple, features.round(_DECIMALS).tolist())) for features in found)
    return replace(spaces, obs_measured=of_observation, action_measured=of_action)


def describe_rollout(
    obs: np.ndarray, actions: np.ndarray, rewards: np.ndarray, next_obs: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Features of each component, of about unit size, from N steps.

    Args:
        obs: ``[N, I]`` before each step.
        actions: ``[N, A]``: the components of a continuous action, or a one for the action taken.
        rewards: ``[N]``.
        next_obs: ``[N, I]`` after each step, before any reset.

    Returns:
        Of the observation ``[I, 12]``: log deviation; log deviation of the change; squashed mean; correlation with its
        next value, with the reward, of its change with the reward, and of its change with itself; largest, root mean
        square and signed largest response of its change to the actions (linear regression); skewness; log kurtosis.
        Of the action ``[A, 13]``: largest, root mean square and signed largest response to it; correlation with the
        reward; and nine of the features above, averaged over the components that it moves most.
    """
    change = next_obs - obs  # [N, I]
    value, following, moved, reward, action = map(_standardised, (obs, next_obs, change, rewards[:, None], actions))
    response = np.linalg.lstsq(action, moved, rcond=None)[0]  # [A, I]
    kurtosis = (value**4).mean(0)
    features = np.stack(
        [
            np.log(obs.std(0) + _SMALL),
            np.log(change.std(0) + _SMALL),
            np.tanh(obs.mean(0)),
            2 * (value * following).mean(0),
            2 * (value * reward).mean(0),
            2 * (moved * reward).mean(0),
            2 * (moved * value).mean(0),
            *_summary(response),
            np.tanh((value**3).mean(0) / 2),
            np.log((kurtosis + 1) / 4) / 2,
        ],
        axis=1,
    )  # [I, 12]
    share = response**4 + 1e-12
    moves = (share / share.sum(1, keepdims=True)) @ features[:, [0, 1, 2, 3, 4, 5, 6, 10, 11]]  # [A, 9]
    of_action = np.stack([*_summary(response.T), 5 * (action * reward).mean(0)], axis=1)  # [A, 4]
    return features, 1.5 * np.concatenate([of_action, moves], axis=1)  # averages differ less


def _summary(response: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Largest, root mean square and signed largest of each column, ``[columns]`` each."""
    strongest = np.abs(response).argmax(0)
    signed = response[strongest, np.arange(response.shape[1])]
    return 2 * np.abs(signed), 2 * np.sqrt((response**2).mean(0)), 2 * signed


def _standardised(values: np.ndarray) -> np.ndarray:
    return (values - values.mean(0)) / (values.std(0) + 1e-8)


@dataclass(frozen=True, kw_only=True)
class RandomRollout:
    """T steps of B copies with uniform actions.

    Attributes:
        obs: ``[T, B, I]``, numbers of the observation before each step.
        actions: ``[T, B, A]``: the components of a continuous action, or a one for each choice.
        rewards: ``[T, B]``.
        next_obs: ``[T, B, I]``, after the step, before any reset.
        dones: bool ``[T, B]``, whether an episode ended.
        valid: bool ``[T, B]``, False where a copy was reset instead.
    """

    obs: np.ndarray
    actions: np.ndarray
    rewards: np.ndarray
    next_obs: np.ndarray
    dones: np.ndarray
    valid: np.ndarray


def random_rollout(spec: EnvSpec, spaces: SpaceSpec) -> RandomRollout:
    """1,500 random steps of 4 copies, fewer where they take too long.

    Raises:
        ValueError: It is one of several roles of a multi-agent environment.
        EnvFailure: The environment failed.
        NonFiniteError: It gave an observation or a reward that is not finite.
    """
    rows: list[tuple[np.ndarray, ...]] = []
    acted: list[np.ndarray] = []  # what each row saw and did when it acted last
    generator = np.random.default_rng(0)
    if spec.role:
        raise ValueError(
            f"Environment {spec.id!r} is stepped together with other roles and cannot be measured alone. Use a network "
            'with descriptions="auto" or "id".'
        )
    here = replace(spec, backend="sync") if spec.backend == "async" else spec
    options: Any = {"mask_in_info": spaces.mask_in_info, "inputs": spaces.inputs}
    with contextlib.closing(EnvCopies(here, _COPIES, seed=0, **options)) as copies:
        obs, start = copies.reset(), time.monotonic()
        for step in range(_STEPS):
            if step % 100 == 0 and step and time.monotonic() - start > _TIME_LIMIT_S:
                warnings.warn(
                    f"Environment {spec.id!r} takes {(time.monotonic() - start) / step / _COPIES:.2g} s for a step, so "
                    f"its components were measured in {step * _COPIES} steps instead of {_STEPS * _COPIES}; another "
                    'run may measure them otherwise. descriptions="auto" needs no steps.',
                    UserWarning,
                    stacklevel=2,
                )
                break
            acting = np.ones(len(obs), dtype=bool) if copies.acting is None else copies.acting  # [B]
            allowed = spaces.reader.actions_allowed(obs)
            if allowed is not None:
                allowed[~acting] = True
            taken = spaces.writer.random_rows(len(obs), generator, allowed)
            # The step of an agent that waits belongs to its last action.
            acted = acted or [obs.copy(), taken.copy()]
            for column, new in zip(acted, (obs, taken), strict=True):
                column[acting] = new[acting]
            result = copies.step(spaces.action_to_env(taken))
            following = result.obs.copy()
            for copy, last in result.final_obs.items():
                following[copy] = last
            numbers, after = (spaces.reader.split(raw)[0] for raw in (acted[0], following))
            done = result.terminated | result.truncated
            actions = spaces.action.numbers(acted[1])
            rows.append((numbers.copy(), actions, result.rewards, after, done, ~result.is_reset))
            obs = result.obs
    names = ("obs", "actions", "rewards", "next_obs", "dones", "valid")
    return RandomRollout(
        **{name: np.stack(column) for name, column in zip(names, zip(*rows, strict=True), strict=True)}
    )
