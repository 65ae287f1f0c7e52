"""All copies of one environment as a vector environment: in this process, or in one process each."""

from __future__ import annotations

import multiprocessing
import pickle
import signal
import time
import traceback
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, cast

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorEnv
from gymnasium.vector.utils import batch_space

from rllib_multienv.envs import snapshot
from rllib_multienv.envs.agents import AgentsEnv
from rllib_multienv.envs.errors import ENV_ERRORS, EnvFailure, describe, take_flag, take_reward
from rllib_multienv.envs.make import close_env, make_env, opened
from rllib_multienv.spaces.actions import ActionWriter
from rllib_multienv.spaces.observations import ObservationReader
from rllib_multienv.spec import EnvSpec, UnsupportedSpaceError
from rllib_multienv.tasks.family import family_of

#: Seconds that worker processes have to close their environments.
CLOSE_S = 5.0

_Request = tuple[str, tuple[Any, ...], dict[str, Any]]
_STEP_HINT = " (step() must return (observation, reward, terminated, truncated, info))"
_RESET_HINT = " (reset() must return (observation, info))"


@dataclass(slots=True)
class VectorStep:
    """One step of all copies.

    A copy's transition is ``(obs acted on, action, reward, next)``, where `next` is ``final_obs[b]`` for a copy that is
    done and ``obs[b]`` otherwise; there is none where ``is_reset[b]``.

    Attributes:
        obs: ``[B, ...]``, what the policy acts on next, raw (see `spaces.observations`). The caller's to keep.
        rewards: float64 ``[B]``; 0 where `is_reset`.
        terminated: bool ``[B]``, the episode reached a terminal state.
        truncated: bool ``[B]``, the episode was cut off, as by a time limit.
        final_obs: The real last observation of each copy that is terminated or truncated, a row of the same form.
        is_reset: bool ``[B]``, the step only began a new episode and its action was ignored (NEXT_STEP autoreset).
        infos: ``[B]``, the info that each copy's step returned.
        reset_infos: The info of the reset of each copy that was reset within the step.
        lost_life: bool ``[B]``, learners count the step as terminal although the episode goes on; None where that is
            no option of the environment.
        targets: ``[B, ...]``, the actions that would have been right, as the network gives them; None unless learners
            train on them (supervised data sets).
        acting: bool ``[B]``, the rows that act next; None for all. Rows of several agents do not all act at each time
            step: the step of a row then belongs to its last action, and `is_reset` says that none is complete.
        episode_ends: bool ``[B]``, the step was the last of an episode within a trial (the trial's last one too);
            None without trials.
        success: bool ``[B]``, the environment's goal is reached, as its infos say; None for environments whose infos
            say nothing of it.
    """

    obs: np.ndarray
    rewards: np.ndarray
    terminated: np.ndarray
    truncated: np.ndarray
    final_obs: dict[int, np.ndarray]
    is_reset: np.ndarray
    infos: Any
    reset_infos: Mapping[int, Any] = field(default_factory=dict)
    lost_life: np.ndarray | None = None
    targets: np.ndarray | None = None
    acting: np.ndarray | None = None
    episode_ends: np.ndarray | None = None
    success: np.ndarray | None = None


class InfoArrays:
    """A dictionary of arrays `[B, ...]` as one info per copy."""

    def __init__(self, infos: Mapping[str, Any]) -> None:
        self._infos = infos

    def __getitem__(self, copy: int) -> dict[str, Any]:
        return {k: InfoArrays(v)[copy] if isinstance(v, Mapping) else v[copy] for k, v in self._infos.items()}


