"""Base of all algorithms: environments that come and go, start from an agent, evaluation, adaptation."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import ray
from ray.rllib.core import COMPONENT_ENV_TO_MODULE_CONNECTOR, COMPONENT_LEARNER, COMPONENT_RL_MODULE
from ray.rllib.env.env_runner_group import EnvRunnerGroup
from ray.rllib.utils.metrics import (
    ENV_RUNNER_RESULTS,
    EVALUATION_RESULTS,
    SYNCH_WORKER_WEIGHTS_TIMER,
    TIMERS,
    WEIGHTS_SEQ_NO,
)

from rllib_multienv.agent import MultiEnvAgent
from rllib_multienv.algorithms.checkpointing import CheckpointingMixin, part_of
from rllib_multienv.algorithms.results import add_aggregates, drop_keys, drop_unmeasured
from rllib_multienv.algorithms.startup import runner_failure, wait_for_workers
from rllib_multienv.checkpoints import AgentCheckpoint, read_checkpoint
from rllib_multienv.connectors import RewardScale
from rllib_multienv.env_runners.multi_env_runner import global_random_state_kept
from rllib_multienv.evaluation.adaptation import AdaptationResult
from rllib_multienv.metrics import ADAPTATION_RETURN_MEAN, EPISODE_RETURNS, MODULE_EPISODE_RETURN_MEAN
from rllib_multienv.modules import SHARED_MODULE
from rllib_multienv.nets import is_in_parts
from rllib_multienv.normalization import Moments
from rllib_multienv.process import set_threads
from rllib_multienv.spec import resolve_env_specs
from rllib_multienv.transfer import shrink_and_perturb, transferred_state

logger = logging.getLogger("ray.rllib")

#: Every iteration, so long is waited for the answers of runners that died.
RESTART_PROBE_S = 0.25


class MultiEnvAlgorithm(CheckpointingMixin):
    """Base of the algorithms of this package."""

    config: Any
    evaluation_config: Any
    eval_env_runner_group: EnvRunnerGroup | None

    def setup(self, config: Any) -> None:
        """Build everything; start from another agent's weights where the configuration says so."""
        set_threads()
        self._environments_changed = False
        self._departed: set[str] = set()
        wait_for_workers(config)
        try:
            super().setup(config)
        except IndexError as error:  # RLlib asks the first of its runners, and there is none
            raise RuntimeError(f"No env runner could be started. {runner_failure(config)}") from error
        self.learner_nodes: list[str] = []
        if self.learner_group.is_remote:
            nodes = self.learner_group.foreach_learner(lambda _: ray.get_runtime_context().get_node_id())
            self.learner_nodes = [node.get() for node in nodes]
        if self.config.initial_checkpoint is not None:
            self._initialize_from(self.config.initial_checkpoint)

    # Environments that come and go

    def add_env(self, env: Any, world: str = "") -> str:
        """Train on one more environment from the next iteration on.

        Everything else continues: no worker is restarted, no statistics are lost, and no episode is cut but those of
        the world that it joins.

        Args:
            env: A Gymnasium id, an :class:`~rllib_multienv.spec.EnvSpec`, or a mapping of its fields.
            world: Name of the world of which it is to be a member; empty for none.

        Returns:
            Its env id.

        Raises:
            ValueError: There is one of that id already, or the network cannot take it. Nothing has changed then.
        """
        (spec,) = resolve_env_specs([env])
        if world:
            if world not in self.config.worlds:
                raise ValueError(f"add_env: there is no world {world!r}; there are {list(self.config.worlds)}.")
            spec = replace(spec, world=world)
        self._change_environments(self.config.with_environments([*self.config.env_specs, spec]))
        return spec.id

    def remove_env(self, env_id: str) -> None:
        """Train on this environment no more. Its statistics are dropped; those of the others stay.

        Raises:
            ValueError: There is none of that id, or it is the last one. Nothing has changed then.
        """
        known = [spec.id for spec in self.config.env_specs]
        if env_id not in known:
            raise ValueError(f"remove_env: there is no environment {env_id!r}; there are {', '.join(known)}.")
        if len(known) == 1:
            raise ValueError(f"remove_env: {env_id!r} is the only environment.")
        self._change_environments(
            self.config.with_environments([spec for spec in self.config.env_specs if spec.id != env_id])
        )

    def _change_environments(self, config: Any) -> None:
        before, after = ({spec.id for spec in c.env_specs} for c in (self.config, config))
        self._departed = (self._departed | before) - after
        self._environments_changed |= before != after
        self.config = config
        self.evaluation_config = config.get_evaluation_config_object()
        self.evaluation_config.validate()
        self.evaluation_config.freeze()
        reference = ray.put(config) if self.learner_group.is_remote else None
        learners = self.learner_group.foreach_learner(
            lambda learner: learner.change_environments(config if reference is None else ray.get(reference))
        )
        for result in learners:
            if not result.ok:
                raise result.get()
        self.env_runner.change_environments(config)
        self._send_to_runners()
        if self.eval_env_runner_group is not None:
            self.eval_env_runner_group.foreach_env_runner(partial(_change_environments, config=self.evaluation_config))

    def restore_env_runners(self, env_runner_group: EnvRunnerGroup) -> list[int]:
        """Bring runners that died and were restarted up to date: environments, weights, statistics.

        It looks whether they are back, and does not wait for them unless no other is left.
        """
        if env_runner_group is not self.env_runner_group:
            return super().restore_env_runners(env_runner_group)
        healthy = env_runner_group.num_healthy_remote_workers()
        timeout_s = RESTART_PROBE_S if healthy else self.config.env_runner_health_probe_timeout_s
        restored = env_runner_group.probe_unhealthy_env_runners(timeout_seconds=timeout_s)
        if restored:
            logger.warning("Env runners %s are back.", restored)
            self._send_to_runners(restored)
        return restored

    # Starting from an agent

    def _initialize_from(self, path: str) -> None:
        """Take over weights and statistics; the configuration has checked already that they fit."""
        checkpoint = read_checkpoint(path)
        fresh = self._module_state()
        weights = shrink_and_perturb(
            self._initial_weights(checkpoint, fresh),
            fresh,
            share=self.config.initial_shrink,
            whole=self.config.frozen_parts,
        )
        self.learner_group.set_weights({SHARED_MODULE: weights})
        known = checkpoint.known_among(self.config.space_specs)
        new = self._moments_of_new([env_id for env_id in self.config.space_specs if env_id not in known])
        for piece in self.env_runner.statistics:
            is_reward = isinstance(piece, RewardScale)
            moments = checkpoint.reward_moments if is_reward else checkpoint.obs_moments
            piece.start_from(
                {env_id: m for env_id, m in moments.items() if env_id in known}
                | {env_id: returns if is_reward else obs for env_id, (obs, returns) in new.items()}
            )
        self._send_to_runners()

    def _moments_of_new(self, env_ids: Sequence[str]) -> dict[str, tuple[Moments, Moments]]:
        """Statistics of observations and returns with which environments begin that the agent does not know."""
        return {}

    def _initial_weights(self, checkpoint: AgentCheckpoint, state: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """What of a checkpoint this algorithm starts with, by the names of the shared module, whose state is given."""
        specs, path = self.config.space_specs, self.config.initial_checkpoint
        found = transferred_state(checkpoint, part_of(state, "network"), specs, path)
        reset = self.config.reset_parts
        return {f"network.{name}": tensor.numpy() for name, tensor in found.items() if not is_in_parts(name, reset)}

    def send_weights(self) -> None:
        """Send the learner's weights to the runners after an update; remote ones are not waited for."""
        with self.metrics.log_time((TIMERS, SYNCH_WORKER_WEIGHTS_TIMER)):
            if self.env_runner_group.num_remote_env_runners() == 0:
                self._send_to_runners()  # without a copy in the object store
            else:
                self.env_runner_group.sync_weights(from_worker_or_learner_group=self.learner_group, inference_only=True)

    def _send_to_runners(self, workers: list[int] | None = None) -> None:
        """Give runners the environments, the learner's weights and the local runner's statistics; wait for them.

        RLlib's synchronisation does not wait, and drops messages to a runner that has not answered the last one.

        Args:
            workers: Indices of the remote runners; all of them where not given.
        """
        state = self.learner_group.get_state(
            components=f"{COMPONENT_LEARNER}/{COMPONENT_RL_MODULE}", inference_only=True
        )[COMPONENT_LEARNER]
        weights = {key: state[key] for key in (COMPONENT_RL_MODULE, WEIGHTS_SEQ_NO)}
        if self.env_runner_group.num_remote_env_runners() == 0:
            self.env_runner.set_state(weights)
            return
        statistics = [piece.merge_states([piece.get_state()]) for piece in self.env_runner.statistics]
        reference = ray.put((self.config, weights, statistics))

        def take_over(runner: Any) -> None:
            config, weights, statistics = ray.get(reference)
            known = (runner.config.env_specs, runner.config.space_specs)
            if known != (config.env_specs, config.space_specs):
                runner.change_environments(config)
            runner.set_state(weights)
            for piece, state in zip(runner.statistics, statistics, strict=True):
                piece.set_state(state)

        self.env_runner_group.foreach_env_runner(
            take_over, remote_worker_ids=workers, timeout_seconds=self.config.env_runner_restore_timeout_s
        )

    # Evaluation

    def evaluate(self, parallel_train_future: Any = None) -> Any:
        """Evaluate on separate copies of the environments; training does not change."""
        if self.eval_env_runner_group is None:
            self.eval_env_runner_group = EnvRunnerGroup(
                env_creator=self.env_creator,
                validate_env=None,
                default_policy_class=None,
                config=self.evaluation_config,
                logdir=self.logdir,
                tune_trial_id=self.trial_id,
                local_env_runner=True,
                pg_offset=self.config.num_env_runners,
            )
        results = super().evaluate(parallel_train_future)
        sampled = results.get(ENV_RUNNER_RESULTS, {})
        # Of several runners, RLlib gives the mean of their means, whatever numbers of episodes they had.
        sampled.get(MODULE_EPISODE_RETURN_MEAN, {}).update(
            {env_id: float(np.mean(values)) for env_id, values in sampled.get(EPISODE_RETURNS, {}).items()}
        )
        add_aggregates(sampled)
        if self.config.adaptation is not None:
            sampled[ADAPTATION_RETURN_MEAN] = {
                env_id: {str(number): mean.value for number, mean in enumerate(result.means, 1)}
                for env_id, result in self.adapt(**self.config.adaptation).items()
            }
        drop_keys(results, self._departed)
        return results

    def adapt(self, env: Any = None, **options: Any) -> dict[str, AdaptationResult]:
        """Let the agent adapt to tasks of families, in this process; training does not change.

        Args:
            env: A task family, or several: env ids or specifications; None: those of the run.
            options: Those of :meth:`rllib_multienv.agent.MultiEnvAgent.adapt`: ``split``, ``num_tasks``, ``episodes``,
                ``explore``, ``seed``, ``inner_loop``.

        Returns:
            Returns per task and episode, by env id.

        Raises:
            ValueError: There is no task family, or an option is wrong.
        """
        with global_random_state_kept():
            agent = MultiEnvAgent(self.agent_checkpoint())
            envs = agent.families if env is None else env if isinstance(env, list | tuple) else [env]
            if not envs:
                raise ValueError(f"adapt: none of the environments is a task family: {', '.join(agent.env_specs)}.")
            return {agent.add_env(one): agent.adapt(one, **options) for one in envs}

    def _before_evaluate(self) -> None:
        """Give the local evaluation runner the statistics of training (RLlib gives them to remote ones only).

        Before that, remote ones finish what is left over from an evaluation in parallel with training: RLlib would
        count its results as new ones of the old agent, and drop weights while many requests are unanswered.
        """
        super()._before_evaluate()
        group = self.eval_env_runner_group
        deadline = time.monotonic() + self.config.evaluation_sample_timeout_s
        while group is not None and group.num_in_flight_async_reqs() and time.monotonic() < deadline:
            group.fetch_ready_async_reqs(timeout_seconds=1.0)
        if self.eval_env_runner is not None:
            self.eval_env_runner.set_state(self.env_runner.get_state(components=[COMPONENT_ENV_TO_MODULE_CONNECTOR]))

    # Results

    def _compile_iteration_results(self, *, train_results: Any, eval_results: Any) -> Any:
        """RLlib's results, with the average, median and worst over environments, and only new evaluations."""
        # RLlib's logger has the last evaluation once more in the next iteration, and NaN after that.
        train_results.pop(EVALUATION_RESULTS, None)
        results = super()._compile_iteration_results(train_results=train_results, eval_results=eval_results)
        add_aggregates(results.get(ENV_RUNNER_RESULTS, {}))
        add_aggregates(results.get(EVALUATION_RESULTS, {}).get(ENV_RUNNER_RESULTS, {}))
        drop_keys(results, self._departed)
        drop_unmeasured(results)
        return results


def _change_environments(runner: Any, config: Any) -> None:
    runner.change_environments(config)
