"""Episodes of a runner: RLlib's callbacks and metrics, from finished rollouts."""

from __future__ import annotations

from collections import deque
from collections.abc import Container
from pathlib import Path
from typing import Any

import numpy as np
from ray.rllib.callbacks.callbacks import RLlibCallback
from ray.rllib.callbacks.utils import make_callback
from ray.rllib.env.env_context import EnvContext
from ray.rllib.env.single_agent_episode import SingleAgentEpisode
from ray.rllib.utils import force_list
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

from rllib_multienv.metrics import (
    AGENT_RETURN_MEAN,
    DRAW_RATE,
    EPISODE_RETURNS,
    MODULE_EPISODE_LEN_MEAN,
    MODULE_EPISODE_RETURN_MAX,
    MODULE_EPISODE_RETURN_MEAN,
    MODULE_EPISODE_RETURN_MIN,
    MODULE_EPISODES,
    NUM_FRAGMENTS_LOST_LIFETIME,
    NUM_TEXTS_CUT_LIFETIME,
    SUCCESS_RATE,
    TRIAL_EPISODE_RETURN_MEAN,
    WIN_RATE,
)
from rllib_multienv.rollout import Rollout, RunningEpisode, episode_of

_EPISODE_CALLBACKS = ("on_episode_created", "on_episode_start", "on_episode_end")


def _has_callback(config: Any, name: str) -> bool:
    classes = force_list(config.callbacks_class)
    return getattr(config, f"callbacks_{name}") is not None or any(
        getattr(cls, name, None) is not getattr(RLlibCallback, name) for cls in classes
    )


def refuse_step_callbacks(config: Any) -> None:
    """Raise a ValueError where a configuration has ``on_episode_step``: no episode object exists between two steps."""
    if _has_callback(config, "on_episode_step"):
        raise ValueError(
            "Callback on_episode_step() cannot be called: MultiEnvRunner builds episodes from whole fragments. "
            "Use on_episode_end() or on_sample_end(), which see every step."
        )


class EpisodeCallbacks:
    """The user's callbacks: ``on_episode_created``, ``_start`` and ``_end``, ``on_sample_end``, environments.

    Episode objects are built from whole rollouts and only where a callback wants them. The calls of a rollout come at
    its end, copy by copy in time order; ``custom_data`` that is set at an episode's start is there at its end.
    """

    def __init__(self, runner: Any, config: Any) -> None:
        self._runner = runner
        self._config = config
        self._objects = [cls() for cls in force_list(config.callbacks_class)]
        self._wanted = {name: _has_callback(config, name) for name in (*_EPISODE_CALLBACKS, "on_sample_end")}

    @property
    def want_episodes(self) -> bool:
        """Whether any callback takes episodes."""
        return any(self._wanted.values())

    def episode(
        self, env_id: str, rollout: Rollout, chunk: tuple[int, int, int], running: RunningEpisode
    ) -> SingleAgentEpisode:
        """The episode object of a chunk; tells the user if it begins or ends there.

        Args:
            env_id: The environment.
            rollout: The rollout.
            chunk: One of its chunks.
            running: The episode that the chunk belongs to, as it was before the chunk.
        """
        b, first, _ = chunk
        if running.length == 0 and (self._wanted["on_episode_created"] or self._wanted["on_episode_start"]):
            begun = SingleAgentEpisode(
                id_=running.named().id_, agent_id=env_id, module_id=env_id, multi_agent_episode_id=running.id_
            )
            self._fire("on_episode_created", env_id, b, begun)
            begun.add_env_reset(rollout.obs[first, b], rollout.infos_of(chunk)[0])
            self._fire("on_episode_start", env_id, b, begun)
            running.custom_data = begun.custom_data
        episode = episode_of(env_id, rollout, chunk, running)
        running.custom_data = episode.custom_data
        if self._wanted["on_episode_end"]:
            if episode.is_done:
                self._fire("on_episode_end", env_id, b, episode, prev_episode_chunks=running.chunks)
            else:
                running.chunks.append(episode)
        return episode

    def sample_end(self, episodes: list[SingleAgentEpisode]) -> None:
        """A round of sampling is over."""
        if self._wanted["on_sample_end"]:
            self._call("on_sample_end", samples=episodes)

    def environment_created(self, env_id: str) -> None:
        """An environment's copies were made (again); the context has its id under ``"env_id"``."""
        context = EnvContext(
            {**self._config.env_config, "env_id": env_id},
            worker_index=self._runner.worker_index,
            num_workers=self._runner.num_workers,
        )
        env = self._runner.environments[env_id].copies.env
        self._call("on_environment_created", env=env, env_context=context)

    def _fire(self, name: str, env_id: str, env_index: int, episode: SingleAgentEpisode, **extra: Any) -> None:
        if self._wanted[name]:
            self._call(
                name,
                episode=episode,
                env=self._runner.environments[env_id].copies.env,
                env_index=env_index,
                rl_module=self._runner.module,
                **extra,
            )

    def _call(self, name: str, **arguments: Any) -> None:
        make_callback(
            name,
            callbacks_objects=self._objects,
            callbacks_functions=getattr(self._config, f"callbacks_{name}"),
            kwargs={"env_runner": self._runner, "metrics_logger": self._runner.metrics, **arguments},
        )


