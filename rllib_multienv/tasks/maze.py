"""The two-goal maze with hidden information: find out which of two boxes is right (after MTEnv's TwoGoalMaze)."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from gymnasium import spaces

from rllib_multienv.tasks.drawing import BLUE, DARK, GREY, RED, YELLOW, Picture
from rllib_multienv.tasks.family import VectorFamily

__all__ = ["TwoGoalMaze"]

SIDE, TURN = 3.0, np.pi / 4
#: A box is reached, and the grey box tells which one is right, within this distance.
REACH, TELLS = 0.6, 1.0
IMAGE = 32


class TwoGoalMaze(VectorFamily):
    """A square arena with a red and a blue box: +1 for the right one, -1 for the other; both end the episode.

    A grey box tells which one is right while the agent is within 1.0 of it. The task: the right box (+1 red, -1
    blue), and the places of the red, the blue and the grey box, at least 2 apart. The agent starts at least 1.2 from
    all of them with a random heading. Actions: turn left, turn right (by 45 degrees), go forward.

    Args:
        num_envs: Number of copies.
        observation: ``"vector"``: place, heading (cosine and sine), the offsets of the three boxes, and what the grey
            box tells (0: nothing). ``"image"``: the arena from above, ``[32, 32, 3]``; the grey box has the colour of
            the right one while it tells.
        step: How far forward is, at most 1.
        exploration_episodes: The first episodes of a trial, in which the red and the blue box do nothing, so that only
            the grey box tells. They are counted where copies are stepped as arrays.
        horizon: Steps of an episode.
        options: Those of `VectorFamily`.
    """

    STATE = ("position", "heading")

    def __init__(
        self,
        num_envs: int = 1,
        *,
        observation: Literal["vector", "image"] = "vector",
        step: float = 0.5,
        exploration_episodes: int = 0,
        horizon: int = 200,
        **options: Any,
    ) -> None:
        if not 0 < step <= 1:
            raise ValueError(f"TwoGoalMaze: step={step!r} must be in (0, 1].")
        self.step_length, self.exploration_episodes = step, exploration_episodes
        if observation not in ("vector", "image"):
            raise ValueError(f"TwoGoalMaze: observation={observation!r} must be 'vector' or 'image'.")
        self.is_image = observation == "image"
        self.position, self.heading = np.zeros((num_envs, 2)), np.zeros(num_envs, np.int64)
        boxes = [f"{colour} box {axis}" for colour in ("red", "blue", "grey") for axis in "xy"]
        names = ["position x", "position y", "heading cos", "heading sin", *boxes, "right box red"]
        space = spaces.Box(0, 255, (IMAGE, IMAGE, 3), np.uint8) if self.is_image else None
        super().__init__(
            num_envs,
            space or spaces.Box(-np.inf, np.inf, (len(names),), np.float32),
            spaces.Discrete(3),
            horizon,
            obs_names=() if self.is_image else names,
            action_names=("turn left", "turn right", "move forward"),
            task_names=("right box red", *(f"place {name}" for name in boxes)),
            **options,
        )

    def draw_tasks(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """``[n, 7]``."""
        right = rng.choice([-1.0, 1.0], (n, 1))
        return np.concatenate([right, np.stack([_places(rng) for _ in range(n)])], axis=1)

    @property
    def boxes(self) -> np.ndarray:
        """``[B, 3, 2]``, places of the red, the blue and the grey box."""
        return self.tasks[:, 1:].reshape(-1, 3, 2)

    def begin(self, copies: np.ndarray) -> None:
        """See `VectorFamily.begin`."""
        for copy in copies.tolist():
            rng, boxes, near = self.generators[copy], self.boxes[copy], True
            while near:
                self.position[copy] = rng.uniform(-SIDE, SIDE, 2)
                near = bool((np.linalg.norm(boxes - self.position[copy], axis=1) < 1.2).any())
            self.heading[copy] = rng.integers(8)

    def advance(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """See `VectorFamily.advance`."""
        self.heading = (self.heading + np.array([1, -1, 0])[actions]) % 8
        moved = self.position + self.step_length * _direction(self.heading) * (actions == 2)[:, None]
        self.position = np.clip(moved, -SIDE, SIDE)
        reached = self._distances()[:, :2] <= REACH  # [B, 2]
        sign = np.where(reached[:, 0], 1, np.where(reached[:, 1], -1, 0))
        pays = (self._episode >= self.exploration_episodes) | (self.trial_episodes == 1)
        return pays * sign * self.tasks[:, 0], pays & reached.any(axis=1)

    def _distances(self) -> np.ndarray:
        """``[B, 3]``, to the boxes."""
        return np.linalg.norm(self.boxes - self.position[:, None], axis=2)

    def _told(self) -> np.ndarray:
        """``[B]``, what the grey box tells now."""
        return np.where(self._distances()[:, 2] <= TELLS, self.tasks[:, 0], 0.0)

    def observe(self) -> np.ndarray:
        """See `VectorFamily.observe`."""
        if self.is_image:
            return self._pictures(slice(None), IMAGE)
        offsets = (self.boxes - self.position[:, None]).reshape(-1, 6)
        return np.concatenate(
            [self.position, _direction(self.heading), offsets, self._told()[:, None]], axis=1, dtype=np.float32
        )

    def space_with_task(self, space: spaces.Box, size: int) -> Any:
        """With images a Dict of the image and the task."""
        if not self.is_image:
            return super().space_with_task(space, size)
        return spaces.Dict({"image": space, "task": spaces.Box(-SIDE, SIDE, (size,), np.float32)})

    def observe_all(self) -> Any:
        """See `VectorFamily.observe_all`."""
        if self.is_image and self.task_visible:
            return {"image": self.observe(), "task": self.tasks.astype(np.float32)}
        return super().observe_all()

    def oracle_actions(self) -> np.ndarray:
        """To the right box, by the shortest way around the other one."""
        copies, right = np.arange(self.num_envs), np.where(self.tasks[:, 0] > 0, 0, 1)
        goal, wrong = self.boxes[copies, right][:, None], self.boxes[copies, 1 - right][:, None]
        places = np.clip(self.position[:, None] + self.step_length * _direction(np.arange(8)), -SIDE, SIDE)  # [B, 8, 2]
        turn = (_way_around(places, goal, wrong, REACH + 0.05).argmin(axis=1) - self.heading + 4) % 8 - 4
        return np.where(turn == 0, 2, np.where(turn > 0, 0, 1))

    def oracle_returns(self) -> np.ndarray:
        """1, if the time is enough."""
        return np.ones(self.num_envs)

    def _pictures(self, copies: Any, size: int) -> np.ndarray:
        """uint8 ``[N, size, size, 3]``."""
        edge, told = SIDE + 0.5, self._told()[copies].astype(np.int64)
        picture = Picture((-edge, -edge), (edge, edge), size)
        colours = (RED, BLUE, np.array([GREY, RED, BLUE])[told])
        for place, colour in zip(self.boxes[copies].swapaxes(0, 1), colours, strict=True):
            picture.box(place, 0.8, 0.8, colour)
        picture.disc(self.position[copies], 0.35, DARK)
        picture.disc(self.position[copies] + 0.3 * _direction(self.heading[copies]), 0.2, YELLOW)
        return picture.pixels

    def draw(self, copy: int) -> np.ndarray:
        """See `VectorFamily.draw`."""
        return self._pictures([copy], 200)[0]


def _direction(heading: Any) -> np.ndarray:
    """``[..., 2]``, unit vectors of headings in eighths of a turn."""
    return np.stack([np.cos(heading * TURN), np.sin(heading * TURN)], axis=-1)


def _way_around(start: np.ndarray, goal: np.ndarray, centre: np.ndarray, radius: float) -> np.ndarray:
    """``[...]``, lengths of the shortest ways around a disc; infinite from inside it."""
    a, b = start - centre, goal - centre  # [..., 2]
    far_a, far_b = np.linalg.norm(a, axis=-1), np.linalg.norm(b, axis=-1)
    cosine = (a * b).sum(axis=-1) / np.maximum(far_a * far_b, 1e-9)
    tangents = [np.arccos(np.minimum(radius / np.maximum(far, 1e-9), 1.0)) for far in (far_a, far_b)]
    arc = np.arccos(np.clip(cosine, -1, 1)) - tangents[0] - tangents[1]  # along the disc; negative: a straight way
    around = sum(np.sqrt(np.maximum(far**2 - radius**2, 0.0)) for far in (far_a, far_b)) + radius * arc
    length = np.where(arc > 0, around, np.linalg.norm(a - b, axis=-1))
    return np.where(far_a < radius, np.inf, length)


def _places(rng: np.random.Generator) -> np.ndarray:
    """``[6]``, three places at least 2 apart, and at least 1 from the walls."""
    while True:
        places = rng.uniform(-SIDE + 1, SIDE - 1, (3, 2))
        if all(np.linalg.norm(places[i] - places[i - 1]) >= 2.0 for i in range(3)):
            return places.reshape(-1)
