"""Previous inputs of an environment's copies: what each did and was given last, its age, seed and noise."""

from __future__ import annotations

from typing import Any

import numpy as np

from rllib_multienv.envs.copies import VectorStep
from rllib_multienv.spaces.previous import SEED_SIZE, noise_size
from rllib_multienv.spec import SpaceSpec

__all__ = ["PreviousInputs"]


class PreviousInputs:
    """Follows the steps of R rows, and adds the previous inputs to their raw observations.

    They are zero at the first time step of an episode, but for its seed and noise. The action is the one that the
    environment was given, in the network's terms, a one for each choice; the reward is the environment's own; the end
    flag is that of an episode within a trial. An observation after an episode's end has the flag 0: its value is that
    of going on.

    Args:
        spaces: The environment's, with `SpaceSpec.inputs`.
        num_rows: R.
        seed: Of the random numbers; None for fresh entropy.
    """

    _STATE = ("_actions", "_acted", "_rewards", "_dones", "_ages", "_seeds", "_noise")

    def __init__(self, spaces: SpaceSpec, num_rows: int, seed: int | None = None) -> None:
        self._spaces, self._num_rows = spaces, num_rows
        self._rng = np.random.default_rng(None if seed is None else [seed, 3])  # not the stream of the copies
        self.reset()

    def reset(self) -> None:
        """All rows begin episodes."""
        self._actions = np.zeros((self._num_rows, self._spaces.action_size))
        self._acted = self._actions.copy()  # the actions of steps that are not complete
        self._rewards, self._dones, self._ages = (np.zeros(self._num_rows) for _ in range(3))
        self._seeds = self._rng.standard_normal((self._num_rows, SEED_SIZE))
        self._noise = self._rng.standard_normal((self._num_rows, noise_size(self._spaces.inputs)))

    def added(self, obs: np.ndarray, rows: Any = slice(None)) -> np.ndarray:
        """Raw observations ``[n, ...]`` of some rows with their previous inputs, as `SpaceSpec.reader` splits them."""
        numbers, extra = self._spaces.without_inputs.reader.split(obs)
        parts = {
            "previous_action": self._actions[rows],
            "previous_reward": self._rewards[rows, None],
            "previous_done": self._dones[rows, None],
            "age": np.log1p(self._ages[rows, None]),
            "seed": self._seeds[rows],
        }
        noise = self._noise[rows]
        previous = np.concatenate([parts.get(name, noise) for name in self._spaces.inputs], axis=1)
        return self._spaces.reader.with_previous(numbers, extra, previous)

    def act(self, actions: Any, acting: np.ndarray | None = None) -> None:
        """The rows in ``acting`` (None: all) act: ``actions`` ``[R, ...]`` in the environment's own terms."""
        rows = slice(None) if acting is None else acting
        self._acted[rows] = self._spaces.action.numbers(self._spaces.action_from_env(actions))[rows]

    def settle(self, rewards: np.ndarray, complete: np.ndarray, dones: np.ndarray | None = None) -> None:
        """Steps are complete, and episodes of trials have ended with some of them (``dones``); all ``[R]``."""
        self._actions[complete], self._rewards[complete] = self._acted[complete], rewards[complete]
        self._dones[complete] = 0.0 if dones is None else dones[complete]
        self._ages[complete] += 1.0
        if dones is not None:
            self._draw_noise(complete & (dones > 0))

    def _draw_noise(self, rows: np.ndarray) -> None:
        """Draw that of the rows, bool ``[R]``, whose next episode begins."""
        self._noise[rows] = self._rng.standard_normal((int(rows.sum()), self._noise.shape[1]))

    def begin(self, rows: np.ndarray) -> None:
        """These rows, bool ``[R]``, begin episodes (of several, trials)."""
        self._actions[rows] = 0.0
        for of_rows in (self._rewards, self._dones, self._ages):
            of_rows[rows] = 0.0
        self._seeds[rows] = self._rng.standard_normal((int(rows.sum()), SEED_SIZE))
        self._draw_noise(rows)

    def follow(self, step: VectorStep) -> None:
        """Follow a step."""
        self._settle(step)
        self._begin(step)

    def step(self, step: VectorStep) -> None:
        """Follow a step, and add to its observations."""
        self._settle(step)
        if step.final_obs:
            rows = list(step.final_obs)
            step.final_obs = dict(zip(rows, self.added(np.stack(list(step.final_obs.values())), rows), strict=True))
        self._begin(step)
        step.obs = self.added(step.obs)

    def _settle(self, step: VectorStep) -> None:
        ends, done = step.episode_ends, step.terminated | step.truncated
        self.settle(step.rewards, ~step.is_reset, None if ends is None else ends & ~done)

    def _begin(self, step: VectorStep) -> None:
        done = step.terminated | step.truncated
        self.begin(done | step.is_reset if step.acting is None else done)

    def get_state(self) -> dict[str, Any]:
        """What `set_state` takes."""
        arrays = {name: getattr(self, name).copy() for name in self._STATE}
        return {"rng": self._rng.bit_generator.state, **arrays}

    def set_state(self, state: dict[str, Any]) -> None:
        """Go back to where `get_state` was called."""
        self._rng.bit_generator.state = state["rng"]
        for name in self._STATE:
            setattr(self, name, state[name].copy())
