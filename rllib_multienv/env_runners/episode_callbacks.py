"""RLlib's episode callbacks, fired from fragments."""

from __future__ import annotations

from typing import Any

import numpy as np
from ray.rllib.callbacks.callbacks import RLlibCallback
from ray.rllib.callbacks.utils import make_callback
from ray.rllib.env.env_context import EnvContext
from ray.rllib.env.single_agent_episode import SingleAgentEpisode
from ray.rllib.utils import force_list

from rllib_multienv.env_runners.fragment import FinishedChunk, RunningEpisode


class EpisodeCallbacks:
    """Calls ``on_episode_created``, ``on_episode_start`` and ``on_episode_end`` of the user's callbacks.

    Episodes are cut from whole fragments, so the calls of a fragment come at its end, copy by copy in time order; an
    episode's ``custom_data`` set at its start is there at its end. ``on_episode_step`` is not fired: no episode object
    exists between two steps.
    """

    def __init__(self, runner: Any, config: Any) -> None:
        self._runner = runner
        self._config = config
        self._objects = [cls() for cls in force_list(config.callbacks_class)]
        self._wanted = {
            name: self._overridden(name) for name in ("on_episode_created", "on_episode_start", "on_episode_end")
        }
        if self._overridden("on_episode_step"):
            raise ValueError(
                "Callback on_episode_step() cannot be called: MultiEnvRunner builds episodes from whole fragments. "
                "Use on_episode_end() or on_sample_end(), which see every step."
            )

    def _overridden(self, name: str) -> bool:
        if getattr(self._config, f"callbacks_{name}") is not None:
            return True
        return any(getattr(type(c), name) is not getattr(RLlibCallback, name) for c in self._objects)

    @property
    def keep_chunks(self) -> bool:
        """Whether earlier chunks of an episode are needed when it ends."""
        return self._wanted["on_episode_end"]

    def started(self, env_id: str, env_index: int, running: RunningEpisode, observation: np.ndarray) -> None:
        """A copy begins an episode with ``observation`` (as the module sees it, [I])."""
        if not (self._wanted["on_episode_created"] or self._wanted["on_episode_start"]):
            return
        episode = SingleAgentEpisode(
            id_=running.id_, agent_id=env_id, module_id=env_id, multi_agent_episode_id=running.id_
        )
        if self._wanted["on_episode_created"]:
            self._fire("on_episode_created", env_id, env_index, episode)
        episode.add_env_reset(observation)
        if self._wanted["on_episode_start"]:
            self._fire("on_episode_start", env_id, env_index, episode)
        running.custom_data = episode.custom_data

    def chunk(self, env_id: str, chunk: FinishedChunk) -> None:
        """A chunk was cut; tells the user if it ended its episode."""
        if not self.keep_chunks:
            return
        if chunk.episode.is_done:
            self._fire(
                "on_episode_end",
                env_id,
                chunk.env_index,
                chunk.episode,
                prev_episode_chunks=chunk.running.chunks,
            )
        else:
            chunk.running.chunks.append(chunk.episode)

    def sample_end(self, episodes: list[SingleAgentEpisode]) -> None:
        """A round of sampling is over."""
        make_callback(
            "on_sample_end",
            callbacks_objects=self._objects,
            callbacks_functions=self._config.callbacks_on_sample_end,
            kwargs={"env_runner": self._runner, "metrics_logger": self._runner.metrics, "samples": episodes},
        )

    def environment_created(self, env_id: str) -> None:
        """An environment's copies were made (anew); the context has its id under ``"env_id"``."""
        context = EnvContext(
            {**self._config.env_config, "env_id": env_id},
            worker_index=self._runner.worker_index,
            num_workers=self._runner.num_workers,
        )
        make_callback(
            "on_environment_created",
            callbacks_objects=self._objects,
            callbacks_functions=self._config.callbacks_on_environment_created,
            kwargs={
                "env_runner": self._runner,
                "metrics_logger": self._runner.metrics,
                "env": self._runner.environments[env_id].copies.env,
                "env_context": context,
            },
        )

    def _fire(self, name: str, env_id: str, env_index: int, episode: SingleAgentEpisode, **extra: Any) -> None:
        make_callback(
            name,
            callbacks_objects=self._objects,
            callbacks_functions=getattr(self._config, f"callbacks_{name}"),
            kwargs={
                "episode": episode,
                "env_runner": self._runner,
                "metrics_logger": self._runner.metrics,
                "env": self._runner.environments[env_id].copies.env,
                "env_index": env_index,
                "rl_module": self._runner.module,
                **extra,
            },
        )
