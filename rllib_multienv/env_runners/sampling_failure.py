"""How a remote runner tells the driver that sampling failed."""

from __future__ import annotations

import traceback
from dataclasses import dataclass
from typing import NoReturn, Self

from ray import cloudpickle


class RemoteTraceback(Exception):
    """The traceback of an error in another process, as text."""

    def __str__(self) -> str:
        return f"in an env runner:\n{self.args[0]}"


@dataclass(frozen=True)
class SamplingFailure:
    """An exception of user code (environment, callback, connector) that a remote runner returns instead of a sample.

    A call that raises is for RLlib a failed runner, and by default it logs that and goes on without the runner's
    environments; a bug in an environment would be no more than a line in a log. Runners that die are still RLlib's.
    """

    error: Exception
    traceback: str

    @classmethod
    def of(cls, error: Exception) -> Self:
        """From an exception that is being handled."""
        text = "".join(traceback.format_exception(error))
        try:
            cloudpickle.loads(cloudpickle.dumps(error))
        except Exception:
            error = RuntimeError(f"{type(error).__name__}: {error}")
        return cls(error, text)

    def reraise(self) -> NoReturn:
        """Raise the exception here, with the other process's traceback as its cause."""
        raise self.error from RemoteTraceback(self.traceback)
