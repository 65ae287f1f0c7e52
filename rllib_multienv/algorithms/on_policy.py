"""The on-policy loop: sample, update, send weights; and its settings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from ray.rllib.connectors.connector_v2 import ConnectorV2
from ray.rllib.utils.metrics import (
    ALL_MODULES,
    ENV_RUNNER_RESULTS,
    ENV_RUNNER_SAMPLING_TIMER,
    LEARNER_RESULTS,
    LEARNER_UPDATE_TIMER,
    NUM_ENV_STEPS_SAMPLED_LIFETIME,
    NUM_MODULE_STEPS_SAMPLED_LIFETIME,
    NUM_MODULE_STEPS_TRAINED_LIFETIME,
    SYNCH_ENV_CONNECTOR_STATES_TIMER,
    TIMERS,
)

from rllib_multienv.algorithms.multi_env_algorithm import MultiEnvAlgorithm
from rllib_multienv.algorithms.multi_env_config import MultiEnvConfigMixin
from rllib_multienv.algorithms.settings import Count, Fraction, NonNegative, PerEnvironment, settings
from rllib_multienv.connectors import GeneralizedAdvantages
from rllib_multienv.env_runners.assignment import environment_costs, environment_groups, near_their_learners
from rllib_multienv.env_runners.sampling import OnlineSampling, SampledRound
from rllib_multienv.envs.dataset import dataset_length
from rllib_multienv.experience.registry import select
from rllib_multienv.experience.schedule import Report, check_env_ids, make_schedule
from rllib_multienv.learners import RolloutData, SharedTrainingData, describe_shares, share_environments
from rllib_multienv.metrics import (
    MODULE_EPISODE_RETURN_MEAN,
    NUM_ENV_STEPS_LOST_LIFETIME,
    NUM_FRAGMENTS_LOST_LIFETIME,
    SAMPLING_SHARE,
)
from rllib_multienv.normalization import Moments
from rllib_multienv.transfer import random_moments

_COMPONENT_SCHEDULE = "schedule"


class OnPolicyConfigMixin(MultiEnvConfigMixin):
    """Settings of on-policy algorithms.

    Each iteration, every runner that owns an environment contributes ``rollout_fragment_length`` time steps of
    ``num_envs_per_env_runner`` copies of it; there is no train batch size to set.
    """

    advantages_class: ClassVar[type[GeneralizedAdvantages]] = GeneralizedAdvantages
    memories: ClassVar[tuple[str, ...]] = ("gru", "s4")
    trains_worlds: ClassVar[bool] = True

    @settings
    def training(
        self,
        *,
        num_epochs: Count = 1,
        num_minibatches: Count = 1,
        lambda_: PerEnvironment[Fraction] = 0.95,
        normalize_rewards: bool = True,
        min_advantage_std: NonNegative = 0.05,
        advantages_across_episodes: PerEnvironment[bool] = True,
        **rllib: Any,
    ) -> None:
        """Set how to train.

        Args:
            num_epochs: Passes over the data in each update.
            num_minibatches: Parts that each environment's data is cut into, each epoch (M in the paper).
            lambda_: Lambda of generalised advantage estimation.
            normalize_rewards: Whether rewards are divided by the running deviation of their discounted return.
            min_advantage_std: Advantages are divided by their standard deviation or by this, whichever is larger (only
                with normalised rewards, whose discounted return has deviation one). Where an environment is solved,
                what is left of its advantages is noise; scaled to unit size it would undo what was learned.
            advantages_across_episodes: Whether the later episodes of a trial count for the advantages of earlier ones,
                so that exploring pays off (RL²). Otherwise nothing counts that follows the end of an episode.
        """

    @settings
    def env_runners(self, *, sample_ahead: bool = False, **rllib: Any) -> None:
        """Set how to sample.

        Args:
            sample_ahead: Whether remote runners sample the next iteration's fragments while the learners learn from
                this one's. The policy that samples is then one update older than it would be, for which the algorithm
                has to correct, as PPO does. It pays where runners and learners have CPUs (or a GPU) each and neither
                takes most of the time.
        """

    def build_learner_connector(
        self, input_observation_space: Any = None, input_action_space: Any = None, device: Any = None
    ) -> ConnectorV2:
        """The user's pieces, then batches by environment with advantages."""
        pipeline = super().build_learner_connector(input_observation_space, input_action_space, device)
        pipeline.append(self.advantages_class(config=self, device=device))
        return pipeline

    def validate_train_batch_size_vs_rollout_fragment_length(self) -> None:
        """There is no train batch size that could contradict the fragment length."""

    def validate(self) -> None:
        """Check all settings.

        Raises:
            ValueError: Names the setting, its value, and what would be right.
        """
        super().validate()
        if self.in_evaluation:
            return
        length = self.get_rollout_fragment_length()
        network = self.network_config
        for spec in self.env_specs:
            worlds = self.num_copies(spec) // spec.world_copies  # they stay together
            sequences = -(-length // network.max_seq_len) * worlds
            if network.memory is not None and sequences < self.num_minibatches:
                self._value_error(
                    f"Environment {spec.id!r} gives {sequences} sequences of max_seq_len={network.max_seq_len} per "
                    f"fragment ({length} time steps of {worlds} copies), fewer than "
                    f"num_minibatches={self.num_minibatches}. A network with memory is trained on whole sequences: set "
                    "fewer minibatches, more copies, or shorter sequences."
                )
            rows = length * worlds
            if rows < self.num_minibatches:
                self._value_error(
                    f"Environment {spec.id!r} gives {rows} steps per fragment ({length} time steps of "
                    f"{worlds} copies), fewer than num_minibatches={self.num_minibatches}."
                )
        if self.sample_ahead and not self.num_env_runners:
            self._value_error(
                "sample_ahead=True: the local runner cannot sample while this process learns; set "
                "env_runners(num_env_runners=...) to at least 1, or leave sample_ahead out."
            )


class OnlineAlgorithm(MultiEnvAlgorithm):
    """Sampling from environments, for the on-policy and the off-policy loop."""

    def setup(self, config: Any) -> None:
        """Build everything."""
        self._schedule, self._tags = make_schedule(config.schedule), (config.include, config.exclude)
        self._returns: dict[str, float] = {}
        self._known_lengths: dict[str, int | None] = {}
        self._lengths: dict[str, int] | None = None  # time steps of the next round, where they are decided already
        super().setup(config)
        self._sampling = OnlineSampling(self.env_runner_group, self.config)
        self._print_assignment()

    # What is sampled

    def set_schedule(self, schedule: Any) -> None:
        """Let another schedule decide what is sampled, from the next iteration on.

        Args:
            schedule: See ``environment(schedule=...)``.

        Raises:
            ValueError: There is no such schedule, or it names an environment that is not in the run.
        """
        schedule = make_schedule(schedule)
        check_env_ids(schedule, self.config.space_specs)
        self._schedule, self._lengths = schedule, None

    def set_tags(self, include: Sequence[str] = (), exclude: Sequence[str] = ()) -> tuple[str, ...]:
        """Sample only environments that these patterns of tags select, from the next iteration on.

        The others stay in the run: they keep their statistics and episodes, and are evaluated.

        Args:
            include: Patterns, of which one must match; none: all.
            exclude: Patterns, of which none may match.

        Returns:
            The env ids that are selected.

        Raises:
            ValueError: Nothing is selected. Nothing has changed then.
        """
        selected = select(self.config.env_specs, include, exclude)
        self._tags, self._lengths = (tuple(include), tuple(exclude)), None
        return tuple(spec.id for spec in selected)

    def _next_lengths(self) -> dict[str, int]:
        """Time steps of each environment that the schedule wants sampled, by env id."""
        steps = self.metrics.peek((ENV_RUNNER_RESULTS, NUM_MODULE_STEPS_SAMPLED_LIFETIME), default={})
        report = Report(
            iteration=self.iteration,
            env_ids=tuple(spec.id for spec in select(self.config.env_specs, *self._tags)),
            steps={env_id: int(number) for env_id, number in steps.items()},
            returns={env_id: value for env_id, value in self._returns.items() if np.isfinite(value)},
            lengths=self._dataset_lengths(),
        )
        shares = self._schedule.next(report)
        length = self.config.get_rollout_fragment_length()
        groups: dict[str, int] = {}  # environments of one group are stepped together
        for spec in self.config.env_specs:
            own = round(shares.get(spec.id, 0.0) * length) if spec.id in report.env_ids else 0
            groups[spec.group] = max(groups.get(spec.group, 0), own)
        lengths = {spec.id: groups[spec.group] for spec in self.config.env_specs}
        if not any(lengths.values()):
            raise ValueError(
                f"The schedule {type(self._schedule).__name__} samples none of {', '.join(report.env_ids)} after "
                f"{report.total_steps} steps."
            )
        return {env_id: steps for env_id, steps in lengths.items() if steps}

    def _dataset_lengths(self) -> dict[str, int]:
        """Steps after which data sets have shown all their epochs, by env id; empty where nobody asks."""
        if not self._schedule.NEEDS_LENGTHS:
            return {}
        for spec in self.config.env_specs:
            if spec.id not in self._known_lengths:
                self._known_lengths[spec.id] = dataset_length(spec)
        return {env_id: length for env_id, length in self._known_lengths.items() if length is not None}

    def get_state(self, components: Any = None, *, not_components: Any = None, **kwargs: Any) -> dict[str, Any]:
        """RLlib's, and the schedule with its tags."""
        state = super().get_state(components, not_components=not_components, **kwargs)
        if self._check_component(_COMPONENT_SCHEDULE, components, not_components):
            state[_COMPONENT_SCHEDULE] = {
                "kind": type(self._schedule).__name__,
                "schedule": self._schedule.get_state(),
                "tags": self._tags,
                "returns": dict(self._returns),
            }
        return state

    def set_state(self, state: dict[str, Any]) -> None:
        """Take over a state; that of another kind of schedule than this run has is not."""
        super().set_state(state)
        if (saved := state.get(_COMPONENT_SCHEDULE)) is not None:
            self._tags, self._returns, self._lengths = saved["tags"], dict(saved["returns"]), None
            if saved["kind"] == type(self._schedule).__name__:
                self._schedule.set_state(saved["schedule"])

    def _moments_of_new(self, env_ids: Sequence[str]) -> dict[str, tuple[Moments, Moments]]:
        """Those of random actions, see `random_moments`."""
        config = self.config
        if not self.env_runner.statistics:
            return {}
        return {
            spec.id: random_moments(spec, config.space_specs[spec.id], config.get_config_for_module(spec.id).gamma)
            for spec in config.env_specs
            if spec.id in env_ids
        }

    def _print_assignment(self) -> None:
        """Say who does what, where there is more than one who could."""
        lines = [self._sampling.describe()]
        if self.config.num_learners > 1:
            costs = environment_costs(self.config)
            shares = share_environments(costs, self.config.num_learners, environment_groups(self.config))
            lines.append(describe_shares(shares, costs))
        if any(lines):
            print("\n".join(line for line in lines if line), flush=True)

    def _change_environments(self, config: Any) -> None:
        super()._change_environments(config)
        self._sampling.change_environments(config)
        self._lengths = None

    def restore_from_path(self, path: Any, *args: Any, **kwargs: Any) -> None:
        """Restore everything; see :meth:`MultiEnvAlgorithm.restore_from_path`."""
        super().restore_from_path(path, *args, **kwargs)
        self._sampling.forget()

    def sample(self) -> tuple[SampledRound, int]:
        """One fragment of every environment from every runner that owns it, and the steps sampled so far."""
        lengths = self._next_lengths() if self._lengths is None else self._lengths
        self._lengths = None
        with self.metrics.log_time((TIMERS, ENV_RUNNER_SAMPLING_TIMER)):
            sampled = self._sampling.round(lengths)
        if sampled.metrics:
            self.metrics.aggregate(sampled.metrics, key=ENV_RUNNER_RESULTS)
            self._returns |= self.metrics.peek((ENV_RUNNER_RESULTS, MODULE_EPISODE_RETURN_MEAN), default={})
        self._log_shares(sampled)
        env_steps = self.metrics.peek((ENV_RUNNER_RESULTS, NUM_ENV_STEPS_SAMPLED_LIFETIME), default=0)
        with self.metrics.log_time((TIMERS, SYNCH_ENV_CONNECTOR_STATES_TIMER)):
            self._sampling.share_statistics(sampled, env_steps)
        log = self.metrics.log_value
        for env_id in sampled.lost:
            log((ENV_RUNNER_RESULTS, NUM_FRAGMENTS_LOST_LIFETIME, env_id), 1, reduce="lifetime_sum")
        for env_id, steps in sampled.unwanted.items():
            log((ENV_RUNNER_RESULTS, NUM_ENV_STEPS_LOST_LIFETIME, env_id), steps, reduce="lifetime_sum")
        return sampled, env_steps

    def _log_shares(self, sampled: SampledRound) -> None:
        """Each environment's share of the steps of this iteration."""
        steps = {env_id: sum(n for _, n in sampled.fragments.get(env_id, ())) for env_id in self.config.space_specs}
        total = sum(steps.values())
        for env_id, number in steps.items() if total else ():
            self.metrics.log_value((ENV_RUNNER_RESULTS, SAMPLING_SHARE, env_id), number / total, window=1)

    def update(self, training_data: SharedTrainingData, env_steps: int, **kwargs: Any) -> None:
        """Update the learners, and send the new weights to the runners.

        Args:
            training_data: What they train on.
            env_steps: Steps sampled so far.
            kwargs: Passed to ``training_data.steps``.
        """
        timesteps = {
            NUM_ENV_STEPS_SAMPLED_LIFETIME: env_steps,
            NUM_MODULE_STEPS_TRAINED_LIFETIME: self.metrics.peek(
                (LEARNER_RESULTS, ALL_MODULES, NUM_MODULE_STEPS_TRAINED_LIFETIME), default=0
            ),
        }
        with self.metrics.log_time((TIMERS, LEARNER_UPDATE_TIMER)):
            results = self.learner_group.update(training_data=training_data, timesteps=timesteps, **kwargs)
            self.metrics.aggregate(results, key=LEARNER_RESULTS)
        self.send_weights()


class OnPolicyAlgorithm(OnlineAlgorithm):
    """One iteration: every environment is sampled, one update is made, the new weights go to the runners.

    With ``sample_ahead`` the runners sample the next iteration's fragments during the update, hence with the weights
    before it.
    """

    def _costs(self, sampled: SampledRound) -> dict[str, float]:
        """What each environment costs a learner in this iteration, in the order in which learners take them."""
        costs = {
            env_id: cost * max(1, sum(steps for _, steps in sampled.fragments[env_id]))
            for env_id, cost in environment_costs(self.config).items()
            if env_id in sampled.fragments
        }
        return near_their_learners(costs, sampled.nodes, self.learner_nodes)

    def training_step(self) -> None:
        """Sample, update, send weights."""
        sampled, env_steps = self.sample()
        if self.config.sample_ahead:
            self._lengths = self._next_lengths()
            self._sampling.begin_next(self._lengths)
        if not sampled.fragments:
            return  # every runner failed or lost its fragments; RLlib restores runners before the next iteration
        costs = self._costs(sampled)
        self.update(
            RolloutData.of(sampled.fragments, costs, groups=environment_groups(self.config)),
            env_steps,
            num_epochs=self.config.num_epochs,
            num_minibatches=self.config.num_minibatches,
        )
