"""The network with a task encoder: hidden layers that are told the environment by a vector.

As in multi-task SAC (Yu et al. 2019, arXiv 1910.10897; sizes of the task encoder as in Sodhani et al. 2021, arXiv
2102.06177), between generated first and last layers. `TaskNetConfig` has what all networks have that know
environments by a vector.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import torch.nn.functional as F
from torch import Tensor, nn

from .config import require, require_choice, require_whole
from .context import TaskContext, vector_of
from .generated import GeneratedNetConfig, Middle
from .interface import Interface
from .layers import ResidualMLP
from .layout import Layout

__all__ = ["TaskEncoder", "TaskEncoderNetConfig", "TaskNetConfig"]

_CONTEXTS = ("computed", "words", "vectors", "embedding")


@dataclass(frozen=True, kw_only=True)
class TaskNetConfig(GeneratedNetConfig):
    """Base of configs of networks whose hidden layers know the environment by a vector.

    Attributes:
        context: what the vector is made of. ``"computed"``: the description's n-grams, sizes and bounds; ``"words"``:
            hashed words of `EnvSpec.description`; ``"vectors"``: ``context_vectors``; ``"embedding"``: a learned row
            for each environment, which gets a new one when it is added later.
        context_size: C, its length.
        context_vectors: a vector for each environment's description, all of one length.
    """

    context: Literal["computed", "words", "vectors", "embedding"] = "computed"
    context_size: int = 50
    context_vectors: Mapping[str, tuple[float, ...]] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        """Check the fields."""
        super().__post_init__()
        require_choice(self, "context", _CONTEXTS)
        require_whole(self, "context_size")
        expected = 'vectors of numbers of one length, by description, with context="vectors" and only then'
        try:
            vectors = {key: tuple(map(float, vector)) for key, vector in self.context_vectors.items()}
        except (AttributeError, TypeError, ValueError):
            vectors = {}
        fits = len({len(vector) for vector in vectors.values()}) == (self.context == "vectors")
        require(fits and len(vectors) == len(self.context_vectors), "context_vectors", self.context_vectors, expected)
        object.__setattr__(self, "context_vectors", vectors)

    def check_environments(self, interfaces: Mapping[str, Interface]) -> None:
        """See `NetConfig.check_environments`; with ``context="vectors"`` each description needs one."""
        super().check_environments(interfaces)
        for env_id, interface in interfaces.items() if self.context == "vectors" else ():
            vector_of(env_id, interface, self.context_vectors)

    def make_context(self) -> TaskContext:
        """The vectors of environments."""
        return TaskContext(self.context, self.context_size, self.descriptions, self.context_vectors)


@dataclass(frozen=True, kw_only=True)
class TaskEncoderNetConfig(TaskNetConfig):
    """Config of a generated network with `TaskEncoder` hidden layers.

    The plain network of as many parameters is `same_size` of a `GeneratedNetConfig`.
    """

    type: ClassVar[str] = "task_encoder"

    def make_middle(self) -> Middle:
        """See `GeneratedNetConfig.make_middle`."""
        return TaskEncoder(self)


class TaskEncoder(Middle):
    """An MLP of the environment's vector, whose result is given to a residual MLP beside the row."""

    def __init__(self, config: TaskEncoderNetConfig) -> None:
        super().__init__(config.make_context())
        size, width = config.context_size, config.width
        self.task_mlp = nn.Sequential(nn.ReLU(), nn.Linear(size, size), nn.ReLU(), nn.Linear(size, size))
        self.rows = nn.Linear(width, width)
        self.tasks = nn.Linear(size, width, bias=False)  # with `rows`: a linear layer of both side by side
        self.blocks = ResidualMLP(width, config.depth, width, config.dropout)

    def forward(self, rows: Tensor, layout: Layout) -> Tensor:
        """``[R, H]`` to ``[R, H]``."""
        tasks = self.tasks(self.task_mlp(self.contexts(layout, rows)))  # [E, H]
        hidden: Tensor = self.blocks(F.relu(self.rows(rows) + self.of_rows(tasks, layout)))
        return hidden
