"""Attendance: members of a world that join and leave at given times."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rllib_multienv.envs.vector import EnvCopies, VectorStep


class Attendance:
    """Which rows of one member are in their worlds (`WorldSpec.starts`). All worlds of a runner have the same age.

    A row that joins begins an episode. One that leaves ends its episode as by a time limit. While it is absent its copy
    is stepped too, and what comes of it is no experience.

    Args:
        copies: The member's copies.
        times: First time step and the one after the last of each of its k copies in a world.
        life: Time steps after which a world begins again; None: never.
    """

    def __init__(self, copies: EnvCopies, times: Sequence[tuple[int, float]], life: int | None) -> None:
        self._copies, self._life = copies, life
        self._starts, self._stops = np.tile(np.array(times, float).T, copies.num_copies // len(times))  # [B] each
        self.age = 0

    @property
    def present(self) -> np.ndarray:
        """bool ``[B]``, the rows that are in their worlds now."""
        present: np.ndarray = (self._starts <= self.age) & (self.age < self._stops)
        return present

    def follow(self, step: VectorStep) -> bool:
        """Change a step into one of the members that were present, and let time pass.

        Returns:
            Whether a new life begins; `join` is to be called in any case.
        """
        absent = ~self.present
        self.age += 1
        leaves = ~absent & (self.age == self._stops)
        cut = leaves & ~(step.terminated | step.truncated)
        step.final_obs |= {b: step.obs[b].copy() for b in np.flatnonzero(cut).tolist()}
        step.truncated = step.truncated | cut
        if step.episode_ends is not None:
            step.episode_ends = (step.episode_ends | cut) & ~absent
        step.is_reset = step.is_reset | absent
        step.rewards = np.where(absent, 0.0, step.rewards)
        step.terminated, step.truncated = step.terminated & ~absent, step.truncated & ~absent
        step.final_obs = {b: last for b, last in step.final_obs.items() if not absent[b]}
        if step.success is not None:
            step.success = step.success & ~absent
        is_over = self.age == self._life
        if is_over:
            self.age = 0
        return is_over

    def join(self, step: VectorStep) -> None:
        """Let the rows that are present from now on begin episodes, after a step."""
        joining = self._starts == self.age
        if joining.any():
            obs, infos = self._copies.begin(joining)
            step.obs[joining] = obs
            step.reset_infos = {**step.reset_infos, **infos}
