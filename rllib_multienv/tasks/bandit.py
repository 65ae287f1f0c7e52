"""Bernoulli bandits, and the random tabular MDPs of RL² (1611.02779, sections 3.1 and 3.2)."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import spaces

from rllib_multienv.tasks.drawing import BLUE, GREEN, GREY, Picture
from rllib_multienv.tasks.family import VectorFamily

__all__ = ["Bandit", "TabularMDP", "bayes_greedy_return"]


class Bandit(VectorFamily):
    """A bandit with k arms, which give 1 with a probability of their own, else 0. The task: k probabilities, U(0, 1).

    An episode is `horizon` pulls of one bandit. There is nothing to observe: the observation is a constant 0.

    Args:
        num_envs: Number of copies.
        arms: Number of arms k.
        horizon: Pulls of an episode.
        options: Those of `VectorFamily`.
    """

    STATE = ("_chances", "_pulled")
    num_test_tasks = 2000  # returns of bandits differ much

    def __init__(self, num_envs: int = 1, *, arms: int = 5, horizon: int = 20, **options: Any) -> None:
        if isinstance(arms, bool) or not isinstance(arms, int) or arms < 2:
            raise ValueError(f"Bandit: arms={arms!r} must be a whole number of at least 2.")
        self.arms = arms
        super().__init__(
            num_envs,
            spaces.Box(0, 1, (1,), np.float32),
            spaces.Discrete(arms),
            horizon,
            obs_names=("nothing",),
            action_names=[f"arm {arm}" for arm in range(arms)],
            task_names=[f"probability arm {arm}" for arm in range(arms)],
            **options,
        )
        self._chances = np.zeros((num_envs, self.horizon))
        self._pulled = np.full(num_envs, -1)  # for pictures

    def draw_tasks(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """``[n, k]``."""
        return rng.random((n, self.arms))

    def begin(self, copies: np.ndarray) -> None:
        """See `VectorFamily.begin`."""
        self._pulled[copies] = -1
        for copy in copies.tolist():
            self.generators[copy].random(out=self._chances[copy])

    def advance(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """See `VectorFamily.advance`."""
        copies = np.arange(self.num_envs)
        self._pulled = np.array(actions, np.int64)
        rewards = self._chances[copies, self._steps] < self.tasks[copies, self._pulled]
        return rewards.astype(np.float64), np.zeros(self.num_envs, bool)

    def observe(self) -> np.ndarray:
        """See `VectorFamily.observe`."""
        return np.zeros((self.num_envs, 1), np.float32)

    def oracle_actions(self) -> np.ndarray:
        """The best arm."""
        return self.tasks.argmax(axis=1)

    def oracle_returns(self) -> np.ndarray:
        """Expected."""
        return self.horizon * self.tasks.max(axis=1)

    def draw(self, copy: int) -> np.ndarray:
        """See `VectorFamily.draw`: a bar for each arm's probability, blue for the one that was pulled."""
        picture = Picture((-0.5, 0.0), (self.arms - 0.5, self.arms))
        for arm, probability in enumerate(self.tasks[copy]):
            height = probability * self.arms
            picture.box((arm, self.arms / 2), 0.8, self.arms, GREY)
            picture.box((arm, height / 2), 0.8, height, BLUE if arm == self._pulled[copy] else GREEN)
        return picture.pixels


def bayes_greedy_return(arms: int, horizon: int, *, episodes: int = 10_000, seed: int = 0) -> float:
    """Mean return of the Bayes-greedy policy on `Bandit`: the arm with the highest posterior mean, prior U(0, 1).

    Args:
        arms: Number of arms.
        horizon: Pulls of an episode.
        episodes: Simulated episodes.
        seed: Of tasks and rewards.
    """
    rng, rows = np.random.default_rng(seed), np.arange(episodes)
    probabilities = rng.random((episodes, arms))
    ones, pulls, total = np.zeros((episodes, arms)), np.zeros((episodes, arms)), 0.0
    for _ in range(horizon):
        means = (ones + 1) / (pulls + 2)
        pulled = (means + 1e-9 * rng.random(means.shape)).argmax(axis=1)  # ties are drawn
        rewards = rng.random(episodes) < probabilities[rows, pulled]
        ones[rows, pulled] += rewards
        pulls[rows, pulled] += 1
        total += float(rewards.mean())
    return total


