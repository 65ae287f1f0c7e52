"""The env runner: steps all environments that it owns in lockstep, one module call per time step."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Collection, Iterable
from functools import partial
from time import perf_counter
from typing import Any

import gymnasium as gym
import numpy as np
import ray
from ray.rllib.core import (
    COMPONENT_ENV_TO_MODULE_CONNECTOR,
    COMPONENT_MODULE_TO_ENV_CONNECTOR,
    COMPONENT_RL_MODULE,
)
from ray.rllib.core.columns import Columns
from ray.rllib.env.env_runner import EnvRunner
from ray.rllib.env.single_agent_episode import SingleAgentEpisode
from ray.rllib.utils.checkpoints import Checkpointable
from ray.rllib.utils.framework import get_device
from ray.rllib.utils.metrics import (
    ENV_STEP_TIMER,
    NUM_ENV_STEPS_SAMPLED_LIFETIME,
    RLMODULE_INFERENCE_TIMER,
    SAMPLE_TIMER,
    WEIGHTS_SEQ_NO,
)

from rllib_multienv.connectors import NormalizeObservations, RewardScale
from rllib_multienv.env_runners.assignment import assign_environments, environment_cost
from rllib_multienv.env_runners.episode_callbacks import EpisodeCallbacks
from rllib_multienv.env_runners.episode_metrics import EpisodeMetrics
from rllib_multienv.env_runners.fragment import FinishedChunk, Fragment
from rllib_multienv.env_runners.owned_environment import OwnedEnvironment
from rllib_multienv.env_runners.random_state import global_random_state_kept
from rllib_multienv.env_runners.sampling_failure import SamplingFailure
from rllib_multienv.envs.errors import EnvFailure, NonFiniteError
from rllib_multienv.modules import SHARED_MODULE, MultiEnvModule
from rllib_multienv.threads import use_assigned_cpus

logger = logging.getLogger("ray.rllib")

#: Component of the runner's state: environments, running episodes and metric windows.
COMPONENT_ENVIRONMENTS = "environments"
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


class MultiEnvRunner(EnvRunner, Checkpointable):
    """Samples from its share of the environments.

    With W runners, runner w owns the w-th part of a balanced assignment; the local runner (index 0) owns all
    environments and makes them only where it is the only runner or has to evaluate. For evaluation every runner owns
    all environments, and the episodes are shared out.

    Attributes:
        environments: The environments that this runner owns and has made, by env id.
        module: The agent.
    """

    def __init__(self, *, config: Any, **kwargs: Any) -> None:
        # RLlib seeds the whole process, which for a local evaluation runner is also that of training.
        with global_random_state_kept(config.in_evaluation):
            super().__init__(config=config, **kwargs)
            self._setup()

    def _setup(self) -> None:
        use_assigned_cpus()
        self.worker_index: int = self.worker_index or 0
        self._device = get_device(self.config, self.config.num_gpus_per_env_runner if self.worker_index else 0)
        self._specs = {spec.id: spec for spec in self.config.env_specs}
        self._copies = {spec.id: spec.num_envs or self.config.num_envs_per_env_runner for spec in self._specs.values()}
        self.owned: tuple[str, ...] = self._owned()
        self.environments: dict[str, OwnedEnvironment] = {}
        self._callbacks = EpisodeCallbacks(self, self.config)
        self._episode_metrics = EpisodeMetrics(self.metrics, self._window())
        self._weights_seq_no = 0
        self._last_failures: dict[str, Exception] = {}
        self._no_episodes = NoEpisodes()
        self._seconds = {ENV_STEP_TIMER: 0.0, RLMODULE_INFERENCE_TIMER: 0.0}

        self.make_module()
        if self.worker_index > 0 or self.config.num_env_runners == 0 or self.config.create_env_on_local_worker:
            self.make_env()
        spaces = self.get_spaces()
        self._env_to_module = self.config.build_env_to_module_connector(spaces=spaces, device=self._device)
        self._module_to_env = self.config.build_module_to_env_connector(spaces=spaces, seed=self._connector_seed())
        self._normalizers: list[NormalizeObservations] = self._env_to_module[NormalizeObservations]
        self._reward_scales: list[RewardScale] = self._env_to_module[RewardScale]

    def _owned(self) -> tuple[str, ...]:
        if self.worker_index == 0 or self.config.in_evaluation:
            return tuple(self._specs)
        costs = {i: environment_cost(self.config.space_specs[i], self._copies[i]) for i in self._specs}
        return assign_environments(costs, self.num_workers)[self.worker_index - 1]

    def _window(self) -> int | None:
        """Episodes that returns are averaged over; in evaluation all that there were."""
        if self.config.in_evaluation:
            return None
        return max(1, math.ceil(self.config.metrics_num_episodes_for_smoothing / (self.config.num_env_runners or 1)))

    def _connector_seed(self) -> int | None:
        return None if self._seed is None else int(np.random.SeedSequence([self._seed, 1]).generate_state(1)[0])

    # RLlib's EnvRunner API ------------------------------------------------------------------------------------------

    def make_env(self) -> None:
        """(Re)make all owned environments."""
        self.stop()
        for number, env_id in enumerate(self._specs):
            if env_id in self.owned:
                # Seeds depend on the environment's place in the whole list, not on who owns it.
                seed = (
                    None
                    if self._seed is None
                    else int(np.random.SeedSequence([self._seed, 2, number]).generate_state(1)[0])
                )
                self.environments[env_id] = OwnedEnvironment(self._specs[env_id], self._copies[env_id], seed)
                self._callbacks.environment_created(env_id)

    def make_module(self) -> None:
        """Build the module without what only the value function needs."""
        spec = self.config.get_multi_rl_module_spec(spaces=self.get_spaces(), inference_only=True)
        self.module: MultiEnvModule = spec.build()
        self.module.shared.to(self._device)

    def get_spaces(self) -> dict[str, tuple[gym.Space | None, gym.Space | None]]:
        """Spaces of every environment of the run, owned or not: RLlib asks only one runner."""
        spaces: dict[str, tuple[gym.Space | None, gym.Space | None]] = {
            env_id: (spec.observation_space, spec.action_space) for env_id, spec in self.config.space_specs.items()
        }
        spaces[SHARED_MODULE] = (None, None)
        return spaces

    def assert_healthy(self) -> None:
        """Check that the constructor finished."""
        if not self.module:
            raise RuntimeError("MultiEnvRunner has no module.")

    def sample(
        self,
        *,
        num_timesteps: int | None = None,
        num_episodes: int | None = None,
        explore: bool | None = None,
        force_reset: bool = False,
        **kwargs: Any,
    ) -> list[SingleAgentEpisode]:
        """Sample from all owned environments and return episode chunks (``module_id`` is the env id).

        Args:
            num_timesteps: Steps over all copies of all environments, rounded up to whole time steps. Default: one
                fragment of ``rollout_fragment_length`` time steps.
            num_episodes: Instead, this many episodes of *each* environment, begun anew.
            explore: Whether to draw actions; default ``config.explore``.
            force_reset: Begin new episodes first.
            kwargs: Ignored, for compatibility.
        """
        return [
            chunk
            for chunks in self.sample_by_environment(
                num_timesteps=num_timesteps,
                num_episodes=num_episodes,
                explore=explore,
                force_reset=force_reset,
            ).values()
            for chunk in chunks
        ]

    def sample_by_environment(
        self,
        *,
        num_timesteps: int | None = None,
        num_episodes: int | None = None,
        explore: bool | None = None,
        force_reset: bool = False,
    ) -> dict[str, list[SingleAgentEpisode]]:
        """As :meth:`sample`, with the chunks by environment. An environment whose fragment was lost is missing."""
        if num_timesteps is not None and num_episodes is not None:
            raise ValueError("Give sample() num_timesteps or num_episodes, not both.")
        if not self.environments:
            self.make_env()
        explore = self.config.explore if explore is None else explore
        with self.metrics.log_time(SAMPLE_TIMER), global_random_state_kept(self.config.in_evaluation):
            for normalizer in self._normalizers:
                normalizer.counting = not self.config.in_evaluation
                normalizer.freeze()
            if num_episodes is not None:
                sampled, finished = self._sample_episodes(num_episodes, explore)
            else:
                self._reset_where_needed(force_reset)
                length = self.config.get_rollout_fragment_length(self.worker_index)
                if num_timesteps is not None:
                    length = math.ceil(num_timesteps / sum(self._copies[env_id] for env_id in self.environments))
                sampled, finished = self._sample_steps(self.environments, length, explore)
            self._episode_metrics.round(num_episodes if num_episodes is not None else finished)
            self._callbacks.sample_end([chunk for chunks in sampled.values() for chunk in chunks])
        for timer, seconds in self._seconds.items():
            self.metrics.log_value(timer, seconds, reduce="mean")
            self._seconds[timer] = 0.0
        return sampled

    def sample_refs(self) -> tuple[dict[str, ray.ObjectRef], Any] | SamplingFailure:
        """Sample a fragment; returns one object-store reference per environment, and the metrics.

        What environments, callbacks and connectors raise is returned, so that the driver can raise it; with
        ``ignore_env_runner_failures`` it is raised here, and RLlib goes on without this runner's fragments.
        """
        try:
            sampled = self.sample_by_environment()
        except Exception as error:
            if self.config.ignore_env_runner_failures:
                raise
            return SamplingFailure.of(error)
        return {env_id: ray.put(chunks) for env_id, chunks in sampled.items()}, self.get_metrics()

    def apply(self, func: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Call ``func`` with this runner.

        RLlib ends the process if it raises, and all that its caller hears of is a dead actor. Where the configuration
        does not ask for runners to be replaced, the error itself is raised.
        """
        if self.config.restart_failed_env_runners or self.config.ignore_env_runner_failures:
            return super().apply(func, *args, **kwargs)
        return func(self, *args, **kwargs)

    def get_metrics(self) -> Any:
        """Metrics since the last call."""
        return self.metrics.reduce()

    def stop(self) -> None:
        """Close all environments."""
        for environment in self.environments.values():
            environment.close()
        self.environments = {}

    # Sampling

    def _reset_where_needed(self, force: bool) -> None:
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
        for scale in self._reward_scales:
            scale.restart(env_id)

    def _recreate(self, env_id: str) -> None:
        self.environments[env_id].recreate()
        self._callbacks.environment_created(env_id)

    def _sample_steps(
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

    def _sample_episodes(self, num_episodes: int, explore: bool) -> tuple[dict[str, list[SingleAgentEpisode]], int]:
        """``num_episodes`` new episodes of each environment.

        Every copy has a quota of its own: counting whichever episodes end first would favour short ones.
        """
        self._reset_where_needed(force=True)
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
            self._seconds[RLMODULE_INFERENCE_TIMER] += perf_counter() - started
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
            self._seconds[ENV_STEP_TIMER] += perf_counter() - started
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
        return self.metrics if self.config.has_custom_connectors else None

    def _chunks(
        self, fragments: dict[str, Fragment], quota: dict[str, list[int]] | None = None
    ) -> dict[str, list[FinishedChunk]]:
        """Cut finished fragments into episode chunks; with a quota, no more than it allows, counting it down."""
        for normalizer in self._normalizers:
            normalizer.counting = False
        chunks_by_env: dict[str, list[FinishedChunk]] = {}
        for env_id, fragment in fragments.items():
            fragment.finish()
            environment = self.environments[env_id]
            places, finals = fragment.final_observations()
            raw = environment.obs if finals is None else np.concatenate([environment.obs, finals])
            seen = self._to_module({env_id: {Columns.OBS: raw}}, explore=False)[env_id][Columns.OBS].cpu().numpy()
            scale = 1.0
            for reward_scale in self._reward_scales:
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
        for normalizer in self._normalizers:
            normalizer.counting = not self.config.in_evaluation
            normalizer.commit({env_id: fragment.valid for env_id, fragment in fragments.items()})
        return chunks_by_env

    def _lose_fragment(self, env_id: str, failure: EnvFailure | NonFiniteError) -> None:
        """Give up what was sampled of an environment in this round, where the configuration allows it."""
        if not self._tolerates(failure):
            raise failure
        logger.warning("The fragment of %r is lost, and its copies are made anew: %s", env_id, failure)
        for normalizer in self._normalizers:
            normalizer.discard(env_id)
        self._episode_metrics.lost(env_id)
        self._last_failures[env_id] = failure
        self._recreate(env_id)
        self._begin(env_id)

    def _tolerates(self, failure: EnvFailure | NonFiniteError) -> bool:
        if isinstance(failure, NonFiniteError):
            return self.config.on_nonfinite == "drop"
        return bool(self.config.restart_failed_sub_environments)

    # State

    def get_state(
        self,
        components: str | Collection[str] | None = None,
        *,
        not_components: str | Collection[str] | None = None,
        **kwargs: Any,
    ) -> dict[str, Any]:
        """Connector states, weights, and (component ``"environments"``) where every copy stands."""
        state: dict[str, Any] = {WEIGHTS_SEQ_NO: self._weights_seq_no}
        for name, component in self.get_checkpointable_components():
            if self._check_component(name, components, not_components):
                options = {"inference_only": True} if name == COMPONENT_RL_MODULE else {}
                state[name] = component.get_state(
                    components=self._get_subcomponents(name, components),
                    not_components=self._get_subcomponents(name, not_components),
                    **options,
                )
        if self._check_component(COMPONENT_ENVIRONMENTS, components, not_components):
            state[COMPONENT_ENVIRONMENTS] = {
                "windows": self._episode_metrics.get_state(),
                "copies": {env_id: environment.get_state() for env_id, environment in self.environments.items()},
            }
        return state

    def set_state(self, state: dict[str, Any]) -> None:
        """Take over (parts of) a state."""
        if COMPONENT_ENV_TO_MODULE_CONNECTOR in state:
            self._env_to_module.set_state(state[COMPONENT_ENV_TO_MODULE_CONNECTOR])
        if COMPONENT_MODULE_TO_ENV_CONNECTOR in state:
            self._module_to_env.set_state(state[COMPONENT_MODULE_TO_ENV_CONNECTOR])
        if COMPONENT_RL_MODULE in state:
            # Whatever their number: after a restore, older weights than the present ones are the right ones.
            weights = state[COMPONENT_RL_MODULE]
            self.module.set_state(ray.get(weights) if isinstance(weights, ray.ObjectRef) else weights)
            self._weights_seq_no = state.get(WEIGHTS_SEQ_NO, 0) or self._weights_seq_no
        if COMPONENT_ENVIRONMENTS in state:
            self._episode_metrics.set_state(state[COMPONENT_ENVIRONMENTS]["windows"])
            if self.worker_index == 0 and self.config.num_env_runners > 0:
                # What this runner saw when it was the only one is what all runners agree on now.
                pieces: list[NormalizeObservations | RewardScale] = [*self._normalizers, *self._reward_scales]
                for piece in pieces:
                    piece.set_state(piece.merge_states([piece.get_state()]))
            for env_id, saved in state[COMPONENT_ENVIRONMENTS]["copies"].items():
                if env_id in self.environments:
                    # New episodes at the next sample, unless the state can be taken over.
                    self.environments[env_id].obs = None
                    if saved is not None:
                        self.environments[env_id].set_state(saved)
        if NUM_ENV_STEPS_SAMPLED_LIFETIME in state:
            self.num_env_steps_sampled_lifetime = state[NUM_ENV_STEPS_SAMPLED_LIFETIME]

    def get_ctor_args_and_kwargs(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """What a new runner like this one is made with."""
        return (), {"config": self.config, "worker_index": self.worker_index, "num_workers": self.num_workers}

    def get_checkpointable_components(self) -> list[tuple[str, Checkpointable]]:
        """The module and both connector pipelines."""
        return [
            (COMPONENT_RL_MODULE, self.module),
            (COMPONENT_ENV_TO_MODULE_CONNECTOR, self._env_to_module),
            (COMPONENT_MODULE_TO_ENV_CONNECTOR, self._module_to_env),
        ]
