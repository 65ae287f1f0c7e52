"""Tensors that depend on parameters alone, kept between calls without gradients until a parameter changes."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_post_hook

from .functional import is_functional

__all__ = ["CachedModule", "clear_caches"]

T = TypeVar("T")

# Fused optimisers write without advancing the parameters' version counters, so the steps of all optimisers of the
# process are counted too.
_steps = 0


def _count_step(*_: object) -> None:
    global _steps
    _steps += 1


register_optimizer_step_post_hook(_count_step)


class CachedModule(nn.Module):
    """A module with results that depend on its parameters alone and are kept in inference, see `cached`.

    A change is seen by the parameters' version counters, which in-place operations and ``load_state_dict`` advance, by
    their storage and dtype, which ``.to(...)`` changes, and by any optimiser's ``step()``. Writing through
    ``parameter.data`` in place escapes the version counter; call `clear_cache` after doing so. Copies and pickles keep
    nothing.
    """

    def __init__(self) -> None:
        super().__init__()
        self._owners: list[nn.Module] = []
        self.clear_cache()

    def clear_cache(self) -> None:
        """Drop everything that is kept."""
        self._seen_steps = -1
        self._seen: list[tuple[Tensor, Tensor, int]] = []
        self._kept: dict[Hashable, Any] = {}

    def cached(self, key: Hashable, compute: Callable[[], T], fits: Callable[[T], bool] = lambda _: True) -> T:
        """The result of ``compute``, with gradients computed at every call, else kept under ``key``.

        Args:
            key: name of the result.
            compute: depends on the parameters of this module and its children, and on ``key``.
            fits: whether a kept result is good enough.
        """
        if is_functional():
            return compute()
        if not self._owners:
            self._owners = [module for module in self.modules() if module._parameters]
        parameters = [p for module in self._owners for p in module._parameters.values() if p is not None]
        if torch.is_grad_enabled() and any(p.requires_grad for p in parameters):
            return compute()
        if self._has_changed(parameters):
            # The detached alias shares the version counter and keeps the storage alive, so that neither an address nor
            # an object identity can be reused while it is compared with.
            self._seen = [(p, p.detach(), p._version) for p in parameters]
            self._seen_steps, self._kept = _steps, {}
        if key not in self._kept or not fits(self._kept[key]):
            # The result outlives the call, so it must not depend on the modes that the call is made in.
            with torch.inference_mode(False), torch.no_grad(), torch.autocast(parameters[0].device.type, enabled=False):
                self._kept[key] = compute()
        kept: T = self._kept[key]
        return kept

    def _has_changed(self, parameters: list[nn.Parameter]) -> bool:
        if self._seen_steps != _steps or len(parameters) != len(self._seen):
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
        return {**self.__dict__, "_owners": [], "_seen_steps": -1, "_seen": [], "_kept": {}}


def clear_caches(network: nn.Module) -> None:
    """Drop everything that the modules of a network keep, when environments have changed."""
    for module in network.modules():
        if isinstance(module, CachedModule):
            module.clear_cache()
