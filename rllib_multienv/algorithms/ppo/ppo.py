"""PPO on many environments at once."""

from __future__ import annotations

from typing import Any

from ray.rllib.algorithms.ppo.ppo import PPO
from ray.rllib.utils.metrics import (
    ALL_MODULES,
    ENV_RUNNER_RESULTS,
    ENV_RUNNER_SAMPLING_TIMER,
    LEARNER_RESULTS,
    LEARNER_UPDATE_TIMER,
    NUM_ENV_STEPS_SAMPLED_LIFETIME,
    NUM_MODULE_STEPS_TRAINED_LIFETIME,
    SYNCH_ENV_CONNECTOR_STATES_TIMER,
    SYNCH_WORKER_WEIGHTS_TIMER,
    TIMERS,
)

from rllib_multienv.algorithms.multi_env_algorithm import MultiEnvAlgorithm
from rllib_multienv.algorithms.online_sampling import OnlineSampling, environment_costs, near_their_learners
from rllib_multienv.algorithms.ppo.config import MultiEnvPPOConfig
from rllib_multienv.env_runners.episode_metrics import NUM_FRAGMENTS_LOST_LIFETIME
from rllib_multienv.learners import MultiEnvTrainingData, describe_shares, share_environments
from rllib_multienv.learners.multi_env_learner import NUM_ENV_STEPS_LOST_LIFETIME


class MultiEnvPPO(MultiEnvAlgorithm, PPO):
    """One iteration: every environment is sampled, one packed update is made, the new weights go to the runners.

    With ``sample_ahead`` the runners sample the next iteration's fragments during the update, hence with the weights
    before it. :class:`~rllib_multienv.connectors.ProximalPolicy` corrects for that; values and advantages are computed
    when the fragments are learned from, so nothing else changes.
    """

    @classmethod
    def get_default_config(cls) -> MultiEnvPPOConfig:
        """An empty configuration of this algorithm."""
        return MultiEnvPPOConfig()

    def setup(self, config: Any) -> None:
        """Build everything."""
        super().setup(config)
        self._sampling = OnlineSampling(self.env_runner_group, self.config)
        self._print_assignment()

    def _print_assignment(self) -> None:
        """Say who does what, where there is more than one who could."""
        lines = [self._sampling.describe()]
        if self.config.num_learners > 1:
            costs = environment_costs(self.config)
            lines.append(describe_shares(share_environments(costs, self.config.num_learners), costs))
        if any(lines):
            print("\n".join(line for line in lines if line), flush=True)

    def _change_environments(self, config: Any) -> None:
        super()._change_environments(config)
        self._sampling.change_environments(config)

    def restore_from_path(self, path: Any, *args: Any, **kwargs: Any) -> None:
        """Restore everything; see :meth:`MultiEnvAlgorithm.restore_from_path`."""
        super().restore_from_path(path, *args, **kwargs)
        self._sampling.forget()

    def training_step(self) -> None:
        """Sample, update, send weights."""
        with self.metrics.log_time((TIMERS, ENV_RUNNER_SAMPLING_TIMER)):
            sampled = self._sampling.round()
        if sampled.metrics:
            self.metrics.aggregate(sampled.metrics, key=ENV_RUNNER_RESULTS)
        env_steps = self.metrics.peek((ENV_RUNNER_RESULTS, NUM_ENV_STEPS_SAMPLED_LIFETIME), default=0)
        with self.metrics.log_time((TIMERS, SYNCH_ENV_CONNECTOR_STATES_TIMER)):
            self._sampling.share_statistics(sampled, env_steps)
        if self.config.sample_ahead:
            self._sampling.begin_next()
        for env_id in sampled.lost:
            self.metrics.log_value((ENV_RUNNER_RESULTS, NUM_FRAGMENTS_LOST_LIFETIME, env_id), 1, reduce="lifetime_sum")
        for env_id, steps in sampled.unwanted.items():
            self.metrics.log_value(
                (ENV_RUNNER_RESULTS, NUM_ENV_STEPS_LOST_LIFETIME, env_id), steps, reduce="lifetime_sum"
            )
        if not sampled.fragments:
            return  # every runner failed or lost its fragments; RLlib restores runners before the next iteration
        with self.metrics.log_time((TIMERS, LEARNER_UPDATE_TIMER)):
            costs = near_their_learners(environment_costs(self.config), sampled.nodes, self.learner_nodes)
            results = self.learner_group.update(
                training_data=MultiEnvTrainingData.of(sampled.fragments, costs),
                timesteps={
                    NUM_ENV_STEPS_SAMPLED_LIFETIME: env_steps,
                    NUM_MODULE_STEPS_TRAINED_LIFETIME: self.metrics.peek(
                        (LEARNER_RESULTS, ALL_MODULES, NUM_MODULE_STEPS_TRAINED_LIFETIME), default=0
                    ),
                },
                num_epochs=self.config.num_epochs,
                num_minibatches=self.config.num_minibatches,
            )
            self.metrics.aggregate(results, key=LEARNER_RESULTS)
        with self.metrics.log_time((TIMERS, SYNCH_WORKER_WEIGHTS_TIMER)):
            self.env_runner_group.sync_weights(from_worker_or_learner_group=self.learner_group, inference_only=True)
