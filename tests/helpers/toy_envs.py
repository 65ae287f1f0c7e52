"""Small deterministic environments whose every number is known."""

from __future__ import annotations

import os
import time
from typing import Any

import gymnasium as gym
import numpy as np


class Counter(gym.Env):
    """Counts its steps; observation (episode, step). Episodes end in turn by termination and by truncation.

    Episode e lasts 3 + e % 4 steps, is terminated if e is even and truncated if it is odd. The reward is
    100 * episode + step, plus the action.
    """

    def __init__(self, start: int = 0, render_mode: str | None = None) -> None:
        self.observation_space = gym.spaces.Box(-1e6, 1e6, (2,), np.float32)
        self.action_space = gym.spaces.Discrete(3)
        self.render_mode = render_mode
        self.episode, self.t = start - 1, 0

    def _obs(self) -> np.ndarray:
        return np.array([self.episode, self.t], np.float64)  # wider than the space, as in many environments

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[np.ndarray, dict]:
        super().reset(seed=seed)
        self.episode, self.t = self.episode + 1, 0
        return self._obs(), {"begun": self.episode}

    def step(self, action: Any) -> tuple[np.ndarray, Any, bool, bool, dict]:
        self.t += 1
        over = self.t >= 3 + self.episode % 4
        reward = np.float32(100 * self.episode + self.t + int(action))
        return self._obs(), reward, over and self.episode % 2 == 0, over and self.episode % 2 == 1, {"step": self.t}


class Moody(Counter):
    """`Counter` whose second observation is in another unit each time that it is made, whatever the seed."""

    def __init__(self) -> None:
        super().__init__()
        self.unit = np.exp(np.random.default_rng().normal())

    def _obs(self) -> np.ndarray:
        return super()._obs() * [1.0, self.unit]


class Paced(Counter):
    """`Counter` that takes `pause` seconds for a step, and hangs in a step as long as the file `gate` exists."""

    def __init__(self, pause: float = 0.0, gate: str = "") -> None:
        super().__init__()
        self.pause, self.gate = pause, gate

    def step(self, action: Any) -> tuple[np.ndarray, Any, bool, bool, dict]:
        time.sleep(self.pause)
        while os.path.exists(self.gate):
            time.sleep(0.02)
        return super().step(action)


class Stamped(Paced):
    """`Paced` that writes the time of every step to a file."""

    def __init__(self, stamps: str, pause: float = 0.0) -> None:
        super().__init__(pause)
        self.stamps = stamps

    def step(self, action: Any) -> tuple[np.ndarray, Any, bool, bool, dict]:
        with open(self.stamps, "a", encoding="utf-8") as file:
            file.write(f"{time.time()}\n")
        return super().step(action)


class Faulty(gym.Env):
    """Does one thing wrong at its third step, or where `fault` says."""

    def __init__(self, fault: str = "") -> None:
        if fault == "make":
            raise OSError("no such file: level.dat")
        self.observation_space = gym.spaces.Box(-1, 1, (2,), np.float32)
        self.action_space = gym.spaces.Discrete(2)
        self.fault, self.t = fault, 0

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> Any:
        super().reset(seed=seed)
        if self.fault == "reset":
            raise KeyError("level")
        return np.zeros(2, np.float32), {}

    def step(self, action: Any) -> Any:
        self.t += 1
        obs, bad = np.zeros(2, np.float32), self.t == 3 and int(action) == 1
        if bad and self.fault == "step":
            raise ZeroDivisionError("division by zero")
        if bad and self.fault == "exit":
            os._exit(7)
        return obs, 1, False, False, {}


class Unreliable(Counter):
    """`Counter` that raises on a random step, with this probability."""

    def __init__(self, probability: float = 0.001) -> None:
        super().__init__()
        self.probability = probability

    def step(self, action: Any) -> tuple[np.ndarray, Any, bool, bool, dict]:
        if self.np_random.random() < self.probability:
            raise ConnectionError("the simulator is gone")
        return super().step(action)