class TabularMDP(VectorFamily):
    """A random MDP: transitions from a flat Dirichlet distribution, mean rewards N(1, 1), rewards N(mean, 1).

    Episodes start in state 0. The agent sees its state, one-hot. The task: mean rewards ``[states, actions]``, then
    probabilities ``[states, actions, next state]``.

    Args:
        num_envs: Number of copies.
        states: Number of states.
        actions: Number of actions.
        horizon: Steps of an episode.
        options: Those of `VectorFamily`.
    """

    STATE = ("states", "_chances", "_noise")

    def __init__(
        self, num_envs: int = 1, *, states: int = 10, actions: int = 5, horizon: int = 10, **options: Any
    ) -> None:
        for name, value in (("states", states), ("actions", actions)):
            if isinstance(value, bool) or not isinstance(value, int) or value < 2:
                raise ValueError(f"TabularMDP: {name}={value!r} must be a whole number of at least 2.")
        self._shape = states, actions
        self.states = np.zeros(num_envs, np.int64)
        pairs = [f"state {state} action {action}" for state in range(states) for action in range(actions)]
        super().__init__(
            num_envs,
            spaces.Box(0, 1, (states,), np.float32),
            spaces.Discrete(actions),
            horizon,
            obs_names=[f"state {state}" for state in range(states)],
            action_names=[f"action {action}" for action in range(actions)],
            task_names=[
                *(f"reward {pair}" for pair in pairs),
                *(f"probability {pair} to {state}" for pair in pairs for state in range(states)),
            ],
            **options,
        )
        self._chances, self._noise = np.zeros((num_envs, self.horizon)), np.zeros((num_envs, self.horizon))

    def draw_tasks(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """``[n, states * actions * (1 + states)]``."""
        states, actions = self._shape
        rewards = rng.normal(1.0, 1.0, (n, states * actions))
        return np.concatenate([rewards, rng.dirichlet(np.ones(states), (n, states * actions)).reshape(n, -1)], axis=1)

    def tables(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean rewards ``[B, states, actions]`` and probabilities ``[B, states, actions, states]``."""
        states, actions = self._shape
        rewards, probabilities = np.split(self.tasks, [states * actions], axis=1)
        return rewards.reshape(-1, states, actions), probabilities.reshape(-1, states, actions, states)

    def begin(self, copies: np.ndarray) -> None:
        """See `VectorFamily.begin`."""
        self.states[copies] = 0
        for copy in copies.tolist():
            self.generators[copy].random(out=self._chances[copy])
            self.generators[copy].standard_normal(out=self._noise[copy])

    def advance(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """See `VectorFamily.advance`."""
        copies, (rewards, probabilities) = np.arange(self.num_envs), self.tables()
        gained = rewards[copies, self.states, actions] + self._noise[copies, self._steps]
        reached = np.cumsum(probabilities[copies, self.states, actions], axis=1)  # [B, states]
        chances = self._chances[copies, self._steps][:, None] * reached[:, -1:]  # the sum is 1 to rounding
        self.states = (chances >= reached).sum(axis=1)
        return gained, np.zeros(self.num_envs, bool)

    def observe(self) -> np.ndarray:
        """See `VectorFamily.observe`."""
        return np.eye(self._shape[0], dtype=np.float32)[self.states]

    def _action_values(self) -> np.ndarray:
        """``[horizon, B, states, actions]``, expected returns from each step on under the best policy."""
        rewards, probabilities = self.tables()
        found = [rewards]
        for _ in range(self.horizon - 1):
            found.append(rewards + np.einsum("bsan,bn->bsa", probabilities, found[-1].max(axis=2)))
        return np.stack(found[::-1])

    def oracle_actions(self) -> np.ndarray:
        """By dynamic programming over the steps that are left."""
        copies = np.arange(self.num_envs)
        values = self._action_values()[np.minimum(self._steps, self.horizon - 1), copies, self.states]
        return values.argmax(axis=1)

    def oracle_returns(self) -> np.ndarray:
        """Expected, of an episode."""
        return self._action_values()[0, :, 0].max(axis=1)

    def draw(self, copy: int) -> np.ndarray:
        """See `VectorFamily.draw`: states in a row, the present one blue; green: mean rewards of its actions."""
        states, actions = self._shape
        picture = Picture((-0.5, -1.0), (states - 0.5, 4.0))
        for state in range(states):
            picture.box((state, -0.5), 0.8, 0.8, BLUE if state == self.states[copy] else GREY)
        for action, mean in enumerate(self.tables()[0][copy, self.states[copy]]):
            height = np.clip(mean + 2, 0, 4)
            picture.box((action * (states - 1) / (actions - 1), height / 2), 0.5, height, GREEN)
        return picture.pixels
