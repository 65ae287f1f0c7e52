"""Copies of an environment, each in a process of its own, for environments whose step is slow."""

from __future__ import annotations

from functools import partial
from typing import Any

import gymnasium as gym
from gymnasium.vector import AsyncVectorEnv, AutoresetMode

from rllib_multienv.envs import snapshot
from rllib_multienv.envs.errors import EnvFailure
from rllib_multienv.envs.make import describe, make_env
from rllib_multienv.spec import EnvSpec


class _Copy(gym.Wrapper):
    """Tells failures of `reset` (also within a step) from those of `step`, and gives access to the state."""

    def __init__(self, spec: EnvSpec, copy: int) -> None:
        super().__init__(make_env(spec))
        self._env_id, self._copy = spec.id, copy

    def reset(self, **kwargs: Any) -> Any:
        try:
            return super().reset(**kwargs)
        except Exception as error:
            raise EnvFailure(self._env_id, "reset", describe(error), self._copy) from error

    def multienv_capture(self) -> bytes | None:
        return snapshot.capture_env(self.env)

    def multienv_restore(self, states: list[bytes]) -> str | None:
        try:
            snapshot.restore_env(self.env, states[self._copy])
        except snapshot.SnapshotError as error:  # raised here, it would end the worker
            return str(error)
        return None


class AsyncCopiesEnv(AsyncVectorEnv):
    """Gymnasium's `AsyncVectorEnv` with SAME_STEP autoreset, whose errors name environment and copy.

    Args:
        spec: The environment.
        num_envs: Number of copies B.

    Raises:
        EnvFailure: A copy cannot be made.
    """

    def __init__(self, spec: EnvSpec, num_envs: int) -> None:
        self.env_id = spec.id
        self._phase = "make"
        self._failed = False
        try:
            super().__init__(
                [partial(_Copy, spec, copy) for copy in range(num_envs)],
                autoreset_mode=AutoresetMode.SAME_STEP,
            )
        except Exception as error:
            self._failed = True
            if hasattr(self, "_state"):  # the processes were started
                self.close()
            if isinstance(error, EnvFailure):
                raise
            raise EnvFailure(spec.id, "make", f"a worker process failed: {describe(error)}") from error

    def reset(self, **kwargs: Any) -> Any:
        """As Gymnasium has it."""
        return self._guarded("reset", super().reset, **kwargs)

    def step(self, actions: Any) -> Any:
        """As Gymnasium has it."""
        return self._guarded("step", super().step, actions)

    def _guarded(self, phase: str, function: Any, *args: Any, **kwargs: Any) -> Any:
        self._phase = phase
        try:
            return function(*args, **kwargs)
        except EnvFailure:
            self._failed = True
            raise
        except (EOFError, ConnectionError) as error:
            self._failed = True
            for process in self.processes:
                process.join(0.2)  # the pipe closes a little before the process is gone
            dead = [i for i, process in enumerate(self.processes) if not process.is_alive()]
            copy = dead[0] if dead else None
            code = f" with exit code {self.processes[dead[0]].exitcode}" if dead else ""
            raise EnvFailure(self.env_id, phase, f"its worker process died{code}", copy) from error

    def _raise_if_errors(self, successes: Any) -> None:
        """Say which copy failed; Gymnasium's own version drops the index and logs the trace."""
        if all(successes):
            return
        failures = [self.error_queue.get() for _ in range(len(successes) - sum(successes))]
        for index, *_ in failures:
            self.parent_pipes[index].close()
        self._state = gym.vector.async_vector_env.AsyncState.DEFAULT
        index, kind, value, trace = min(failures, key=lambda failure: failure[0])
        phase, reason = self._phase, f"{kind.__name__}: {value}"
        if isinstance(value, EnvFailure):
            phase, reason = value.phase, value.reason
        raise EnvFailure(self.env_id, phase, f"{reason}\n{trace}", index)

    def close_extras(self, timeout: int | float | None = None, terminate: bool = False, **kwargs: Any) -> None:
        """As Gymnasium has it; after a failure the workers are ended without asking them anything more."""
        if not self._failed:
            super().close_extras(timeout=timeout, terminate=terminate)
            return
        for process in self.processes:
            process.terminate()
            process.join()
        for pipe in self.parent_pipes:
            pipe.close()