class Grid(gym.Env):
    """Discrete observations and actions that do not start at zero."""

    def __init__(self) -> None:
        self.observation_space = gym.spaces.Discrete(4, start=-2)
        self.action_space = gym.spaces.Discrete(3, start=5)

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[int, dict]:
        super().reset(seed=seed)
        return -2, {}

    def step(self, action: Any) -> tuple[int, int, bool, bool, dict]:
        assert self.action_space.contains(action), action
        return int(action) - 6, 0, False, False, {}


def make_counter(start: int = 0) -> Counter:
    return Counter(start)


class Breaking(gym.Env):
    """Does something wrong at its `at`-th step: raises (`step`, `reset`), ends its process (`exit`), or gives what is
    not finite.

    Episodes last four steps. A reset that fails is the first after that step. With `once`, a file, it happens only
    while the file exists, and the file is removed: the next copy is sound.
    """

    def __init__(self, fault: str = "", at: int = 6, once: str | None = None) -> None:
        self.observation_space = gym.spaces.Box(-1, 1, (3,), np.float32)
        self.action_space = gym.spaces.Discrete(2)
        self.fault, self.at, self.once, self.steps = fault, at, once, 0

    def _breaks(self) -> bool:
        if self.steps < self.at or (self.once is not None and not os.path.exists(self.once)):
            return False
        if self.once is not None:
            os.remove(self.once)
        return True

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[np.ndarray, dict]:
        super().reset(seed=seed)
        if self.fault == "reset" and self._breaks():
            raise KeyError("level 7")
        return self.np_random.uniform(-1, 1, 3).astype(np.float32), {}

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict]:
        self.steps += 1
        obs, reward, over = self.np_random.uniform(-1, 1, 3).astype(np.float32), 1.0, self.steps % 4 == 0
        if self.fault not in ("", "reset") and self._breaks():
            if self.fault == "step":
                raise ZeroDivisionError("wheel came off")
            if self.fault == "exit":
                os._exit(7)
            kind, quantity = self.fault.split("_")
            if quantity == "reward":
                reward = float(kind)
            else:
                obs[1] = float(kind)
        return obs, reward, False, over, {}


class Anything(gym.Env):
    """A picture, a text, numbers and a choice are seen; two numbers, a choice and two switches are given.

    The picture's first pixel, the length of the text, the numbers and the choice all tell the step. Episodes last
    `length` steps. With `mask`, the info forbids the push of the step before.
    """

    def __init__(self, length: int = 5, mask: bool = False) -> None:
        spaces = gym.spaces
        self.observation_space = spaces.Dict(
            camera=spaces.Box(0, 255, (16, 18, 3), np.uint8),
            robot=spaces.Dict(where=spaces.Box(-np.inf, np.inf, (2,), np.float64), mode=spaces.Discrete(4)),
            note=spaces.Text(6, min_length=0),
        )
        self.action_space = spaces.Dict(
            move=spaces.Box(-2, 2, (2,), np.float32), push=spaces.Discrete(3), lights=spaces.MultiBinary(2)
        )
        self.length, self.mask, self.t, self.forbidden = length, mask, 0, 0

    def _seen(self) -> tuple[dict, dict]:
        camera = np.zeros((16, 18, 3), np.uint8)
        camera[0, 0, 0] = self.t
        where = np.array([self.t, 1e9 + self.t], np.float64)
        seen = {"camera": camera, "robot": {"where": where, "mode": self.t % 4}, "note": "a" * min(self.t, 6)}
        allowed = np.ones(5, np.int8)  # lights, then push, by their names
        allowed[2 + self.forbidden] = 0
        return seen, {"action_mask": allowed} if self.mask else {}

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[dict, dict]:
        super().reset(seed=seed)
        self.t = 0
        return self._seen()

    def step(self, action: dict) -> tuple[dict, float, bool, bool, dict]:
        assert self.action_space.contains(action), action
        assert not self.mask or action["push"] != self.forbidden, action
        self.t, self.forbidden = self.t + 1, int(action["push"])
        seen, info = self._seen()
        return seen, float(action["move"].sum()), self.t == self.length, False, info


