"""Base of all algorithms: checkpoints of the agent, start from an agent, environments that come and go, evaluation."""

from __future__ import annotations

import logging
import tempfile
import time
import uuid
from collections.abc import Container, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.fs
import ray
import torch
from ray.rllib.algorithms.algorithm import Algorithm
from ray.rllib.algorithms.utils import _get_env_runner_bundles, _get_learner_bundles
from ray.rllib.core import (
    COMPONENT_ENV_TO_MODULE_CONNECTOR,
    COMPONENT_LEARNER,
    COMPONENT_RL_MODULE,
)
from ray.rllib.env.env_runner_group import EnvRunnerGroup
from ray.rllib.utils.metrics import (
    ENV_RUNNER_RESULTS,
    EVALUATION_RESULTS,
    SYNCH_WORKER_WEIGHTS_TIMER,
    TIMERS,
    WEIGHTS_SEQ_NO,
)

from rllib_multienv.agent import MultiEnvAgent
from rllib_multienv.atomic_files import atomic_folder, upload_sealed
from rllib_multienv.checkpoints import (
    DESCRIPTION_FILE,
    AgentCheckpoint,
    check_complete,
    check_network_config,
    listed_files,
    read_checkpoint,
)
from rllib_multienv.connectors import NormalizeObservations, RewardScale
from rllib_multienv.env_runners.multi_env_runner import global_random_state_kept
from rllib_multienv.evaluation.adaptation import AdaptationResult
from rllib_multienv.metrics import (
    ADAPTATION_RETURN_MEAN,
    EPISODE_RETURN_AVERAGE,
    EPISODE_RETURN_MEDIAN,
    EPISODE_RETURN_WORST,
    EPISODE_RETURNS,
    GRADIENT_COSINE,
    MODULE_EPISODE_RETURN_MEAN,
    MODULE_EPISODE_RETURN_STD,
)
from rllib_multienv.modules import SHARED_MODULE
from rllib_multienv.nets import is_in_parts
from rllib_multienv.normalization import Moments
from rllib_multienv.process import set_threads
from rllib_multienv.spec import resolve_env_specs
from rllib_multienv.transfer import shrink_and_perturb, transferred_state

logger = logging.getLogger("ray.rllib")

#: Every iteration, so long is waited for the answers of runners that died.
RESTART_PROBE_S = 0.25
#: How long a runner may take to start that is to show why others did not.
RUNNER_START_S = 60.0


