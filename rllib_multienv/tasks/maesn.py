"""Goals and blocks of MAESN (Gupta et al. 2018): a wheeled robot and an ant go to goals, a gripper pushes a block.

Training is with dense rewards, testing with sparse ones: beyond a radius around the goal the distance in the reward
is that of the origin, so that nothing tells where the goal is. Bodies other than the ant are models of our own with
the paper's numbers of joints (docs/tasks.md).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from gymnasium import spaces
from gymnasium.envs.mujoco import MujocoEnv
from gymnasium.envs.mujoco.ant_v5 import AntEnv

from rllib_multienv.tasks.family import Split
from rllib_multienv.tasks.mujoco_family import MujocoFamily

__all__ = ["AntRing", "BlockPushing", "WheeledRing"]

MODELS = Path(__file__).parent / "models"


class _Goals(MujocoFamily):
    """Rewards that are dense or sparse.

    Args:
        sparse: Whether rewards are sparse; None: in the test split alone.
        kwargs: Those of `MujocoFamily` and of the environment.
    """

    RADIUS: ClassVar[float] = 0.8

    def __init__(self, *, sparse: bool | None = None, **kwargs: Any) -> None:
        self.sparse = sparse
        super().__init__(**kwargs)
        self._ezpickle_kwargs["sparse"] = sparse

    @property
    def goal(self) -> np.ndarray:
        """``[2]``, the place to reach."""
        return self._task

    def rewarded_offset(self, place: np.ndarray) -> np.ndarray:
        """``[2]``, from the goal to a place; to the origin, if rewards are sparse and the place is far away."""
        is_sparse = self.split == "test" if self.sparse is None else self.sparse
        offset = place - self.goal
        return -self.goal if is_sparse and np.linalg.norm(offset) > self.RADIUS else offset


class _Ring(_Goals):
    """Goals on a half circle of radius 2 around the origin."""

    task_names = ("goal x", "goal y")

    def draw_tasks(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """``[n, 2]`` goals."""
        angle = rng.uniform(0, np.pi, n)
        return 2 * np.stack([np.cos(angle), np.sin(angle)], axis=1)


class AntRing(_Ring, AntEnv):
    """An ant with weak motors (gear 30) that goes to a goal on the half circle, in steps of 0.01 s.

    ``4.05 - |x - goal|_1 - 0.005 |a|^2 - 5e-4 |contact forces|^2``; ends where the torso leaves [0.2, 1]. The
    observation is Gymnasium's with the position and without contact forces.
    """

    def __init__(self, **kwargs: Any) -> None:
        settings = {
            "frame_skip": 1,
            "ctrl_cost_weight": 0.005,
            "exclude_current_positions_from_observation": False,
            "include_cfrc_ext_in_observation": False,
        }
        super().__init__(**{**settings, **kwargs})
        self.model.actuator_gear[:, 0] = 30

    def _get_rew(self, x_velocity: float, action: np.ndarray) -> tuple[float, dict[str, float]]:
        distance = np.abs(self.rewarded_offset(self.data.qpos[:2])).sum()
        reward = 4.05 - distance - self.control_cost(action) - self.contact_cost
        return float(reward), {"distance": float(np.linalg.norm(self.data.qpos[:2] - self.goal))}


class _OwnModel(MujocoEnv):
    """An environment around a model of `MODELS`, whose joints start at rest, up to some noise."""

    MODEL: ClassVar[str]
    FRAME_SKIP: ClassVar[int] = 1
    NOISE: ClassVar[float] = 0.01
    metadata = {"render_modes": ["human", "rgb_array", "depth_array"]}  # noqa: RUF012

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(str(MODELS / self.MODEL), self.FRAME_SKIP, observation_space=None, **kwargs)
        size = self.model.nq + self.model.nv
        self.observation_space = spaces.Box(-np.inf, np.inf, (size,), np.float64)
        self.metadata = {**self.metadata, "render_fps": round(1 / self.dt)}

    def _get_obs(self) -> np.ndarray:
        return np.concatenate([self.data.qpos, self.data.qvel])

    def reset_model(self) -> np.ndarray:
        noise = self.np_random.uniform(-self.NOISE, self.NOISE, (2, self.model.nv))
        self.set_state(self.init_qpos + noise[0], self.init_qvel + noise[1])
        return self._get_obs()

    def reward(self, action: np.ndarray) -> tuple[float, float]:
        """The reward of the present state, and the distance to the goal."""
        raise NotImplementedError

    def step(self, action: np.ndarray) -> Any:
        """One step; episodes never end by themselves."""
        self.do_simulation(action, self.frame_skip)
        reward, distance = self.reward(action)
        if self.render_mode == "human":
            self.render()
        return self._get_obs(), reward, False, False, {"distance": distance}


class WheeledRing(_Ring, _OwnModel):
    """A robot with two driven wheels goes to a goal on the half circle: ``-|x - goal| - 0.05 |a|^2``.

    12 observations: x, y, height, heading and the angles of both wheels, and their velocities. Steps of 0.01 s.
    """

    MODEL = "wheeled.xml"

    def reward(self, action: np.ndarray) -> tuple[float, float]:
        """See `_OwnModel.reward`."""
        place = self.data.qpos[:2]
        cost = 0.05 * np.square(action).sum()
        return float(-np.linalg.norm(self.rewarded_offset(place)) - cost), float(np.linalg.norm(place - self.goal))

    def oracle_action(self) -> np.ndarray:
        """Turn to the goal and drive, backward if it lies behind; brake close to it."""
        offset, heading = self.goal - self.data.qpos[:2], self.data.qpos[3]
        ahead = np.array([np.cos(heading), np.sin(heading)])
        aside = offset @ np.array([-ahead[1], ahead[0]])
        error = np.arctan2(aside, abs(offset @ ahead)) * np.sign(offset @ ahead)  # of the axis that it drives along
        drive = 6 * offset @ ahead - 2 * self.data.qvel[:2] @ ahead
        turn = 4 * error * min(1, 3 * np.linalg.norm(offset)) - 0.6 * self.data.qvel[3]
        return np.clip([drive - turn, drive + turn], -2, 2).astype(np.float32)


class BlockPushing(_Goals, _OwnModel):
    """A gripper pushes one of five blocks to a goal: ``-5 |block - goal|``; episodes are 100 steps of 0.05 s.

    26 observations: x, y and angle of the gripper, x and y of each block, and their velocities. Each block lies in a
    slot of its own, 0.2 wide; its goal is 0.1 to 0.6 further along x. 20 layouts with five tasks each are for
    training (seed 1), six others for tests (seed 2).
    """

    MODEL = "block_pushing.xml"
    FRAME_SKIP = 5
    NOISE = 0.0
    RADIUS = 0.2
    BLOCKS: ClassVar[int] = 5
    task_names = ("block", "goal x", "goal y", *(f"block {i} {axis}" for i in range(5) for axis in "xy"))

    @property
    def goal(self) -> np.ndarray:
        """``[2]``, the place of the block."""
        return self._task[1:3]

    def draw_tasks(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """``[n, 13]``: five tasks for each layout, one for each block."""
        layouts = -(-n // self.BLOCKS)
        slots = -0.4 + 0.2 * np.arange(self.BLOCKS)  # the middle of each
        x = rng.uniform(0.35, 0.65, (layouts, self.BLOCKS))
        y = slots + rng.uniform(-0.05, 0.05, (layouts, self.BLOCKS))
        goal_x = rng.uniform(0.75, 0.95, (layouts, self.BLOCKS))
        places = np.stack([x, y], axis=2).reshape(layouts, 1, 2 * self.BLOCKS).repeat(self.BLOCKS, axis=1)
        index = np.broadcast_to(np.arange(self.BLOCKS), (layouts, self.BLOCKS))
        tasks = np.concatenate([np.stack([index, goal_x, y], axis=2), places], axis=2)  # [layouts, 5, 13]
        return tasks.reshape(-1, len(self.task_names))[:n]

    def listed_tasks(self, split: Split) -> np.ndarray:
        """The tasks of all layouts."""
        layouts, seed = (20, 1) if split == "train" else (6, 2)
        return self.draw_tasks(layouts * self.BLOCKS, np.random.default_rng(seed))

    def begin_task(self) -> None:
        """Blocks lie where the task says."""
        self.init_qpos[3:] = self._task[3:]

    @property
    def block(self) -> np.ndarray:
        """``[2]``, the place of the block to push."""
        first = 3 + 2 * int(self._task[0])
        return self.data.qpos[first : first + 2]

    def reward(self, action: np.ndarray) -> tuple[float, float]:
        """See `_OwnModel.reward`."""
        distance = float(np.linalg.norm(self.block - self.goal))
        return -5 * float(np.linalg.norm(self.rewarded_offset(self.block))), distance

    def oracle_action(self) -> np.ndarray:
        """Go behind the block, then push it along x."""
        gripper, velocity = self.data.qpos[:3], self.data.qvel[:3]
        aside = self.block[1] - gripper[1]
        ahead = self.goal[0] - self.block[0] if abs(aside) < 0.02 or gripper[0] > 0.2 else 0.1 - gripper[0]
        wanted = np.array([ahead, aside, -gripper[2]])
        return np.clip(20 * wanted - 2 * velocity, -2, 2).astype(np.float32)