class Choices(gym.Env):
    """A tuple of an image, channels first, and bits is seen; a grid of choices is given. Episodes last five steps."""

    def __init__(self) -> None:
        spaces = gym.spaces
        self.observation_space = spaces.Tuple([spaces.Box(0, 255, (2, 16, 16), np.uint8), spaces.MultiBinary([2, 2])])
        self.action_space = spaces.MultiDiscrete([[2, 3], [4, 2]], start=[[1, 0], [0, -1]])
        self.t = 0

    def _seen(self) -> tuple[np.ndarray, np.ndarray]:
        return np.full((2, 16, 16), self.t, np.uint8), np.full((2, 2), self.t % 2, np.int8)

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[Any, dict]:
        super().reset(seed=seed)
        self.t = 0
        return self._seen(), {}

    def step(self, action: np.ndarray) -> tuple[Any, float, bool, bool, dict]:
        assert self.action_space.contains(action), action
        self.t += 1
        return self._seen(), float(action[1, 1]), self.t == 5, False, {}


class Corners(gym.Env):
    """Go to one of the corners of a square; a Dict with a nested one, and continuous actions.

    An episode lasts 20 steps. The reward is minus the distance to the corner, which only the Discrete leaf tells.
    """

    CORNERS = np.array([[-1, -1], [-1, 1], [1, -1], [1, 1]], np.float32)

    def __init__(self) -> None:
        position = gym.spaces.Dict({"x": gym.spaces.Box(-1, 1, (1,)), "y": gym.spaces.Box(-1, 1, (1,))})
        self.observation_space = gym.spaces.Dict({"position": position, "corner": gym.spaces.Discrete(4)})
        self.action_space = gym.spaces.Box(-1, 1, (2,))
        self.position, self.corner, self.t = np.zeros(2, np.float32), 0, 0

    def _obs(self) -> dict[str, Any]:
        x, y = self.position[:1].copy(), self.position[1:].copy()
        return {"position": {"x": x, "y": y}, "corner": self.corner}

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[dict[str, Any], dict]:
        super().reset(seed=seed)
        self.position = self.np_random.uniform(-1, 1, 2).astype(np.float32)
        self.corner, self.t = int(self.np_random.integers(4)), 0
        return self._obs(), {}

    def step(self, action: Any) -> tuple[dict[str, Any], float, bool, bool, dict]:
        self.t += 1
        self.position = np.clip(self.position + 0.3 * np.asarray(action, np.float32), -1, 1)
        distance = float(np.linalg.norm(self.position - self.CORNERS[self.corner]))
        return self._obs(), -distance, False, self.t == 20, {}


class Copying(gym.Env):
    """Repeat three symbols; MultiDiscrete observations and actions.

    An episode lasts 10 steps. The reward is the share of the symbols that the action repeats.
    """

    SYMBOLS = (3, 4, 5)

    def __init__(self) -> None:
        self.observation_space = gym.spaces.MultiDiscrete(self.SYMBOLS)
        self.action_space = gym.spaces.MultiDiscrete(self.SYMBOLS)
        self.symbols, self.t = np.zeros(3, np.int64), 0

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[np.ndarray, dict]:
        super().reset(seed=seed)
        self.symbols, self.t = self.np_random.integers(self.SYMBOLS), 0
        return self.symbols, {}

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict]:
        self.t += 1
        reward = float((np.asarray(action) == self.symbols).mean())
        self.symbols = self.np_random.integers(self.SYMBOLS)
        return self.symbols, reward, False, self.t == 10, {}
