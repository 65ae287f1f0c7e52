"""The env runner: steps all environments that it owns in lockstep, one module call per time step."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
import ray
import torch
from ray.rllib.core import (
    COMPONENT_ENV_TO_MODULE_CONNECTOR,
    COMPONENT_MODULE_TO_ENV_CONNECTOR,
    COMPONENT_RL_MODULE,
)
from ray.rllib.env.env_runner import EnvRunner
from ray.rllib.env.single_agent_episode import SingleAgentEpisode
from ray.rllib.utils.checkpoints import Checkpointable
from ray.rllib.utils.framework import get_device
from ray.rllib.utils.metrics import (
    NUM_ENV_STEPS_SAMPLED_LIFETIME,
    SAMPLE_TIMER,
    WEIGHTS_SEQ_NO,
)

from rllib_multienv.checkpoints import AgentCheckpoint
from rllib_multienv.connectors import NormalizeObservations, SharedStatistics
from rllib_multienv.env_runners.assignment import assign_environments, environment_cost, environment_groups
from rllib_multienv.env_runners.episodes import EpisodeCallbacks, EpisodeMetrics
from rllib_multienv.env_runners.lockstep import Lockstep
from rllib_multienv.env_runners.owned_environment import OwnedEnvironment
from rllib_multienv.env_runners.sampling import SampleReport, SamplingFailure
from rllib_multienv.env_runners.shared_tasks import SharedTasks
from rllib_multienv.modules import SHARED_MODULE, MultiEnvModule
from rllib_multienv.opponents import Pool, RandomOpponent
from rllib_multienv.policy import AgentPolicy
from rllib_multienv.process import set_threads
from rllib_multienv.rollout import Rollout

#: Component of the runner's state: environments, running episodes and metric windows.
COMPONENT_ENVIRONMENTS = "environments"


class MultiEnvRunner(EnvRunner, Checkpointable):
    """Samples from its share of the environments.

    With W runners, runner w owns the w-th part of a balanced assignment; the local runner (index 0) owns all
    environments and makes them only where it is the only runner or has to evaluate. For evaluation every runner owns
    all environments, and the episodes are shared out.

    Attributes:
        lockstep_class: The loop that steps environments and module.
        environments: The environments that this runner owns and has made, by env id.
        module: The agent.
    """

    lockstep_class: ClassVar[type[Lockstep]] = Lockstep

    def __init__(self, *, config: Any, **kwargs: Any) -> None:
        # RLlib seeds the whole process, which for a local evaluation runner is also that of training.
        with global_random_state_kept(config.in_evaluation):
            super().__init__(config=config, **kwargs)
            self._setup()

    def _setup(self) -> None:
        set_threads()
        self.worker_index: int = self.worker_index or 0
        self._device = get_device(self.config, self.config.num_gpus_per_env_runner if self.worker_index else 0)
        self._read_specs()
        self.owned: tuple[str, ...] = self._owned()
        self.environments: dict[str, OwnedEnvironment] = {}
        self._callbacks = EpisodeCallbacks(self, self.config)
        self._episode_metrics = EpisodeMetrics(self.metrics, self._window())
        self._weights_seq_no = 0
        self._pool = Pool(self.config.opponent_pool_size, self.config.opponent_pool_interval)

        self.make_module()
        is_only_sampler = self.config.num_env_runners == 0 and self.config.samples_online
        if self.worker_index > 0 or is_only_sampler or self.config.create_env_on_local_worker:
            try:
                self.make_env()
            except Exception:
                if self.worker_index == 0:
                    raise
                # RLlib would only log this. The first request for samples tries again, and returns the exception.
                self.stop()
        self._connect()

    def _read_specs(self) -> None:
        self._specs = {spec.id: spec for spec in self.config.env_specs}
        self._rows = {spec.id: self.config.num_rows(spec) for spec in self._specs.values()}

    def _connect(self) -> None:
        """Build connectors and the loop that uses them."""
        spaces = self.get_spaces()
        self._env_to_module = self.config.build_env_to_module_connector(spaces=spaces, device=self._device)
        self._module_to_env = self.config.build_module_to_env_connector(spaces=spaces, seed=self._connector_seed())
        self._lockstep = self.lockstep_class(
            config=self.config,
            environments=self.environments,
            module=self.module,
            env_to_module=self._env_to_module,
            module_to_env=self._module_to_env,
            callbacks=self._callbacks,
            episode_metrics=self._episode_metrics,
            metrics_logger=self.metrics,
        )

    def _owned(self) -> tuple[str, ...]:
        if self.worker_index == 0 or self.config.in_evaluation:
            return tuple(self._specs)
        costs = {i: environment_cost(self.config.space_specs[i], self._rows[i]) for i in self._specs}
        return assign_environments(costs, self.num_workers, environment_groups(self.config))[self.worker_index - 1]

    def _window(self) -> int | None:
        """Episodes that returns are averaged over; in evaluation all that there were."""
        if self.config.in_evaluation:
            return None
        return max(1, math.ceil(self.config.metrics_num_episodes_for_smoothing / (self.config.num_env_runners or 1)))

    def _connector_seed(self) -> int | None:
        return None if self._seed is None else int(np.random.SeedSequence([self._seed, 1]).generate_state(1)[0])

    # RLlib's EnvRunner API

    def make_env(self) -> None:
        """(Re)make all owned environments."""
        self.stop()
        self._own(self.owned)

    def _own(self, env_ids: Sequence[str]) -> None:
        """Own these environments: make those that are missing, close those that are another runner's now."""
        for env_id in self.environments.keys() - set(env_ids):
            self.environments.pop(env_id).close()
        self.owned = tuple(env_id for env_id in self._specs if env_id in env_ids)
        for number, env_id in enumerate(self._specs):
            if env_id in self.owned and env_id not in self.environments:
                # Seeds depend on the environment's place in the whole list, not on who owns it.
                seed = (
                    None
                    if self._seed is None
                    else int(np.random.SeedSequence([self._seed, 2, number]).generate_state(1)[0])
                )
                spec = self._specs[env_id]
                roles = [e for e in self.environments.values() if spec.role and e.spec.base_id == spec.base_id]
                members = [e for e in self.environments.values() if spec.world and e.spec.world == spec.world]
                world, tasks = self.config.worlds.get(spec.world), None
                if world is not None and world.share_task:
                    split = "test" if self.config.in_evaluation else "train"
                    tasks = members[0].shared_tasks if members else SharedTasks(seed, split)
                self.environments[env_id] = OwnedEnvironment(
                    spec,
                    self.config.num_copies(spec),
                    seed,
                    mask_in_info=self.config.space_specs[env_id].mask_in_info,
                    inputs=self.config.space_specs[env_id].inputs,
                    evaluation=self.config.in_evaluation,
                    partner=roles[0] if roles else None,
                    world=world,
                    shared_tasks=tasks,
                )
                self._callbacks.environment_created(env_id)
        ordered = {env_id: self.environments[env_id] for env_id in self.owned}
        self.environments.clear()
        self.environments.update(ordered)  # in place: the lockstep loop has this dictionary

    def change_environments(self, config: Any) -> None:
        """Let the environments of the run be those of ``config``, which differs in nothing else.

        Environments that stay are not touched: their episodes continue, their statistics and metrics remain.
        """
        self.config = config
        self._read_specs()
        self.module.change_environments(config.space_specs)
        states = self._env_to_module.get_state(), self._module_to_env.get_state(), self._lockstep.get_state()
        self._connect()
        self._env_to_module.set_state(states[0])
        self._module_to_env.set_state(states[1])
        self._lockstep.set_state(states[2])
        self._episode_metrics.keep_only(self._specs)
        for env_id, environment in self.environments.items():
            if env_id in self._specs and environment.spec.world:
                environment.change_world(config.worlds[environment.spec.world])
        if self.worker_index == 0 or config.in_evaluation:
            self.owned = tuple(self._specs)
        if self.environments:
            self._own([env_id for env_id in self.owned if env_id in self._specs])

    def make_module(self) -> None:
        """Build the module without the critic; it never trains."""
        spec = self.config.get_multi_rl_module_spec(spaces=self.get_spaces(), inference_only=True)
        self.module: MultiEnvModule = spec.build()
        self.module.shared.to(self._device).eval()

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
        """Sample from all owned environments as RLlib's episodes (``module_id`` is the env id).

        Args:
            num_timesteps: Steps over all copies of all environments, rounded up to whole time steps. Default: one
                fragment of ``rollout_fragment_length`` time steps.
            num_episodes: Instead, this many new episodes of *each* environment.
            explore: Whether to draw actions; default ``config.explore``.
            force_reset: Begin new episodes first.
            kwargs: Ignored, for compatibility.
        """
        if num_timesteps is not None and num_episodes is not None:
            raise ValueError("Give sample() num_timesteps or num_episodes, not both.")
        episodes: list[SingleAgentEpisode] = []
        self._sample(episodes, num_timesteps, num_episodes, explore, force_reset)
        return episodes

    def sample_rollouts(self, lengths: Mapping[str, int] | None = None) -> dict[str, Rollout]:
        """Sample one fragment of every owned environment. An environment whose fragment was lost is missing.

        Args:
            lengths: Time steps by env id, of environments that are owned; None: whole fragments of all.
        """
        return self._sample([] if self._callbacks.want_episodes else None, lengths=lengths)

    def _sample(
        self,
        episodes: list[SingleAgentEpisode] | None,
        num_timesteps: int | None = None,
        num_episodes: int | None = None,
        explore: bool | None = None,
        force_reset: bool = False,
        lengths: Mapping[str, int] | None = None,
    ) -> dict[str, Rollout]:
        """Sample, append to ``episodes`` unless that is None, and return the last rollout of each environment."""
        if not self.environments:
            self.make_env()
        explore = self.config.explore if explore is None else explore
        learners_take_episodes = self.config._learner_connector is not None
        self._lockstep.keep_infos = episodes is not None or learners_take_episodes
        rollouts: dict[str, Rollout] = {}
        finished = 0
        with self.metrics.log_time(SAMPLE_TIMER), global_random_state_kept(self.config.in_evaluation):
            for rollouts in self._rounds(num_timesteps, num_episodes, explore, force_reset, lengths):
                for env_id, rollout in rollouts.items():
                    finished += self._lockstep.end_of_rollout(env_id, rollout, episodes)
            self._episode_metrics.round(finished if num_episodes is None else num_episodes)
            self._callbacks.sample_end(episodes or [])
        for timer, seconds in self._lockstep.seconds.items():
            self.metrics.log_value(timer, seconds, reduce="mean")
            self._lockstep.seconds[timer] = 0.0
        if learners_take_episodes:
            return rollouts
        return {env_id: replace(rollout, success=None, infos=None) for env_id, rollout in rollouts.items()}

    def _rounds(
        self,
        num_timesteps: int | None,
        num_episodes: int | None,
        explore: bool,
        force_reset: bool,
        lengths: Mapping[str, int] | None,
    ) -> Iterator[dict[str, Rollout]]:
        if num_episodes is not None:
            yield from self._lockstep.sample_episodes(num_episodes, explore)
            for opponent in self.config.opponents_in_evaluation if self.config.in_evaluation else ():
                yield from self._lockstep.sample_episodes(num_episodes, explore, opponent)
            return
        self._lockstep.reset_where_needed(force_reset)
        length = self.config.get_rollout_fragment_length(self.worker_index)
        if num_timesteps is not None:
            length = math.ceil(num_timesteps / sum(self._rows[env_id] for env_id in self.environments))
        self._prepare_matches()
        yield self._lockstep.sample_steps(length if lengths is None else lengths, explore)

    def _prepare_matches(self) -> None:
        """Before a fragment: set opponents, and add the present policy to the pool when it is time."""
        games = {env_id: environment for env_id, environment in self.environments.items() if environment.is_game}
        settings = {env_id: self.config.opponents_of(env_id) for env_id in games}
        if "pool" in settings.values():
            self._pool.offer(self._present_policy)
        for env_id, environment in games.items():
            if settings[env_id] != "self" and environment.match is None:
                pool = settings[env_id] == "pool"
                opponents = self._pool.members if pool else [RandomOpponent()]
                environment.play(opponents, self_play=self.config.self_play_share if pool else 0.0)

    def _present_policy(self) -> AgentPolicy:
        """The policy as it acts now."""
        moments = [piece.moments() for piece in self.statistics if isinstance(piece, NormalizeObservations)]
        checkpoint = AgentCheckpoint(
            space_specs=self.config.space_specs,
            env_specs=self._specs,
            network=self.config.network_config,
            obs_moments={env_id: shared.total() for found in moments for env_id, shared in found.items()},
            reward_moments={},
            weights={name: value.clone() for name, value in self.module.shared.network.state_dict().items()},
        )
        return AgentPolicy(checkpoint)

    def sample_fragments(self, env_ids: Sequence[str], lengths: Mapping[str, int]) -> tuple[Any, ...]:
        """Own ``env_ids`` and sample so many time steps of each environment in ``lengths``.

        Called remotely, with one return value for each element.

        What environments, callbacks and connectors raise is returned, so that the driver can raise it; with
        ``ignore_env_runner_failures`` it is raised here, and the driver continues without this runner's fragments.

        Returns:
            A :class:`~rllib_multienv.env_runners.sampling.SampleReport` (or a ``SamplingFailure``), then the rollout of
            each environment (None if it was lost).
        """
        try:
            self._own(env_ids)
            sampled = self.sample_rollouts(lengths)
        except Exception as error:
            if self.config.ignore_env_runner_failures:
                raise
            return (SamplingFailure.of(error), *[None] * len(lengths))
        report = SampleReport(
            steps={env_id: rollout.steps for env_id, rollout in sampled.items()},
            metrics=self.get_metrics(),
            connectors=self.get_state([COMPONENT_ENV_TO_MODULE_CONNECTOR, COMPONENT_MODULE_TO_ENV_CONNECTOR]),
            node_id=ray.get_runtime_context().get_node_id(),
        )
        return (report, *[sampled.get(env_id) for env_id in lengths])

    def apply(self, func: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Call ``func`` with this runner.

        RLlib ends the process if it raises, and all that its caller hears of is a dead actor. Where the configuration
        does not ask for runners to be replaced, the error itself is raised.
        """
        if self.config.restart_failed_env_runners or self.config.ignore_env_runner_failures:
            return super().apply(func, *args, **kwargs)
        return func(self, *args, **kwargs)

    @property
    def statistics(self) -> list[SharedStatistics]:
        """The connector pieces that keep running statistics (of observations, of rewards), where they are on."""
        return self._lockstep.statistics

    def get_metrics(self) -> Any:
        """Metrics since the last call."""
        return self.metrics.reduce()

    def stop(self) -> None:
        """Close all environments."""
        for environment in self.environments.values():
            environment.close()
        self.environments.clear()

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
                "lockstep": self._lockstep.get_state(),
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
                # The statistics of this runner alone become those that all runners share.
                for piece in self.statistics:
                    piece.set_state(piece.merge_states([piece.get_state()]))
            for env_id, saved in state[COMPONENT_ENVIRONMENTS]["copies"].items():
                if env_id in self.environments:
                    # New episodes at the next sample, unless the state can be taken over.
                    self.environments[env_id].obs = None
                    if saved is not None:
                        self.environments[env_id].set_state(saved)
            self._lockstep.set_state(state[COMPONENT_ENVIRONMENTS].get("lockstep", {}))
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


@contextmanager
def global_random_state_kept(keep: bool = True) -> Iterator[None]:
    """Leave the global generators of Python, NumPy and torch (CPU) as they were, whatever is drawn or seeded inside.

    Args:
        keep: If false, do nothing.
    """
    if not keep:
        yield
        return
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])
