"""Checks a data set against the spaces of the environment that it is said to be of."""

from __future__ import annotations

import gymnasium as gym
import numpy as np

from rllib_multienv.offline.blocks import blocks
from rllib_multienv.offline.errors import DatasetError
from rllib_multienv.offline.raw import RawDataset
from rllib_multienv.space_spec import SpaceSpec


def inferred_spaces(env_id: str, raw: RawDataset) -> SpaceSpec:
    """The spaces that a data set has, or those that its arrays tell.

    Whole numbers as actions are discrete, 0 to their largest; others lie in [-1, 1].

    Raises:
        UnsupportedSpaceError: They are of a kind that networks cannot take.
    """
    observation_space, action_space = raw.observation_space, raw.action_space
    if observation_space is None:
        size = int(np.prod(raw.observations.shape[1:]))
        observation_space = (
            gym.spaces.Box(0, 255, (size,), np.uint8)
            if raw.observations.dtype == np.uint8
            else gym.spaces.Box(-np.inf, np.inf, (size,), np.float32)
        )
    if action_space is None:
        if np.issubdtype(raw.actions.dtype, np.integer):
            action_space = gym.spaces.Discrete(int(raw.actions.max()) + 1)
        else:
            width = 1 if raw.actions.ndim == 1 else raw.actions.shape[1]
            action_space = gym.spaces.Box(-1.0, 1.0, (width,), np.float32)
    return SpaceSpec.from_spaces(env_id, observation_space, action_space)


def check_fits(raw: RawDataset, spec: SpaceSpec) -> None:
    """Check a data set against an environment.

    Raises:
        DatasetError: Sizes differ, or actions lie outside the bounds; names the key and the first index.
    """
    if isinstance(spec.observation_space, gym.spaces.Discrete):
        _check_discrete(raw, "observations", spec.observation_space, spec.env_id)
    else:
        size = int(np.prod(raw.observations.shape[1:]))
        if size != spec.obs_size:
            raise DatasetError(
                raw.source,
                f"has {size} numbers for each step, but environment {spec.env_id!r} has observations of "
                f"{spec.obs_size}",
                key="observations",
            )
    if isinstance(spec.action_space, gym.spaces.Discrete):
        _check_discrete(raw, "actions", spec.action_space, spec.env_id)
    else:
        _check_bounds(raw, spec)


def _check_bounds(raw: RawDataset, spec: SpaceSpec) -> None:
    width = 1 if raw.actions.ndim == 1 else raw.actions.shape[1]
    if width != spec.action_size:
        raise DatasetError(
            raw.source,
            f"has {width} numbers for each step, but environment {spec.env_id!r} has actions of {spec.action_size}",
            key="actions",
        )
    low, high = np.asarray(spec.action_low), np.asarray(spec.action_high)
    slack = 1e-4 * np.maximum(1.0, high - low)  # what is left of float32, and of another simulator's bounds
    for block in blocks(raw.actions):
        actions = raw.actions[block].reshape(-1, width)
        inside = ((actions >= low - slack) & (actions <= high + slack)).all(1)
        if not inside.all():
            row = int(np.argmin(inside))
            raise DatasetError(
                raw.source,
                f"{np.array2string(actions[row], precision=4, threshold=8)} lies outside the bounds of environment "
                f"{spec.env_id!r}, {spec.action_space}",
                key="actions",
                index=block.start + row,
            )


def _check_discrete(raw: RawDataset, key: str, space: gym.spaces.Discrete, env_id: str) -> None:
    """Check that all values are among those of a discrete space."""
    array = getattr(raw, key)
    if array.size != len(raw):
        raise DatasetError(
            raw.source, f"has shape {array.shape}, but those of environment {env_id!r} are discrete: [N]", key=key
        )
    values, first, last = array.reshape(-1), int(space.start), int(space.start) + int(space.n) - 1
    allowed = (values == np.rint(values)) & (values >= first) & (values <= last)
    if not allowed.all():
        row = int(np.argmin(allowed))
        raise DatasetError(
            raw.source,
            f"{values[row]} is none of environment {env_id!r}'s {space.n} discrete {key}, {first} to {last}",
            key=key,
            index=row,
        )