class SyncCopies(SyncVectorEnv):
    """Copies that are stepped one after another in this process; `envs` holds them.

    `step_copies` and `reset_copies` take the place of Gymnasium's `step` and `reset`, which spend as much time on
    batching as a cheap environment on its step: they copy every array twice, and merge the copies' infos key by key.

    Args:
        spec: The environment.
        num_envs: Number of copies B.
        mask_in_info: Whether infos have an action mask (`SpaceSpec.mask_in_info`).
        first: The first copy, where it is there already.

    Raises:
        EnvFailure: A copy cannot be made, or has other spaces than the first.
        UnsupportedSpaceError: Its spaces are of an unsupported kind.
    """

    def __init__(self, spec: EnvSpec, num_envs: int, mask_in_info: bool = False, first: gym.Env | None = None) -> None:
        self.env_id, self._spec = spec.id, spec
        self._constants: frozenset[snapshot.Key] | None = None
        self.envs: list[Any] = []
        try:
            for copy in range(num_envs):
                self.envs.append(make_env(spec) if copy or first is None else first)
                if isinstance(self.envs[copy], AgentsEnv):
                    reason = "it has several agents, which only backend='sync' supports; leave the backend out"
                    raise EnvFailure(spec.id, "make", reason)
                check_alike(spec.id, copy, self.envs[copy], self.envs[0])
            first = self.envs[0]
            actions = ActionWriter(spec.id, first.action_space).layout
            self._reader = ObservationReader(spec.id, first.observation_space, actions, mask_in_info)
        except BaseException:
            self.close()
            raise
        made = iter(self.envs)
        super().__init__([lambda: next(made)] * num_envs, autoreset_mode=AutoresetMode.SAME_STEP)
        self._no_reset = np.zeros(num_envs, dtype=bool)

    @property
    def texts_cut(self) -> int:
        """Texts of observations that were too long, so far."""
        return self._reader.texts_cut

    def step_copies(self, actions: Any) -> VectorStep:
        """One step of every copy; a copy that is done is reset within the step.

        Args:
            actions: B actions in the environment's own terms: ``[B, ...]`` or a list.

        Raises:
            EnvFailure: A copy's step or reset raised, or returned nonsense.
        """
        reader = self._reader
        shape, dtype, is_array = reader.raw_shape, reader.raw_dtype, reader.is_plain and reader.raw_shape != ()
        obs = reader.empty(self.num_envs)
        rewards: list[float] = []
        terminated: list[bool] = []
        truncated: list[bool] = []
        infos: list[Any] = []
        final_obs: dict[int, np.ndarray] = {}
        reset_infos: dict[int, Any] = {}
        result: Any = None
        try:
            for copy, env in enumerate(self.envs):
                result = env.step(actions[copy])
                ob, reward, term, trunc, info = result
                # What has the usual form needs no further check; this is the innermost loop.
                if term.__class__ is not bool:
                    term = take_flag(term, "terminated")
                if trunc.__class__ is not bool:
                    trunc = take_flag(trunc, "truncated")
                if is_array and ob.__class__ is np.ndarray and ob.dtype is dtype and ob.shape == shape:
                    obs[copy] = ob
                else:
                    reader.read(obs, copy, ob, info, ended=term or trunc)
                rewards.append(reward if reward.__class__ is float else take_reward(reward))
                terminated.append(term)
                truncated.append(trunc)
                if term or trunc:
                    final_obs[copy] = obs[copy].copy()
                    reset_infos[copy] = self._reset_copy(copy, obs)
                infos.append(info)
        except EnvFailure:
            raise
        except ENV_ERRORS as error:
            # Raised in this very frame, by unpacking the result; or anywhere below, by the environment.
            here = error.__traceback__ is not None and error.__traceback__.tb_next is None
            fits = isinstance(result, tuple) and len(result) == 5
            reason = describe(error) + (_STEP_HINT if here and not fits else "")
            raise EnvFailure(self.env_id, "step", reason, len(infos)) from error
        flags = np.array(terminated), np.array(truncated)
        step = VectorStep(obs, np.array(rewards), *flags, final_obs, self._no_reset, infos, reset_infos)
        if self._spec.trial_episodes is not None:
            step.episode_ends = np.array([env.episode_ended for env in self.envs])
        return step

    def reset_copies(self, seeds: Sequence[int | None]) -> tuple[np.ndarray, list[Any]]:
        """Reset every copy, seeded where its seed is not None; returns observations ``[B, ...]`` and infos."""
        obs = self._reader.empty(self.num_envs)
        return obs, [self._reset_copy(copy, obs, seed) for copy, seed in enumerate(seeds)]

    def begin_copies(self, copies: Sequence[int]) -> tuple[np.ndarray, list[Any]]:
        """Reset some copies; returns their observations ``[n, ...]`` and infos."""
        obs = self._reader.empty(self.num_envs)
        infos = [self._reset_copy(copy, obs) for copy in copies]
        return obs[list(copies)], infos

    def _reset_copy(self, copy: int, out: np.ndarray, seed: int | None = None) -> Any:
        """Reset one copy into its row of `out`; returns the info."""
        result: Any = None
        try:
            result = self.envs[copy].reset(seed=seed)
            ob, info = result
            self._reader.read(out, copy, ob, info)
            return info
        except ENV_ERRORS as error:
            fits = result is None or (isinstance(result, tuple) and len(result) == 2)
            raise EnvFailure(self.env_id, "reset", describe(error) + ("" if fits else _RESET_HINT), copy) from error

    def set_split(self, split: str) -> None:
        """Let copies of a task family draw tasks of this split; does nothing in other environments."""
        for env in self.envs:
            if (family := family_of(env)) is not None:
                family.split = split

    def set_tasks(self, tasks: Sequence[Any] | None) -> None:
        """Give each copy of a task family its task, from its next reset (or trial) on; None: draw them again."""
        for copy, env in enumerate(self.envs):
            env.get_wrapper_attr("set_task")(None if tasks is None else tasks[copy])

    def capture(self) -> list[bytes | None]:
        """The state of every copy; None for one that cannot be captured."""
        return [snapshot.capture_env(env, self._is_constant) for env in self.envs]

    def restore(self, states: Sequence[bytes]) -> None:
        """Set every copy to a captured state.

        Raises:
            SnapshotError: The state does not fit.
        """
        for env, state in zip(self.envs, states, strict=True):
            snapshot.restore_env(env, state, self._fresh_arrays)

    def _fresh_arrays(self) -> dict[snapshot.Key, np.ndarray]:
        """The large arrays of a new copy that was reset once."""
        with opened(self._spec) as env:
            env.reset()
            return snapshot.large_arrays(env)

    def _is_constant(self, key: snapshot.Key) -> bool:
        if self._constants is None:
            try:
                self._constants = frozenset(self._fresh_arrays())
            except ENV_ERRORS:  # no further copy can be made now: states are captured whole
                self._constants = frozenset()
        return key in self._constants

    def close_extras(self, **kwargs: Any) -> None:
        """Close every copy; one that fails does not keep the others open."""
        for env in self.envs:
            close_env(self.env_id, env)


