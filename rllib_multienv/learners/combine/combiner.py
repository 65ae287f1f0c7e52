"""The interface of combiners."""

from __future__ import annotations

import copy
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from types import MappingProxyType
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class TaskGradients:
    """What a combiner may look at: E environments, P parameters (of one group of the optimiser, such as the actor's).

    All values are those over all learners, and equal on all of them.

    Attributes:
        env_ids: The environments, in the order of the configuration.
        losses: [E]; None unless the combiner needs ``"losses"``. Zero where an environment has no row in this step. Of
            a combiner for the critic: the critic's losses, before their coefficient.
        gram: float64 [E, E], inner products of the environments' gradients; None unless it needs ``"gram"``.
        gradients: [E, P]; None unless it needs ``"gradients"``.
        seed: The same on all learners, another one in each step.
    """

    env_ids: tuple[str, ...]
    losses: Tensor | None
    gram: Tensor | None
    gradients: Tensor | None
    seed: tuple[int, ...]

    def generator(self) -> torch.Generator:
        """A generator of the same random numbers on all learners."""
        return torch.Generator().manual_seed(int(np.random.SeedSequence(self.seed).generate_state(1)[0]))


def require_number(combiner: Combiner, name: str, fits: Callable[[Any], bool], expected: str) -> None:
    """Raise a ValueError unless a setting of a combiner is a number that ``fits``."""
    value = getattr(combiner, name)
    if isinstance(value, bool) or not isinstance(value, Real) or not (math.isfinite(value) and fits(value)):
        raise ValueError(f"gradient_combiner: {name}={value!r} of {type(combiner).__name__} must be {expected}.")


class Combiner(ABC):
    """Makes one gradient of the gradients of all environments, in each step.

    A combiner that looks at gradients is called for each group of parameters (actor, critic, ...), whose losses reach
    no other group's parameters; each group has its own copy, hence its own state. Others are called once.

    Attributes:
        needs: What :meth:`combine` looks at, of ``"losses"``, ``"gram"`` and ``"gradients"``. With neither of the last
            two a step keeps its single backward pass. With ``"gram"`` learners exchange slices of gradients for the
            inner products. With ``"gradients"`` all learners get all gradients: E P numbers.
        of_critic: Whether it weighs the losses of values alone. Then it is called for each group of the learner's
            ``critic_losses``; the gradients of all other groups are summed.
        remembered: Weights of its last call, by env id, which hold until the next with ``combine_every``.
    """

    needs: ClassVar[frozenset[str]] = frozenset()
    of_critic: ClassVar[bool] = False
    remembered: Mapping[str, float] = MappingProxyType({})

    def check(self, env_ids: Sequence[str]) -> None:  # noqa: B027 (optional)
        """Raise a ValueError if the combiner does not fit these environments."""

    @abstractmethod
    def combine(self, tasks: TaskGradients) -> Tensor:
        """Weights [E] of the environments' gradients in their sum; or, with ``"gradients"``, the gradient [P] itself.

        Gradients are those of the losses after ``env_loss_weights``.
        """

    def checked(self, tasks: TaskGradients) -> Tensor:
        """The result of :meth:`combine`; NaN, without calling it, where losses or gradients are not finite.

        Raises:
            ValueError: It has another shape, or is not finite.
        """
        name = f"{type(self).__name__}.combine()"
        if tasks.gradients is not None:
            what, shape = "a gradient [P]", (tasks.gradients.shape[1],)
        else:
            what, shape = "a weight for each environment [E]", (len(tasks.env_ids),)
        given = [value for value in (tasks.losses, tasks.gram, tasks.gradients) if value is not None]
        if not all(bool(torch.isfinite(value).all()) for value in given):
            return torch.full(shape, torch.nan)  # the step is skipped, and no state takes it over
        result = self.combine(tasks)
        if not isinstance(result, Tensor) or result.shape != shape:
            found = f"shape {tuple(result.shape)}" if isinstance(result, Tensor) else type(result).__name__
            raise ValueError(f"{name} returned {found}; {what} is expected, a tensor of shape {shape}.")
        if not torch.isfinite(result).all():
            raise ValueError(f"{name} returned numbers that are not finite, from finite losses and gradients.")
        if tasks.gradients is None:
            self.remembered = dict(zip(tasks.env_ids, result.tolist(), strict=True))
        return result

    def get_state(self) -> dict[str, Any]:
        """What a checkpoint keeps; all attributes."""
        return copy.deepcopy(vars(self))

    def set_state(self, state: dict[str, Any]) -> None:
        """Take over a state of :meth:`get_state`."""
        vars(self).update(state)
