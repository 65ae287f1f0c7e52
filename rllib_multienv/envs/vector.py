"""All copies of one environment behind one step function that gives the true transitions.

Vector environments differ in what happens at the end of an episode. With SAME_STEP autoreset the step that
ends an episode already returns the next one's first observation, and the real last one stands aside. With
NEXT_STEP it returns the last observation, and the following step ignores its action and only resets.
`EnvCopies` says the same for both: what the policy acts on next, where the real last observation is, and
which steps were none.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv

from rllib_multienv.envs import envpool_backend, snapshot
from rllib_multienv.envs.async_backend import AsyncCopiesEnv
from rllib_multienv.envs.errors import EnvFailure
from rllib_multienv.envs.make import describe
from rllib_multienv.envs.seeding import copy_seeds
from rllib_multienv.envs.sync_backend import SyncCopiesEnv
from rllib_multienv.gym_ids import envpool_is_installed
from rllib_multienv.spec import EnvSpec, SpaceSpec


@dataclass(slots=True)
class VectorStep:
    """What one step of all copies gave.

    A copy's transition is ``(obs acted on, action, reward, next)``, where `next` is ``final_obs[b]`` for a
    copy that is done and ``obs[b]`` otherwise; there is none where ``is_reset[b]``.

    Attributes:
        obs: ``[B, ...]``, what the policy acts on next. The caller's to keep.
        rewards: float64 ``[B]``; 0 where `is_reset`.
        terminated: bool ``[B]``, the episode reached a terminal state.
        truncated: bool ``[B]``, the episode was cut off, as by a time limit.
        final_obs: The real last observation of each copy that is terminated or truncated.
        is_reset: bool ``[B]``, the step only began a new episode and its action was ignored (NEXT_STEP).
    """

    obs: np.ndarray
    rewards: np.ndarray
    terminated: np.ndarray
    truncated: np.ndarray
    final_obs: dict[int, np.ndarray]
    is_reset: np.ndarray
    _infos: dict[str, Any] | Callable[[], dict[str, Any]] = field(default_factory=dict, repr=False)

    @property
    def infos(self) -> dict[str, Any]:
        """The copies' infos as Gymnasium's vector environments give them, put together at the first look."""
        if callable(self._infos):
            self._infos = self._infos()
        return self._infos


class EnvCopies:
    """The copies of one environment.

    After an `EnvFailure` the copies are in an undefined state: close them and make new ones.

    Args:
        spec: The environment.
        num_envs: Number of copies B.
        seed: Every copy gets a seed of its own derived from it, at the first `reset`; None for fresh entropy.
        env: A vector environment to step, instead of one that is made from `spec`; of SAME_STEP or NEXT_STEP
            autoreset, as its `metadata` says.

    Attributes:
        spec: The environment.
        space_spec: Its spaces.
        num_envs: Number of copies B.
        backend: ``"sync"``, ``"async"``, ``"envpool"`` or ``"given"``.
        autoreset_mode: SAME_STEP or NEXT_STEP.
        env: The `gymnasium.vector.VectorEnv` underneath.

    Raises:
        EnvFailure: The environment cannot be made.
        UnsupportedSpaceError: Its spaces are of an unsupported kind.
        ValueError: It does not exist.
    """

    def __init__(self, spec: EnvSpec, num_envs: int, *, seed: int | None = None, env: VectorEnv | None = None) -> None:
        if num_envs < 1:
            raise ValueError(f"Environment {spec.id!r}: num_envs must be at least 1, not {num_envs}.")
        self.spec = spec
        self.space_spec: SpaceSpec
        self.num_envs = num_envs
        self.backend = resolve_backend(spec) if env is None else "given"
        self._seeds: list[int] | None = copy_seeds(seed, num_envs)
        self.env: Any = self._make(self._seeds) if env is None else self._take(env)
        self.autoreset_mode = self.env.metadata["autoreset_mode"]
        self._closed = False
        self._obs: np.ndarray | None = None
        # Copies whose next step will only reset them; always all False in SAME_STEP.
        self._reset_next = np.zeros(num_envs, dtype=bool)
        self._no_reset = np.zeros(num_envs, dtype=bool)
        self._no_reset.flags.writeable = False
        self._action_dtype = self.env.single_action_space.dtype

    def _take(self, env: VectorEnv) -> VectorEnv:
        mode = env.metadata.get("autoreset_mode")
        if mode not in (AutoresetMode.SAME_STEP, AutoresetMode.NEXT_STEP):
            raise ValueError(
                f"Environment {self.spec.id!r}: a vector environment must say in its metadata that its "
                f"autoreset_mode is SAME_STEP or NEXT_STEP, but it says {mode}."
            )
        if env.num_envs != self.num_envs:
            raise ValueError(
                f"Environment {self.spec.id!r}: the vector environment has {env.num_envs} copies, not {self.num_envs}."
            )
        self.space_spec = SpaceSpec.from_spaces(self.spec.id, env.single_observation_space, env.single_action_space)
        return env

    def _make(self, seeds: list[int]) -> Any:
        if self.backend == "envpool":
            env = envpool_backend.make_envpool(self.spec, self.num_envs, seeds)
            self.space_spec = envpool_backend.space_spec_of(self.spec, env)
            return env
        if self.backend == "async":
            copies = AsyncCopiesEnv(self.spec, self.num_envs)
            try:
                self.space_spec = SpaceSpec.from_spaces(
                    self.spec.id, copies.single_observation_space, copies.single_action_space
                )
            except Exception:
                copies.close()
                raise
            return copies
        env = SyncCopiesEnv(self.spec, self.num_envs)
        self.space_spec = env.space_spec
        return env

    def reset(self) -> np.ndarray:
        """Begin a new episode in every copy; the first call seeds them.

        Returns:
            ``[B, ...]`` first observations.
        """
        self._reset_next = self._no_reset
        if self.backend == "sync":
            obs, _ = self.env.reset_copies(self._seeds)
        else:
            # EnvPool was seeded when it was made, and warns about a seed here.
            seeds = None if self.backend == "envpool" else self._seeds
            with _naming(self.spec.id, "reset"):
                obs, _ = self.env.reset(seed=seeds) if seeds is not None else self.env.reset()
        self._seeds = None
        self._obs = obs
        return obs

    def step(self, env_actions: np.ndarray) -> VectorStep:
        """One step of every copy.

        Args:
            env_actions: ``[B, ...]`` in the environment's own terms (`SpaceSpec.action_to_env`).

        Raises:
            EnvFailure: A copy raised, or returned nonsense.
        """
        if self.backend == "sync":
            env = self.env
            obs, rewards, terminated, truncated, final_obs, infos = env.step_copies(env_actions)
            self._obs = obs
            return VectorStep(
                obs, rewards, terminated, truncated, final_obs, self._no_reset,
                lambda: env.merge_infos(final_obs, infos),
            )  # fmt: skip
        actions = np.asarray(env_actions).astype(self._action_dtype, copy=False)
        with _naming(self.spec.id, "step"):
            obs, rewards, terminated, truncated, infos = self.env.step(actions)
        rewards = np.asarray(rewards, dtype=np.float64)
        terminated, truncated = np.asarray(terminated, dtype=bool), np.asarray(truncated, dtype=bool)
        done = terminated | truncated
        is_reset = self._reset_next
        if self.autoreset_mode is AutoresetMode.NEXT_STEP:
            final_obs = {int(b): obs[b].copy() for b in np.flatnonzero(done)}
            self._reset_next = done
        else:
            dtype = self.space_spec.observation_space.dtype
            final_obs = {int(b): np.asarray(infos["final_obs"][b], dtype=dtype) for b in np.flatnonzero(done)}
        self._obs = obs
        return VectorStep(obs, rewards, terminated, truncated, final_obs, is_reset, infos)

    def snapshot(self) -> dict[str, Any] | None:
        """The full state of all copies in the middle of their episodes, random generators included.

        Returns:
            A picklable dictionary for `restore`, or None if the environment's state cannot be read out
            (EnvPool, Box2D and others that keep it where Python does not reach) or nothing was reset yet.
        """
        if self._obs is None or self.backend not in ("sync", "async"):
            return None
        if self.backend == "async":
            states = self.env.call("multienv_capture")
        else:
            states = (snapshot.capture_env(env) for env in self.env.envs)
        copies: list[bytes] = []
        for state in states:
            if state is None:
                return None
            copies.append(state)
        return {"env_id": self.spec.id, "obs": self._obs.copy(), "copies": copies}

    def restore(self, state: dict[str, Any] | None) -> np.ndarray | None:
        """Go back to where `snapshot` was taken; with None, begin new episodes.

        Returns:
            ``[B, ...]`` the observations to act on next; or None, with a `UserWarning`, if the state no longer fits
            (the environment's wrappers or MuJoCo model are other ones, as after an upgrade): reset the copies then.

        Raises:
            ValueError: The snapshot is of another environment or another number of copies.
        """
        if state is None:
            return self.reset()
        if self.backend not in ("sync", "async"):
            raise ValueError(f"Environment {self.spec.id!r}: backend {self.backend!r} cannot restore a snapshot.")
        if state["env_id"] != self.spec.id or len(state["copies"]) != self.num_envs:
            raise ValueError(
                f"A snapshot of {len(state['copies'])} copies of {state['env_id']!r} cannot be restored into "
                f"{self.num_envs} copies of {self.spec.id!r}."
            )
        if self._obs is None:
            self.reset()  # what an environment creates in its first reset must be there
        try:
            if self.backend == "async":
                for problem in self.env.call("multienv_restore", state["copies"]):
                    if problem is not None:
                        raise snapshot.SnapshotError(problem)
            else:
                for env, copy_state in zip(self.env.envs, state["copies"], strict=True):
                    snapshot.restore_env(env, copy_state)
        except snapshot.SnapshotError as error:
            warnings.warn(
                f"Environment {self.spec.id!r} begins new episodes, because its saved state does not fit: {error}.",
                UserWarning,
                stacklevel=2,
            )
            return None
        self._obs = np.array(state["obs"])
        return self._obs.copy()

    def close(self) -> None:
        """Close all copies. Calling it twice does no harm."""
        if not self._closed:
            self._closed = True
            self.env.close()


def resolve_backend(spec: EnvSpec) -> str:
    """The backend that ``"auto"`` stands for, or the one that is asked for.

    ``"auto"`` is ``"envpool"`` only where EnvPool is installed, nothing but the Gymnasium id says what to
    make, the environment is among those whose behaviour was found to be the same
    (`envpool_backend.VERIFIED`), and this process was given enough CPUs for threads to pay; else it is
    ``"sync"``, which is as fast on one or two CPUs and can be saved in the middle of an episode.
    """
    if spec.backend != "auto":
        return spec.backend
    same = spec.make in envpool_backend.VERIFIED and not spec.kwargs
    if same and envpool_backend.cpus() >= envpool_backend.CPUS_THAT_PAY and envpool_is_installed():
        return "envpool"
    return "sync"


class _naming:
    """Turns whatever a backend raises into an `EnvFailure`. (A class: cheaper per step than a generator.)"""

    __slots__ = ("env_id", "phase")

    def __init__(self, env_id: str, phase: str) -> None:
        self.env_id, self.phase = env_id, phase

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, Exception) and not isinstance(error, EnvFailure):
            raise EnvFailure(self.env_id, self.phase, describe(error)) from error
