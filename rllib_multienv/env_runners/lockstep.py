"""The lockstep loop: all environments of a runner, one module call per time step."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from functools import partial
from time import perf_counter
from typing import Any

import numpy as np
from ray.rllib.connectors.connector_pipeline_v2 import ConnectorPipelineV2
from ray.rllib.core.columns import Columns
from ray.rllib.env.single_agent_episode import SingleAgentEpisode
from ray.rllib.utils.metrics import ENV_STEP_TIMER, RLMODULE_INFERENCE_TIMER
from ray.rllib.utils.metrics.metrics_logger import MetricsLogger

from rllib_multienv.connectors import NormalizeObservations, RewardScale
from rllib_multienv.env_runners.episode_callbacks import EpisodeCallbacks
from rllib_multienv.env_runners.episode_metrics import EpisodeMetrics
from rllib_multienv.env_runners.fragment import FinishedChunk, Fragment
from rllib_multienv.env_runners.owned_environment import OwnedEnvironment
from rllib_multienv.envs.errors import EnvFailure, NonFiniteError
from rllib_multienv.modules import MultiEnvModule

logger = logging.getLogger("ray.rllib")

#: Where failures of environments are tolerated, how many in a row.
MAX_ATTEMPTS = 10


class NoEpisodes(list[SingleAgentEpisode]):
    """Stands for the episodes in calls of env-to-module and module-to-env connectors, which do not exist yet."""

    def __iter__(self) -> Any:
        """Refuse, so that a connector that relies on episodes fails with a reason instead of doing nothing."""
        raise RuntimeError(
            "Connectors of MultiEnvRunner work on `batch`, a dict {env_id: {column: array [B, ...]}}; there are no "
            "episode objects between two steps. Read and change batch[env_id]['obs'] (env-to-module) or "
            "batch[env_id]['actions'] (module-to-env) instead. Learner connectors do get episodes."
        )


class Lockstep:
    """Steps environments together and cuts what they did into episode chunks.

    Attributes:
        environments: The environments, by env id; the runner adds and removes them.
        normalizers: The pieces of the env-to-module pipeline that normalise observations.
        reward_scales: Its pieces that keep the scale of rewards.
        seconds: Time spent in environments and in the module since the runner last reset it.
    """

    def __init__(
        self,
        *,
        config: Any,
        environments: dict[str, OwnedEnvironment],
        module: MultiEnvModule,
        env_to_module: ConnectorPipelineV2,
        module_to_env: ConnectorPipelineV2,
        callbacks: EpisodeCallbacks,
        episode_metrics: EpisodeMetrics,
        metrics_logger: MetricsLogger,
    ) -> None:
        self.config = config
        self.environments = environments
        self.module = module
        self.normalizers: list[NormalizeObservations] = env_to_module[NormalizeObservations]
        self.reward_scales: list[RewardScale] = env_to_module[RewardScale]
        self.seconds = {ENV_STEP_TIMER: 0.0, RLMODULE_INFERENCE_TIMER: 0.0}
        self._env_to_module = env_to_module
        self._module_to_env = module_to_env
        self._callbacks = callbacks
        self._episode_metrics = episode_metrics
        self._logger = metrics_logger
        self._last_failures: dict[str, Exception] = {}
        self._no_episodes = NoEpisodes()

    def begin_round(self) -> None:
        """Freeze the statistics as they are; outside of evaluation, count what is seen from now on."""
        for normalizer in self.normalizers:
            normalizer.counting = not self.config.in_evaluation
            normalizer.freeze()

    def reset_where_needed(self, force: bool) -> None:
        """Begin new episodes in environments that are in none, or (``force``) in all."""
        for env_id, environment in self.environments.items():
            if force or environment.obs is None:
                self._begin(env_id)

    def _begin(self, env_id: str) -> None:
        """Begin new episodes in all copies; where failures are tolerated, in new copies if these fail."""
        environment = self.environments[env_id]
        for attempts_left in reversed(range(MAX_ATTEMPTS)):
            try:
                environment.reset()
                break
            except (EnvFailure, NonFiniteError) as failure:
                if not attempts_left or not self._tolerates(failure):
                    raise
                logger.warning("The copies of %r are made anew: %s", env_id, failure)
                self._recreate(env_id)
        for scale in self.reward_scales:
            scale.restart(env_id)

    def _recreate(self, env_id: str) -> None:
        self.environments[env_id].recreate()
        self._callbacks.environment_created(env_id)

    def sample_steps(
        self, env_ids: Iterable[str], length: int, explore: bool
    ) -> tuple[dict[str, list[SingleAgentEpisode]], int]:
        """``length`` time steps of ``env_ids``; the chunks by environment and the number of episodes that ended."""
        sampled, finished = {}, 0
        for env_id, chunks in self._chunks(self._collect(env_ids, length, explore)).items():
            sampled[env_id] = [chunk.episode for chunk in chunks]
            finished += self._log(env_id, chunks)
        return sampled, finished

    def _log(self, env_id: str, chunks: list[FinishedChunk]) -> int:
        """Log the steps and finished episodes of ``chunks``; returns how many episodes were finished."""
        self._episode_metrics.steps(env_id, sum(len(chunk.episode) for chunk in chunks))
        ended = [chunk.running for chunk in chunks if chunk.episode.is_done]
        for episode in ended:
            self._episode_metrics.episode(env_id, episode.return_, episode.length)
        return len(ended)

    def sample_episodes(self, num_episodes: int, explore: bool) -> tuple[dict[str, list[SingleAgentEpisode]], int]:
        """``num_episodes`` new episodes of each environment.

        Every copy has a quota of its own: counting whichever episodes end first would favour short ones.
        """
        self.reset_where_needed(force=True)
        self._episode_metrics.restart()
        sampled: dict[str, list[SingleAgentEpisode]] = {env_id: [] for env_id in self.environments}
        quota = {
            env_id: [(num_episodes + b) // environment.num_envs for b in range(environment.num_envs)]
            for env_id, environment in self.environments.items()
        }
        attempts = dict.fromkeys(self.environments, MAX_ATTEMPTS)
        finished = 0
        while unfinished := [env_id for env_id, left in quota.items() if any(left)]:
            fragments = self._collect(unfinished, 64, explore)
            for env_id in unfinished:
                attempts[env_id] = MAX_ATTEMPTS if env_id in fragments else attempts[env_id] - 1
                if not attempts[env_id]:
                    raise RuntimeError(
                        f"Environment {env_id!r} lost {MAX_ATTEMPTS} fragments in a row; its episodes cannot be "
                        "finished. The log has what went wrong."
                    ) from self._last_failures[env_id]
            for env_id, chunks in self._chunks(fragments, quota).items():
                sampled[env_id] += [chunk.episode for chunk in chunks]
                finished += self._log(env_id, chunks)
        for environment in self.environments.values():
            # Copies that were ahead of the others are in episodes that nobody has seen the beginning of.
            environment.obs = None
        return sampled, finished

    def _collect(self, env_ids: Iterable[str], length: int, explore: bool) -> dict[str, Fragment]:
        """The lockstep loop: ``length`` time steps of all ``env_ids``, one module call for all at each."""
        fragments = {env_id: Fragment(env_id, self.environments[env_id].num_envs) for env_id in env_ids}
        for _ in range(length):
            if not fragments:
                break
            observations = {env_id: {Columns.OBS: self.environments[env_id].obs} for env_id in fragments}
            batch = self._to_module(observations, explore)
            started = perf_counter()
            outputs = self.module.forward_exploration(batch) if explore else self.module.forward_inference(batch)
            self.seconds[RLMODULE_INFERENCE_TIMER] += perf_counter() - started
            to_env = self._module_to_env(
                rl_module=self.module,
                batch=outputs,
                episodes=self._no_episodes,
                explore=explore,
                shared_data={},
                metrics=self._connector_metrics(),
            )
            started = perf_counter()
            for env_id in tuple(fragments):
                columns = to_env[env_id]
                actions = columns.pop(Columns.ACTIONS_FOR_ENV)
                columns[Columns.OBS] = batch[env_id][Columns.OBS].cpu().numpy()
                try:
                    step = self.environments[env_id].step(actions)
                except (EnvFailure, NonFiniteError) as failure:
                    self._lose_fragment(env_id, failure)
                    del fragments[env_id]
                else:
                    fragments[env_id].append(columns, step)
            self.seconds[ENV_STEP_TIMER] += perf_counter() - started
        return fragments

    def _to_module(self, batch: dict[str, dict[str, Any]], explore: bool) -> dict[str, dict[str, Any]]:
        return self._env_to_module(
            rl_module=self.module,
            batch=batch,
            episodes=self._no_episodes,
            explore=explore,
            shared_data={},
            metrics=self._connector_metrics(),
        )

    def _connector_metrics(self) -> Any:
        """The logger, where a user's connector may want it; timing our own at every step would cost too much."""
        return self._logger if self.config.has_custom_connectors else None

    def _chunks(
        self, fragments: dict[str, Fragment], quota: dict[str, list[int]] | None = None
    ) -> dict[str, list[FinishedChunk]]:
        """Cut finished fragments into episode chunks; with a quota, no more than it allows, counting it down."""
        for normalizer in self.normalizers:
            normalizer.counting = False
        chunks_by_env: dict[str, list[FinishedChunk]] = {}
        for env_id, fragment in fragments.items():
            fragment.finish()
            environment = self.environments[env_id]
            places, finals = fragment.final_observations()
            raw = environment.obs if finals is None else np.concatenate([environment.obs, finals])
            seen = self._to_module({env_id: {Columns.OBS: raw}}, explore=False)[env_id][Columns.OBS].cpu().numpy()
            scale = 1.0
            for reward_scale in self.reward_scales:
                if not self.config.in_evaluation:
                    reward_scale.observe(env_id, fragment.rewards, fragment.dones, fragment.valid)
                scale = reward_scale.scale(env_id)
            chunks_by_env[env_id] = []
            for chunk in fragment.cut(
                environment.running,
                dict(zip(places, seen[environment.num_envs :], strict=True)),
                seen[: environment.num_envs],
                scale,
                partial(self._callbacks.started, env_id),
                None if quota is None else quota[env_id],
            ):
                self._callbacks.chunk(env_id, chunk)
                chunks_by_env[env_id].append(chunk)
        for normalizer in self.normalizers:
            normalizer.counting = not self.config.in_evaluation
            normalizer.commit({env_id: fragment.valid for env_id, fragment in fragments.items()})
        return chunks_by_env

    def _lose_fragment(self, env_id: str, failure: EnvFailure | NonFiniteError) -> None:
        """Give up what was sampled of an environment in this round, where the configuration allows it."""
        if not self._tolerates(failure):
            raise failure
        logger.warning("The fragment of %r is lost, and its copies are made anew: %s", env_id, failure)
        for normalizer in self.normalizers:
            normalizer.discard(env_id)
        self._episode_metrics.lost(env_id)
        self._last_failures[env_id] = failure
        self._recreate(env_id)
        self._begin(env_id)

    def _tolerates(self, failure: EnvFailure | NonFiniteError) -> bool:
        if isinstance(failure, NonFiniteError):
            return self.config.on_nonfinite == "drop"
        return bool(self.config.restart_failed_sub_environments)
