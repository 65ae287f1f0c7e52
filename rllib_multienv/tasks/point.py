"""Point masses in the plane: go to a place, in a direction, or at a velocity.

In PointNavigation and PointSemicircle the action is the move, as in MAML (1703.03400), PEARL (1903.08254) and VariBAD
(1910.08348). In PointDirection, PointVelocity and PointGoal it is a force.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import numpy as np
from gymnasium import spaces

from rllib_multienv.tasks.drawing import BLUE, GREEN, GREY, Picture
from rllib_multienv.tasks.family import VectorFamily

__all__ = ["PointDirection", "PointGoal", "PointNavigation", "PointSemicircle", "PointVelocity"]

#: Largest move in x and in y.
MOVE = 0.1


def _clip_length(vectors: np.ndarray, limit: float = 1.0) -> np.ndarray:
    """``[B, 2]``, shortened to a length of at most `limit`."""
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True) / limit, 1.0)


class _Point(VectorFamily):
    """A point with a position; what all families of this file have in common.

    Attributes:
        position: ``[B, 2]``.
        view: Half the side of pictures.
    """

    STATE: ClassVar[tuple[str, ...]] = ("position",)
    view = 1.0

    def __init__(self, num_envs: int, **options: Any) -> None:
        self.position = np.zeros((num_envs, 2))
        super().__init__(num_envs, **options)

    def begin(self, copies: np.ndarray) -> None:
        """See `VectorFamily.begin`."""
        self.position[copies] = 0.0

    def observe(self) -> np.ndarray:
        """See `VectorFamily.observe`."""
        return self.position.astype(np.float32)

    def distance(self) -> np.ndarray:
        """``[B]``, to the goal."""
        return np.linalg.norm(self.position - self.tasks, axis=1)

    def draw(self, copy: int) -> np.ndarray:
        """See `VectorFamily.draw`; the green disc is the goal, or where to go."""
        view = self.view
        picture = Picture((-view, -view), (view, view))
        picture.box((0, 0), 2 * view, 0.01 * view, GREY)
        picture.box((0, 0), 0.01 * view, 2 * view, GREY)
        picture.disc(self.tasks[copy], 0.08 * view, GREEN)
        picture.disc(np.clip(self.position[copy], -view, view), 0.05 * view, BLUE)
        return picture.pixels


class _MovedPoint(_Point):
    """A point that moves by the action, up to `MOVE` in x and in y; the task is a goal."""

    def __init__(self, num_envs: int, horizon: int, seen: Sequence[str] = (), **options: Any) -> None:
        obs_names = ("position x", "position y", *seen)
        super().__init__(
            num_envs,
            observation_space=spaces.Box(-np.inf, np.inf, (len(obs_names),), np.float32),
            action_space=spaces.Box(-MOVE, MOVE, (2,), np.float32),
            horizon=horizon,
            obs_names=obs_names,
            action_names=("move x", "move y"),
            task_names=("goal x", "goal y"),
            **options,
        )

    def move(self, actions: np.ndarray) -> None:
        """Move the points."""
        self.position = self.position + np.clip(actions, -MOVE, MOVE)

    def oracle_actions(self) -> np.ndarray:
        """To the goal in x and y at once. No other policy is nearer to it in x, or in y, after any step."""
        return np.clip(self.tasks - self.position, -MOVE, MOVE).astype(np.float32)

    def oracle_distances(self) -> np.ndarray:
        """``[horizon, B]``, the oracle's distances to the goal after each step of an episode from here."""
        steps = np.arange(1, self.horizon + 1)[:, None, None]
        left = np.maximum(abs(self.tasks - self.position) - MOVE * steps, 0.0)  # [horizon, B, 2]
        return np.hypot(left[..., 0], left[..., 1])


