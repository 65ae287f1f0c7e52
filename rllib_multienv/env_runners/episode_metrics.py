"""Metrics of sampling, under RLlib's own keys and per env id."""

from __future__ import annotations

from collections import deque
from collections.abc import Container
from typing import Any

import numpy as np
from ray.rllib.utils.metrics import (
    EPISODE_LEN_MEAN,
    EPISODE_RETURN_MEAN,
    NUM_AGENT_STEPS_SAMPLED,
    NUM_AGENT_STEPS_SAMPLED_LIFETIME,
    NUM_ENV_STEPS_SAMPLED,
    NUM_ENV_STEPS_SAMPLED_LIFETIME,
    NUM_EPISODES,
    NUM_EPISODES_LIFETIME,
    NUM_MODULE_STEPS_SAMPLED,
    NUM_MODULE_STEPS_SAMPLED_LIFETIME,
)
from ray.rllib.utils.metrics.metrics_logger import MetricsLogger

MODULE_EPISODE_RETURN_MEAN = "module_episode_return_mean"
MODULE_EPISODE_RETURN_MIN = "module_episode_return_min"
MODULE_EPISODE_RETURN_MAX = "module_episode_return_max"
MODULE_EPISODE_LEN_MEAN = "module_episode_len_mean"
MODULE_EPISODES = "module_episodes"
#: Every finished episode's return since the last result, per env id.
EPISODE_RETURNS = "episode_returns"
NUM_FRAGMENTS_LOST_LIFETIME = "num_fragments_lost_lifetime"


class EpisodeMetrics:
    """Logs steps and finished episodes; returns and lengths are means over a window of episodes.

    RLlib clears a metric's window with each result, so the windows are kept here: an environment with long episodes
    then has a value in every result once its first episode is over.
    """

    def __init__(self, logger: MetricsLogger, window: int | None) -> None:
        self._logger = logger
        self._window = window
        self._episodes: dict[str, deque[tuple[float, int]]] = {}

    def episode(self, env_id: str, return_: float, length: int) -> None:
        """An episode of ``env_id`` is over."""
        self._episodes.setdefault(env_id, deque(maxlen=self._window)).append((return_, length))
        self._logger.log_value((MODULE_EPISODES, env_id), 1, reduce="sum")
        self._logger.log_value((EPISODE_RETURNS, env_id), return_, reduce="item_series")

    def steps(self, env_id: str, count: int) -> None:
        """``count`` steps of experience of ``env_id`` were sampled."""
        log = self._logger.log_value
        log(NUM_ENV_STEPS_SAMPLED, count, reduce="sum")
        log(NUM_ENV_STEPS_SAMPLED_LIFETIME, count, reduce="lifetime_sum", with_throughput=True)
        for key in (NUM_MODULE_STEPS_SAMPLED, NUM_AGENT_STEPS_SAMPLED):
            log((key, env_id), count, reduce="sum")
        for key in (NUM_MODULE_STEPS_SAMPLED_LIFETIME, NUM_AGENT_STEPS_SAMPLED_LIFETIME):
            log((key, env_id), count, reduce="lifetime_sum")

    def lost(self, env_id: str) -> None:
        """A fragment of ``env_id`` could not be used."""
        self._logger.log_value((NUM_FRAGMENTS_LOST_LIFETIME, env_id), 1, reduce="lifetime_sum")

    def round(self, num_episodes: int) -> None:
        """A round of sampling is over: log the windows."""
        log = self._logger.log_value
        log(NUM_EPISODES, num_episodes, reduce="sum")
        log(NUM_EPISODES_LIFETIME, num_episodes, reduce="lifetime_sum")
        for env_id, window in self._episodes.items():
            returns, lengths = np.array(window, dtype=np.float64).T
            log((MODULE_EPISODE_RETURN_MEAN, env_id), float(returns.mean()), reduce="mean")
            log((MODULE_EPISODE_RETURN_MIN, env_id), float(returns.min()), reduce="min")
            log((MODULE_EPISODE_RETURN_MAX, env_id), float(returns.max()), reduce="max")
            log((MODULE_EPISODE_LEN_MEAN, env_id), float(lengths.mean()), reduce="mean")
        if self._episodes:
            every = np.concatenate([np.array(w, dtype=np.float64) for w in self._episodes.values()])
            log(EPISODE_RETURN_MEAN, float(every[:, 0].mean()), reduce="mean")
            log(EPISODE_LEN_MEAN, float(every[:, 1].mean()), reduce="mean")

    def restart(self) -> None:
        """Forget the windows: the next values are of the next episodes alone."""
        self._episodes.clear()

    def keep_only(self, env_ids: Container[str]) -> None:
        """Forget environments that are not among ``env_ids``."""
        self._episodes = {env_id: window for env_id, window in self._episodes.items() if env_id in env_ids}

    def get_state(self) -> dict[str, Any]:
        """The windows."""
        return {env_id: list(window) for env_id, window in self._episodes.items()}

    def set_state(self, state: dict[str, Any]) -> None:
        """Take over saved windows."""
        self._episodes = {env_id: deque(window, maxlen=self._window) for env_id, window in state.items()}
