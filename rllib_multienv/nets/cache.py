"""Cache for tensors that are computed from parameters alone, emptied when a parameter changes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor
from torch.optim.optimizer import register_optimizer_step_post_hook

__all__ = ["ParameterCache"]

# Fused optimisers write without advancing the parameters' version counters, so the steps of all optimisers of the
# process are counted too.
_steps = 0


def _count_step(*_: object) -> None:
    global _steps
    _steps += 1


register_optimizer_step_post_hook(_count_step)


class ParameterCache:
    """A dictionary that is empty again after any of the parameters that it was asked for has changed.

    A change is seen by the parameters' version counters, which in-place operations and ``load_state_dict`` advance, by
    their storage and dtype, which ``.to(...)`` changes, and by any optimiser's ``step()``. Writing through
    ``parameter.data`` in place escapes the version counter; call `clear` after doing so. Copies and pickles are empty.

    Compute what is kept in ``torch.inference_mode(False)`` and without gradients: it outlives the call.
    """

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Drop everything."""
        self._steps = -1
        self._seen: list[tuple[Tensor, Tensor, int]] = []
        self._kept: dict[Any, Any] = {}

    def get(self, parameters: Sequence[Tensor]) -> dict[Any, Any]:
        """The dictionary that belongs to the present values of ``parameters``, to read and to fill."""
        if self._changed(parameters):
            # The detached alias shares the version counter and keeps the storage alive, so that neither an address nor
            # an object identity can be reused while it is compared with.
            self._seen = [(parameter, parameter.detach(), parameter._version) for parameter in parameters]
            self._steps = _steps
            self._kept = {}
        return self._kept

    def _changed(self, parameters: Sequence[Tensor]) -> bool:
        if self._steps != _steps or len(parameters) != len(self._seen):
            return True
        return any(
            now is not then
            or now._version != version
            or now.data_ptr() != alias.data_ptr()
            or now.dtype != alias.dtype
            or now.device != alias.device
            for now, (then, alias, version) in zip(parameters, self._seen, strict=True)
        )

    def __getstate__(self) -> dict[str, Any]:
        return {"_steps": -1, "_seen": [], "_kept": {}}
