"""The environments of data sets in D4RL's layout, with observations laid out as the files have them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gymnasium as gym
import h5py
import numpy as np

#: Order of the parts of the mazes' observations in the files.
_MAZE_KEYS = {"AntMaze": ("achieved_goal", "observation", "desired_goal"), "PointMaze": ("observation", "desired_goal")}


class FlatMaze(gym.ObservationWrapper):
    """The parts of a maze's observation one after the other."""

    def __init__(self, env: gym.Env, keys: tuple[str, ...]) -> None:
        super().__init__(env)
        self._keys = keys
        size = sum(env.observation_space[key].shape[0] for key in keys)
        self.observation_space = gym.spaces.Box(-np.inf, np.inf, (size,), np.float64)

    def observation(self, observation: dict[str, np.ndarray]) -> np.ndarray:
        return np.concatenate([observation[key] for key in self._keys])


def make(env_id: str, **kwargs: Any) -> gym.Env:
    """An environment of Gymnasium or gymnasium-robotics."""
    if env_id.startswith(("Adroit", *_MAZE_KEYS)):
        import gymnasium_robotics

        gym.register_envs(gymnasium_robotics)
    env = gym.make(env_id, **kwargs)
    for prefix, keys in _MAZE_KEYS.items():
        if env_id.startswith(prefix):
            env = FlatMaze(env, keys)
    return env


def spec_of(name: str, file: Path, num_envs: int) -> dict[str, Any]:
    """Fields of the EnvSpec of a file's environment."""
    with h5py.File(file) as opened:
        metadata = dict(opened["metadata"].attrs)
    kwargs = {"env_id": str(metadata["env_id"]), **json.loads(metadata.get("env_kwargs", "{}"))}
    return {"id": name, "make": make, "kwargs": kwargs, "num_envs": num_envs}
