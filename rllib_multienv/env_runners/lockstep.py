"""The lockstep loop: all environments of a runner, one module call per time step."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from time import perf_counter
from typing import Any

import numpy as np
import torch
from ray.rllib.connectors.connector_pipeline_v2 import ConnectorPipelineV2
from ray.rllib.core.columns import Columns
from ray.rllib.env.single_agent_episode import SingleAgentEpisode
from ray.rllib.utils.metrics import ENV_STEP_TIMER, RLMODULE_INFERENCE_TIMER
from ray.rllib.utils.metrics.metrics_logger import MetricsLogger

from rllib_multienv.connectors import NormalizeObservations, RewardScale, SharedStatistics
from rllib_multienv.env_runners.episodes import EpisodeCallbacks, EpisodeMetrics
from rllib_multienv.env_runners.owned_environment import OwnedEnvironment
from rllib_multienv.envs.copies import VectorStep
from rllib_multienv.envs.errors import MAX_EPISODE_STEPS, EnvFailure, NonFiniteError, endless
from rllib_multienv.modules import MultiEnvModule
from rllib_multienv.opponents import make_opponent
from rllib_multienv.rollout import EPISODE_ENDS, PRESENT, RAW_OBS, Rollout, RolloutBuilder, RunningEpisode

logger = logging.getLogger("ray.rllib")

#: Failures of an environment in a row that are tolerated, where they are tolerated.
MAX_ATTEMPTS = 10
#: Time steps between two looks at whether all wanted episodes are finished.
EVALUATION_LENGTH = 64
#: Seconds after which an environment is named that has not finished an episode in evaluation.
SLOW_EPISODE_S = 60.0


class NoEpisodes(list[SingleAgentEpisode]):
    """Placeholder for the episodes in calls of env-to-module and module-to-env connectors."""

    def __iter__(self) -> Any:
        """Refuse, so that a connector that relies on episodes fails with a reason instead of doing nothing."""
        raise RuntimeError(
            "Connectors of MultiEnvRunner work on `batch`, a dict {env_id: {column: array [B, ...]}}; there are no "
            "episode objects between two steps. Read and change batch[env_id]['obs'] (env-to-module) or "
            "batch[env_id]['actions'] (module-to-env) instead. Learner connectors do get episodes."
        )


class Lockstep:
    """Steps environments together and collects their rollouts.

    Attributes:
        environments: The environments, by env id; the runner adds and removes them.
        statistics: The pieces of the env-to-module pipeline that keep running statistics.
        seconds: Time spent in environments and in the module since the runner last reset it.
        keep_infos: Whether rollouts have the environments' infos.
        opponent: Name of the opponent that games are played against in an evaluation.
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
        self.statistics = [piece for piece in env_to_module.connectors if isinstance(piece, SharedStatistics)]
        self._reward_scales = [piece for piece in self.statistics if isinstance(piece, RewardScale)]
        self._obs_statistics = [piece for piece in self.statistics if isinstance(piece, NormalizeObservations)]
        self.keep_infos = False
        self.opponent: str | None = None
        self.seconds = {ENV_STEP_TIMER: 0.0, RLMODULE_INFERENCE_TIMER: 0.0}
        self._env_to_module = env_to_module
        self._module_to_env = module_to_env
        self._callbacks = callbacks
        self._episode_metrics = episode_metrics
        # The logger, where a user's connector may want it; timing our own at every step would cost too much.
        self._connector_metrics = metrics_logger if config.has_custom_connectors else None
        # Time steps of the sequences that a network with memory learns from.
        self._max_seq_len = config.network_config.max_seq_len if module.shared.network.memory else None
        self._last_failures: dict[str, Exception] = {}
        self._no_episodes = NoEpisodes()

    def reset_where_needed(self, force: bool) -> None:
        """Begin new episodes in environments that are in none, or (``force``) in all."""
        groups = {e.spec.group for e in self.environments.values() if force or e.obs is None}
        self._begin_all([env_id for env_id, e in self.environments.items() if e.spec.group in groups])

    def _begin_all(self, env_ids: Sequence[str]) -> None:
        """Begin new episodes in whole groups."""
        for tasks in {id(t): t for env_id in env_ids if (t := self.environments[env_id].shared_tasks)}.values():
            tasks.restart()
        for env_id in env_ids:
            self._begin(env_id)

    def _begin(self, env_id: str) -> None:
        """Begin new episodes in all copies; where failures are tolerated, in new copies if these fail."""
        environment = self.environments[env_id]
        for attempts_left in reversed(range(MAX_ATTEMPTS)):
            try:
                environment.reset(self.module.shared.initial_state())
                break
            except (EnvFailure, NonFiniteError) as failure:
                if not attempts_left or not self._tolerates(failure):
                    raise
                logger.warning("The copies of %r are made again: %s", env_id, failure)
                self._recreate(env_id)
        for scale in self._reward_scales:
            scale.restart(env_id)

    def _group(self, env_id: str) -> list[str]:
        """The environment and the others of its `EnvSpec.group`."""
        group = self.environments[env_id].spec.group
        return [other for other, environment in self.environments.items() if environment.spec.group == group]

    def _recreate(self, env_id: str) -> None:
        first: OwnedEnvironment | None = None
        spec = self.environments[env_id].spec
        for role in [env_id] if spec.world else self._group(env_id):
            self.environments[role].recreate(first)
            first = first or self.environments[role]
            self._callbacks.environment_created(role)

    def sample_steps(self, length: int | Mapping[str, int], explore: bool) -> dict[str, Rollout]:
        """Time steps of every environment, or as many as given of some; those whose fragment was lost are missing."""
        if not isinstance(length, Mapping):
            length = dict.fromkeys(self.environments, length)
        return self._collect(length, explore)

    def sample_episodes(
        self, num_episodes: int, explore: bool, opponent: str | None = None
    ) -> Iterator[dict[str, Rollout]]:
        """Rollouts of ``num_episodes`` new episodes of each environment; of a data set, of all rows of its test split.

        Every copy has its own quota: counting whichever episodes end first would favour short ones.

        Args:
            num_episodes: Episodes of each environment; of each agent of a multi-agent one.
            explore: Whether actions are drawn.
            opponent: Instead, episodes of games only, against this opponent: ``"random"`` or a checkpoint folder.

        Raises:
            EnvFailure: An episode is longer than `MAX_EPISODE_STEPS`.
            RuntimeError: An environment failed `MAX_ATTEMPTS` times in a row, where failures are tolerated.
        """
        playing = list(self.environments)
        if opponent is None:
            self._episode_metrics.restart()
        else:
            playing = [env_id for env_id, environment in self.environments.items() if environment.is_game]
        self.opponent = opponent
        for env_id in playing:
            self.environments[env_id].play(None if opponent is None else [make_opponent(opponent)])
        self._begin_all(playing)
        quota = {env_id: self.environments[env_id].copies.shares(num_episodes) for env_id in playing}
        attempts = dict.fromkeys(playing, MAX_ATTEMPTS)
        last_end = dict.fromkeys(playing, perf_counter())
        while unfinished := [env_id for env_id, left in quota.items() if any(left)]:
            stepped = [other for env_id in unfinished for other in self._group(env_id)]
            rollouts = self._collect(dict.fromkeys(stepped, EVALUATION_LENGTH), explore, quota)
            for env_id in unfinished:
                attempts[env_id] = MAX_ATTEMPTS if env_id in rollouts else attempts[env_id] - 1
                if not attempts[env_id]:
                    raise RuntimeError(
                        f"Environment {env_id!r} lost {MAX_ATTEMPTS} fragments in a row; its episodes cannot be "
                        "finished. The log has what went wrong."
                    ) from self._last_failures[env_id]
            yield rollouts  # the caller counts the steps of running episodes
            for env_id, rollout in rollouts.items():
                longest = max(running.length for running in self.environments[env_id].running)
                if longest > MAX_EPISODE_STEPS:
                    raise endless(env_id, longest)
                if rollout.done.any():
                    last_end[env_id] = perf_counter()
                elif perf_counter() - last_end[env_id] > SLOW_EPISODE_S:
                    last_end[env_id] = math.inf  # once
                    logger.warning("Evaluation goes on: %s", endless(env_id, longest))
        for env_id in playing:
            # Copies that were ahead of the others are in episodes whose beginning nobody has seen.
            self.environments[env_id].play(None)
            self.environments[env_id].obs = None
        self.opponent = None

    def _collect(
        self, lengths: Mapping[str, int], explore: bool, quota: dict[str, list[int]] | None = None
    ) -> dict[str, Rollout]:
        """The lockstep loop: so many time steps of each environment, one module call for all at each."""
        builders = {}
        for env_id, length in lengths.items():
            environment = self.environments[env_id]
            infos = environment.infos() if self.keep_infos else None
            builders[env_id] = RolloutBuilder(length, environment.num_envs, infos, self._max_seq_len)
        for t in range(max(lengths.values(), default=0)):
            running = [env_id for env_id in builders if t < lengths[env_id]]
            if not running:
                break
            observations = {env_id: {Columns.OBS: self.environments[env_id].obs} for env_id in running}
            batch = self._to_module(observations, explore)
            if self._max_seq_len is not None:
                for env_id in running:
                    seen = batch[env_id]
                    state = self.environments[env_id].state
                    seen[Columns.STATE_IN] = torch.as_tensor(state, device=seen[Columns.OBS].device)
            for env_id in running:
                if (present := self.environments[env_id].present) is not None:
                    batch[env_id][PRESENT] = torch.as_tensor(present, device=batch[env_id][Columns.OBS].device)
            started = perf_counter()
            outputs = self._forward(batch, explore)
            self.seconds[RLMODULE_INFERENCE_TIMER] += perf_counter() - started
            states = {env_id: columns.pop(Columns.STATE_OUT, None) for env_id, columns in outputs.items()}
            to_env = self._module_to_env(
                rl_module=self.module,
                batch=outputs,
                episodes=self._no_episodes,
                explore=explore,
                shared_data={},
                metrics=self._connector_metrics,
            )
            started = perf_counter()
            for env_id, columns in to_env.items():
                self.environments[env_id].send(columns.pop(Columns.ACTIONS_FOR_ENV))
            for env_id in running:
                if env_id not in builders:  # lost with another environment of its group
                    continue
                seen, columns = batch[env_id], to_env[env_id]
                columns[Columns.OBS] = seen[Columns.OBS].cpu().numpy()
                if RAW_OBS in seen:
                    columns[RAW_OBS] = seen[RAW_OBS]
                if states[env_id] is not None:
                    columns[Columns.STATE_OUT] = states[env_id].cpu().numpy()
                environment = self.environments[env_id]
                columns = dict(environment.hold(columns))
                before, after = environment.state, columns.pop(Columns.STATE_OUT, None)
                try:
                    step = environment.step()
                except (EnvFailure, NonFiniteError) as failure:
                    self._lose_fragment(env_id, failure)
                    for lost in self._group(env_id):
                        builders.pop(lost, None)
                else:
                    if after is not None:
                        environment.remember(after, step)
                    builders[env_id].append(columns, step, before, after)
                    self._observe(env_id, columns, step)
            self.seconds[ENV_STEP_TIMER] += perf_counter() - started
        return {
            env_id: self._finish(env_id, builder, None if quota is None else quota[env_id])
            for env_id, builder in builders.items()
        }

    def _forward(self, batch: dict[str, Any], explore: bool) -> dict[str, Any]:
        """The module's outputs for all environments."""
        return self.module.forward_exploration(batch) if explore else self.module.forward_inference(batch)

    def _observe(self, env_id: str, columns: Mapping[str, np.ndarray], step: VectorStep) -> None:
        """Called after each step with what was seen and done, [B, ...] each, and what came of it."""

    def get_state(self) -> dict[str, Any]:
        """What derived loops know of running trials, beside the states of environments."""
        return {}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Take over a state of `get_state`."""

    def _to_module(self, batch: dict[str, dict[str, Any]], explore: bool) -> dict[str, dict[str, Any]]:
        return self._env_to_module(
            rl_module=self.module,
            batch=batch,
            episodes=self._no_episodes,
            explore=explore,
            shared_data={},
            metrics=self._connector_metrics,
        )

    def _finish(self, env_id: str, builder: RolloutBuilder, quota: list[int] | None) -> Rollout:
        """The rollout of a builder; outside of evaluation, statistics are counted from it."""
        environment = self.environments[env_id]
        assert environment.obs is not None
        rows, raw = builder.final_observations(environment.obs, environment.state)
        final = self._to_module({env_id: {Columns.OBS: raw}}, explore=False)[env_id][Columns.OBS].cpu().numpy()
        begins = np.array([running.length == 0 for running in environment.running])  # [B]
        rollout, raw_obs = builder.finish(rows, final, begins)
        rollout = replace(rollout, reward_clip=environment.copies.reward_clip)
        if self._obs_statistics:
            rollout = replace(rollout, obs_moments=self._obs_statistics[0].moments()[env_id].total())
        if quota is not None:
            rollout = rollout.limited(quota)
        if not self.config.in_evaluation:
            for piece in self.statistics:
                piece.count(env_id, rollout, raw_obs)
        return replace(rollout, reward_scale=self._reward_scales[0].scale(env_id)) if self._reward_scales else rollout

    def end_of_rollout(self, env_id: str, rollout: Rollout, episodes: list[SingleAgentEpisode] | None) -> int:
        """Log the steps and episodes of a rollout, and bring the copies' running episodes up to date.

        Args:
            env_id: The environment.
            rollout: What was sampled last of it.
            episodes: The list that episode objects are appended to; None where nobody wants them.

        Returns:
            Episodes that were finished.
        """
        running = self.environments[env_id].running
        done, ends = rollout.done, rollout.extra.get(EPISODE_ENDS)
        rewards = np.where(rollout.valid, rollout.rewards, 0.0)  # [T, B]
        finished = 0
        for chunk in rollout.chunks():
            b, first, stop = chunk
            if episodes is not None:
                episodes.append(self._callbacks.episode(env_id, rollout, chunk, running[b]))
            rows, flags = slice(first, stop), (ends, rollout.success)
            running[b].advance(rewards[rows, b], *(None if flag is None else flag[rows, b] for flag in flags))
            if done[stop - 1, b]:
                agent = self.environments[env_id].agent(b)
                if self.opponent is None:
                    self._episode_metrics.episode(env_id, running[b], agent)
                else:
                    self._episode_metrics.game(env_id, self.opponent, agent, running[b].return_)
                running[b] = RunningEpisode()
                finished += 1
        self._episode_metrics.steps(env_id, rollout.steps, finished)
        self._episode_metrics.texts_cut(env_id, self.environments[env_id].newly_cut_texts())
        return finished

    def _lose_fragment(self, env_id: str, failure: EnvFailure | NonFiniteError) -> None:
        """Give up an environment's fragment in this round, where the configuration allows it."""
        if not self._tolerates(failure):
            raise failure
        logger.warning("The fragment of %r is lost, and its copies are made again: %s", env_id, failure)
        self._episode_metrics.lost(env_id)
        self._last_failures[env_id] = failure
        self._recreate(env_id)
        self._begin_all(self._group(env_id))

    def _tolerates(self, failure: EnvFailure | NonFiniteError) -> bool:
        if isinstance(failure, NonFiniteError):
            return self.config.on_nonfinite == "drop"
        return bool(self.config.restart_failed_sub_environments)
