"""Configuration that all algorithms share: environments, network, workers, evaluation, reports."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from ray.rllib.core.rl_module.multi_rl_module import MultiRLModuleSpec
from ray.rllib.policy.policy import PolicySpec

from rllib_multienv.agent import MultiEnvAgent
from rllib_multienv.algorithms.connector_pipelines import ConnectorPipelinesMixin
from rllib_multienv.algorithms.settings import (
    Attribute,
    Converted,
    Count,
    CountOrZero,
    Fraction,
    LearningRate,
    NonNegative,
    PerEnvironment,
    Positive,
    PositiveFraction,
    SettingsMixin,
    settings,
)
from rllib_multienv.checkpoints import BY_MEMORY, find_checkpoint, read_checkpoint
from rllib_multienv.env_runners import MultiEnvRunner
from rllib_multienv.env_runners.episodes import refuse_step_callbacks
from rllib_multienv.envs.measure import with_measurements
from rllib_multienv.envs.vector import probe_roles, resolve_backend
from rllib_multienv.evaluation.adaptation import check_adaptation
from rllib_multienv.experience.registry import registered_envs, select
from rllib_multienv.experience.schedule import check_env_ids, make_schedule
from rllib_multienv.gym_ids import did_you_mean
from rllib_multienv.learners import MultiEnvLearnerGroup
from rllib_multienv.learners.combine import make_combiner
from rllib_multienv.modules import SharedModule, multi_env_module_spec
from rllib_multienv.nets import AgnosticNetConfig, NetConfig, net_config_from_dict
from rllib_multienv.opponents import RANDOM
from rllib_multienv.spec import EnvSpec, SpaceSpec, resolve_env_specs
from rllib_multienv.transfer import check_transfer
from rllib_multienv.worlds import join_worlds, resolve_worlds


def network_config(value: Any) -> NetConfig:
    """The network configuration that a user's ``model_config`` stands for.

    Raises:
        ValueError: Its type or one of its fields is unknown.
        TypeError: It is neither a configuration nor a mapping.
    """
    if value is None or value == {}:
        return AgnosticNetConfig()
    if isinstance(value, NetConfig):
        return value
    if isinstance(value, Mapping):
        return net_config_from_dict({"type": AgnosticNetConfig.type, **value})
    raise TypeError(
        "model_config must be a network configuration such as AgnosticNetConfig or GeneratedNetConfig, or a mapping "
        f"of their fields, not {value!r}."
    )


def _model_config(value: Any) -> Any:
    network_config(value)
    return value


class _Stream(tuple[EnvSpec, ...]):
    """The environments of an `AEEnv`, with its tags and schedule."""

    settings: dict[str, Any]


def _environments(value: Any) -> Any:
    if hasattr(value, "training_settings"):  # an AEEnv
        own = value.training_settings()
        stream = _Stream(resolve_env_specs(own.pop("envs")))
        stream.settings = own
        return stream
    return resolve_env_specs(value) if value or not isinstance(value, list | tuple) else ()


def _checkpoint(value: Any) -> str | None:
    if value is None:
        return None
    path = find_checkpoint(value).absolute()
    read_checkpoint(path, weights=False)
    return str(path)


def _opponents(value: Any) -> tuple[str, ...]:
    names = (value,) if isinstance(value, str | Path) else tuple(value)
    return tuple(name if name == RANDOM else str(find_checkpoint(name).absolute()) for name in names)


def _adaptation(value: Any) -> dict[str, Any] | None:
    if value is None:
        return None
    known = list(inspect.signature(MultiEnvAgent.adapt).parameters)[1:]
    if not isinstance(value, Mapping):
        raise ValueError(f"adaptation={value!r}: must be a mapping of {', '.join(known)}, or None.")
    for key in value:
        if key not in known:
            raise ValueError(f"adaptation={dict(value)!r}: unknown key {key!r}.{did_you_mean(str(key), known)}")
    check_adaptation(**{key: item for key, item in value.items() if key != "env"})
    return dict(value)


def _training_opponents(value: Any) -> Any:
    for kind in value.values() if isinstance(value, Mapping) else (value,):
        if kind not in OPPONENT_KINDS:
            raise ValueError(f"opponents={kind!r}: must be one of {', '.join(OPPONENT_KINDS)}, or these by env id.")
    return value


def strings(value: Any) -> tuple[str, ...]:
    """One or more strings as a tuple."""
    return (value,) if isinstance(value, str) else tuple(value)


def _schedule(value: Any) -> Any:
    make_schedule(value)
    return value


def _gradient_combiner(value: Any) -> Any:
    make_combiner(value)
    return value


#: Who may play the other seats of games while training.
OPPONENT_KINDS = ("self", "pool", "random")
_FRAGMENTS = "Set env_runners(rollout_fragment_length=..., num_envs_per_env_runner=...)."
_OLD = "It belongs to RLlib's old API stack."
_OURS = "This package's connectors are always added; RLlib's expect episodes of one environment."


class MultiEnvConfigMixin(ConnectorPipelinesMixin, SettingsMixin):
    """Methods and checks of every algorithm's configuration; it comes before RLlib's class.

    Attributes:
        shared_module_class: The module that owns the parameters.
        space_specs: Spaces of the environments, by env id; :meth:`validate` fills it.
    """

    WIDER: ClassVar[frozenset[str]] = frozenset({"grad_clip_by"})
    NO_EFFECT: ClassVar[Mapping[str, Mapping[str, str]]] = {
        "callbacks": {"*offline*": "Agents are evaluated in environments."},
        "checkpointing": {"*": "It belongs to RLlib's old API stack; tune.CheckpointConfig says when to save."},
        "debugging": {"fake_sampler": _OLD},
        "environment": {
            "*": 'Environments are described by EnvSpec: environment(envs=[EnvSpec("CartPole-v1", ...)]).',
            "env": 'Write environment(envs=["CartPole-v1", ...]).',
            "env_config": "Give arguments to one environment: EnvSpec(..., kwargs={...}).",
            "clip_rewards": "Rewards are normalised by training(normalize_rewards=...).",
            "clip_actions normalize_actions": "Actions are always converted to the environments' action spaces.",
        },
        "env_runners": {
            "batch_mode": f"A fragment has a fixed number of time steps. {_FRAGMENTS}",
            "compress_observations episodes_to_numpy": "Fragments are arrays in Ray's object store.",
            "create_local_env_runner": "The local runner is always there: it keeps the merged statistics.",
            "*env_runner_state_server*": "The driver sends the states.",
            "episode_lookback_horizon": "Fragments have all that is needed of the time before them.",
            "gym_env_vectorize_mode": 'Choose for each environment: EnvSpec(..., backend="sync" or "async").',
            "observation_filter": "Set training(normalize_obs=...).",
            "add_default_connectors_*": _OURS,
            "enable_tf1_* exploration_config preprocessor_* remote_* sample_collector sampler_* *_filter_stats": _OLD,
        },
        "evaluation": {
            "off_policy_* ope_* *offline* dataset_*": "Agents are evaluated in environments: environment(envs=[...]).",
        },
        "framework": {
            "eager_*": "The framework is torch.",
            "torch_ddp_kwargs": "Gradients are summed without DistributedDataParallel.",
            "torch_skip_nan_gradients": "Steps whose gradient is not finite are always skipped and counted.",
        },
        "learners": {
            "add_default_connectors_*": _OURS,
            "max_requests_in_flight_per_learner": "Learners get one update at a time.",
            "*aggregator_actor*": "There are no aggregator actors.",
        },
        "multi_agent": {
            "*": "Every environment (or role of its agents) is a module already, with its env id: "
            "environment(envs=[...]). Settings of one environment: "
            "rl_module(algorithm_config_overrides_per_module={env_id: {...}}).",
        },
        "offline_data": {"*": "This algorithm samples from environments; MultiEnvIQL trains on data sets."},
        "reporting": {
            "log_gradients": "Set reporting(gradient_cosine_interval=...); the gradient's norm is always reported.",
            "keep_per_episode_custom_metrics metrics_episode_collection_timeout_s": _OLD,
        },
        "resources": {
            "_fake_gpus num_gpus": "Set learners(num_gpus_per_learner=...), env_runners(num_gpus_per_env_runner=...).",
        },
        "rl_module": {
            "rl_module_spec": "The module is always MultiEnvModule, which holds one network for all environments; "
            "choose the network: rl_module(model_config=...)."
        },
        "training": {
            "add_default_connectors_*": _OURS,
            "minibatch_size": "Set training(num_minibatches=...).",
            "model": "Choose the network: rl_module(model_config=...).",
            "optimizer": "Set training(lr=..., adam_epsilon=..., grad_clip=...).",
            "shuffle_batch_per_epoch": "Rows are always shuffled.",
            "train_batch_size*": _FRAGMENTS,
        },
    }

    #: Kinds of memory that networks may have (`NetConfig.memory`).
    memories: ClassVar[tuple[str, ...]] = ()
    #: Whether the algorithm trains worlds.
    trains_worlds: ClassVar[bool] = False
    shared_module_class: type[SharedModule] = SharedModule

    def __init__(self, algo_class: type | None = None) -> None:
        """Set all settings to their defaults.

        Args:
            algo_class: The algorithm that `build_algo` builds.
        """
        super().__init__(algo_class=algo_class)
        self.set_defaults()
        self.initial_network: NetConfig | None = None
        self.space_specs: dict[str, SpaceSpec] = {}
        self._read_from: Any = None
        self._probed: tuple[EnvSpec, ...] = ()
        self.env_runner_cls = MultiEnvRunner
        self._dont_auto_sync_env_runner_states = True  # see OnlineSampling.share_statistics
        # Ours are appended instead of RLlib's, which expect episodes.
        self.add_default_connectors_to_env_to_module_pipeline = False
        self.add_default_connectors_to_module_to_env_pipeline = False
        self.add_default_connectors_to_learner_pipeline = False

    # Settings

    @settings
    def environment(
        self,
        envs: Annotated[Any, Converted(_environments)] = (),
        *,
        worlds: Annotated[Any, Converted(resolve_worlds)] = {},  # noqa: B006 (copied for each configuration)
        on_nonfinite: Literal["raise", "drop"] = "raise",
        include: Annotated[Any, Converted(strings)] = (),
        exclude: Annotated[Any, Converted(strings)] = (),
        schedule: Annotated[Any, Converted(_schedule)] = None,
        **rllib: Any,
    ) -> None:
        """Set the environments.

        Args:
            envs: A list of Gymnasium ids, :class:`~rllib_multienv.spec.EnvSpec` objects, mappings of their fields, or
                environments such as a :class:`~rllib_multienv.envs.dataset.DatasetEnv`; or an
                :class:`~rllib_multienv.experience.AEEnv`, whose tags and ``next_env_fn`` are taken over. With tags and
                without ``envs``: all registered environments that these select.
            worlds: Environments that one policy sees at once (docs/worlds.md): a list of worlds or a mapping of names
                to worlds, each a list of environments or a :class:`~rllib_multienv.worlds.WorldSpec`. They are
                added to ``envs``; the network needs ``world_attention=True``.
            on_nonfinite: What to do with a NaN or infinite observation or reward: ``"raise"``, or ``"drop"`` the
                environment's fragment of that iteration, count it, and make the environment anew.
            include: Patterns of tags such as ``"domain:image"``: environments are sampled only where one matches. The
                others of ``envs`` are in the run, and ``algo.set_tags`` may include them later.
            exclude: Patterns of tags of environments that are not sampled.
            schedule: Which environments an iteration samples, and how much of each: a name (``"round_robin"``,
                ``"random"``, ``"learning_progress"``, ...), a mapping of ``type`` and arguments, a
                :class:`~rllib_multienv.experience.Schedule`, or a ``next_env_fn``. None: a whole fragment of each.
        """
        own = self.__dict__
        if isinstance(own["envs"], _Stream):
            own.update(own["envs"].settings, envs=tuple(own["envs"]))
        elif not own["envs"] and (own["include"] or own["exclude"]):
            own["envs"] = registered_envs(own["include"], own["exclude"])
        if own["worlds"]:
            own["envs"] = join_worlds(own["envs"], own["worlds"])

    @settings
    def rl_module(
        self,
        *,
        model_config: Annotated[Any, Converted(_model_config), Attribute("_model_config")] = None,
        **rllib: Any,
    ) -> None:
        """Set the network.

        Args:
            model_config: An :class:`~rllib_multienv.nets.AgnosticNetConfig` or
                :class:`~rllib_multienv.nets.GeneratedNetConfig`; for several environments also a
                :class:`~rllib_multienv.nets.SpecificNetConfig`, for one a :class:`~rllib_multienv.nets.SingleNetConfig`
                or :class:`~rllib_multienv.nets.MLPNetConfig`; or a mapping of their fields with ``type`` ``"agnostic"``
                (where not given), ``"generated"``, ``"specific"``, ``"single"``, ``"mlp"`` or another
                (docs/multitask.md). None: the network of the agent that :meth:`initialize_from` names, or
                ``AgnosticNetConfig()``.
        """

    @settings
    def training(
        self,
        *,
        lr: LearningRate | None = None,
        gamma: PerEnvironment[Fraction] = 0.99,
        grad_clip: Positive | None = None,
        grad_clip_by: Literal["global_norm", "environment", "environment_running"] = "global_norm",
        adam_epsilon: Positive = 1e-8,
        gradient_combiner: Annotated[Any, Converted(_gradient_combiner)] = "weighted_sum",
        combine_every: Count = 1,
        env_loss_weights: dict[str, NonNegative] = {},  # noqa: B006 (copied for each configuration)
        normalize_obs: bool = True,
        precision: Literal["float32", "bf16"] = "float32",
        **rllib: Any,
    ) -> None:
        """Set how to train.

        Args:
            lr: Learning rate of all parts that have none of their own: a number, or a schedule ``[[step, rate], ...]``.
            gamma: Discount factor.
            grad_clip: Largest norm of the gradient; None: any.
            grad_clip_by: Of which gradient that is the norm. ``"global_norm"``: of the combined one. ``"environment"``:
                of each environment's, actor and critic apart, before they are combined, which takes a forward and a
                backward for each environment. ``"environment_running"``: the same by running norms, which are measured
                in the first step of each update; all other steps keep their single backward.
            adam_epsilon: Adam's epsilon.
            gradient_combiner: How the gradients of environments become one: ``"weighted_sum"``, ``"pcgrad"`` or another
                name (docs/multitask.md); a mapping of ``type`` and settings; or an object or class of
                `rllib_multienv.learners.combine`.
            combine_every: A combiner that looks at gradients does so in one of so many steps. Its weights hold until
                the next, in steps with a single backward.
            env_loss_weights: Factor of an environment's loss, by env id; one where not given.
            normalize_obs: Whether observations are normalised: online by running statistics, offline by those of
                their data set.
            precision: ``"bf16"``: learners compute matrix products in bfloat16 (``torch.autocast``), parameters, losses
                and optimiser stay in float32. Faster where the network is large and the processor or GPU has
                bfloat16 arithmetic (docs/performance.md).
        """

    @settings
    def env_runners(
        self,
        *,
        num_env_runners: CountOrZero = 0,
        num_envs_per_env_runner: Count = 8,
        rollout_fragment_length: Count | Literal["auto"] = 128,
        sample_timeout_s: Positive = 300.0,
        explore: bool = True,
        num_cpus_per_env_runner: NonNegative = 1,
        num_gpus_per_env_runner: NonNegative = 0,
        max_requests_in_flight_per_env_runner: Count = 8,
        **rllib: Any,
    ) -> None:
        """Set how to sample.

        Args:
            num_env_runners: Number of remote runners; 0: this process samples.
            num_envs_per_env_runner: Copies of each environment on each runner that owns it.
            rollout_fragment_length: Time steps of a fragment; ``"auto"``: 128.
            sample_timeout_s: Time after which an iteration goes on without a runner's fragments.
            explore: Whether actions are drawn, or the most likely ones.
            max_requests_in_flight_per_env_runner: Messages that a runner may have unanswered. With 1, RLlib loses the
                second of two that are sent one after the other (weights and statistics).
        """

    @settings
    def learners(
        self,
        *,
        num_learners: CountOrZero = 0,
        num_cpus_per_learner: NonNegative | Literal["auto"] = "auto",
        num_gpus_per_learner: NonNegative = 0,
        learner_timeout_s: Positive = 1800.0,
        **rllib: Any,
    ) -> None:
        """Set the learners.

        Args:
            num_learners: Number of remote learners; 0: this process learns.
            learner_timeout_s: Longest time that an update may take, and that a learner waits for the others in it,
                before the run fails with an error that names the learner.
        """

    @settings
    def evaluation(
        self,
        *,
        evaluation_interval: CountOrZero | None = None,
        evaluation_duration: Count | Literal["auto"] = 10,
        evaluation_duration_unit: Literal["episodes", "timesteps"] = "episodes",
        evaluation_num_env_runners: CountOrZero = 0,
        evaluation_parallel_to_training: bool = False,
        evaluation_sample_timeout_s: Positive = 120.0,
        opponents: Annotated[Any, Converted(_opponents), Attribute("opponents_in_evaluation")] = (),
        adaptation: Annotated[Any, Converted(_adaptation)] = None,
        **rllib: Any,
    ) -> None:
        """Set how to evaluate during training.

        Args:
            opponents: Opponents of games, each an evaluation of its own beside that in which the agent plays all
                seats: ``"random"``, or checkpoint folders. The agent plays each seat in turn; a game is won with a
                positive return.
            adaptation: Options of ``algo.adapt``, such as ``{"num_tasks": 20, "episodes": 4}``: each evaluation also
                lets the agent adapt to tasks, and reports the mean return of each episode. None: it does not.
            evaluation_duration: Episodes (or time steps) of each environment.
            evaluation_num_env_runners: Number of remote runners for evaluation; 0: this process evaluates.
        """

    @settings
    def multi_agent(
        self,
        *,
        opponents: Annotated[Any, Converted(_training_opponents), Attribute("training_opponents")] = "self",
        pool_size: Annotated[Count, Attribute("opponent_pool_size")] = 5,
        pool_interval: Annotated[Count, Attribute("opponent_pool_interval")] = 20,
        self_play_share: Fraction = 0.5,
        **rllib: Any,
    ) -> None:
        """Set who plays in multi-agent environments whose agents all have equal spaces.

        Args:
            opponents: ``"self"``: the agent that learns plays all seats. ``"pool"`` or ``"random"``: in each episode it
                learns from one seat, and the others are played by an earlier policy of the run, or by random actions.
                A mapping by env id sets it for some environments.
            pool_size: Number of earlier policies that each runner keeps, the newest ones.
            pool_interval: Iterations from one of them to the next.
            self_play_share: With ``"pool"``, the share of episodes in which the agent still plays all seats.
        """

    @settings
    def resources(self, *, worker_startup_timeout_s: Positive = 120.0, **rllib: Any) -> None:
        """Set resources.

        Args:
            worker_startup_timeout_s: How long a run outside of Tune waits for the cluster to have room for its workers,
                before it fails with an error that says what is missing.
        """

    @settings
    def reporting(
        self,
        *,
        gradient_cosine_interval: Count | None = None,
        metrics_num_episodes_for_smoothing: Count = 100,
        **rllib: Any,
    ) -> None:
        """Set what is reported.

        Args:
            gradient_cosine_interval: Every so many updates, report the cosines between the environments' gradients as
                ``result["learners"][env_a]["gradient_cosine"][env_b]``. They show interference, and cost one more
                backward for each environment in the update's first step. None: never.
            metrics_num_episodes_for_smoothing: Episodes that mean returns are taken over.
        """

    @settings
    def debugging(self, *, seed: CountOrZero | None = None, **rllib: Any) -> None:
        """Set seed and logging."""

    @settings
    def fault_tolerance(
        self,
        *,
        restart_failed_env_runners: bool = True,
        ignore_env_runner_failures: bool = False,
        max_num_env_runner_restarts: CountOrZero = 1000,
        delay_between_env_runner_restarts_s: NonNegative = 60.0,
        restart_failed_sub_environments: bool = False,
        env_runner_health_probe_timeout_s: Positive = 30.0,
        env_runner_restore_timeout_s: Positive = 1800.0,
        **rllib: Any,
    ) -> None:
        """Set what happens when environments or workers fail.

        Args:
            restart_failed_sub_environments: Whether an environment that raised is made anew and its fragment dropped.
        """

    @settings
    def initialize_from(
        self,
        path: Annotated[Any, Converted(_checkpoint), Attribute("initial_checkpoint")] = None,
        freeze: Annotated[Any, Converted(strings), Attribute("frozen_parts")] = (),
        reset: Annotated[Any, Converted(strings), Attribute("reset_parts")] = (),
        shrink: Annotated[PositiveFraction, Attribute("initial_shrink")] = 1.0,
    ) -> None:
        """Start from an agent that was trained on other environments (transfer).

        The network's shared weights are loaded strictly; the optimiser starts fresh. Observation and reward statistics,
        and parameters that belong to one environment (of ``SpecificNetConfig``, and with ``context="embedding"``), are
        kept for environments known by id and are fresh for new ones. The network is the checkpoint's where
        ``rl_module(model_config=...)`` does not set one; that it fits is checked by :meth:`validate`.

        Args:
            path: A checkpoint of an algorithm of this package, or the folder of a run or a trial, which stands for its
                newest one; None: a fresh network.
            freeze: Names of parts of the network that are not trained, such as ``"encoder"`` (all encoders) or
                ``"actor"``. Parameters of new environments cannot be frozen: they have not learned anything.
            reset: Names of parts that are not transferred, such as ``"actor.decoders.log_std"``: an agent with a small
                standard deviation explores little, also where it knows nothing.
            shrink: Share of the trained parameters; the rest is a fresh network's (shrink and perturb, Ash and Adams
                2020, arXiv 1910.08475). Networks that were trained before often learn something new more slowly, and
                less well, than fresh ones; in between they do not. Frozen parts are not shrunk.
        """
        path = self.initial_checkpoint
        self.initial_network = None if path is None else read_checkpoint(path, weights=False).network

    # What RLlib and this package read

    @property
    def is_multi_agent(self) -> bool:
        """Always: batches are keyed by ModuleID."""
        return True

    def learning_rates(self) -> dict[str, Any]:
        """Rate (or schedule over environment steps) of each group of parameters: ``actor`` and ``critic``."""
        return dict.fromkeys(("actor", "critic"), 3e-4 if self.lr is None else self.lr)

    def get_config_for_module(self, module_id: str) -> Self:
        """The configuration with the settings of one environment."""
        overrides = self.algorithm_config_overrides_per_module or {}
        if module_id in overrides and module_id not in self._per_module_overrides:
            # RLlib would change a copy that is as frozen as this is.
            own = self.copy(copy_frozen=False).update_from_dict(overrides[module_id])
            self._per_module_overrides[module_id] = own
        return self._per_module_overrides.get(module_id, self)

    @property
    def env_specs(self) -> tuple[EnvSpec, ...]:
        """The environments of the run.

        Raises:
            ValueError: None was given.
        """
        return resolve_env_specs(self.envs)

    @property
    def network_config(self) -> NetConfig:
        """The network's configuration, with the encoders that the environments need."""
        return network_config(self._model_config or self.initial_network).for_environments(self.space_specs)

    @property
    def adapter(self) -> Mapping[str, Any]:
        """The way in which agents adapt to tasks; see `evaluation.adapters`."""
        return BY_MEMORY

    @property
    def samples_online(self) -> bool:
        """Whether runners sample from environments."""
        return True

    def num_copies(self, spec: EnvSpec) -> int:
        """Copies of an environment on each runner that owns it."""
        return (spec.num_envs or self.num_envs_per_env_runner) * spec.world_copies

    def num_rows(self, spec: EnvSpec) -> int:
        """Rows of an environment on each runner that owns it: its copies, times the agents of a multi-agent one."""
        return self.num_copies(spec) * max(1, len(self.space_specs[spec.id].agents))

    def opponents_of(self, env_id: str) -> str:
        """Who plays the other seats of an environment while training."""
        kinds: Any = self.training_opponents
        return str(kinds.get(env_id, "self") if isinstance(kinds, Mapping) else kinds)

    def get_rollout_fragment_length(self, worker_index: int = 0) -> int:
        """Time steps of one fragment; RLlib's "auto" means 128."""
        length: Any = self.rollout_fragment_length
        return 128 if length == "auto" else int(length)

    def get_default_rl_module_spec(self) -> MultiRLModuleSpec:
        """The module of this package."""
        return self.get_multi_rl_module_spec()

    def get_multi_rl_module_spec(self, *, inference_only: bool = False, **kwargs: Any) -> MultiRLModuleSpec:
        """Specification of the agent; what RLlib passes beside is known already."""
        return multi_env_module_spec(
            self.network_config.to_dict(),
            self.space_specs,
            inference_only=inference_only,
            shared_module_class=self.shared_module_class,
        )

    def build_learner_group(
        self, *, env: Any = None, spaces: Any = None, rl_module_spec: Any = None, placement_group: Any = None
    ) -> MultiEnvLearnerGroup:
        """The learner group of this package."""
        return MultiEnvLearnerGroup(
            config=self.copy(),
            module_spec=rl_module_spec or self.get_multi_rl_module_spec(),
            placement_group=placement_group,
        )

    def get_evaluation_config_object(self) -> Any:
        """RLlib's, but deterministic and raising errors unless the user's ``evaluation_config`` says otherwise."""
        config = super().get_evaluation_config_object()
        overrides = self.evaluation_config or {}
        if config is not None and isinstance(overrides, Mapping):
            if "explore" not in overrides:
                config.explore = False
            # Tolerating failed runners, RLlib repeats an evaluation that raises until it times out, then returns none.
            if "restart_failed_env_runners" not in overrides:
                config.restart_failed_env_runners = False
            # Of evaluation in parallel with training, requests that are left over are those of an old agent.
            if "max_requests_in_flight_per_env_runner" not in overrides:
                config.max_requests_in_flight_per_env_runner = 2
        return config

    def with_environments(self, envs: Sequence[EnvSpec]) -> Self:
        """A frozen copy with other environments; settings of environments that it does not have are left out.

        Raises:
            ValueError: The environments do not fit the network, the settings, or each other.
        """
        config = self.copy(copy_frozen=False)
        ids = {spec.id for spec in envs}
        left = {name: world.without(set(world.env_ids) - ids) for name, world in self.worlds.items()}
        config.worlds = {name: world for name, world in left.items() if world is not None}
        config.environment(envs=list(envs))
        config.rl_module(model_config=self.network_config)  # the network keeps the encoders that it was built with
        ids = {spec.id for spec in config.env_specs}
        overrides = config.algorithm_config_overrides_per_module or {}
        config.algorithm_config_overrides_per_module = {key: value for key, value in overrides.items() if key in ids}
        config.env_loss_weights = {key: weight for key, weight in config.env_loss_weights.items() if key in ids}
        config.validate()
        self.network_config.check_environments(config.space_specs)
        config.freeze()
        return config

    # Checks

    def validate(self) -> None:
        """Check all settings; makes each environment once to learn its spaces.

        Raises:
            ValueError: Names the setting, its value, and what would be right.
        """
        self._per_module_overrides: dict[str, Any] = {}  # RLlib keeps copies of this configuration as it was before
        self.validate_settings()
        if self.evaluation_config:
            self.get_evaluation_config_object().validate_settings()
        specs = self.env_specs
        if self._read_from != self._space_sources():
            self._read_space_specs(specs)
            self._read_from, self._probed = self._space_sources(), self.env_specs
        self.policies = {env_id: PolicySpec() for env_id in self.space_specs}
        super().validate()
        refuse_step_callbacks(self)
        self.validate_overrides(self.space_specs)
        if self.grad_clip is None and self.grad_clip_by != "global_norm":
            raise ValueError(
                f"grad_clip_by={self.grad_clip_by!r}: grad_clip must say how large a gradient may be. Set "
                "training(grad_clip=0.5)."
            )
        self._validate_combiner()
        self.validate_env_ids("env_loss_weights", self.env_loss_weights, self.space_specs)
        if isinstance(self.training_opponents, Mapping):
            self.validate_env_ids("opponents", self.training_opponents, self.space_specs)
        check_env_ids(make_schedule(self.schedule), self.space_specs)
        select(specs, self.include, self.exclude)
        self._validate_worlds()
        self._validate_network()

    def _validate_worlds(self) -> None:
        members: dict[str, list[EnvSpec]] = {}
        for spec in self.env_specs:
            if spec.world:
                members.setdefault(spec.world, []).append(spec)
        if members and not self.trains_worlds:
            self._value_error(f"worlds={list(members)}: {self.algo_class.__name__} trains none; MultiEnvPPO does.")
        for name, specs in members.items():
            if len({spec.num_envs for spec in specs}) > 1:
                numbers = {spec.id: spec.num_envs for spec in specs}
                self._value_error(f"World {name!r}: num_envs={numbers} must be the same for all of its environments.")
            for spec in specs:
                backend = resolve_backend(spec)
                if backend in ("envpool", "atari_vector"):
                    self._value_error(
                        f"World {name!r}: environment {spec.id!r} has the backend {backend!r}, whose episodes end in "
                        "steps without experience. Set EnvSpec(..., backend='sync')."
                    )
                if self.space_specs[spec.id].agents:
                    self._value_error(f"World {name!r}: environment {spec.id!r} has several agents; it must have one.")
        if members and self.network_config.world_attention:
            needs = make_combiner(self.gradient_combiner).needs & {"gram", "gradients"}
            if needs or self.grad_clip_by != "global_norm":
                self._value_error(
                    f"gradient_combiner={self.gradient_combiner!r}, grad_clip_by={self.grad_clip_by!r}: environments "
                    "of a world have no gradients apart from each other. Set 'weighted_sum' and 'global_norm'."
                )

    def _validate_combiner(self) -> None:
        combiner = make_combiner(self.gradient_combiner)
        combiner.check(list(self.space_specs))
        if self.combine_every > 1 and "gradients" in combiner.needs:
            raise ValueError(
                f"combine_every={self.combine_every!r}: must be 1 with {type(combiner).__name__}, which returns "
                "gradients. Only weights can be remembered."
            )

    def _space_sources(self) -> Any:
        """What `space_specs` are read from; they are read again when it changes."""
        return self.env_specs, self.network_config.needs_measurements, self.network_config.inputs

    def _read_space_specs(self, specs: tuple[EnvSpec, ...]) -> None:
        """Fill `space_specs`; environments that were looked at before are not made again."""
        known = {spec: self.space_specs[spec.id] for spec in self._probed}
        found = [pair for spec in specs for pair in ([(spec, known[spec])] if spec in known else probe_roles(spec))]
        self.envs = tuple(spec for spec, _ in found)
        inputs = self.network_config.inputs
        self.space_specs = {
            spec.id: replace(spaces.with_inputs(inputs), world=spec.world, world_copies=spec.world_copies)
            for spec, spaces in found
        }
        if self.network_config.needs_measurements:
            self.space_specs = {spec.id: with_measurements(spec, self.space_specs[spec.id]) for spec, _ in found}

    def _validate_network(self) -> None:
        network = self.network_config
        if network.memory is not None and network.memory not in self.memories:
            known = ", ".join(map(repr, self.memories)) or "no memory; MultiEnvPPO does"
            self._value_error(
                f"memory={network.memory!r} in the network's configuration: {self.algo_class.__name__} trains {known}."
            )
        if network.inputs and not self.samples_online:
            self._value_error(f"inputs={network.inputs!r}: data sets have no previous inputs. Leave them out.")
        for_any = self.network_config.for_any
        if self.in_evaluation or (for_any and not self.frozen_parts and self.initial_checkpoint is None):
            return  # a large network takes seconds to build, and these fit any environments
        check_transfer(
            self.network_config.build(self.space_specs),
            self.network_config,
            self.space_specs,
            path=self.initial_checkpoint,
            freeze=self.frozen_parts,
            reset=self.reset_parts,
        )