class AsyncCopies(VectorEnv):
    """Copies in a process each, for environments whose step is slow.

    Every process runs a `SyncCopies` of one copy, so that both behave alike in everything but speed. (Gymnasium's
    `AsyncVectorEnv` merges infos, which fails where their shapes change, and may then wait for its processes forever.)

    Args and errors are those of `SyncCopies`.
    """

    def __init__(self, spec: EnvSpec, num_envs: int, mask_in_info: bool = False) -> None:
        self.env_id, self.num_envs = spec.id, num_envs
        self._pipes: list[Any] = []
        self._processes: list[Any] = []
        self._in_step = True  # whether processes may have been asked something that they have not answered yet
        self._no_reset = np.zeros(num_envs, dtype=bool)
        context = multiprocessing.get_context()
        try:
            for copy in range(num_envs):
                ours, theirs = context.Pipe()
                self._pipes.append(ours)
                served = (theirs, list(self._pipes), spec, copy, mask_in_info)
                process = context.Process(target=_serve, args=served, daemon=True)
                process.start()
                self._processes.append(process)
                theirs.close()
            made = self._answers("make")
            for copy, env in enumerate(made):
                check_alike(spec.id, copy, env, made[0])
        except BaseException:
            self.close()
            raise
        self.metadata, self.render_mode = made[0].metadata, made[0].render_mode
        self.single_observation_space, self.single_action_space = made[0].observation_space, made[0].action_space
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)

    def _ask(self, name: str, arguments: Sequence[tuple[Any, ...]], **kwargs: Any) -> list[Any]:
        """Call a method of every process's `SyncCopies`; returns the results."""
        self._in_step = True
        for pipe, args in zip(self._pipes, arguments, strict=True):
            with suppress(OSError):  # the process is dead, as its answer will show
                pipe.send((name, args, kwargs))
        return self._answers(name.removesuffix("_copies"))

    def _answers(self, phase: str) -> list[Any]:
        """The answer of every process; raises the first failure once all have answered."""
        answers: list[Any] = []
        for copy, pipe in enumerate(self._pipes):
            try:
                answers.append(pipe.recv())
            except (EOFError, OSError):
                process = self._processes[copy]
                process.join(1.0)  # the pipe closes a little before the process is gone
                reason = f"its worker process died with exit code {process.exitcode}"
                answers.append(EnvFailure(self.env_id, phase, reason, copy))
        self._in_step = False
        for answer in answers:
            if isinstance(answer, Exception):
                raise answer
        return answers

    @property
    def texts_cut(self) -> int:
        """See `SyncCopies.texts_cut`."""
        return sum(self._ask("__getattribute__", [("texts_cut",)] * self.num_envs))

    def step_copies(self, actions: Any) -> VectorStep:
        """See `SyncCopies.step_copies`."""
        answers = self._ask("step_copies", [(actions[b : b + 1],) for b in range(self.num_envs)])
        obs, rewards, terminated, truncated, last, infos, reset_infos, ends = zip(*answers, strict=True)
        final_obs = {b: observation for b, observation in enumerate(last) if observation is not None}
        return VectorStep(
            np.concatenate(obs),
            np.array(rewards),
            np.array(terminated),
            np.array(truncated),
            final_obs,
            self._no_reset,
            infos,
            {b: reset_infos[b] for b in final_obs},
            episode_ends=None if None in ends else np.concatenate(ends),
        )

    def reset_copies(self, seeds: Sequence[int | None]) -> tuple[np.ndarray, list[Any]]:
        """See `SyncCopies.reset_copies`."""
        results = self._ask("reset_copies", [([seed],) for seed in seeds])
        return np.concatenate([obs for obs, _ in results]), [infos[0] for _, infos in results]

    def begin_copies(self, copies: Sequence[int]) -> tuple[np.ndarray, list[Any]]:
        """See `SyncCopies.begin_copies`."""
        results = self._ask("begin_copies", [([0] if b in copies else [],) for b in range(self.num_envs)])
        return np.concatenate([obs for obs, _ in results]), [info for _, infos in results for info in infos]

    def call(self, name: str, *args: Any, **kwargs: Any) -> tuple[Any, ...]:
        """Call a method (or read an attribute) of every copy."""
        return tuple(result[0] for result in self._ask("call", [(name, *args)] * self.num_envs, **kwargs))

    get_attr = call

    def set_attr(self, name: str, values: Any) -> None:
        """Set an attribute of every copy: to one value, or to one value of a list each."""
        if not isinstance(values, list | tuple):
            values = [values] * self.num_envs
        self._ask("set_attr", [(name, [value]) for value in values])

    def set_split(self, split: str) -> None:
        """See `SyncCopies.set_split`."""
        self._ask("set_split", [(split,)] * self.num_envs)

    def set_tasks(self, tasks: Sequence[Any] | None) -> None:
        """See `SyncCopies.set_tasks`."""
        self._ask("set_tasks", [(None if tasks is None else [tasks[b]],) for b in range(self.num_envs)])

    def capture(self) -> list[bytes | None]:
        """See `SyncCopies.capture`."""
        return [states[0] for states in self._ask("capture", [()] * self.num_envs)]

    def restore(self, states: Sequence[bytes]) -> None:
        """See `SyncCopies.restore`."""
        self._ask("restore", [([state],) for state in states])

    def close_extras(self, **kwargs: Any) -> None:
        """Let the processes close their environments; kill those that are in a step or take longer than `CLOSE_S`."""
        deadline = time.monotonic() + (0.0 if self._in_step else CLOSE_S)
        for pipe in self._pipes:
            with suppress(OSError):
                pipe.send(("close", (), {}))
        for process in self._processes:
            process.join(max(0.0, deadline - time.monotonic()))
            if process.is_alive():
                process.kill()
                process.join()
        for pipe in self._pipes:
            pipe.close()


