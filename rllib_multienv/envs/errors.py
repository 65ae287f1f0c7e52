"""What can go wrong inside an environment, told so that the user knows which one and where."""

from __future__ import annotations

from typing import Any

import numpy as np


class EnvFailure(RuntimeError):
    """An environment's own code failed: its constructor, `reset` or `step` raised or gave nonsense.

    Attributes:
        env_id: The environment's id.
        copy: Index of the copy, or None where that is not known.
        phase: ``"make"``, ``"reset"``, ``"step"`` or ``"close"``.
        reason: What happened.
    """

    def __init__(self, env_id: str, phase: str, reason: str, copy: int | None = None) -> None:
        self.env_id, self.phase, self.reason, self.copy = env_id, phase, reason, copy
        where = {"make": "could not be made", "close": "failed while closing"}.get(phase, f"failed in {phase}()")
        which = "" if copy is None else f" (copy {copy})"
        super().__init__(f"Environment {env_id!r}{which} {where}: {reason}")

    def __reduce__(self) -> tuple[Any, ...]:
        """Exceptions with arguments of their own need this to cross process borders."""
        return type(self), (self.env_id, self.phase, self.reason, self.copy)


class NonFiniteError(RuntimeError):
    """An environment gave an observation or a reward that is NaN or infinite.

    Attributes:
        env_id: The environment's id.
        copy: Index of the copy.
        quantity: ``"observation"`` or ``"reward"``.
        step: Number of the environment's step, where known.
    """

    def __init__(self, env_id: str, copy: int, quantity: str, value: str = "", step: int | None = None) -> None:
        self.env_id, self.copy, self.quantity, self.value, self.step = env_id, copy, quantity, value, step
        at = "" if step is None else f" at step {step}"
        shown = f": {value}" if value else ""
        super().__init__(
            f"Environment {env_id!r} (copy {copy}): the {quantity} is not finite{at}{shown}. Mend the "
            'environment, or use .environment(on_nonfinite="drop") to leave such fragments out.'
        )

    def __reduce__(self) -> tuple[Any, ...]:
        """Exceptions with arguments of their own need this to cross process borders."""
        return type(self), (self.env_id, self.copy, self.quantity, self.value, self.step)


def find_nonfinite(values: np.ndarray) -> int | None:
    """Index along the first axis of the first entry that holds a NaN or an infinity; None if all is finite.

    Args:
        values: ``[B, ...]`` of any dtype.
    """
    if values.dtype.kind not in "fc":
        return None
    finite = np.isfinite(values)
    if finite.all():
        return None
    return int(np.argmin(finite.reshape(len(values), -1).all(axis=1)))


def check_finite(env_id: str, quantity: str, values: np.ndarray, step: int | None = None) -> None:
    """Raise if a batch holds a NaN or an infinity.

    Args:
        env_id: The environment's id.
        quantity: What the values are: ``"observation"`` or ``"reward"``.
        values: ``[B, ...]``, one entry per copy.
        step: Number of the step, for the message.

    Raises:
        NonFiniteError: Names environment, copy, quantity, value and step.
    """
    copy = find_nonfinite(values)
    if copy is not None:
        shown = np.array2string(np.asarray(values[copy]), threshold=12, precision=4)
        raise NonFiniteError(env_id, copy, quantity, shown, step)