class EpisodeMetrics:
    """Logs steps and finished episodes; returns and lengths are means over a window of episodes.

    RLlib clears a metric's window with each result, so the windows are kept here: an environment with long episodes
    then has a value in every result once its first episode is over.
    """

    def __init__(self, logger: MetricsLogger, window: int | None) -> None:
        self._logger = logger
        self._window = window
        # Return, length, success (NaN where the environment does not say), and the returns of a trial's episodes.
        self._episodes: dict[str, deque[tuple[float, ...]]] = {}

    def episode(self, env_id: str, episode: RunningEpisode, agent: str = "") -> None:
        """An episode (or trial) of ``env_id`` is over, for one of its agents where there are several."""
        return_, parts = episode.return_, episode.trial_returns[:-1]
        if agent:
            self._logger.log_value((AGENT_RETURN_MEAN, env_id, agent), return_, reduce="mean", window=self._window)
        success = np.nan if episode.success is None else float(episode.success)
        self._episodes.setdefault(env_id, deque(maxlen=self._window)).append((return_, episode.length, success, *parts))
        self._logger.log_value((EPISODE_RETURNS, env_id), return_, reduce="item_series")

    def game(self, env_id: str, opponent: str, agent: str, return_: float) -> None:
        """A game of ``env_id`` is over, in which the learner was ``agent``."""
        name = Path(opponent).name
        for key, happened in ((WIN_RATE, return_ > 0), (DRAW_RATE, return_ == 0)):
            self._logger.log_value((key, env_id, name, agent), float(happened), reduce="mean", window=None)

    def steps(self, env_id: str, count: int, num_episodes: int) -> None:
        """``count`` steps of experience of ``env_id`` were sampled, in which ``num_episodes`` episodes ended."""
        log = self._logger.log_value
        if num_episodes:
            log((MODULE_EPISODES, env_id), num_episodes, reduce="sum")
        log(NUM_ENV_STEPS_SAMPLED, count, reduce="sum")
        log(NUM_ENV_STEPS_SAMPLED_LIFETIME, count, reduce="lifetime_sum", with_throughput=True)
        for key in (NUM_MODULE_STEPS_SAMPLED, NUM_AGENT_STEPS_SAMPLED):
            log((key, env_id), count, reduce="sum")
        for key in (NUM_MODULE_STEPS_SAMPLED_LIFETIME, NUM_AGENT_STEPS_SAMPLED_LIFETIME):
            log((key, env_id), count, reduce="lifetime_sum")

    def lost(self, env_id: str) -> None:
        """A fragment of ``env_id`` could not be used."""
        self._logger.log_value((NUM_FRAGMENTS_LOST_LIFETIME, env_id), 1, reduce="lifetime_sum")

    def texts_cut(self, env_id: str, count: int) -> None:
        """``count`` texts in observations of ``env_id`` were too long."""
        if count:
            self._logger.log_value((NUM_TEXTS_CUT_LIFETIME, env_id), count, reduce="lifetime_sum")

    def round(self, num_episodes: int) -> None:
        """A round of sampling is over: log the windows."""
        log = self._logger.log_value
        log(NUM_EPISODES, num_episodes, reduce="sum")
        log(NUM_EPISODES_LIFETIME, num_episodes, reduce="lifetime_sum")
        for env_id, window in self._episodes.items():
            returns, lengths, successes, *parts = np.array(window, dtype=np.float64).T
            log((MODULE_EPISODE_RETURN_MEAN, env_id), float(returns.mean()), reduce="mean")
            log((MODULE_EPISODE_RETURN_MIN, env_id), float(returns.min()), reduce="min")
            log((MODULE_EPISODE_RETURN_MAX, env_id), float(returns.max()), reduce="max")
            log((MODULE_EPISODE_LEN_MEAN, env_id), float(lengths.mean()), reduce="mean")
            if not np.isnan(successes).all():
                log((SUCCESS_RATE, env_id), float(np.nanmean(successes)), reduce="mean")
            for number, part in enumerate(parts, 1):
                log((TRIAL_EPISODE_RETURN_MEAN, env_id, str(number)), float(part.mean()), reduce="mean")
        if self._episodes:
            every = np.array([episode[:2] for window in self._episodes.values() for episode in window])
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
        # Of earlier versions: return and length alone.
        rows = {env_id: [(*row, np.nan)[: max(3, len(row))] for row in window] for env_id, window in state.items()}
        self._episodes = {env_id: deque(window, maxlen=self._window) for env_id, window in rows.items()}
