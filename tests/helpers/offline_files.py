"""Small data sets whose every number is known."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import gymnasium as gym
import h5py
import numpy as np

from rllib_multienv.spaces.space_spec import SpaceSpec

SPEC = SpaceSpec.from_spaces(
    "Toy-v0", gym.spaces.Box(-np.inf, np.inf, (3,), np.float32), gym.spaces.Box(-2.0, 2.0, (2,), np.float32)
)


def toy_arrays(lengths: tuple[int, ...] = (4, 3, 5), ended: tuple[bool, ...] = (True, False, True)) -> dict[str, Any]:
    """Episodes of these lengths that ended (or were cut); step t of episode e has observation (e, t, 0)."""
    steps = [(e, t) for e, length in enumerate(lengths) for t in range(length)]
    last = np.array([t == lengths[e] - 1 for e, t in steps])
    over = np.array([ended[e] for e, _ in steps])
    observations = np.array([(e, t, 0) for e, t in steps], np.float32)
    return {
        "observations": observations,
        "actions": np.array([(t % 3 - 1, e % 2) for e, t in steps], np.float32),
        "rewards": np.array([100 * e + t for e, t in steps], np.float32),
        "terminals": last & over,
        "timeouts": last & ~over,
        "next_observations": observations + np.array([0, 1, 0], np.float32),
    }


def write_hdf5(path: Path, arrays: dict[str, Any], **attributes: Any) -> Path:
    """Write arrays (a dict becomes a group) and attributes of the group ``metadata``."""
    with h5py.File(path, "w") as file:
        for key, array in arrays.items():
            if isinstance(array, dict):
                file.create_group(key)
            elif np.asarray(array).dtype.kind == "U":
                file[key] = [str(value) for value in array]
            else:
                packed = {"compression": "gzip", "chunks": True} if np.ndim(array) and np.size(array) else {}
                file.create_dataset(key, data=array, **packed)
        file.create_group("metadata").attrs.update(attributes)
    return path


def noise(obs_size: int, actions: int, *, discrete: bool = False, steps: int = 200, seed: int = 0) -> Callable[[], Any]:
    """A data set of episodes of 20 steps, every other one cut; the reward is the first number of the observation."""

    def arrays() -> Mapping[str, np.ndarray]:
        rng = np.random.default_rng([seed, obs_size])
        observations = rng.normal(3.0, 2.0, (steps, obs_size)).astype(np.float32)
        number = np.arange(steps)
        last = number % 20 == 19
        chosen = rng.integers(actions, size=steps) if discrete else rng.uniform(-1, 1, (steps, actions))
        return {
            "observations": observations,
            "actions": chosen if discrete else chosen.astype(np.float32),
            "rewards": observations[:, 0],
            "terminals": last & (number // 20 % 2 == 0),
            "timeouts": last & (number // 20 % 2 == 1),
            "next_observations": rng.normal(3.0, 2.0, (steps, obs_size)).astype(np.float32),
        }

    return arrays
