"""Atari with the standard preprocessing of ale-py: options, and a single copy.

`EnvSpec("ALE/Pong-v5")` is Gymnasium's environment with its registered arguments (frame skip 4, sticky actions with
probability 0.25), observed as four stacked 84x84 grey frames, with up to 30 no-op actions at the start. `kwargs` are
those of `gymnasium.make_vec("ALE/Pong-v5", ...)`, which makes an `ale_py.AtariVectorEnv`; `OPTIONS_OF_LEARNERS` change
only what learners see, never the score. With `obs_type` it is Gymnasium's own environment without preprocessing.
"""

from __future__ import annotations

import inspect
import math
import re
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode

from rllib_multienv.envs.errors import EnvFailure, describe
from rllib_multienv.gym_ids import did_you_mean, find_env
from rllib_multienv.spec import EnvSpec

__all__ = ["AtariEnv", "atari_vector_env", "is_preprocessed", "max_episode_steps", "reward_clip"]

#: ``reward_clipping``: rewards are clipped to [-1, 1]. ``life_loss_info``: a lost life ends what is ahead in values,
#: while the game goes on. Both are off by default.
OPTIONS_OF_LEARNERS = ("reward_clipping", "life_loss_info")
_WORDS = "noop|up|down|right|left|fire"
_OURS = ("self", "game", "num_envs", "batch_size", "autoreset_mode")


def is_preprocessed(spec: EnvSpec) -> bool:
    """Whether an environment is an Atari game with preprocessing."""
    return isinstance(spec.make, str) and _gym_id(spec).startswith("ALE/") and "obs_type" not in spec.kwargs


def _gym_id(spec: EnvSpec) -> str:
    return str(spec.make).removeprefix("ale_py:")


def _options(spec: EnvSpec) -> dict[str, Any]:
    """Arguments of `AtariVectorEnv`: the registered ones, changed by the spec.

    Raises:
        ValueError: An argument is unknown.
    """
    find_env(str(spec.make))  # which imports ale-py, or says what to install
    from ale_py.vector_env import AtariVectorEnv

    known = [name for name in inspect.signature(AtariVectorEnv.__init__).parameters if name not in _OURS]
    for name in spec.kwargs:
        if name not in known:
            raise ValueError(
                f"Environment {spec.id!r}: ale-py's preprocessing has no option {name!r}.{did_you_mean(name, known)} "
                f"Known are {', '.join(known)}. With kwargs={{'obs_type': 'rgb', ...}} the environment is Gymnasium's "
                "own, with all its arguments and without preprocessing."
            )
    options = {**gym.spec(_gym_id(spec)).kwargs, **spec.kwargs}
    if spec.max_episode_steps is not None:
        frames = spec.max_episode_steps * options["frameskip"]
        options["max_num_frames_per_episode"] = min(frames, options["max_num_frames_per_episode"])
    return options


def atari_vector_env(spec: EnvSpec, num_envs: int, **options: Any) -> Any:
    """Make an `ale_py.AtariVectorEnv`.

    Args:
        spec: The environment.
        num_envs: Number of copies.
        options: Arguments that come before the spec's.

    Raises:
        EnvFailure: ale-py refused.
        ValueError: The environment or an argument is unknown, or ale-py is not installed.
    """
    options = {**_options(spec), **dict.fromkeys(OPTIONS_OF_LEARNERS, False), **options}
    from ale_py.vector_env import AtariVectorEnv

    try:
        return AtariVectorEnv(num_envs=num_envs, **options)
    except Exception as error:
        raise EnvFailure(spec.id, "make", describe(error)) from error


def reward_clip(spec: EnvSpec) -> float | None:
    """What learners clip rewards to, as ``[-1, 1] * reward_clip``; None where they do not."""
    return 1.0 if is_preprocessed(spec) and spec.kwargs.get("reward_clipping") else None


def max_episode_steps(spec: EnvSpec) -> int:
    """Steps after which an episode is cut."""
    options = _options(spec)
    return math.ceil(options["max_num_frames_per_episode"] / options["frameskip"])


class AtariEnv(gym.Env):
    """A single copy, with the observations that a copy of `atari_vector.AtariCopies` with the same seed has.

    Rewards and ends are those of the game, whatever learners see.

    Args:
        spec: The environment.
        render_mode: ``"rgb_array"``: `render` gives the game's screen in colour, from a second game that is played
            alongside.
    """

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"], "render_fps": 15}  # noqa: RUF012 (Gymnasium's)

    def __init__(self, spec: EnvSpec, render_mode: str | None = None) -> None:
        options = {"num_threads": 1, "autoreset_mode": AutoresetMode.NEXT_STEP}
        self._games = [atari_vector_env(spec, 1, **options)]
        if render_mode is not None:
            colour = {"grayscale": False, "stack_num": 1, "img_height": 210, "img_width": 160}
            self._games.append(atari_vector_env(spec, 1, **options, **colour))
        self.render_mode = render_mode
        self.observation_space = self._games[0].single_observation_space
        self.action_space = self._games[0].single_action_space
        self._screen: np.ndarray | None = None
        self._seeded = False

    @property
    def action_names(self) -> tuple[str, ...]:
        """``"action right fire"`` and the like; none for continuous actions."""
        names = [action.name.lower() for action in self._games[0].ale.get_action_set()]
        discrete = isinstance(self.action_space, gym.spaces.Discrete)
        return tuple(" ".join(["action", *re.findall(_WORDS, name)]) for name in names) if discrete else ()

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict]:
        """Begin an episode."""
        super().reset(seed=seed)
        if seed is None and not self._seeded:
            seed = int(self.np_random.integers(2**31))  # both games need the same
        self._seeded = True
        results = [game.reset(seed=None if seed is None else np.array([seed])) for game in self._games]
        self._screen = results[-1][0][0, -1]  # [height, width, 3] where it is rendered
        return results[0][0][0], _first(results[0][1])

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict]:
        """One step: `frameskip` frames."""
        if not self.action_space.contains(action):  # ale-py would wait forever
            raise ValueError(f"the action {action!r} is outside its space {self.action_space}")
        results = [game.step(np.asarray(action)[None]) for game in self._games]
        self._screen = results[-1][0][0, -1]
        obs, reward, terminated, truncated, info = results[0]
        return obs[0], float(reward[0]), bool(terminated[0]), bool(truncated[0]), _first(info)

    def render(self) -> np.ndarray | None:  # type: ignore[override]
        """The screen: uint8 ``[210, 160, 3]``."""
        return self._screen if self.render_mode else None

    def close(self) -> None:
        """Free the games."""
        self._games.clear()


def _first(infos: dict[str, np.ndarray]) -> dict[str, Any]:
    return {key: values[0].item() for key, values in infos.items() if key != "env_id"}