class MultiEnvAlgorithm(Algorithm):
    """Base of the algorithms of this package."""

    config: Any
    evaluation_config: Any
    eval_env_runner_group: EnvRunnerGroup | None

    def setup(self, config: Any) -> None:
        """Build everything; start from another agent's weights where the configuration says so."""
        set_threads()
        self._environments_changed = False
        self._departed: set[str] = set()
        self._wait_for_resources(config)
        try:
            super().setup(config)
        except IndexError as error:  # RLlib asks the first of its runners, and there is none
            raise RuntimeError(f"No env runner could be started. {_runner_failure(config)}") from error
        self.learner_nodes: list[str] = []
        if self.learner_group.is_remote:
            nodes = self.learner_group.foreach_learner(lambda _: ray.get_runtime_context().get_node_id())
            self.learner_nodes = [node.get() for node in nodes]
        if self.config.initial_checkpoint is not None:
            self._initialize_from(self.config.initial_checkpoint)

    def _wait_for_resources(self, config: Any) -> None:
        needed: dict[str, float] = {}
        for bundle in [*_get_env_runner_bundles(config), *_get_learner_bundles(config)]:
            for name, amount in bundle.items():
                needed[name] = needed.get(name, 0.0) + amount
        wait_for_resources(
            {name: amount for name, amount in needed.items() if amount},
            timeout_s=config.worker_startup_timeout_s,
            what=f"{config.num_env_runners} env runners and {config.num_learners} learners",
        )

    # Environments that come and go

    def add_env(self, env: Any) -> str:
        """Train on one more environment from the next iteration on.

        Everything else continues: no worker is restarted, no episode cut, no statistics are lost.

        Args:
            env: A Gymnasium id, an :class:`~rllib_multienv.spec.EnvSpec`, or a mapping of its fields.

        Returns:
            Its env id.

        Raises:
            ValueError: There is one of that id already, or the network cannot take it. Nothing has changed then.
        """
        (spec,) = resolve_env_specs([env])
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

    def _module_state(self) -> dict[str, np.ndarray]:
        """The shared module's whole state dict, as arrays."""
        state = self.learner_group.get_state(components=f"{COMPONENT_LEARNER}/{COMPONENT_RL_MODULE}")
        return state[COMPONENT_LEARNER][COMPONENT_RL_MODULE][SHARED_MODULE]

    # Checkpoints

    def agent_checkpoint(self) -> AgentCheckpoint:
        """The agent as it stands."""
        return self._describe(self._module_state())

    def _describe(self, state: Mapping[str, np.ndarray]) -> AgentCheckpoint:
        """The agent whose shared module has this state dict."""
        moments: dict[type, dict[str, Moments]] = {NormalizeObservations: {}, RewardScale: {}}
        for piece in self.env_runner.statistics:
            moments[type(piece)] = {env_id: shared.total() for env_id, shared in piece.moments().items()}
        return AgentCheckpoint(
            space_specs=self.config.space_specs,
            env_specs={spec.id: spec for spec in self.config.env_specs},
            network=self.config.network_config,
            obs_moments=moments[NormalizeObservations],
            reward_moments=moments[RewardScale],
            weights=part_of(state, "network"),
            environments_changed=self._environments_changed,
            adapter=self.config.adapter,
        )

    def save_to_path(self, path: Any = None, *, state: Any = None, filesystem: Any = None, **kwargs: Any) -> str:
        """RLlib's checkpoint, and beside it the agent's own two files (see :mod:`rllib_multienv.checkpoints`).

        On this machine the checkpoint is written whole or not at all: killed at any moment, an earlier checkpoint at
        ``path`` or the new one is there, complete (:func:`rllib_multienv.atomic_files.atomic_folder` names the file
        systems that cannot promise that). Other files in the folder ``path`` stay.

        In another file system the earlier checkpoint is lost once the upload begins. ``multienv.json`` is removed
        first and written last, so that a folder that is not complete is refused by all that read checkpoints. To keep
        the earlier one until then, give every checkpoint its own path.

        Args:
            path: A folder, a URI, or a ``ray.train.Checkpoint``; where not given, a new temporary folder.
            state: See ``Checkpointable.save_to_path``.
            filesystem: Where ``path`` is, if neither local nor told by a URI.
            kwargs: See ``Checkpointable.save_to_path``.

        Returns:
            The folder.

        Raises:
            NotADirectoryError: There is a file at ``path``.
        """
        path, filesystem = _locate(path, filesystem)
        path = path or str(Path(tempfile.gettempdir(), str(uuid.uuid4())))
        if filesystem is None:
            with atomic_folder(path, seal=DESCRIPTION_FILE, known=listed_files(path)) as folder:
                self._write_checkpoint(folder, state, kwargs)
        else:
            with tempfile.TemporaryDirectory() as local:
                self._write_checkpoint(Path(local), state, kwargs)
                upload_sealed(Path(local), filesystem, path, seal=DESCRIPTION_FILE)
        return path

    def _write_checkpoint(self, folder: Path, state: Any, kwargs: dict[str, Any]) -> None:
        super().save_to_path(str(folder), state=state, **kwargs)
        training = {"training_iteration": self.training_iteration, "time_total_s": self._time_total}
        self.agent_checkpoint().write(folder, training=training)

    def restore_from_path(self, path: Any, *args: Any, filesystem: Any = None, **kwargs: Any) -> None:
        """Restore everything.

        Raises:
            FileNotFoundError: There is no such folder.
            ValueError: It is no checkpoint of this package, an incomplete one, or one of another network or of other
                environments. The algorithm is as it was before.
        """
        path, filesystem = _locate(path, filesystem)
        if not kwargs.get("component"):
            check_complete(path, filesystem)
            checkpoint = read_checkpoint(path, weights=False, filesystem=filesystem)
            check_network_config(checkpoint, self.config.network_config, path)
            self._check_environments(checkpoint, path)
        super().restore_from_path(path, *args, filesystem=filesystem, **kwargs)
        self._send_to_runners()

    def _check_environments(self, checkpoint: AgentCheckpoint, path: Any) -> None:
        own, theirs = self.config.space_specs, checkpoint.space_specs
        if checkpoint.environments_changed and checkpoint.env_specs.keys() == theirs.keys() != own.keys():
            # The run was begun with the environments of this configuration, and its checkpoint has those of later.
            self._change_environments(self.config.with_environments(list(checkpoint.env_specs.values())))
            own = self.config.space_specs
        for env_id in [*theirs, *own]:
            if env_id not in own or env_id not in theirs or not own[env_id].has_spaces_of(theirs[env_id]):
                raise ValueError(
                    f"Checkpoint {str(path)!r} is of other environments than this run, for instance {env_id!r}; there: "
                    f"{', '.join(theirs)}. To start from its agent, build a new algorithm with "
                    "config.initialize_from(path)."
                )
            ours, there = own[env_id].description, theirs[env_id].description
            if ours != there:
                raise ValueError(
                    f"Checkpoint {str(path)!r} describes {env_id!r} to the network as {there!r}, this run as {ours!r}. "
                    f"Write EnvSpec({env_id!r}, ..., description={there!r})."
                )
        # Measured descriptions are part of the agent, also where this machine would measure otherwise.
        measured = {
            env_id: replace(spec, obs_measured=there.obs_measured, action_measured=there.action_measured)
            for env_id, spec in own.items()
            for there in (theirs[env_id],)
        }
        if measured != own:
            config = self.config.copy(copy_frozen=False)
            config.space_specs = measured
            config.freeze()
            self._change_environments(config)

    @classmethod
    def from_checkpoint(cls, path: Any, filesystem: Any = None, **kwargs: Any) -> Any:
        """Build the algorithm that a checkpoint holds and restore it.

        Args:
            path: A folder, a URI, or a ``ray.train.Checkpoint``.
            filesystem: Where ``path`` is, if neither local nor told by a URI.
            kwargs: See ``Algorithm.from_checkpoint``.

        Raises:
            FileNotFoundError: There is no such folder.
            ValueError: It is no checkpoint of this package, or an incomplete one.
        """
        path, filesystem = _locate(path, filesystem)
        check_complete(path, filesystem)
        return super().from_checkpoint(path, filesystem, **kwargs)

    def get_ctor_args_and_kwargs(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """RLlib's, without the agent that this run began from: its checkpoint may have been deleted by then."""
        (config,), kwargs = super().get_ctor_args_and_kwargs()
        return ({**config, "initial_checkpoint": None},), kwargs

    def get_state(self, *args: Any, **kwargs: Any) -> Any:
        """RLlib's, and the environments that were removed."""
        return {**super().get_state(*args, **kwargs), "departed": sorted(self._departed)}

    def set_state(self, state: Any) -> None:
        """Take over a saved state."""
        super().set_state(state)
        self._departed = {*state.get("departed", ())} - {spec.id for spec in self.config.env_specs}

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
                ``explore``, ``seed``.

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
        """RLlib's results, with the average, median and worst over environments."""
        results = super()._compile_iteration_results(train_results=train_results, eval_results=eval_results)
        add_aggregates(results.get(ENV_RUNNER_RESULTS, {}))
        add_aggregates(results.get(EVALUATION_RESULTS, {}).get(ENV_RUNNER_RESULTS, {}))
        drop_keys(results, self._departed)
        drop_unmeasured(results)
        return results


def part_of(state: Mapping[str, np.ndarray], part: str) -> dict[str, torch.Tensor]:
    """The state dict of a child, from that of its parent."""
    return {
        name.removeprefix(f"{part}."): torch.as_tensor(np.array(array))
        for name, array in state.items()
        if name.startswith(f"{part}.")
    }


def _change_environments(runner: Any, config: Any) -> None:
    runner.change_environments(config)


def _runner_failure(config: Any) -> str:
    """Start one more runner, to learn why none could be started."""
    actor: Any = ray.remote(num_cpus=0)(config.env_runner_cls)
    try:
        runner = actor.remote(config=config, worker_index=1, num_workers=config.num_env_runners)
        ray.get(runner.assert_healthy.remote(), timeout=RUNNER_START_S)
    except Exception as error:
        return str(error)
    return "One that was started afterwards works; the log has what went wrong before."


def _locate(path: Any, filesystem: Any) -> tuple[str | None, Any]:
    """Where a checkpoint is: an absolute local path and no file system, or a path in a file system."""
    if path is None:
        return None, filesystem
    if filesystem is None and hasattr(path, "filesystem"):  # a ray.train.Checkpoint
        path, filesystem = path.path, path.filesystem
    elif filesystem is None and "://" in str(path):
        filesystem, path = pyarrow.fs.FileSystem.from_uri(str(path))
    if filesystem is None or isinstance(filesystem, pyarrow.fs.LocalFileSystem):
        return str(Path(path).absolute()), None
    return str(path), filesystem


def drop_keys(results: Any, keys: Container[str]) -> None:
    """Remove keys, in place, at any depth: RLlib reports for ever what was reported once."""
    for key, value in list(results.items()):
        if key in keys:
            del results[key]
        elif isinstance(value, dict):
            drop_keys(value, keys)


def drop_unmeasured(results: Any, below: bool = False) -> None:
    """Remove, in place, gradient cosines that were not measured in this iteration, which RLlib reports as NaN."""
    for key, value in list(results.items()):
        if isinstance(value, dict):
            drop_unmeasured(value, below or key == GRADIENT_COSINE)
            if key == GRADIENT_COSINE and not value:
                del results[key]
        elif (below or key == GRADIENT_COSINE) and isinstance(value, float | np.floating) and np.isnan(value):
            del results[key]


def add_aggregates(results: Any) -> None:
    """Add, in place, aggregates of returns over environments, and standard deviations over episodes."""
    means = [float(v) for v in results.get(MODULE_EPISODE_RETURN_MEAN, {}).values() if np.isfinite(v)]
    if means:
        results[EPISODE_RETURN_AVERAGE] = float(np.mean(means))
        results[EPISODE_RETURN_MEDIAN] = float(np.median(means))
        results[EPISODE_RETURN_WORST] = float(np.min(means))
    returns = results.get(EPISODE_RETURNS, {})
    if returns:
        results[MODULE_EPISODE_RETURN_STD] = {
            env_id: float(np.std(values)) for env_id, values in returns.items() if np.size(values)
        }


def wait_for_resources(needed: dict[str, float], *, timeout_s: float, what: str) -> None:
    """Wait until the cluster has these resources free.

    Without them Ray would let the workers wait forever, and the driver with them. In a placement group (a Tune
    trial has one) they are reserved already.

    Args:
        needed: By name, such as ``{"CPU": 3}``.
        timeout_s: How long to wait for an earlier run to release them, or for the cluster to grow.
        what: For whom, in words.

    Raises:
        RuntimeError: They did not come free in time.
    """
    if not ray.is_initialized() or ray.util.get_current_placement_group() is not None:
        return
    deadline = time.monotonic() + timeout_s
    while missing := _missing(needed):
        if time.monotonic() > deadline:
            total = ray.cluster_resources()
            raise RuntimeError(
                f"Waited {timeout_s:g} s for the resources of {what}, but "
                + "; ".join(
                    f"{needed[name]:g} {name} are needed and {free:g} of {total.get(name, 0.0):g} are free"
                    for name, free in missing.items()
                )
                + ". Ask for fewer workers, or give Ray more (ray.init(num_cpus=...), a larger cluster)."
            )
        time.sleep(0.1)


def _missing(needed: dict[str, float]) -> dict[str, float]:
    """What is free of those resources of which too little is."""
    free: dict[str, Any] = ray.available_resources()
    return {name: free.get(name, 0.0) for name, n in needed.items() if free.get(name, 0.0) < n - 1e-6}
