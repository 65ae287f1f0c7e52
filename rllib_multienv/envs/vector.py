"""All copies of one environment behind one step function that returns the true transitions, checked.

Vector environments differ at the end of an episode. With SAME_STEP autoreset the step that ends an episode already
returns the next one's first observation, and the real last one separately. With NEXT_STEP it returns the last
observation, and the following step ignores its action and only resets. `EnvCopies` says the same for both: what the
policy acts on next, the real last observation, and which steps were none.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from rllib_multienv.envs import atari, envpool_backend, snapshot
from rllib_multienv.envs.agents import AgentsEnv
from rllib_multienv.envs.atari_vector import AtariCopies
from rllib_multienv.envs.copies import AsyncCopies, SyncCopies, VectorStep
from rllib_multienv.envs.dataset import TARGET, deal_rows
from rllib_multienv.envs.errors import EnvFailure, check_values, describe
from rllib_multienv.envs.family_copies import FamilyCopies, is_vector_family
from rllib_multienv.envs.make import close_env, copy_seeds, make_env
from rllib_multienv.envs.multi_agent import MultiAgentCopies, RoleCopies
from rllib_multienv.envs.previous import PreviousInputs
from rllib_multienv.gym_ids import envpool_is_installed
from rllib_multienv.spec import EnvSpec
from rllib_multienv.tasks.family import family_of

__all__ = ["EnvCopies", "VectorStep", "resolve_backend"]

#: Keys of an info that say whether the environment's goal is reached: Meta-World's and Gymnasium-Robotics'.
SUCCESS_KEYS = ("success", "is_success")
#: Bytes of an environment's saved state from which a warning names it.
LARGE_STATE = 64 * 2**20


class EnvCopies:
    """The copies of one environment.

    Everything that the environment returns is checked here: observations, rewards and flags (copy by copy in the
    backend), finiteness (of the whole batch, below). After an exception the copies are in an undefined state: close
    them and make new ones.

    Args:
        spec: The environment.
        num_envs: Number of copies B.
        seed: The first `reset` seeds every copy with a number derived from it; None for fresh entropy.
        mask_in_info: Whether infos have an action mask, as `probe.probe_spaces` finds out (`SpaceSpec.mask_in_info`).
        evaluation: Whether data sets and task families show their test split.
        partner: Another role of the same copies of a multi-agent environment.
        inputs: Previous inputs that observations have (`SpaceSpec.inputs`).

    Attributes:
        spec: The environment.
        space_spec: Its spaces, with the previous inputs.
        num_copies: Number of copies.
        num_envs: Rows B: the copies, or copies times agents (`envs.multi_agent`).
        backend: ``"sync"``, ``"async"``, ``"vector"``, ``"envpool"`` or ``"atari_vector"``.
        env: The vector environment underneath.
        reward_clip: What learners clip rewards to, as ``[-1, 1] * reward_clip``; None where they do not.
        steps: Time steps taken so far.
        infos: The infos of the last reset, by copy.
        evaluation_episodes: Episodes in which a data set shows its split once; None for other environments.

    Raises:
        EnvFailure: The environment cannot be made.
        UnsupportedSpaceError: Its spaces are of an unsupported kind.
        ValueError: It does not exist.
    """

    def __init__(
        self,
        spec: EnvSpec,
        num_envs: int,
        *,
        seed: int | None = None,
        mask_in_info: bool = False,
        evaluation: bool = False,
        partner: EnvCopies | None = None,
        inputs: Sequence[str] = (),
    ) -> None:
        if num_envs < 1:
            raise ValueError(f"Environment {spec.id!r}: num_envs must be at least 1, not {num_envs}.")
        self.spec, self.num_copies, self.num_envs, self.steps = spec, num_envs, num_envs, 0
        self.backend = resolve_backend(spec)
        self.reward_clip = atari.reward_clip(spec)
        seeds = copy_seeds(seed, num_envs)
        self._seeds: list[int] | list[None] = seeds
        self._obs: np.ndarray | None = None
        self._success_key: str | None = None
        self.infos: Any = [{}] * num_envs
        self.env: Any
        if self.backend == "envpool":
            self.env = envpool_backend.EnvPoolCopies(spec, num_envs, seeds)
        elif self.backend == "atari_vector":
            self.env = AtariCopies(spec, num_envs)
        elif self.backend == "vector":
            self.env = FamilyCopies(spec, num_envs)
        elif self.backend == "async":
            self.env = AsyncCopies(spec, num_envs, mask_in_info)
        else:
            first = partner.env.world if partner else make_env(spec)
            if isinstance(first, AgentsEnv):
                first = MultiAgentCopies(spec, first, num_envs)
            if isinstance(first, MultiAgentCopies):
                self.env = first.role(spec, mask_in_info)
            else:
                self.env = SyncCopies(spec, num_envs, mask_in_info, first)
        self._deal = lambda: deal_rows(getattr(self.env, "envs", ()), seeds[0], evaluation)
        self._evaluation = evaluation
        dataset = self._deal()
        rows = 0 if dataset is None else dataset.rows_per_episode * (spec.trial_episodes or 1)
        self.evaluation_episodes = None if dataset is None else -(-dataset.num_rows // rows)
        self._has_targets = dataset is not None and dataset.is_supervised
        if isinstance(self.env, RoleCopies):
            self.num_envs, self._own_spec = self.env.num_envs, self.env.space_spec
            self._add_inputs(inputs)
            return
        if evaluation and self.restorable:
            self.env.set_split("test")
        try:
            self._own_spec = spec.space_spec(
                self.env.single_observation_space, self.env.single_action_space, mask_in_info=mask_in_info
            )
            self._add_inputs(inputs)
        except BaseException:
            self.close()
            raise

    def _add_inputs(self, inputs: Sequence[str]) -> None:
        self.space_spec = self._own_spec.with_inputs(inputs)
        self._previous = PreviousInputs(self.space_spec, self.num_envs, self._seeds[0]) if inputs else None
        self._is_sent = False  # whether the next step's actions are known already

    @property
    def acting(self) -> np.ndarray | None:
        """bool ``[B]``, the rows that act next; None for all."""
        return self.env.acting if isinstance(self.env, RoleCopies) else None

    @property
    def restarted(self) -> np.ndarray:
        """bool ``[copies]``, the copies of a multi-agent environment that began an episode in the last step."""
        restarted: np.ndarray = self.env.world.restarted
        return restarted

    def shares(self, num_episodes: int) -> list[int]:
        """``[B]``, episodes for each row to play in an evaluation.

        Args:
            num_episodes: Episodes (of each agent, where there are several); a data set shows all rows of its split.
        """
        total, copies = self.evaluation_episodes or num_episodes, self.num_copies
        # The first copies have one more where they cannot be shared out evenly.
        return [(total + copies - 1 - b) // copies for b in range(copies) for _ in range(self.num_envs // copies)]

    def send(self, env_actions: Any) -> None:
        """Set the actions of the next `step`: those of all roles of an environment, before one of them is stepped."""
        if isinstance(self.env, RoleCopies):
            self.env.send(env_actions)
        if self._previous is not None:
            self._previous.act(env_actions, self.acting)
            self._is_sent = True

    def reset(self) -> np.ndarray:
        """Begin a new episode in every copy; the first call seeds them.

        Returns:
            ``[B, ...]`` first observations, raw (see `spaces.observations`).

        Raises:
            EnvFailure: A copy raised, or returned nonsense.
            NonFiniteError: An observation is not finite.
        """
        if self._evaluation:
            self._deal()  # from the first row on
        obs, self.infos = self.env.reset_copies(self._seeds)
        obs = self._raw("reset", obs)
        self._seeds = [None] * self.num_envs
        self._check(obs)
        self._obs = obs
        if self._previous is None:
            return obs
        self._previous.reset()
        return self._previous.added(obs)

    def begin(self, copies: np.ndarray) -> tuple[np.ndarray, dict[int, Any]]:
        """Begin a new episode in some copies, bool ``[B]``, of a backend that is restorable.

        Returns:
            ``[n, ...]`` their first observations, raw; and the infos that came with them, by copy.

        Raises:
            EnvFailure: A copy raised, or returned nonsense.
            NonFiniteError: An observation is not finite.
        """
        assert self._obs is not None
        rows = np.flatnonzero(copies).tolist()
        obs, infos = self.env.begin_copies(rows)
        self._check(obs)
        self._obs = self._obs.copy()
        self._obs[copies] = obs
        if self._previous is not None:
            self._previous.begin(copies)
            obs = self._previous.added(obs, rows)
        return obs, dict(zip(rows, infos, strict=True))

    def step(self, env_actions: Any) -> VectorStep:
        """One step of every copy.

        Args:
            env_actions: B actions in the environment's own terms (`SpaceSpec.action_to_env`).

        Raises:
            EnvFailure: A copy raised, or returned nonsense.
            NonFiniteError: An observation or a reward is not finite.
        """
        if self._previous is not None and not self._is_sent:
            self._previous.act(env_actions, self.acting)
        self._is_sent = False
        step: VectorStep = self.env.step_copies(env_actions)
        self.steps += 1
        step.obs = self._raw("step", step.obs)
        if not self.restorable:
            step.final_obs = {b: self._raw("step", last[None])[0] for b, last in step.final_obs.items()}
        self._check(step.obs)
        check_values(self.spec.id, "reward", step.rewards, self.steps)
        if step.final_obs:
            last = step.obs.copy()
            for copy, observation in step.final_obs.items():
                last[copy] = observation
            self._check(last)
        self._obs = step.obs
        if self._has_targets:
            step.targets = self.space_spec.action_from_env(np.stack([info[TARGET] for info in step.infos]))
        if self._previous is not None:
            self._previous.step(step)
        step.success = self._successes(step.infos)
        return step

    def _successes(self, infos: Any) -> np.ndarray | None:
        """See `VectorStep.success`; infos that are arrays are of backends whose environments have none."""
        if not isinstance(infos, list | tuple):
            return None
        if self._success_key is None:
            self._success_key = next((key for key in SUCCESS_KEYS if key in infos[0]), None)
        key = self._success_key
        return None if key is None else np.array([bool(info.get(key, False)) for info in infos])

    def set_tasks(self, tasks: Any) -> None:
        """Give the copies of a task family their tasks, ``[B, D]``, from the next reset on; None: draw them again.

        Raises:
            ValueError: The environment is no task family.
        """
        self._check_family()
        self.env.set_tasks(tasks)

    @property
    def tasks(self) -> np.ndarray:
        """``[B, D]``, the present tasks of a family's copies."""
        self._check_family()
        return np.array(self.env.tasks if self.backend == "vector" else self.env.call("task"))

    def set_split(self, split: str) -> None:
        """Let the copies of a task family be those of a split, from the next reset on."""
        self._check_family()
        self.env.set_split(split)

    def sample_tasks(self, n: int, split: str, rng: np.random.Generator) -> np.ndarray:
        """``[n, D]`` tasks of a family's split; see `tasks.TaskFamily.sample_tasks`."""
        self._check_family()
        if self.backend == "vector":
            return self.env.sample_tasks(n, split, rng)
        return self.env.call("sample_tasks", n, split, rng)[0]

    def oracle_actions(self) -> Any:
        """B actions of a family's scripted policy, which knows the tasks, in the present states; None without one."""
        actions = self.env.oracle_actions() if self.backend == "vector" else self.env.call("oracle_action")
        return None if actions[0] is None else actions

    def oracle_returns(self) -> np.ndarray | None:
        """``[B]``, return of the best policy in one episode of each copy's task; None where it is not known."""
        if self.backend == "vector":
            return self.env.oracle_returns()
        returns = self.env.call("oracle_return")
        return None if None in returns else np.array(returns)

    def _check_family(self) -> None:
        if self.backend not in ("vector", "async") and family_of(getattr(self.env, "envs", [None])[0]) is None:
            raise ValueError(f"Environment {self.spec.id!r} is no task family: it has no tasks.")

    def _raw(self, phase: str, obs: Any) -> np.ndarray:
        """Raw observations; backends of ours have read and checked them already."""
        if self.restorable:
            return obs
        try:
            return self._own_spec.reader.batch(obs)
        except (ValueError, TypeError) as error:
            raise EnvFailure(self.spec.id, phase, describe(error)) from error

    def _check(self, obs: np.ndarray) -> None:
        if obs.dtype == np.uint8:
            obs, _ = self._own_spec.reader.split(obs)
        check_values(self.spec.id, "observation", obs, self.steps)

    @property
    def texts_cut(self) -> int:
        """Texts of observations that were longer than their space says, so far."""
        return self.env.texts_cut if self.space_spec.observation.texts else 0

    @property
    def restorable(self) -> bool:
        """Whether the backend can be set to a saved state."""
        return self.backend in ("sync", "async", "vector")

    def snapshot(self) -> dict[str, Any] | None:
        """The full state of all copies in the middle of their episodes, random generators included.

        Returns:
            A picklable dictionary for `restore`, or None if the environment's state cannot be read out (EnvPool, Atari,
            Box2D and others that keep it outside Python) or nothing was reset yet.
        """
        if self._obs is None or not self.restorable:
            return None
        copies = self.env.capture()
        if None in copies:
            return None
        size = sum(map(len, copies))
        if size > LARGE_STATE:
            warnings.warn(
                f"Environment {self.spec.id!r}: the state of its {self.num_envs} copies takes {size / 2**20:.0f} MiB "
                "of every checkpoint.",
                UserWarning,
                stacklevel=2,
            )
        state = {"env_id": self.spec.id, "obs": self._obs.copy(), "copies": copies}
        return state if self._previous is None else {**state, "previous": self._previous.get_state()}

    def restore(self, state: dict[str, Any] | None) -> np.ndarray | None:
        """Go back to where `snapshot` was taken; with None, begin new episodes.

        Returns:
            ``[B, ...]`` the observations to act on next; or None, with a `UserWarning`, if the state no longer fits
            (the environment has other wrappers or another MuJoCo model, as after an upgrade): reset the copies then.

        Raises:
            ValueError: The snapshot is of another environment or another number of copies.
        """
        if state is None:
            return self.reset()
        if not self.restorable:
            raise ValueError(f"Environment {self.spec.id!r}: backend {self.backend!r} cannot restore a snapshot.")
        if state["env_id"] != self.spec.id or len(state["copies"]) != self.num_copies:
            raise ValueError(
                f"A snapshot of {len(state['copies'])} copies of {state['env_id']!r} cannot be restored into "
                f"{self.num_copies} copies of {self.spec.id!r}."
            )
        if self._obs is None:
            self.reset()  # what an environment creates in its first reset must be there
        try:
            self.env.restore(state["copies"])
        except snapshot.SnapshotError as error:
            warnings.warn(
                f"Environment {self.spec.id!r} begins new episodes, because its saved state does not fit: {error}.",
                UserWarning,
                stacklevel=2,
            )
            return None
        self.infos = [{}] * self.num_envs
        self._obs = np.array(state["obs"])
        if isinstance(self.env, RoleCopies):
            self.env.show_all(self._obs)
        if self._previous is None:
            return self._obs.copy()
        self._previous.set_state(state["previous"])
        return self._previous.added(self._obs)

    def close(self) -> None:
        """Close all copies. Calling it twice does no harm."""
        close_env(self.spec.id, self.env)


