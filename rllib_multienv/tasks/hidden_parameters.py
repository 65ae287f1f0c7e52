"""Families whose tasks are physical parameters that the observation does not show.

Their splits are ``"train"``, ``"interpolation"`` (values between those of training), ``"extrapolation"`` (values
beyond) and ``"test"``, which is both of the latter. Parameters and ranges are those of MTEnv's HiP-BMDP and
MT-CartPole environments, in Gymnasium's bodies (docs/tasks.md).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import mujoco
import numpy as np
from gymnasium import spaces
from gymnasium.envs.mujoco.half_cheetah_v5 import HalfCheetahEnv
from gymnasium.envs.mujoco.walker2d_v5 import Walker2dEnv

from rllib_multienv.tasks.drawing import DARK, RED, Picture
from rllib_multienv.tasks.family import Split, TaskSplits, VectorFamily
from rllib_multienv.tasks.mujoco_family import MujocoFamily

__all__ = ["CartPoleHidden", "HalfCheetahTorso", "Walker2dFoot", "Walker2dFriction"]


class HiddenSplits(TaskSplits):
    """Splits of a family with hidden parameters; see the module."""

    splits = ("train", "interpolation", "extrapolation", "test")

    def held_out_tasks(self, split: Split) -> np.ndarray:
        """``[tasks, D]`` of ``"interpolation"`` or ``"extrapolation"``."""
        raise NotImplementedError

    def listed_tasks(self, split: Split) -> np.ndarray | None:
        """``[tasks, D]``; None where they are infinitely many."""
        if split == "train":
            return super().listed_tasks(split)
        parts: tuple[Split, ...] = ("interpolation", "extrapolation") if split == "test" else (split,)
        return np.concatenate([self.held_out_tasks(part) for part in parts])


class CartPoleHidden(HiddenSplits, VectorFamily):
    """CartPole with five hidden parameters, mu in [-1, 1]^5; copies are stepped as arrays.

    Gravity is 9.8 + 5 mu_0, the cart's mass 1 + 0.5 mu_1, the pole's mass 0.1 + 0.09 mu_2, half its length 0.5 + 0.3
    mu_3, and the force of action 1 is 10 mu_4 N, so that actions may be reversed. Rewards are 1; an episode ends as
    CartPole's does, or after `horizon` steps. Training and interpolation draw every mu from [-0.7, 0.7]; in
    extrapolation at least one is beyond.
    """

    STATE = ("state",)
    INNER: ClassVar[float] = 0.7

    def __init__(self, num_envs: int = 1, *, horizon: int = 200, task: Any = None, **kwargs: Any) -> None:
        high = np.array([4.8, np.inf, np.radians(24), np.inf], np.float32)
        super().__init__(
            num_envs,
            spaces.Box(-high, high),
            spaces.Discrete(2),
            horizon,
            obs_names=(
                "position slide cart", "velocity slide cart", "angle hinge pole", "velocity hinge pole",
            ),
            action_names=("force slide cart left", "force slide cart right"),
            task_names=("gravity", "mass cart", "mass pole", "length pole", "force"),
            task=task,
            **kwargs,
        )  # fmt: skip
        if task is not None and np.abs(task).max() > 1:
            raise ValueError(f"CartPoleHidden: task={task!r} must be in [-1, 1]; beyond, masses may be negative.")
        self.state = np.zeros((num_envs, 4))

    def draw_tasks(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """``[n, 5]`` values of mu."""
        return rng.uniform(-self.INNER, self.INNER, (n, 5))

    def held_out_tasks(self, split: Split) -> np.ndarray:
        """20 tasks of each kind."""
        if split == "interpolation":
            return self.draw_tasks(20, np.random.default_rng(2))
        tasks = np.random.default_rng(3).uniform(-1, 1, (100, 5))
        return tasks[np.abs(tasks).max(axis=1) > self.INNER][:20]

    def begin(self, copies: np.ndarray) -> None:
        """CartPole's first states."""
        for copy in copies.tolist():
            self.state[copy] = self.generators[copy].uniform(-0.05, 0.05, 4)

    def advance(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """CartPole's equations of motion (Barto, Sutton and Anderson 1983), Euler steps of 0.02 s."""
        gravity, cart, pole, half, force = (np.array([9.8, 1, 0.1, 0.5, 0]) + self.tasks * [5, 0.5, 0.09, 0.3, 10]).T
        _, x_dot, angle, angle_dot = self.state.T
        cos, sin, total = np.cos(angle), np.sin(angle), cart + pole
        push = (np.where(actions == 1, force, -force) + pole * half * angle_dot**2 * sin) / total
        angle_acc = (gravity * sin - cos * push) / (half * (4 / 3 - pole * cos**2 / total))
        x_acc = push - pole * half * angle_acc * cos / total
        self.state = self.state + 0.02 * np.stack([x_dot, x_acc, angle_dot, angle_acc], axis=1)  # [B, 4]
        failed = (np.abs(self.state[:, 0]) > 2.4) | (np.abs(self.state[:, 2]) > np.radians(12))
        return np.ones(self.num_envs), failed

    def observe(self) -> np.ndarray:
        """``[B, 4]``: position and velocity of the cart, angle and angular velocity of the pole."""
        return self.state.astype(np.float32)

    def oracle_actions(self) -> np.ndarray:
        """Push towards the side to which the pole falls, whichever action does that."""
        side = self.state @ [0.5, 1.0, 20.0, 4.0] > 0
        return np.where(side == (self.tasks[:, 4] > 0), 1, 0)

    def draw(self, copy: int) -> np.ndarray:
        """uint8 ``[90, 200, 3]``: the cart and its pole."""
        x, _, angle, _ = self.state[copy]
        picture = Picture((-2.7, -0.4), (2.7, 2.0))
        picture.box((x, 0), 0.6, 0.3, DARK)
        for part in np.linspace(0, 2 * (0.5 + 0.3 * self.tasks[copy, 3]), 40):
            picture.disc((x + part * np.sin(angle), part * np.cos(angle)), 0.05, RED)
        return picture.pixels


class _HiddenQuantity(HiddenSplits, MujocoFamily):
    """A body whose model depends on the task, one number out of ten: six for training, two between, two beyond."""

    LOW: ClassVar[float]
    HIGH: ClassVar[float]

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**{"num_train_tasks": None, **kwargs})

    def change(self, model: mujoco.MjSpec, value: float) -> None:
        """Give a model this value of the quantity."""
        raise NotImplementedError

    def listed_tasks(self, split: Split) -> np.ndarray | None:
        """``[tasks, 1]`` values."""
        values = np.linspace(self.LOW, self.HIGH, 10)[:, None]
        return values[[1, 2, 4, 5, 7, 8]] if split == "train" else super().listed_tasks(split)

    def held_out_tasks(self, split: Split) -> np.ndarray:
        """The fourth and seventh value, or the first and last."""
        values = np.linspace(self.LOW, self.HIGH, 10)[:, None]
        return values[[3, 6]] if split == "interpolation" else values[[0, 9]]

    def begin_task(self) -> None:
        """Change the model to that of the task."""
        self.fit_model({"_task": self._task})

    def fit_model(self, attributes: Mapping[str, Any]) -> None:
        """Change the model to the one that an environment with these attributes has (`envs.snapshot`)."""
        spec = mujoco.MjSpec.from_file(self.fullpath)
        self.change(spec, float(attributes["_task"][0]))
        changed = spec.compile()
        # In place, because the simulation's data and the renderer hold on to the model.
        for name in dir(self.model):
            array = getattr(self.model, name)
            if isinstance(array, np.ndarray) and array.flags.writeable:
                array[...] = getattr(changed, name)
        for name in ("meaninertia", "meanmass", "meansize"):
            setattr(self.model.stat, name, getattr(changed.stat, name))


