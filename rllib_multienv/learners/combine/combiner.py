"""The interface of combiners."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
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
        losses: [E]; None unless the combiner needs ``"losses"``. Zero where an environment has no row in this step.
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


class Combiner(ABC):
    """Makes one gradient of the gradients of all environments, in each step.

    A combiner that looks at gradients is called for each group of parameters (actor, critic, ...), whose losses reach
    no other group's parameters; each group has its own copy, hence its own state. Others are called once.

    Attributes:
        needs: What :meth:`combine` looks at, of ``"losses"``, ``"gram"`` and ``"gradients"``. With neither of the last
            two a step keeps its single backward pass. With ``"gram"`` learners exchange slices of gradients for the
            inner products. With ``"gradients"`` all learners get all gradients: E P numbers.
    """

    needs: ClassVar[frozenset[str]] = frozenset()

    @abstractmethod
    def combine(self, tasks: TaskGradients) -> Tensor:
        """Weights [E] of the environments' gradients in their sum; or, with ``"gradients"``, the gradient [P] itself.

        Gradients are those of the losses after ``env_loss_weights``.
        """

    def checked(self, tasks: TaskGradients) -> Tensor:
        """The result of :meth:`combine`.

        Raises:
            ValueError: It has another shape, or is not finite though all that it was given is.
        """
        result = self.combine(tasks)
        name = f"{type(self).__name__}.combine()"
        if tasks.gradients is not None:
            what, shape = "a gradient [P]", (tasks.gradients.shape[1],)
        else:
            what, shape = "a weight for each environment [E]", (len(tasks.env_ids),)
        if not isinstance(result, Tensor) or result.shape != shape:
            found = f"shape {tuple(result.shape)}" if isinstance(result, Tensor) else type(result).__name__
            raise ValueError(f"{name} returned {found}; {what} is expected, a tensor of shape {shape}.")
        given = [value for value in (tasks.losses, tasks.gram, tasks.gradients) if value is not None]
        if not torch.isfinite(result).all() and all(torch.isfinite(value).all() for value in given):
            raise ValueError(f"{name} returned numbers that are not finite, from finite losses and gradients.")
        return result

    def get_state(self) -> dict[str, Any]:
        """What a checkpoint keeps; all attributes."""
        return dict(vars(self))

    def set_state(self, state: dict[str, Any]) -> None:
        """Take over a state of :meth:`get_state`."""
        vars(self).update(state)
