"""Opponents: who plays the other seats of a game, where it is not the agent that learns.

In each copy of the environment the learner then has one seat, another one in each episode, and an opponent has the
others. Rows of opponents have no step, so they reach no learner.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
import torch

from rllib_multienv.policy import AgentPolicy
from rllib_multienv.spec import SpaceSpec

RANDOM = "random"


class Opponent(Protocol):
    """A policy for seats of one environment."""

    def act(
        self, spaces: SpaceSpec, raw: np.ndarray, generator: np.random.Generator, states: Sequence[Any]
    ) -> tuple[Sequence[Any], Sequence[Any]]:
        """Actions of n agents, in the environment's own terms, and what they remember then.

        Args:
            spaces: The environment's.
            raw: ``[n, ...]``, raw observations.
            generator: Source of the draws.
            states: ``[n]``, what the agents remember; None at the beginning of an episode.
        """


class RandomOpponent:
    """Draws actions uniformly, among those that the mask allows."""

    def act(
        self, spaces: SpaceSpec, raw: np.ndarray, generator: np.random.Generator, states: Sequence[Any]
    ) -> tuple[Sequence[Any], Sequence[Any]]:
        """See `Opponent.act`."""
        rows = spaces.writer.random_rows(len(raw), generator, spaces.reader.actions_allowed(raw))
        return spaces.action_to_env(rows), states


class AgentOpponent:
    """An agent of a checkpoint, or an earlier policy of the run; it draws from its policy."""

    def __init__(self, agent: AgentPolicy) -> None:
        self.agent = agent

    def act(
        self, spaces: SpaceSpec, raw: np.ndarray, generator: np.random.Generator, states: Sequence[Any]
    ) -> tuple[Sequence[Any], Sequence[Any]]:
        """See `Opponent.act`.

        Raises:
            ValueError: The agent sees other previous inputs than the run has.
        """
        env_id, inputs = spaces.env_id, self.agent.space_specs[spaces.env_id].inputs
        if inputs != spaces.inputs:
            raise ValueError(
                f"The opponent in {env_id!r} was trained with inputs={inputs!r}, but this run has "
                f"inputs={spaces.inputs!r}: they must be the same."
            )
        state = self.agent.initial_state(len(raw))
        if state is not None:
            for row, own in enumerate(states):
                if own is not None:
                    state[row] = own
        draws = torch.Generator().manual_seed(int(generator.integers(2**63)))
        actions, after = self.agent.act_on_raw(env_id, raw, explore=True, generator=draws, state=state)
        return actions, states if after is None else list(after)


def make_opponent(name: str) -> Opponent:
    """``"random"``, or the agent of a checkpoint folder.

    Raises:
        FileNotFoundError: There is no such folder.
        ValueError: It is not a checkpoint.
    """
    return RandomOpponent() if name == RANDOM else AgentOpponent(AgentPolicy.from_checkpoint(name))


class Pool:
    """Earlier policies of a run, the newest ones up to a number.

    Args:
        size: Largest number.
        interval: Fragments between two additions.
    """

    def __init__(self, size: int, interval: int) -> None:
        self.members: deque[Opponent] = deque(maxlen=size)
        self._interval, self._count = interval, 0

    def offer(self, present: Callable[[], AgentPolicy]) -> None:
        """Add the present policy if it is time; called before each fragment."""
        if self._count % self._interval == 0:
            self.members.append(AgentOpponent(present()))
        self._count += 1


class Match:
    """Seats of one environment's copies.

    Args:
        spaces: The environment's; `SpaceSpec.agents` are the seats.
        num_copies: Copies.
        opponents: Opponents to choose from; more may come.
        self_play: Probability that an episode has no opponent: the learner plays all seats.
        seed: Of the draws; None for fresh entropy.
    """

    def __init__(
        self, spaces: SpaceSpec, num_copies: int, opponents: Sequence[Opponent], *, self_play: float, seed: int | None
    ) -> None:
        self._spaces, self.opponents, self._self_play = spaces, opponents, self_play
        self._rng = np.random.default_rng(seed)
        self._seats = len(spaces.agents)
        self._seat = np.arange(num_copies) % self._seats  # [copies], the learner's
        self._playing: list[Opponent | None] = [None] * num_copies
        self._states: list[Any] = [None] * (num_copies * self._seats)  # what opponents remember, by row
        self.begin(np.ones(num_copies, dtype=bool))

    def begin(self, restarted: np.ndarray) -> None:
        """New episodes begin: choose seat and opponent.

        Args:
            restarted: bool ``[copies]``.
        """
        for b in np.flatnonzero(restarted).tolist():
            self._seat[b] = (self._seat[b] + 1) % self._seats
            self._states[b * self._seats : (b + 1) * self._seats] = [None] * self._seats
            alone = not self.opponents or self._rng.random() < self._self_play
            self._playing[b] = None if alone else self.opponents[int(self._rng.integers(len(self.opponents)))]

    def learning(self) -> np.ndarray:
        """bool ``[R]``, the rows that the learner plays."""
        mine = np.arange(self._seats) == self._seat[:, None]  # [copies, seats]
        mine[[playing is None for playing in self._playing]] = True
        return mine.reshape(-1)

    def override(self, raw: np.ndarray, acting: np.ndarray, actions: Sequence[Any]) -> Sequence[Any]:
        """The actions ``[R, ...]`` with those of opponents in their rows.

        Args:
            raw: ``[R, ...]``, raw observations.
            acting: bool ``[R]``, the rows that act now.
            actions: The learner's, in the environment's own terms.
        """
        theirs = acting & ~self.learning()
        if not theirs.any():
            return actions
        chosen = list(actions)
        of_rows = [playing for playing in self._playing for _ in range(self._seats)]
        for opponent in {id(of_rows[row]): of_rows[row] for row in np.flatnonzero(theirs)}.values():
            assert opponent is not None
            rows = [row for row in np.flatnonzero(theirs).tolist() if of_rows[row] is opponent]
            before = [self._states[row] for row in rows]
            answer = opponent.act(self._spaces, raw[rows], self._rng, before)
            for row, action, state in zip(rows, *answer, strict=True):
                chosen[row], self._states[row] = action, state
        return chosen