def resolve_backend(spec: EnvSpec) -> str:
    """The backend that ``"auto"`` stands for, or the one that is asked for.

    ``"auto"`` is ``"envpool"`` only where EnvPool is installed, nothing but the Gymnasium id says what to make, the
    environment is among those whose behaviour was found to be the same (`envpool_backend.VERIFIED`), and this process
    has enough CPUs for threads to pay; else it is ``"sync"``, which is as fast on one or two CPUs and can be saved in
    the middle of an episode. Atari games with preprocessing are given to ``"atari_vector"``, task families that can be
    stepped as arrays to ``"vector"``.

    Raises:
        ValueError: The environment has no such backend.
    """
    if spec.backend == "atari_vector" and not atari.is_preprocessed(spec):
        raise ValueError(
            f"Environment {spec.id!r}: backend='atari_vector' is for Gymnasium's Atari ids, such as 'ALE/Pong-v5', "
            "without kwargs['obs_type']. Leave it out."
        )
    if spec.backend == "vector" and not is_vector_family(spec):
        raise ValueError(
            f"Environment {spec.id!r}: backend='vector' is for task families that are stepped as arrays, such as "
            f"'multienv/GridNavi-v0', and {spec.make!r} is none. Leave it out."
        )
    if spec.backend in ("sync", "async") and spec.kwargs.get("life_loss_info") and atari.is_preprocessed(spec):
        raise ValueError(f"Environment {spec.id!r}: life_loss_info needs backend='atari_vector', not {spec.backend!r}.")
    if spec.backend != "auto":
        return spec.backend
    if atari.is_preprocessed(spec) and spec.trial_episodes is None:
        return "atari_vector"
    if is_vector_family(spec):
        return "vector"
    if spec.trial_episodes is not None:
        return "sync"
    same = spec.make in envpool_backend.VERIFIED and not spec.kwargs
    if same and envpool_backend.cpus() >= envpool_backend.CPUS_THAT_PAY and envpool_is_installed():
        return "envpool"
    return "sync"
