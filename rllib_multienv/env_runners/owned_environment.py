"""An environment that a runner owns: its copies, and the episodes that they are in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from rllib_multienv.env_runners.attendance import Attendance
from rllib_multienv.env_runners.shared_tasks import SharedTasks, TaskFollower
from rllib_multienv.envs.vector import EnvCopies, VectorStep
from rllib_multienv.opponents import Match, Opponent
from rllib_multienv.rollout import RunningEpisode
from rllib_multienv.spec import EnvSpec
from rllib_multienv.worlds import WorldSpec


class OwnedEnvironment:
    """Copies of one environment between two fragments.

    Attributes:
        spec: What the environment is.
        num_envs: Rows B: copies, or copies times agents.
        obs: Raw observations [B, ...] that the policy acts on next; None before the first reset.
        running: [B], the episode that each copy is in.
        match: Who plays which agents; None where the learner plays all.
        state: [B, D], the memory's state after the last step of each row; None without memory.
        shared_tasks: The tasks of its world, where the members share them.
    """

    def __init__(
        self,
        spec: EnvSpec,
        num_copies: int,
        seed: int | None,
        *,
        mask_in_info: bool = False,
        inputs: Sequence[str] = (),
        evaluation: bool = False,
        partner: OwnedEnvironment | None = None,
        world: WorldSpec | None = None,
        shared_tasks: SharedTasks | None = None,
    ) -> None:
        """Make the copies.

        Args:
            spec: What the environment is.
            num_copies: Copies.
            seed: Their seed.
            mask_in_info: See `SpaceSpec.mask_in_info`.
            inputs: See `SpaceSpec.inputs`.
            evaluation: Whether data sets show their test split.
            partner: Another role of the same copies.
            world: The world that it is a member of.
            shared_tasks: The tasks of its world, where the members share them.
        """
        self.spec = spec
        self._num_copies = num_copies
        self._seed = seed
        self._world = world
        self.shared_tasks = shared_tasks
        self._options: dict[str, Any] = {
            "mask_in_info": mask_in_info,
            "inputs": inputs,
            "evaluation": evaluation,
        }
        self.match: Match | None = None
        self._make(partner)

    def _make(self, partner: OwnedEnvironment | None = None) -> None:
        of_partner = None if partner is None else partner.copies
        self.copies: EnvCopies = EnvCopies(
            self.spec, self._num_copies, seed=self._seed, partner=of_partner, **self._options
        )
        self.num_envs = self.copies.num_envs
        self._follower = (
            None if self.shared_tasks is None else TaskFollower(self.shared_tasks, self.copies, self.spec.world_copies)
        )
        self._attend()
        self.obs: np.ndarray | None = None
        self._held: dict[str, np.ndarray] = {}
        self._last: VectorStep | None = None
        self._texts_cut = 0
        self.state: np.ndarray | None = None
        self._initial_state: np.ndarray | None = None  # [D]
        self.running: list[RunningEpisode] = []

    def reset(self, initial_state: np.ndarray | None = None) -> None:
        """Begin new episodes in all copies.

        Args:
            initial_state: [D], the memory's state at the beginning of an episode; None without memory.
        """
        if self._follower is not None:
            self._follower.before_reset()
        self.obs, self._last, self._held = self.copies.reset(), None, {}
        if self._attendance is not None:
            self._attendance.age = 0
        elif self._follower is not None:
            self._follower.begun(np.arange(self.num_envs))
        self._initial_state = initial_state
        self.state = None if initial_state is None else np.repeat(initial_state[None], self.num_envs, 0)
        self.running = [RunningEpisode() for _ in range(self.num_envs)]

    def change_world(self, world: WorldSpec) -> None:
        """Its world has other members now; where its life has another length, new episodes begin."""
        before, self._world = self._world, world
        if before is not None and before.life != world.life:
            self._attend()
            self.obs = None

    def _attend(self) -> None:
        times = None if self._world is None else self._world.times
        self._attendance: Attendance | None = None
        if self._world is not None and times is not None:
            self._attendance = Attendance(self.copies, times[self.spec.id], self._world.life)

    def recreate(self, partner: OwnedEnvironment | None = None) -> None:
        """Replace all copies by new ones; they start new episodes at the next reset, from other seeds."""
        self.close()
        if self._seed is not None:
            self._seed += 1
        self._make(partner)

    @property
    def present(self) -> np.ndarray | None:
        """bool ``[B]``, the rows that are in their worlds now; None for all."""
        return None if self._attendance is None else self._attendance.present

    @property
    def seed(self) -> int | None:
        """Seed of the copies."""
        return self._seed

    @property
    def is_game(self) -> bool:
        """Whether an agent can play against others: there are several, and all have equal spaces."""
        return len(self.copies.space_spec.agents) > 1 and not self.spec.role

    def play(self, opponents: Sequence[Opponent] | None, *, self_play: float = 0.0) -> None:
        """Let opponents have all seats but one of each copy; None: the learner has all, as at first.

        Args:
            opponents: To choose from.
            self_play: Share of the episodes without opponents.
        """
        self.match = None
        if opponents is not None:
            self.match = Match(
                self.copies.space_spec, self._num_copies, opponents, self_play=self_play, seed=self._seed
            )

    def agent(self, row: int) -> str:
        """Name of a row's agent; empty where there is only one."""
        agents = self.copies.space_spec.agents
        return agents[row % len(agents)] if agents else ""

    def hold(self, columns: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """What each row saw and did when it acted last, from the ``columns`` [B, ...] of this time step."""
        acting = self.copies.acting
        if acting is None:
            return columns
        if not self._held:
            self._held = {key: column.copy() for key, column in columns.items()}
        for key, column in columns.items():
            self._held[key][acting] = column[acting]
        return self._held

    def send(self, actions: Any) -> None:
        """Set the ``actions`` [B, ...] of the next step, in the environment's own terms.

        Roles of one environment step together: all of them are sent before one is stepped.
        """
        assert self.obs is not None
        if self.match is not None and self.copies.acting is not None:
            actions = self.match.override(self.obs, self.copies.acting, actions)
        self._actions = actions
        self.copies.send(actions)

    def step(self) -> VectorStep:
        """Step all copies.

        Raises:
            EnvFailure: The environment raised.
            NonFiniteError: It returned an observation or reward that is not finite.
        """
        step = self.copies.step(self._actions)
        if self.match is not None:
            step.is_reset = step.is_reset | ~self.match.learning()
            step.final_obs = {row: last for row, last in step.final_obs.items() if not step.is_reset[row]}
            self.match.begin(self.copies.restarted)
        if self._attendance is not None:
            if self._attendance.follow(step) and self._follower is not None:
                self._follower.begun(np.arange(self.num_envs))
            self._attendance.join(step)
        elif self._follower is not None:
            self._follower.begun(np.flatnonzero(step.terminated | step.truncated))
        self.obs, self._last = step.obs, step
        return step

    def remember(self, after: np.ndarray, step: VectorStep) -> None:
        """Set the memory's state after a step: ``after`` [B, D] where it is complete, afresh where an episode ended."""
        assert self.state is not None and self._initial_state is not None
        done = (step.terminated | step.truncated) & ~step.is_reset
        self.state = np.where(step.is_reset[:, None], self.state, after)
        self.state[done] = self._initial_state

    def newly_cut_texts(self) -> int:
        """Texts of observations that were cut since the last call, because they were longer than their space says."""
        before, self._texts_cut = self._texts_cut, self.copies.texts_cut
        return self._texts_cut - before

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
        saved = ("id_", "length", "return_", "trial_returns", "success", "custom_data")
        episodes = [{name: getattr(running, name) for name in saved} for running in self.running]
        held = {key: column.copy() for key, column in self._held.items()}
        memory = None if self.state is None else (self.state.copy(), self._initial_state)
        tasks = None if self._follower is None else self._follower.get_state()
        age = None if self._attendance is None else self._attendance.age
        return {"snapshot": snapshot, "episodes": episodes, "held": held, "memory": memory, "tasks": tasks, "age": age}

    def set_state(self, state: dict[str, Any]) -> None:
        """Continue from :meth:`get_state`.

        New episodes begin at the next sample instead with another number of copies, a backend that cannot be set to a
        state (a checkpoint may be restored on a machine on which "auto" means EnvPool), or a state that does not fit.
        """
        self.obs = None
        if len(state["episodes"]) != self.num_envs or not self.copies.restorable:
            return
        self.obs, self._last = self.copies.restore(state["snapshot"]), None
        self._held = {key: np.array(held) for key, held in state.get("held", {}).items()}
        self.running = [RunningEpisode(**episode) for episode in state["episodes"]]
        if (memory := state.get("memory")) is not None:
            self.state, self._initial_state = (np.array(array) for array in memory)
        if self._follower is not None and (tasks := state.get("tasks")) is not None:
            self._follower.set_state(tasks)
        if self._attendance is not None:
            self._attendance.age = state.get("age") or 0

    def close(self) -> None:
        """Close all copies."""
        self.copies.close()
