"""Convolution kernels that depend on the parameters only, kept between calls until a parameter changes."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_post_hook

__all__ = ["KernelBank"]

# Fused optimisers write without advancing the parameters' version counters, so the steps of all optimisers of
# the process are counted too.
_steps = 0


def _count_step(*_: object) -> None:
    global _steps
    _steps += 1


register_optimizer_step_post_hook(_count_step)


class KernelBank(nn.Module):
    """The convolution kernels of a stack of layers, computed together.

    A subclass implements `compute`. In training (gradients enabled) the kernels are computed once per call;
    without gradients they are kept, and computed again only when a parameter was changed or a longer kernel
    is needed. A change is seen by the parameters' version counters, which in-place operations and
    ``load_state_dict`` advance, by their storage and dtype, which ``.to(...)`` changes, and by any
    optimiser's ``step()``. Writing through ``parameter.data`` in place escapes the version counter; call
    `forget` after doing so.
    """

    def __init__(self) -> None:
        super().__init__()
        self._kept: tuple[int, list[tuple[Tensor, Tensor, int]], Tensor] | None = None

    @abstractmethod
    def compute(self, length: int) -> Tensor:
        """Return the kernels ``[num_layers, length, H]``; ``compute(l)`` is the head of any longer one."""

    def forward(self, length: int) -> Tensor:
        """Kernels ``[num_layers, L, H]`` with ``L >= length``."""
        if torch.is_grad_enabled() and any(p.requires_grad for p in self.parameters(recurse=False)):
            return self.compute(length)
        if self._kept is None or self._kept[2].shape[1] < length or self._changed(*self._kept[:2]):
            with torch.inference_mode(False), torch.no_grad():
                kernels = self.compute(length)
            # The detached alias shares the version counter and keeps the storage alive, so neither an address
            # nor an object identity can be taken over by something else while it is compared with.
            seen: list[tuple[Tensor, Tensor, int]]
            seen = [(p, p.detach(), p._version) for p in self._parameters.values() if p is not None]
            self._kept = (_steps, seen, kernels)
        return self._kept[2]

    def forget(self) -> None:
        """Drop the kept kernels."""
        self._kept = None

    def _changed(self, steps: int, seen: list[tuple[Tensor, Tensor, int]]) -> bool:
        if steps != _steps:
            return True
        current = [p for p in self._parameters.values() if p is not None]
        if len(current) != len(seen):
            return True
        return any(
            now is not then
            or now._version != version
            or now.data_ptr() != alias.data_ptr()
            or now.dtype != alias.dtype
            or now.device != alias.device
            for now, (then, alias, version) in zip(current, seen, strict=True)
        )

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_kept": None}