def check_alike(env_id: str, copy: int, env: Any, first: Any) -> None:
    """Check that a copy has the spaces of the first.

    Raises:
        EnvFailure: It has others.
    """
    for name in ("observation_space", "action_space"):
        mine, expected = getattr(env, name), getattr(first, name)
        if mine != expected:
            reason = f"its {name} is {mine}, but copy 0 has {expected}; copies must be alike"
            raise EnvFailure(env_id, "make", reason, copy)


def _serve(pipe: Any, others: Sequence[Any], spec: EnvSpec, copy: int, mask_in_info: bool) -> None:
    """The process of one copy: calls methods of a `SyncCopies` until it is told to close, or nobody is there to ask."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that closes this one
    for other in others:  # a forked process has inherited these ends, and would keep the pipes open
        other.close()
    copies: SyncCopies | None = None
    name, args, kwargs = cast(_Request, ("make", (), {}))
    with suppress(EOFError, OSError):
        while name != "close":
            answer: Any
            try:
                if copies is None:
                    copies = SyncCopies(spec, 1, mask_in_info)
                    env = copies.envs[0]
                    names = ("observation_space", "action_space", "metadata", "render_mode")
                    answer = SimpleNamespace(**{key: getattr(env, key) for key in names})
                else:
                    answer = getattr(copies, name)(*args, **kwargs)
                    if isinstance(answer, VectorStep):
                        answer = _row(answer)
            except (snapshot.SnapshotError, UnsupportedSpaceError) as error:
                answer = error
            except ENV_ERRORS as error:
                answer = _failure(spec.id, name, error, copy)
            try:
                pipe.send(answer)
            except (TypeError, AttributeError, pickle.PickleError):
                pipe.send(_picklable(answer))
            if copies is None:
                return
            name, args, kwargs = pipe.recv()
    if copies is not None:
        copies.close()


def _row(step: VectorStep) -> tuple[Any, ...]:
    """The step of a single copy in few arrays, which take long to pickle."""
    return (
        step.obs,
        float(step.rewards[0]),
        bool(step.terminated[0]),
        bool(step.truncated[0]),
        step.final_obs.get(0),
        step.infos[0],
        step.reset_infos.get(0),
        step.episode_ends,
    )


def _failure(env_id: str, phase: str, error: BaseException, copy: int) -> EnvFailure:
    """A failure with the traceback of this process."""
    trace = traceback.format_exc()
    if isinstance(error, EnvFailure):
        return EnvFailure(env_id, error.phase, f"{error.reason}\n{trace}", None if error.copy is None else copy)
    return EnvFailure(env_id, phase, f"{describe(error)}\n{trace}", copy)


def _picklable(value: Any) -> Any:
    """A value without its parts (of infos) that cannot be pickled, which become None."""
    if isinstance(value, dict):
        return {key: _picklable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_picklable(item) for item in value]
    try:
        return pickle.loads(pickle.dumps(value))
    except Exception:
        return None
