"""Environments that can only be solved together with others of their world (`rllib_multienv.worlds`).

`Oracle` shows what `Guess` is asked for. `Question` asks for the label of an item, and `Search` shows labels of items
that it is told to look up. Apart from each other, guessing is all that is left.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from gymnasium import spaces

from rllib_multienv.tasks.drawing import BLUE, GREEN, GREY, Picture
from rllib_multienv.tasks.family import VectorFamily

__all__ = ["Guess", "Oracle", "Question", "Search"]


class _Secret(VectorFamily):
    """The task: one of ``choices`` numbers."""

    def __init__(
        self, num_envs: int, choices: int, horizon: int, at: int | None, size: int, num_actions: int, **options: Any
    ) -> None:
        name = type(self).__name__
        if isinstance(choices, bool) or not isinstance(choices, int) or choices < 2:
            raise ValueError(f"{name}: choices={choices!r} must be a whole number of at least 2.")
        if at is not None and not 0 <= at < horizon:
            raise ValueError(f"{name}: at={at!r} must be one of the {horizon} steps from 0 on, or None.")
        self.choices, self.at = choices, at
        super().__init__(
            num_envs,
            spaces.Box(0, 1, (size,), np.float32),
            spaces.Discrete(num_actions),
            horizon,
            obs_names=["asked"] if size == 1 else [f"shown {choice}" for choice in range(choices)],
            action_names=[f"answer {choice}" for choice in range(num_actions)],
            task_names=["secret"],
            **options,
        )

    @property
    def secrets(self) -> np.ndarray:
        """int64 ``[B]``, the numbers."""
        return self.tasks[:, 0].astype(np.int64)

    def is_time(self) -> np.ndarray:
        """Whether it is step ``at``, bool ``[B]``; always where that is None."""
        return np.full(self.num_envs, True) if self.at is None else self._steps == self.at

    def listed_tasks(self, split: Any) -> np.ndarray:
        """``[choices, 1]``, the same in both splits."""
        return np.arange(self.choices, dtype=np.float64)[:, None]

    def begin(self, copies: np.ndarray) -> None:
        """See `VectorFamily.begin`."""

    def draw(self, copy: int) -> np.ndarray:
        """See `VectorFamily.draw`: all numbers in a row, the secret one blue, green when it is time."""
        picture, now = Picture((-0.5, -0.5), (self.choices - 0.5, 0.5)), self.is_time()[copy]
        for choice in range(self.choices):
            color = GREY if choice != self.secrets[copy] else GREEN if now else BLUE
            picture.box((choice, 0), 0.8, 0.8, color)
        return picture.pixels


class Oracle(_Secret):
    """Shows the secret number (one-hot) in step ``at``, or always. Its only action does nothing; there is no reward.

    Args:
        num_envs: Number of copies.
        choices: Numbers that there are.
        horizon: Steps of an episode.
        at: The step in which it shows the number; None: in all.
        options: Those of `VectorFamily`.
    """

    def __init__(
        self, num_envs: int = 1, *, choices: int = 5, horizon: int = 2, at: int | None = None, **options: Any
    ) -> None:
        super().__init__(num_envs, choices, horizon, at, choices, 2, **options)

    def observe(self) -> np.ndarray:
        """See `VectorFamily.observe`."""
        return np.eye(self.choices, dtype=np.float32)[self.secrets] * self.is_time()[:, None]

    def advance(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """See `VectorFamily.advance`."""
        return np.zeros(self.num_envs), np.zeros(self.num_envs, bool)

    def oracle_actions(self) -> np.ndarray:
        """Any."""
        return np.zeros(self.num_envs, np.int64)

    def oracle_returns(self) -> np.ndarray:
        """Zero."""
        return np.zeros(self.num_envs)


class Guess(_Secret):
    """Rewards the right answer by 1, in step ``at`` or always, and observes only whether it is asked.

    Args:
        num_envs: Number of copies.
        choices: Numbers that there are.
        horizon: Steps of an episode.
        at: The step in which it asks; None: in all.
        options: Those of `VectorFamily`.
    """

    def __init__(
        self, num_envs: int = 1, *, choices: int = 5, horizon: int = 2, at: int | None = None, **options: Any
    ) -> None:
        super().__init__(num_envs, choices, horizon, at, 1, choices, **options)

    def observe(self) -> np.ndarray:
        """See `VectorFamily.observe`."""
        return self.is_time().astype(np.float32)[:, None]

    def advance(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """See `VectorFamily.advance`."""
        return ((actions == self.secrets) & self.is_time()).astype(np.float64), np.zeros(self.num_envs, bool)

    def oracle_actions(self) -> np.ndarray:
        """The secret number."""
        return self.secrets

    def oracle_returns(self) -> np.ndarray:
        """One for each step in which it asks."""
        return np.full(self.num_envs, 1.0 if self.at is not None else float(self.horizon))


class _Catalogue(VectorFamily):
    """The task: the item that is asked for, and the label of each of ``items`` items."""

    def __init__(
        self,
        num_envs: int,
        items: int,
        labels: int,
        horizon: int,
        obs_names: list[str],
        action_names: list[str],
        **options: Any,
    ) -> None:
        for name, value in (("items", items), ("labels", labels)):
            if isinstance(value, bool) or not isinstance(value, int) or value < 2:
                raise ValueError(f"{type(self).__name__}: {name}={value!r} must be a whole number of at least 2.")
        self.items, self.num_labels = items, labels
        super().__init__(
            num_envs,
            spaces.Box(0, 1, (len(obs_names),), np.float32),
            spaces.Discrete(len(action_names)),
            horizon,
            obs_names=obs_names,
            action_names=action_names,
            task_names=["item asked for", *(f"label item {item}" for item in range(items))],
            **options,
        )

    def draw_tasks(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """``[n, 1 + items]``."""
        asked, labels = rng.integers(self.items, size=(n, 1)), rng.integers(self.num_labels, size=(n, self.items))
        return np.concatenate([asked, labels], axis=1).astype(np.float64)

    @property
    def asked(self) -> np.ndarray:
        """int64 ``[B]``, the items asked for."""
        return self.tasks[:, 0].astype(np.int64)

    def labels_of(self, items: np.ndarray) -> np.ndarray:
        """int64 ``[B]``, the label of an item in each copy."""
        return self.tasks[np.arange(self.num_envs), 1 + items].astype(np.int64)

    def draw(self, copy: int) -> np.ndarray:
        """See `VectorFamily.draw`: a column for each item, as high as its label; that of the item asked for is blue."""
        picture = Picture((-0.5, 0.0), (self.items - 0.5, float(self.num_labels)))
        for item, label in enumerate(self.tasks[copy, 1:] + 1):
            picture.box((item, label / 2), 0.8, label, BLUE if item == self.asked[copy] else GREY)
        return picture.pixels


class Delayed(VectorFamily):
    """A family whose question may be answered at once or later: action 0 waits. Only the first answer counts.

    Attributes:
        cost: What a step of waiting costs.
    """

    STATE: ClassVar[tuple[str, ...]] = ("_answered",)

    def __init__(self, num_envs: int, *args: Any, cost: float, **options: Any) -> None:
        self.cost, self._answered = cost, np.zeros(num_envs, bool)
        super().__init__(num_envs, *args, **options)

    @property
    def labels(self) -> np.ndarray:
        """int64 ``[B]``, the right answers."""
        raise NotImplementedError

    def begin(self, copies: np.ndarray) -> None:
        """See `VectorFamily.begin`."""
        self._answered[copies] = False

    def advance(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """See `VectorFamily.advance`."""
        waits = actions == 0
        gained = np.where(waits, -self.cost, actions - 1 == self.labels)
        rewards = np.where(self._answered, 0.0, gained)
        self._answered = self._answered | ~waits
        return rewards, np.zeros(self.num_envs, bool)

    def oracle_actions(self) -> np.ndarray:
        """The right answer, without waiting."""
        return 1 + self.labels

    def oracle_returns(self) -> np.ndarray:
        """One."""
        return np.ones(self.num_envs)


class Question(Delayed, _Catalogue):
    """Observes an item, and may wait or answer with its label. Only the first answer of an episode counts.

    The right answer gives 1, each step of waiting before it costs ``cost``.

    Args:
        num_envs: Number of copies.
        items: Items that there are.
        labels: Labels that there are.
        horizon: Steps of an episode.
        cost: What a step of waiting costs.
        options: Those of `VectorFamily`.
    """

    def __init__(
        self,
        num_envs: int = 1,
        *,
        items: int = 5,
        labels: int = 3,
        horizon: int = 3,
        cost: float = 0.05,
        **options: Any,
    ) -> None:
        asked, answers = [f"asked {item}" for item in range(items)], [f"answer {label}" for label in range(labels)]
        super().__init__(num_envs, items, labels, horizon, asked, ["wait", *answers], cost=cost, **options)

    @property
    def labels(self) -> np.ndarray:
        """See `Delayed`."""
        return self.labels_of(self.asked)

    def observe(self) -> np.ndarray:
        """See `VectorFamily.observe`; zeros after the answer."""
        return np.eye(self.items, dtype=np.float32)[self.asked] * ~self._answered[:, None]


class Search(_Catalogue):
    """Shows the label of the item that was looked up in the last step (one-hot). There is no reward.

    Args:
        num_envs: Number of copies.
        items: Items that there are.
        labels: Labels that there are.
        horizon: Steps of an episode.
        options: Those of `VectorFamily`.
    """

    STATE = ("_shown",)

    def __init__(self, num_envs: int = 1, *, items: int = 5, labels: int = 3, horizon: int = 3, **options: Any) -> None:
        self._shown = np.full(num_envs, -1)  # nothing
        shown = [f"shown {label}" for label in range(labels)]
        super().__init__(num_envs, items, labels, horizon, shown, [f"look up {i}" for i in range(items)], **options)

    def begin(self, copies: np.ndarray) -> None:
        """See `VectorFamily.begin`."""
        self._shown[copies] = -1

    def observe(self) -> np.ndarray:
        """See `VectorFamily.observe`."""
        return (self._shown[:, None] == np.arange(self.num_labels)).astype(np.float32)

    def advance(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """See `VectorFamily.advance`."""
        self._shown = self.labels_of(np.asarray(actions))
        return np.zeros(self.num_envs), np.zeros(self.num_envs, bool)

    def oracle_actions(self) -> np.ndarray:
        """The item asked for."""
        return self.asked

    def oracle_returns(self) -> np.ndarray:
        """Zero."""
        return np.zeros(self.num_envs)