class HalfCheetahTorso(_HiddenQuantity, HalfCheetahEnv):
    """HalfCheetah whose torso has a hidden half-length, 0.5 (Gymnasium's) to 1.4 m, at the same total mass."""

    task_names = ("half length torso",)
    LOW, HIGH = 0.5, 1.4

    def change(self, model: mujoco.MjSpec, value: float) -> None:
        """A longer torso, with head and legs at its ends."""
        model.geom("torso").fromto = [-value, 0, 0, value, 0, 0]
        for part in (model.geom("head"), model.body("fthigh"), model.body("bthigh")):
            part.pos[0] += np.sign(part.pos[0]) * (value - 0.5)


class Walker2dFriction(_HiddenQuantity, Walker2dEnv):
    """Walker2d in which all surfaces have a hidden sliding friction, 0.7 to 1.6."""

    task_names = ("friction",)
    LOW, HIGH = 0.7, 1.6

    def change(self, model: mujoco.MjSpec, value: float) -> None:
        """Floor and body, because MuJoCo takes the larger friction of two surfaces."""
        for geom in model.geoms:
            geom.friction[0] = value


class Walker2dFoot(_HiddenQuantity, Walker2dEnv):
    """Walker2d whose left foot has a hidden half-length, 0.08 to 0.17 m (Gymnasium's: 0.1)."""

    task_names = ("half length foot left",)
    LOW, HIGH = 0.08, 0.17

    def change(self, model: mujoco.MjSpec, value: float) -> None:
        """A longer foot, with the ankle at its heel."""
        foot = model.geom("foot_left_geom")
        foot.pos[0] += value - foot.size[1]
        foot.size[1] = value