class PointNavigation(_MovedPoint):
    """Move to a goal; the reward is the negative distance to it after the move.

    Args:
        num_envs: Number of copies.
        setting: ``"maml"``: from the origin, goals in ``[-0.5, 0.5]^2``, 100 steps, the episode ends within 0.01 of the
            goal in x and y. ``"pearl"``: from anywhere in ``[-1, 1]^2``, goals there too, 20 steps, no such end.
        horizon: Steps of an episode; None for the setting's.
        options: Those of `VectorFamily`.
    """

    def __init__(
        self,
        num_envs: int = 1,
        *,
        setting: Literal["maml", "pearl"] = "maml",
        horizon: int | None = None,
        **options: Any,
    ) -> None:
        if setting not in ("maml", "pearl"):
            raise ValueError(f"PointNavigation: setting={setting!r} must be 'maml' or 'pearl'.")
        self.is_maml = setting == "maml"
        default = 100 if self.is_maml else 20
        super().__init__(num_envs, default if horizon is None else horizon, **options)

    def draw_tasks(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """``[n, 2]``."""
        side = 0.5 if self.is_maml else 1.0
        return rng.uniform(-side, side, (n, 2))

    def begin(self, copies: np.ndarray) -> None:
        """See `VectorFamily.begin`."""
        super().begin(copies)
        if not self.is_maml:
            for copy in copies.tolist():
                self.position[copy] = self.generators[copy].uniform(-1, 1, 2)

    def advance(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """See `VectorFamily.advance`."""
        self.move(actions)
        near = abs(self.position - self.tasks) < 0.01  # [B, 2]
        return -self.distance(), near[:, 0] & near[:, 1] & self.is_maml

    def oracle_returns(self) -> np.ndarray:
        """Of an episode from the present position."""
        return -self.oracle_distances().sum(axis=0)


class PointSemicircle(_MovedPoint):
    """Find a goal on a semicircle of radius 1 around the origin: ``1 - distance`` within 0.2 of it, else 0.

    Args:
        num_envs: Number of copies.
        dense: The reward is the negative distance instead. None: in the training split alone, to help training, as in
            PEARL; the observation then has the sparse reward of the last step, as the only hint of the goal.
        horizon: Steps of an episode: 20 in PEARL, 60 or 100 elsewhere.
        options: Those of `VectorFamily`.
    """

    view = 1.3

    def __init__(self, num_envs: int = 1, *, dense: bool | None = False, horizon: int = 100, **options: Any) -> None:
        self.dense = dense
        super().__init__(num_envs, horizon, ("sparse reward",) if dense is None else (), **options)

    def draw_tasks(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """``[n, 2]``."""
        angles = rng.uniform(0, np.pi, n)
        return np.stack([np.cos(angles), np.sin(angles)], axis=1)

    def rewards_at(self, distances: np.ndarray) -> np.ndarray:
        """Rewards at these distances to the goal."""
        dense = self.split == "train" if self.dense is None else self.dense
        return -distances if dense else self._sparse(distances)

    @staticmethod
    def _sparse(distances: np.ndarray) -> np.ndarray:
        return np.where(distances <= 0.2, 1 - distances, 0.0)

    def observe(self) -> np.ndarray:
        """See `VectorFamily.observe`."""
        seen = super().observe()
        hint = self._sparse(self.distance())[:, None]  # [B, 1]
        return seen if self.dense is not None else np.concatenate([seen, hint], axis=1, dtype=np.float32)

    def advance(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """See `VectorFamily.advance`."""
        self.move(actions)
        return self.rewards_at(self.distance()), np.zeros(self.num_envs, bool)

    def oracle_returns(self) -> np.ndarray:
        """Of an episode from the present position."""
        return self.rewards_at(self.oracle_distances()).sum(axis=0)


class _PushedPoint(_Point):
    """A point with inertia and friction, pushed by a force of at most 1.

    ``velocity = 0.9 velocity + 0.1 force``, then ``position = position + 0.1 velocity``; it starts at rest, and its
    speed comes near 1. The agent sees position and velocity.

    Attributes:
        velocity: ``[B, 2]``.
    """

    STATE = ("position", "velocity")
    task_word = "goal"
    view = 4.0

    def __init__(self, num_envs: int = 1, *, horizon: int = 50, **options: Any) -> None:
        self.velocity = np.zeros((num_envs, 2))
        super().__init__(
            num_envs,
            observation_space=spaces.Box(-np.inf, np.inf, (4,), np.float32),
            action_space=spaces.Box(-1, 1, (2,), np.float32),
            horizon=horizon,
            obs_names=("position x", "position y", "velocity x", "velocity y"),
            action_names=("force x", "force y"),
            task_names=(f"{self.task_word} x", f"{self.task_word} y"),
            **options,
        )

    def begin(self, copies: np.ndarray) -> None:
        """See `VectorFamily.begin`."""
        self.position[copies] = self.velocity[copies] = 0.0

    def observe(self) -> np.ndarray:
        """See `VectorFamily.observe`."""
        return np.concatenate([self.position, self.velocity], axis=1, dtype=np.float32)

    def advance(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """See `VectorFamily.advance`."""
        self.velocity = 0.9 * self.velocity + 0.1 * _clip_length(np.asarray(actions, np.float64))
        self.position = self.position + 0.1 * self.velocity
        return self.rewards(), np.zeros(self.num_envs, bool)

    def rewards(self) -> np.ndarray:
        """``[B]``, for the present position and velocity."""
        raise NotImplementedError

    def top_speeds(self) -> np.ndarray:
        """``[horizon]``, the highest speed after each step of an episode."""
        return 1 - 0.9 ** np.arange(1, self.horizon + 1)


class PointDirection(_PushedPoint):
    """Move in a direction; the reward is the velocity along it. The task is a vector of length 1, drawn evenly."""

    task_word = "direction"

    def draw_tasks(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """``[n, 2]``."""
        angles = rng.uniform(0, 2 * np.pi, n)
        return np.stack([np.cos(angles), np.sin(angles)], axis=1)

    def rewards(self) -> np.ndarray:
        """See `_PushedPoint.rewards`."""
        return (self.velocity * self.tasks).sum(axis=1)

    def oracle_actions(self) -> np.ndarray:
        """The largest force in the direction."""
        return self.tasks.astype(np.float32)

    def oracle_returns(self) -> np.ndarray:
        """Of an episode from rest."""
        return np.full(self.num_envs, self.top_speeds().sum())


class PointVelocity(_PushedPoint):
    """Move at a velocity; the reward is the negative distance to it. Velocities are drawn from a disc of radius 0.9."""

    task_word = "target velocity"

    def draw_tasks(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """``[n, 2]``."""
        return _disc(n, 0.9, rng)

    def rewards(self) -> np.ndarray:
        """See `_PushedPoint.rewards`."""
        return -np.linalg.norm(self.velocity - self.tasks, axis=1)

    def oracle_actions(self) -> np.ndarray:
        """The force that gives the velocity at once, or the largest one towards it."""
        return _clip_length(10 * self.tasks - 9 * self.velocity).astype(np.float32)

    def oracle_returns(self) -> np.ndarray:
        """Of an episode from rest: along a straight line, as fast as can be."""
        left = np.linalg.norm(self.tasks, axis=1) - self.top_speeds()[:, None]  # [horizon, B]
        return -np.maximum(left, 0.0).sum(axis=0)


class PointGoal(_PushedPoint):
    """Move to a goal; the reward is the negative distance to it. Goals are drawn evenly from a disc of radius 2."""

    def draw_tasks(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """``[n, 2]``."""
        return _disc(n, 2.0, rng)

    def rewards(self) -> np.ndarray:
        """See `_PushedPoint.rewards`."""
        return -self.distance()

    def oracle_actions(self) -> np.ndarray:
        """Accelerates, and brakes in time; the best return is not known."""
        return _clip_length(8 * (self.tasks - self.position) - 6 * self.velocity).astype(np.float32)


def _disc(n: int, radius: float, rng: np.random.Generator) -> np.ndarray:
    """``[n, 2]`` points of a disc around the origin, drawn evenly."""
    angles, radii = rng.uniform(0, 2 * np.pi, n), radius * np.sqrt(rng.random(n))
    return np.stack([radii * np.cos(angles), radii * np.sin(angles)], axis=1)
