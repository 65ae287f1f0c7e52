"""What the configurations of all algorithms share: environments, network, workers, reports."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

from ray.rllib.algorithms.algorithm_config import NotProvided
from ray.rllib.core.rl_module.multi_rl_module import MultiRLModuleSpec
from ray.rllib.policy.policy import PolicySpec
from ray.rllib.utils.from_config import _NotProvided

from rllib_multienv.algorithms.connector_pipelines import ConnectorPipelinesMixin
from rllib_multienv.algorithms.initial_agent import InitialAgentMixin
from rllib_multienv.algorithms.search_space import is_search_space
from rllib_multienv.algorithms.setting_checks import SettingChecksMixin
from rllib_multienv.env_runners import MultiEnvRunner
from rllib_multienv.envs.make import probe_spaces
from rllib_multienv.learners import MultiEnvLearnerGroup
from rllib_multienv.modules import SharedModule, multi_env_module_spec
from rllib_multienv.nets import AgnosticNetConfig, NetConfig, net_config_from_dict
from rllib_multienv.spec import EnvSpec, SpaceSpec, resolve_env_specs


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
        "model_config must be an AgnosticNetConfig, SpecificNetConfig, SingleNetConfig or MLPNetConfig, or a mapping "
        f"of their fields, not {value!r}."
    )


class MultiEnvConfigMixin(ConnectorPipelinesMixin, InitialAgentMixin, SettingChecksMixin):
    """Methods and checks that every multi-environment algorithm's configuration has, before RLlib's own."""

    #: The module that owns the parameters.
    shared_module_class: type[SharedModule] = SharedModule

    def _set_multi_env_defaults(self) -> None:
        """Called by constructors after RLlib's."""
        self._set_initial_agent_defaults()
        self.envs: Any = ()
        self.space_specs: dict[str, SpaceSpec] = {}
        self._read_from: Any = None
        self._probed: tuple[EnvSpec, ...] = ()
        self.on_nonfinite = "raise"
        self.normalize_obs = True
        self.normalize_rewards = True
        self.env_runner_cls = MultiEnvRunner
        self.num_env_runners = 0
        self.learner_timeout_s = 1800.0
        self.worker_startup_timeout_s = 120.0
        self.sample_timeout_s = 300.0
        self.gradient_cosine_interval: int | None = None
        self.precision = "float32"
        self.grad_clip_by = "global_norm"
        self.env_loss_weights: dict[str, float] = {}
        self.num_envs_per_env_runner = 8
        self.rollout_fragment_length = 128
        # RLlib drops weights and statistics on their way to a runner that has so many messages unanswered; with its
        # default of 1, the second of two that are sent one after the other is lost.
        self.max_requests_in_flight_per_env_runner = 8
        self._dont_auto_sync_env_runner_states = True  # see OnlineSampling.share_statistics
        # Ours are appended instead of RLlib's, which expect episodes.
        self.add_default_connectors_to_env_to_module_pipeline = False
        self.add_default_connectors_to_module_to_env_pipeline = False
        self.add_default_connectors_to_learner_pipeline = False

    # Methods that users call

    def environment(
        self,
        envs: Any = NotProvided,
        *,
        on_nonfinite: str | _NotProvided = NotProvided,
        **kwargs: Any,
    ) -> Self:
        """Set the environments.

        Args:
            envs: A list of Gymnasium ids, :class:`~rllib_multienv.spec.EnvSpec` objects, or mappings of their fields.
            on_nonfinite: What to do with a NaN or infinite observation or reward: ``"raise"``, or ``"drop"`` the
                environment's fragment of that iteration, count it, and make the environment anew.
            kwargs: See ``AlgorithmConfig.environment``.

        Raises:
            ValueError: An id is unknown (the nearest are named), two are the same, or there is none.
        """
        if "env" in kwargs:
            raise ValueError(
                f"environment(env={kwargs['env']!r}): this algorithm trains on a list of environments; write "
                f"environment(envs=[{kwargs['env']!r}])."
            )
        super().environment(**kwargs)
        if envs is not NotProvided:
            self.envs = envs if is_search_space(envs) else resolve_env_specs(envs)
        if on_nonfinite is not NotProvided:
            self.on_nonfinite = on_nonfinite
        return self

    def rl_module(self, *, model_config: Any = NotProvided, **kwargs: Any) -> Self:
        """Set the network.

        Args:
            model_config: An :class:`~rllib_multienv.nets.AgnosticNetConfig`, for several environments also a
                :class:`~rllib_multienv.nets.SpecificNetConfig`, for one a
                :class:`~rllib_multienv.nets.SingleNetConfig` or :class:`~rllib_multienv.nets.MLPNetConfig`; or a
                mapping of their fields with ``type`` ``"agnostic"`` (the default), ``"specific"``, ``"single"`` or
                ``"mlp"``.
            kwargs: See ``AlgorithmConfig.rl_module``.
        """
        if "rl_module_spec" in kwargs:
            raise ValueError(
                "rl_module(rl_module_spec=...): the module is always MultiEnvModule, which holds one network for all "
                "environments; choose that with rl_module(model_config=...)."
            )
        super().rl_module(**kwargs)
        if model_config is not NotProvided:
            if not is_search_space(model_config):
                network_config(model_config)
            self._model_config = model_config
        return self

    def learners(self, *, learner_timeout_s: float | _NotProvided = NotProvided, **kwargs: Any) -> Self:
        """Set the learners.

        Args:
            learner_timeout_s: Longest time that an update may take, and that a learner waits for the others in it,
                before the run fails with an error that names the learner.
            kwargs: See ``AlgorithmConfig.learners``.
        """
        super().learners(**kwargs)
        if learner_timeout_s is not NotProvided:
            self.learner_timeout_s = learner_timeout_s
        return self

    def training(
        self,
        *,
        adam_epsilon: Any = NotProvided,
        env_loss_weights: Any = NotProvided,
        normalize_obs: Any = NotProvided,
        precision: Any = NotProvided,
        **kwargs: Any,
    ) -> Self:
        """Set how to train.

        Args:
            adam_epsilon: Adam's epsilon.
            env_loss_weights: Factor of an environment's loss in the sum, by env id; one where not given.
            normalize_obs: Whether observations are normalised: online by running statistics, offline by those of
                their data set.
            precision: ``"float32"``, or ``"bf16"``: learners compute matrix products in bfloat16 (``torch.autocast``),
                parameters, losses and optimiser stay in float32. Faster where the network is large and the processor
                or GPU has bfloat16 arithmetic (docs/performance.md).
            kwargs: See ``AlgorithmConfig.training``.
        """
        super().training(**kwargs)
        self._set_given(
            adam_epsilon=adam_epsilon,
            env_loss_weights=env_loss_weights,
            normalize_obs=normalize_obs,
            precision=precision,
        )
        return self

    def resources(self, *, worker_startup_timeout_s: float | _NotProvided = NotProvided, **kwargs: Any) -> Self:
        """Set resources.

        Args:
            worker_startup_timeout_s: How long a run outside of Tune waits for the cluster to have room for its workers,
                before it fails with an error that says what is missing.
            kwargs: See ``AlgorithmConfig.resources``.
        """
        super().resources(**kwargs)
        if worker_startup_timeout_s is not NotProvided:
            self.worker_startup_timeout_s = worker_startup_timeout_s
        return self

    def reporting(self, *, gradient_cosine_interval: int | _NotProvided | None = NotProvided, **kwargs: Any) -> Self:
        """Set what is reported.

        Args:
            gradient_cosine_interval: Every so many updates, report the cosines between the environments' gradients as
                ``result["learners"][env_a]["gradient_cosine"][env_b]``. They show interference, and cost one more
                backward for each environment in the update's first step. None: never.
            kwargs: See ``AlgorithmConfig.reporting``.
        """
        super().reporting(**kwargs)
        self._set_given(gradient_cosine_interval=gradient_cosine_interval)
        return self

    # What RLlib and this package read

    @property
    def is_multi_agent(self) -> bool:
        """Always: batches are keyed by ModuleID."""
        return True

    @property
    def env_specs(self) -> tuple[EnvSpec, ...]:
        """The environments of the run.

        Raises:
            ValueError: None was given.
        """
        return resolve_env_specs(self.envs)

    @property
    def network_config(self) -> NetConfig:
        """The network's configuration."""
        return network_config(self._model_config)

    @property
    def samples_online(self) -> bool:
        """Whether runners sample from environments."""
        return True

    def num_copies(self, spec: EnvSpec) -> int:
        """Copies of an environment on each runner that owns it."""
        return spec.num_envs or self.num_envs_per_env_runner

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
        return config

    def with_environments(self, envs: Sequence[EnvSpec]) -> Self:
        """A frozen copy with other environments; settings of environments that it does not have are left out.

        Raises:
            ValueError: The environments do not fit the network, the settings, or each other.
        """
        config = self.copy(copy_frozen=False)
        config.environment(envs=list(envs))
        ids = {spec.id for spec in config.env_specs}
        overrides = config.algorithm_config_overrides_per_module or {}
        config.algorithm_config_overrides_per_module = {key: value for key, value in overrides.items() if key in ids}
        config.env_loss_weights = {key: weight for key, weight in config.env_loss_weights.items() if key in ids}
        config.validate()
        config.freeze()
        return config

    # Checks

    def validate(self) -> None:
        """Check all settings; makes each environment once to learn its spaces."""
        specs = self.env_specs
        if self._read_from != self._space_sources():
            self._read_space_specs(specs)
            self._read_from, self._probed = self._space_sources(), specs
        self.envs = specs
        self.policies = {env_id: PolicySpec() for env_id in self.space_specs}
        super().validate()
        self._validate_network()
        if not self.create_local_env_runner:
            self._value_error("create_local_env_runner=False: the local runner keeps the merged statistics.")
        self._validate_choice("on_nonfinite", ("raise", "drop"))
        self._validate_choice("precision", ("float32", "bf16"))
        self._validate_env_keys("env_loss_weights", self.env_loss_weights)
        if self.grad_clip_by != "global_norm":
            self._value_error(f"grad_clip_by={self.grad_clip_by!r}: only 'global_norm' is supported.")
        for name in ("learner_timeout_s", "worker_startup_timeout_s", "sample_timeout_s"):
            self._validate_seconds(name)
        self._validate_count("gradient_cosine_interval", optional=True)
        for name in ("env_to_module", "module_to_env", "learner"):
            if getattr(self, f"add_default_connectors_to_{name}_pipeline"):
                self._value_error(
                    f"add_default_connectors_to_{name}_pipeline=True: RLlib's default connectors expect episodes of "
                    "one environment; this package's own are always added."
                )
        self._validate_overrides()

    def _space_sources(self) -> Any:
        """What `space_specs` are read from; they are read again when it changes."""
        return self.env_specs

    def _read_space_specs(self, specs: tuple[EnvSpec, ...]) -> None:
        """Fill `space_specs`; environments that were looked at before are not made again."""
        known = {spec: self.space_specs[spec.id] for spec in self._probed}
        self.space_specs = {spec.id: known[spec] if spec in known else probe_spaces(spec) for spec in specs}

    def _validate_network(self) -> None:
        for_any = self.network_config.for_any
        if self.in_evaluation or (for_any and not self.frozen_parts and self.initial_checkpoint is None):
            return  # a large network takes seconds to build, and these fit any environments
        self._validate_initial_agent(self.network_config.build(self.space_specs), self.network_config)
