"""Meta-testing: the return of each episode while an agent adapts to tasks that it was not trained on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO, get_args

import numpy as np

from rllib_multienv.envs.copies import VectorStep
from rllib_multienv.envs.errors import MAX_EPISODE_STEPS, endless
from rllib_multienv.envs.vector import EnvCopies
from rllib_multienv.evaluation.adapters import Adapter
from rllib_multienv.evaluation.learning_curves import add_legend, label_episodes, panels
from rllib_multienv.evaluation.scores import Interval, bootstrap_mean
from rllib_multienv.evaluation.table import write_csv
from rllib_multienv.opponents import RandomOpponent
from rllib_multienv.tasks.family import Split


@dataclass(frozen=True, kw_only=True)
class AdaptationResult:
    """Returns (undiscounted sums of raw rewards) of an agent that adapts to N tasks over K episodes each.

    Attributes:
        env_id: The environment.
        split: Where the tasks are from, such as ``"test"``.
        tasks: ``[N, D]``.
        returns: ``[N, K]``.
        oracle: ``[N]``, return of an episode with the task known: of the best policy, or of a scripted one; NaN where
            the family has neither.
        random: ``[N]``, return of an episode of random actions.
    """

    env_id: str
    split: str
    tasks: np.ndarray
    returns: np.ndarray
    oracle: np.ndarray
    random: np.ndarray

    @property
    def means(self) -> list[Interval]:
        """[K], mean return of each episode over the tasks, with a bootstrap interval."""
        return [bootstrap_mean(column) for column in self.returns.T]

    def by_step(self, episodes: int) -> list[Interval]:
        """Mean return of an episode before each step of a gradient, and after the last, with its interval over tasks.

        Args:
            episodes: Episodes between two steps (``inner_episodes``).
        """
        steps = np.split(self.returns, range(episodes, self.returns.shape[1], episodes), axis=1)  # [N, episodes] each
        return [bootstrap_mean(returns.mean(axis=1)) for returns in steps]

    @property
    def total(self) -> Interval:
        """Mean over the tasks of the return of all episodes together."""
        return bootstrap_mean(self.returns.sum(axis=1))

    def to_rows(self) -> list[dict[str, Any]]:
        """One row per task: its numbers, the return of each episode, and those of the oracle and of random actions."""
        return [
            {
                "env_id": self.env_id,
                "split": self.split,
                "task": " ".join(f"{number:.6g}" for number in task),
                **{f"episode_{number}": value for number, value in enumerate(returns.tolist(), 1)},
                "oracle": float(oracle),
                "random": float(random),
            }
            for task, returns, oracle, random in zip(self.tasks, self.returns, self.oracle, self.random, strict=True)
        ]

    def __repr__(self) -> str:
        """Means by episode."""
        means = ", ".join(f"{mean.value:.4g}" for mean in self.means)
        return (
            f"AdaptationResult({self.env_id!r}, {len(self.tasks)} {self.split} tasks, episodes: {means}; "
            f"oracle {self.oracle.mean():.4g}, random {self.random.mean():.4g})"
        )


def check_adaptation(
    *, split: str = "test", num_tasks: int = 1, episodes: int = 1, seed: int | None = 0, **others: Any
) -> None:
    """Check options of `MultiEnvAgent.adapt`.

    Raises:
        ValueError: One is wrong.
    """
    if split not in get_args(Split):
        raise ValueError(f"split={split!r}: must be one of {', '.join(map(repr, get_args(Split)))}.")
    for name, number in (("num_tasks", num_tasks), ("episodes", episodes)):
        if isinstance(number, bool) or not isinstance(number, int) or number < 1:
            raise ValueError(f"{name}={number!r}: must be a whole number of at least 1.")
    if not (seed is None or isinstance(seed, int)):
        raise ValueError(f"seed={seed!r}: must be a whole number, or None.")


def measure_adaptation(
    copies: EnvCopies, adapter: Adapter, *, split: str, episodes: int, seed: int | None
) -> AdaptationResult:
    """Let an agent adapt to tasks, one in each copy of a task family.

    Args:
        copies: N copies in trials of at least ``episodes`` episodes.
        adapter: The agent.
        split: Where the tasks are drawn from.
        episodes: K.
        seed: Of the tasks, and of random actions.

    Raises:
        ValueError: The environment is no task family.
        EnvFailure: An episode does not end.
    """
    rng = np.random.default_rng(seed)
    copies.set_split(split)  # of some families, rewards differ too
    tasks = copies.sample_tasks(copies.num_envs, split, rng)
    copies.set_tasks(tasks)
    random = _returns(copies, _Random(copies, rng), 1)[:, 0]
    oracle = copies.oracle_returns()
    if oracle is None:
        is_scripted = copies.oracle_actions() is not None
        oracle = _returns(copies, _Oracle(copies), 1)[:, 0] if is_scripted else np.full(copies.num_envs, np.nan)
    returns = _returns(copies, adapter, episodes)
    return AdaptationResult(
        env_id=copies.spec.id, split=split, tasks=tasks, returns=returns, oracle=oracle, random=random
    )


def _returns(copies: EnvCopies, adapter: Adapter, episodes: int) -> np.ndarray:
    """``[B, episodes]``, the return of each episode of a new trial."""
    obs = copies.reset()
    adapter.begin(copies.num_envs)
    returns = np.zeros((copies.num_envs, episodes + 1))  # the last column is of what comes afterwards
    episode, length = np.zeros((2, copies.num_envs), dtype=int)
    rows = np.arange(copies.num_envs)
    while (episode < episodes).any():
        step = copies.step(adapter.act(obs))
        assert step.episode_ends is not None  # in trials
        adapter.observe(step)
        returns[rows, episode] += step.rewards
        length = np.where(step.episode_ends, 0, length + 1)
        if length.max() > MAX_EPISODE_STEPS:
            raise endless(copies.spec.id, MAX_EPISODE_STEPS)
        episode = np.minimum(episode + step.episode_ends, episodes)
        obs = step.obs
    return returns[:, :episodes]


class _Random:
    """Random actions."""

    def __init__(self, copies: EnvCopies, rng: np.random.Generator) -> None:
        self._spaces, self._rng = copies.space_spec, rng

    def begin(self, num_tasks: int) -> None:
        pass

    def act(self, raw: np.ndarray) -> Any:
        return RandomOpponent().act(self._spaces, raw, self._rng, ())[0]

    def observe(self, step: VectorStep) -> None:
        pass


class _Oracle(_Random):
    """The family's scripted policy, which knows the task."""

    def __init__(self, copies: EnvCopies) -> None:
        self._copies = copies

    def act(self, raw: np.ndarray) -> Any:
        return self._copies.oracle_actions()


def write_adaptation(results: Sequence[AdaptationResult], file: TextIO) -> None:
    """Write one line per environment and task as CSV; see `AdaptationResult.to_rows`."""
    rows = [row for result in results for row in result.to_rows()]
    write_csv(rows, file)


def plot_adaptation(results: Sequence[AdaptationResult], output: str | Path) -> Path:
    """Draw the return of each adaptation episode, a panel per environment; bands are 95% bootstrap intervals.

    Args:
        results: What to draw.
        output: The picture's path, which is returned; the ending sets the format.
    """
    figure, axes = panels(len(results), (3.6, 2.8))
    for result, ax in zip(results, axes, strict=True):
        means = np.array(result.means)  # [K, 3]
        numbers = np.arange(1, len(means) + 1)
        ax.plot(numbers, means[:, 0], "o-", color="C0", markersize=4, label=f"agent, {result.split} tasks")
        ax.fill_between(numbers, means[:, 1], means[:, 2], color="C0", alpha=0.2, linewidth=0)
        label_episodes(ax, result.env_id, oracle=float(result.oracle.mean()), random=float(result.random.mean()))
    add_legend(figure, axes)
    output = Path(output)
    output.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(output, dpi=130)
    return output
