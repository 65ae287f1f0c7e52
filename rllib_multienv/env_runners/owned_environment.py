"""An environment that a runner owns: its copies, and the episodes that they are in."""

from __future__ import annotations

from typing import Any

import numpy as np

from rllib_multienv.envs.vector import EnvCopies, VectorStep
from rllib_multienv.rollout import RunningEpisode
from rllib_multienv.spec import EnvSpec


class OwnedEnvironment:
    """Copies of one environment between two fragments.

    Attributes:
        spec: What the environment is.
        obs: Raw observations [B, ...] that the policy acts on next; None before the first reset.
        running: [B], the episode that each copy is in.
    """

    def __init__(
        self, spec: EnvSpec, num_envs: int, seed: int | None, *, mask_in_info: bool = False, evaluation: bool = False
    ) -> None:
        self.spec = spec
        self.num_envs = num_envs
        self._seed, self._options = seed, {"mask_in_info": mask_in_info, "evaluation": evaluation}
        self._make()

    def _make(self) -> None:
        self.copies = EnvCopies(self.spec, self.num_envs, seed=self._seed, **self._options)
        self.obs: np.ndarray | None = None
        self._last: VectorStep | None = None
        self.running: list[RunningEpisode] = []

    def reset(self) -> None:
        """Begin new episodes in all copies."""
        self.obs, self._last = self.copies.reset(), None
        self.running = [RunningEpisode() for _ in range(self.num_envs)]

    def recreate(self) -> None:
        """Replace all copies by new ones; they start new episodes at the next reset, from other seeds."""
        self.close()
        if self._seed is not None:
            self._seed += 1
        self._make()

    def step(self, actions: Any) -> VectorStep:
        """Step all copies with B of the environment's own actions.

        Raises:
            EnvFailure: The environment raised.
            NonFiniteError: It returned an observation or reward that is not finite.
        """
        step = self.copies.step(actions)
        self.obs, self._last = step.obs, step
        return step

    def infos(self) -> list[Any]:
        """The infos [B] that came with :attr:`obs`; empty ones after a restore."""
        if self._last is None:
            return [self.copies.infos[b] for b in range(self.num_envs)]
        return [self._last.reset_infos.get(b, self._last.infos[b]) for b in range(self.num_envs)]

    def get_state(self) -> dict[str, Any] | None:
        """All that is needed to continue where the copies stand; None where the environment cannot be captured."""
        if self.obs is None:
            return None
        snapshot = self.copies.snapshot()
        if snapshot is None:
            return None
        episodes = [
            {"id_": r.id_, "length": r.length, "return_": r.return_, "custom_data": r.custom_data} for r in self.running
        ]
        return {"snapshot": snapshot, "episodes": episodes}

    def set_state(self, state: dict[str, Any]) -> None:
        """Continue from :meth:`get_state`.

        New episodes begin at the next sample instead with another number of copies, a backend that cannot be set to a
        state (a checkpoint may be restored on a machine on which "auto" means EnvPool), or a state that does not fit.
        """
        self.obs = None
        if len(state["episodes"]) != self.num_envs or not self.copies.restorable:
            return
        self.obs, self._last = self.copies.restore(state["snapshot"]), None
        self.running = [RunningEpisode(**episode) for episode in state["episodes"]]

    def close(self) -> None:
        """Close all copies."""
        self.copies.close()
