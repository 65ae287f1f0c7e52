"""The returns that are 0 and 100 in the normalised score of an experiment."""

from __future__ import annotations

import statistics
from dataclasses import dataclass

from rllib_multienv.evaluation.scores import normalized_score


@dataclass(frozen=True, kw_only=True)
class Reference:
    """What the normalised score of one environment is made with.

    Args:
        env_id: The environment.
        random: Mean return of random actions, None where it was not measured.
        best: The best mean return, over seeds, of agents trained in this environment alone; None where there are
            none.
        variant: The variant of these agents; empty where there are none.
        seeds: Their number.
    """

    env_id: str
    random: float | None
    best: float | None = None
    variant: str = ""
    seeds: int = 0

    @property
    def problem(self) -> str:
        """Why there is no normalised score in this environment; empty where there is one."""
        if self.random is None:
            return "random score missing"
        if self.best is None:
            return "no reference"
        if self.best <= self.random:
            return "reference not above random"
        return ""

    def score(self, value: float) -> float | None:
        """``100 * (value - random) / (best - random)``, the paper's normalised score; None if there is none.

        Args:
            value: A mean return.
        """
        if self.problem or self.random is None or self.best is None:
            return None
        return normalized_score(value, (self.random, self.best))


def best_reference(env_id: str, random: float | None, returns: dict[str, list[float]]) -> Reference:
    """The reference of one environment.

    Args:
        env_id: The environment.
        random: Mean return of random actions.
        returns: By variant the final mean returns of agents trained in this environment alone, one per seed.
    """
    means = {variant: statistics.fmean(values) for variant, values in returns.items() if values}
    if not means:
        return Reference(env_id=env_id, random=random)
    variant = max(means, key=lambda name: means[name])  # of equal ones the first
    return Reference(env_id=env_id, random=random, best=means[variant], variant=variant, seeds=len(returns[variant]))
