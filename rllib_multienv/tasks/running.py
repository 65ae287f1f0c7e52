"""Running bodies: HalfCheetah and Ant with a direction, a speed or a place as the task.

Bodies, observations and first states are those of Gymnasium's version 5, rewards those of PEARL, MAML and their
successors (docs/tasks.md). Episodes are 200 steps.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from gymnasium.envs.mujoco.ant_v5 import AntEnv
from gymnasium.envs.mujoco.half_cheetah_v5 import HalfCheetahEnv

from rllib_multienv.tasks.family import Split
from rllib_multienv.tasks.mujoco_family import MujocoFamily

__all__ = ["AntDirection", "AntDirection2D", "AntGoal", "AntVelocity", "HalfCheetahDirection", "HalfCheetahVelocity"]

Reward = tuple[float, dict[str, float]]


def _sum(**terms: float) -> Reward:
    """A reward and its terms, for the info."""
    values = {f"reward_{name}": float(value) for name, value in terms.items()}
    return sum(values.values()), values


class HalfCheetahDirection(MujocoFamily, HalfCheetahEnv):
    """Run forward (task 1) or backward (-1): ``direction * v - 0.05 |a|^2``. Both are in both splits."""

    task_names = ("direction",)

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**{"ctrl_cost_weight": 0.05, **kwargs})

    def listed_tasks(self, split: Split) -> np.ndarray:
        """Forward and backward."""
        return np.array([[1.0], [-1.0]])

    def _get_rew(self, x_velocity: float, action: np.ndarray) -> Reward:
        return _sum(run=self._task[0] * x_velocity, ctrl=-self.control_cost(action))


class HalfCheetahVelocity(MujocoFamily, HalfCheetahEnv):
    """Run at a speed in m/s, drawn from U(0, `max_speed`): ``-|v - speed| - 0.05 |a|^2``."""

    task_names = ("speed",)

    def __init__(self, *, max_speed: float = 3.0, **kwargs: Any) -> None:
        self.max_speed = max_speed
        super().__init__(**{"ctrl_cost_weight": 0.05, **kwargs})
        self._ezpickle_kwargs["max_speed"] = max_speed

    def draw_tasks(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """``[n, 1]`` speeds."""
        return rng.uniform(0, self.max_speed, (n, 1))

    def _get_rew(self, x_velocity: float, action: np.ndarray) -> Reward:
        return _sum(run=-abs(x_velocity - self._task[0]), ctrl=-self.control_cost(action))


class _Ant(MujocoFamily, AntEnv):
    """The ant, with 27 observations and no contact forces unless `SETTINGS` of a family say otherwise."""

    SETTINGS: ClassVar[dict[str, Any]] = {}

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**{"include_cfrc_ext_in_observation": False, **self.SETTINGS, **kwargs})


class AntDirection2D(_Ant):
    """Run along a unit vector of any angle: ``v . direction - 0.5 |a|^2 + 1``; ends where the torso leaves [0.2, 1]."""

    task_names = ("direction x", "direction y")
    SETTINGS: ClassVar[dict[str, Any]] = {"contact_cost_weight": 0}

    def draw_tasks(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """``[n, 2]`` unit vectors."""
        angles = rng.uniform(0, 2 * np.pi, n)
        return np.stack([np.cos(angles), np.sin(angles)], axis=1)

    def step(self, action: np.ndarray) -> Any:
        """Gymnasium's step; its reward is rewritten, because ``_get_rew`` sees the speed along x alone."""
        obs, reward, terminated, truncated, info = super().step(action)
        along = float(self._task @ (info["x_velocity"], info["y_velocity"]))
        reward += along - info["reward_forward"]
        return obs, reward, terminated, truncated, {**info, "reward_forward": along}


class AntDirection(AntDirection2D):
    """Run forward or backward along x. Both are in both splits."""

    def listed_tasks(self, split: Split) -> np.ndarray:
        """Forward and backward."""
        return np.array([[1.0, 0.0], [-1.0, 0.0]])


class AntVelocity(_Ant):
    """Run along x at a speed in m/s from U(0, 3).

    ``1.05 - |v_x - speed| - 0.005 |a|^2 - 5e-4 |contact forces|^2``; ends where the torso leaves [0.2, 1].
    """

    task_names = ("speed",)
    SETTINGS: ClassVar[dict[str, Any]] = {"ctrl_cost_weight": 0.005}

    def draw_tasks(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """``[n, 1]`` speeds."""
        return rng.uniform(0, 3, (n, 1))

    def _get_rew(self, x_velocity: float, action: np.ndarray) -> Reward:
        return _sum(
            forward=1 - abs(x_velocity - self._task[0]),
            ctrl=-self.control_cost(action),
            contact=-self.contact_cost,
            survive=0.05,
        )


class AntGoal(_Ant):
    """Go to a place within 3 m: ``-|x - goal|_1 - 0.1 |a|^2 - 5e-4 |contact forces|^2``; never ends.

    The observation has the position and the contact forces.
    """

    task_names = ("goal x", "goal y")
    SETTINGS: ClassVar[dict[str, Any]] = {
        "ctrl_cost_weight": 0.1,
        "terminate_when_unhealthy": False,
        "exclude_current_positions_from_observation": False,
        "include_cfrc_ext_in_observation": True,
    }

    def draw_tasks(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """``[n, 2]`` places, uniform in the disc."""
        radius, angle = 3 * np.sqrt(rng.uniform(size=n)), rng.uniform(0, 2 * np.pi, n)
        return np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)

    def _get_rew(self, x_velocity: float, action: np.ndarray) -> Reward:
        distance = np.abs(self.data.qpos[:2] - self._task).sum()
        return _sum(goal=-distance, ctrl=-self.control_cost(action), contact=-self.contact_cost)
