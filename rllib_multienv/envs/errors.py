"""Failures of environments, and checks of rewards and flags; observations are checked in `spaces.observations`."""

from __future__ import annotations

from typing import Any

import numpy as np

#: Exceptions that count as a failure of an environment's own code: ``sys.exit`` in an environment is one.
ENV_ERRORS = (Exception, SystemExit)
#: Largest magnitude of observations and rewards. The square of a larger number is not a float32, and a single one in
#: running statistics would flatten all others.
LARGEST = 1e19

#: Longest episode that is waited for in evaluation: a deterministic policy may never end one.
MAX_EPISODE_STEPS = 100_000

_NUMBERS = (float, int, np.number)


class EnvFailure(RuntimeError):
    """An environment's own code failed: its constructor, `reset` or `step` raised or returned nonsense.

    Attributes:
        env_id: The environment's id.
        copy: Index of the copy, or None where that is not known.
        phase: ``"make"``, or the name of the method that failed: ``"reset"``, ``"step"``, ...
        reason: What happened.
    """

    def __init__(self, env_id: str, phase: str, reason: str, copy: int | None = None) -> None:
        self.env_id, self.phase, self.reason, self.copy = env_id, phase, reason, copy
        where = "could not be made" if phase == "make" else f"failed in {phase}()"
        which = "" if copy is None else f" (copy {copy})"
        super().__init__(f"Environment {env_id!r}{which} {where}: {reason}")

    def __reduce__(self) -> tuple[Any, ...]:
        """Exceptions with several arguments need this to cross process borders."""
        return type(self), (self.env_id, self.phase, self.reason, self.copy)


class NonFiniteError(RuntimeError):
    """An environment returned an observation or a reward that is NaN, infinite, or larger than `LARGEST`.

    Attributes:
        env_id: The environment's id.
        copy: Index of the copy.
        quantity: ``"observation"`` or ``"reward"``.
        value: The observation or reward, as text.
        step: Number of the environment's step.
        problem: What is wrong with the value.
    """

    def __init__(
        self, env_id: str, copy: int, quantity: str, value: str, step: int, problem: str = "is not finite"
    ) -> None:
        self.env_id, self.copy, self.quantity = env_id, copy, quantity
        self.value, self.step, self.problem = value, step, problem
        super().__init__(
            f"Environment {env_id!r} (copy {copy}): the {quantity} {problem} at step {step}: {value}. Mend the "
            'environment, or use .environment(on_nonfinite="drop") to leave such fragments out.'
        )

    def __reduce__(self) -> tuple[Any, ...]:
        """Exceptions with several arguments need this to cross process borders."""
        return type(self), (self.env_id, self.copy, self.quantity, self.value, self.step, self.problem)


def endless(env_id: str, steps: int, also: str = "") -> EnvFailure:
    """The failure of an environment of which an episode has not ended after so many steps."""
    advice = f"Give the environment a time limit with EnvSpec({env_id!r}, ..., max_episode_steps=...){also}."
    return EnvFailure(env_id, "step", f"an episode has not ended after {steps:,} steps. {advice}")


def describe(error: BaseException) -> str:
    """``"ValueError: bad"``: an exception in one line, for messages that wrap it."""
    text = str(error).strip()
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


# What `step` of one copy returns. The vector environments skip a check where a value visibly has the common form.


def take_reward(reward: Any) -> float:
    """A reward as a number; arrays of one element are taken.

    Raises:
        TypeError: It is no number.
    """
    if not isinstance(reward, _NUMBERS):
        array = np.asarray(reward)
        if array.size != 1 or array.dtype.kind not in "fiub":
            raise TypeError(f"the reward must be a number, not {reward!r}")
        reward = array.item()
    return float(reward)


def take_flag(flag: Any, name: str) -> bool:
    """`terminated` or `truncated` as a bool; 0, 1 and arrays of one element are taken.

    Raises:
        TypeError: It is neither true nor false.
    """
    array = np.asarray(flag)
    if array.size != 1 or array.dtype.kind not in "fiub" or array.item() not in (0, 1):
        raise TypeError(f"{name} must be True or False, not {flag!r}")
    return bool(array.item())


def check_values(env_id: str, quantity: str, values: np.ndarray, step: int) -> None:
    """Check that a batch of observations or rewards is finite and of a reasonable size.

    Args:
        env_id: The environment's id.
        quantity: ``"observation"`` or ``"reward"``, for the message.
        values: ``[B, ...]``, one entry per copy.
        step: Number of the step, for the message.

    Raises:
        NonFiniteError: Names environment, copy, quantity, value and step.
    """
    # A NaN makes the maximum NaN, and the comparison false.
    if values.dtype.kind != "f" or float(np.abs(values).max()) <= LARGEST:
        return
    largest = np.abs(values).reshape(len(values), -1).max(axis=1)  # [B]
    sound = largest.astype(np.float64) <= LARGEST
    copy = int(np.argmin(sound))
    value = values[copy]
    problem = f"is larger than {LARGEST:g}" if np.isfinite(value).all() else "is not finite"
    raise NonFiniteError(env_id, copy, quantity, np.array2string(value, threshold=12, precision=4), step, problem)
