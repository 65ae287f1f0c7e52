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
    SYNCH_WORKER_WEIGHTS_TIMER,
    TIMERS,
)

from rllib_multienv.algorithms.multi_env_algorithm import MultiEnvAlgorithm
from rllib_multienv.algorithms.ppo.config import MultiEnvPPOConfig
from rllib_multienv.env_runners import SamplingFailure, environment_cost
from rllib_multienv.learners import MultiEnvTrainingData


class MultiEnvPPO(MultiEnvAlgorithm, PPO):
    """One iteration: every environment is sampled, one packed update is made, the new weights go to the runners."""

    @classmethod
    def get_default_config(cls) -> MultiEnvPPOConfig:
        """An empty configuration of this algorithm."""
        return MultiEnvPPOConfig()

    def training_step(self) -> None:
        """Sample, update, send weights."""
        with self.metrics.log_time((TIMERS, ENV_RUNNER_SAMPLING_TIMER)):
            fragments = self._sample()
        if not fragments:
            return  # every runner failed or lost its fragments; RLlib restores runners before the next iteration
        with self.metrics.log_time((TIMERS, LEARNER_UPDATE_TIMER)):
            results = self.learner_group.update(
                training_data=MultiEnvTrainingData(fragments=fragments, costs=self._costs()),
                timesteps={
                    NUM_ENV_STEPS_SAMPLED_LIFETIME: self.metrics.peek(
                        (ENV_RUNNER_RESULTS, NUM_ENV_STEPS_SAMPLED_LIFETIME)
                    ),
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

    def _sample(self) -> dict[str, list[Any]]:
        """Fragments of each environment: references from remote runners, the chunks themselves from the local one."""
        if self.env_runner_group.num_remote_env_runners() == 0:
            sampled = [({e: chunks for e, chunks in self.env_runner.sample_by_environment().items()}, None)]
            metrics = [self.env_runner.get_metrics()]
        else:
            sampled = self.env_runner_group.foreach_env_runner(
                "sample_refs", local_env_runner=False, timeout_seconds=self.config.sample_timeout_s
            )
            for result in sampled:
                if isinstance(result, SamplingFailure):
                    result.reraise()
            metrics = [result for _, result in sampled]
        if metrics:
            self.metrics.aggregate(metrics, key=ENV_RUNNER_RESULTS)
        # In the order of the configuration, whichever runner answered first.
        fragments = {
            spec.id: [by_env[spec.id] for by_env, _ in sampled if spec.id in by_env] for spec in self.config.env_specs
        }
        return {env_id: found for env_id, found in fragments.items() if found}

    def _costs(self) -> dict[str, float]:
        return {
            spec.id: environment_cost(self.config.space_specs[spec.id], self.config.num_copies(spec))
            for spec in self.config.env_specs
        }
