"""What all algorithms share: the agent's own checkpoint files, start from an agent, evaluation, aggregate metrics."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.fs
import torch
from ray.rllib.algorithms.algorithm import Algorithm
from ray.rllib.core import (
    COMPONENT_ENV_TO_MODULE_CONNECTOR,
    COMPONENT_LEARNER,
    COMPONENT_RL_MODULE,
)
from ray.rllib.env.env_runner_group import EnvRunnerGroup
from ray.rllib.utils.metrics import ENV_RUNNER_RESULTS, EVALUATION_RESULTS

from rllib_multienv.checkpoints import AgentCheckpoint, read_checkpoint
from rllib_multienv.connectors import NormalizeObservations, RewardScale
from rllib_multienv.env_runners.episode_metrics import EPISODE_RETURNS, MODULE_EPISODE_RETURN_MEAN
from rllib_multienv.modules import SHARED_MODULE
from rllib_multienv.normalization import Moments
from rllib_multienv.threads import use_assigned_cpus

MODULE_EPISODE_RETURN_STD = "module_episode_return_std"


class MultiEnvAlgorithm(Algorithm):
    """Base of the algorithms of this package."""

    eval_env_runner_group: EnvRunnerGroup | None

    def setup(self, config: Any) -> None:
        """Build everything; start from another agent's weights where the configuration says so."""
        use_assigned_cpus()
        super().setup(config)
        if self.config.initial_checkpoint is not None:
            self._initialize_from(self.config.initial_checkpoint)

    # Starting from an agent

    def _initialize_from(self, path: str) -> None:
        checkpoint = read_checkpoint(path)
        self._check_network(checkpoint, path)
        weights = {name: tensor.numpy() for name, tensor in (checkpoint.weights or {}).items()}
        own = self._network_state()
        if own.keys() != weights.keys() or any(own[name].shape != weights[name].shape for name in own):
            differing = sorted(own.keys() ^ weights.keys()) or [n for n in own if own[n].shape != weights[n].shape]
            raise ValueError(
                f"initialize_from({path!r}): the network there does not fit, for instance at {differing[0]!r}. A "
                "network with parameters of single environments cannot be carried over to others."
            )
        module_state = {SHARED_MODULE: {f"network.{name}": array for name, array in weights.items()}}
        self.learner_group.foreach_learner(lambda learner: learner.module.set_state(module_state))
        self.env_runner_group.sync_weights(from_worker_or_learner_group=self.learner_group, inference_only=True)
        self._take_over_statistics(checkpoint)

    def _check_network(self, checkpoint: AgentCheckpoint, path: str) -> None:
        mine, theirs = self.config.network_config.to_dict(), checkpoint.network.to_dict()
        for name in mine.keys() | theirs.keys():
            if name != "dropout" and mine.get(name) != theirs.get(name):
                raise ValueError(
                    f"Checkpoint {path!r} has another network: {name}={theirs.get(name)!r} there, {mine.get(name)!r} "
                    f"in this configuration. Use rl_module(model_config={theirs!r})."
                )

    def _take_over_statistics(self, checkpoint: AgentCheckpoint) -> None:
        runner = self.env_runner
        for connector in runner._env_to_module.connectors:
            if isinstance(connector, NormalizeObservations):
                connector.set_state(_as_base(checkpoint.obs_moments, self.config.space_specs, checkpoint.space_specs))
            elif isinstance(connector, RewardScale):
                connector.set_state(
                    _as_base(checkpoint.reward_moments, self.config.space_specs, checkpoint.space_specs)
                )
        state = runner.get_state(components=[COMPONENT_ENV_TO_MODULE_CONNECTOR])
        self.env_runner_group.foreach_env_runner(lambda r: r.set_state(state), local_env_runner=False)

    def _network_state(self) -> dict[str, np.ndarray]:
        """The whole network's state dict, as arrays."""
        state = self.learner_group.get_state(components=f"{COMPONENT_LEARNER}/{COMPONENT_RL_MODULE}")
        shared = state[COMPONENT_LEARNER][COMPONENT_RL_MODULE][SHARED_MODULE]
        return {name.removeprefix("network."): array for name, array in shared.items()}

    # Checkpoints

    def agent_checkpoint(self) -> AgentCheckpoint:
        """The agent as it stands."""
        moments: dict[type, dict[str, Moments]] = {NormalizeObservations: {}, RewardScale: {}}
        for connector in self.env_runner._env_to_module.connectors:
            if type(connector) in moments:
                moments[type(connector)] = {e: n.moments.total() for e, n in connector.normalizers.items()}
        return AgentCheckpoint(
            space_specs=self.config.space_specs,
            env_specs={spec.id: spec for spec in self.config.env_specs},
            network=self.config.network_config,
            obs_moments=moments[NormalizeObservations],
            reward_moments=moments[RewardScale],
            weights={name: torch.as_tensor(np.array(array)) for name, array in self._network_state().items()},
        )

    def save_to_path(self, path: Any = None, *, state: Any = None, filesystem: Any = None, **kwargs: Any) -> str:
        """RLlib's checkpoint, and beside it the agent's own two files (see :mod:`rllib_multienv.checkpoints`)."""
        written = str(super().save_to_path(path, state=state, filesystem=filesystem, **kwargs))
        target = Path(path if filesystem is not None and path is not None else written)
        files = filesystem or pyarrow.fs.LocalFileSystem()
        for name, content in self.agent_checkpoint().to_files().items():
            with files.open_output_stream((target / name).as_posix()) as stream:
                stream.write(content)
        return written

    def restore_from_path(self, path: Any, *args: Any, **kwargs: Any) -> None:
        """Restore; refuses a folder that is no checkpoint, or one of another network, before anything is changed."""
        if not args and not kwargs.get("filesystem") and not kwargs.get("component"):
            self._check_network(read_checkpoint(path, weights=False), str(path))
        super().restore_from_path(path, *args, **kwargs)

    @classmethod
    def from_checkpoint(cls, path: Any, filesystem: Any = None, **kwargs: Any) -> Any:
        """Build the algorithm that a checkpoint holds and restore it."""
        if filesystem is None:
            read_checkpoint(path, weights=False)
            path = str(Path(path).absolute())
        return super().from_checkpoint(path, filesystem, **kwargs)

    def get_ctor_args_and_kwargs(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """RLlib's, without the agent that this run began from: its checkpoint may be gone by then."""
        (config,), kwargs = super().get_ctor_args_and_kwargs()
        return ({**config, "initial_checkpoint": None},), kwargs

    # Evaluation

    def evaluate(self, parallel_train_future: Any = None) -> Any:
        """Evaluate on environments of their own, which training never sees: nothing of it changes."""
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
        _add_aggregates(results.get(ENV_RUNNER_RESULTS, {}))
        return results

    def _before_evaluate(self) -> None:
        """Give the local evaluation runner the statistics of training (RLlib gives them to remote ones only)."""
        super()._before_evaluate()
        if self.eval_env_runner is not None:
            self.eval_env_runner.set_state(self.env_runner.get_state(components=[COMPONENT_ENV_TO_MODULE_CONNECTOR]))

    # Results

    def _compile_iteration_results(self, *, train_results: Any, eval_results: Any) -> Any:
        """RLlib's results, with the average, median and worst over environments."""
        results = super()._compile_iteration_results(train_results=train_results, eval_results=eval_results)
        _add_aggregates(results.get(ENV_RUNNER_RESULTS, {}))
        _add_aggregates(results.get(EVALUATION_RESULTS, {}).get(ENV_RUNNER_RESULTS, {}))
        return results


def _as_base(moments: Any, own: Any, theirs: Any) -> dict[str, Any]:
    """Connector state with ``moments`` as base, for environments known by id whose sizes are the same."""
    return {
        env_id: {"base": m.to_dict(), "delta": Moments.empty(len(m.mean)).to_dict()}
        for env_id, m in moments.items()
        if env_id in own and own[env_id].obs_size == theirs[env_id].obs_size
    }


def _add_aggregates(results: Any) -> None:
    """Add, in place, what is taken over environments (returns) and over episodes (standard deviation)."""
    means = [float(v) for v in results.get(MODULE_EPISODE_RETURN_MEAN, {}).values() if np.isfinite(v)]
    if means:
        results["episode_return_average"] = float(np.mean(means))
        results["episode_return_median"] = float(np.median(means))
        results["episode_return_worst"] = float(np.min(means))
    returns = results.get(EPISODE_RETURNS, {})
    if returns:
        results[MODULE_EPISODE_RETURN_STD] = {
            env_id: float(np.std(values)) for env_id, values in returns.items() if np.size(values)
        }
