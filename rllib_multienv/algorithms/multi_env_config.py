"""Configuration that all algorithms share: what workers read of it, and checks of its settings together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Self

from ray.rllib.core.rl_module.multi_rl_module import MultiRLModuleSpec
from ray.rllib.policy.policy import PolicySpec

from rllib_multienv.algorithms.common_settings import CommonSettings, network_config
from rllib_multienv.algorithms.connector_pipelines import ConnectorPipelinesMixin
from rllib_multienv.checkpoints import BY_MEMORY
from rllib_multienv.env_runners import MultiEnvRunner
from rllib_multienv.env_runners.episodes import refuse_step_callbacks
from rllib_multienv.envs.make import is_task_family
from rllib_multienv.envs.measure import with_measurements
from rllib_multienv.envs.probe import probe_roles
from rllib_multienv.envs.vector import resolve_backend
from rllib_multienv.evaluation.adapters import chosen_way
from rllib_multienv.experience.registry import select
from rllib_multienv.experience.schedule import check_env_ids, make_schedule
from rllib_multienv.learners import MultiEnvLearnerGroup
from rllib_multienv.learners.combine import make_combiner
from rllib_multienv.modules import SharedModule, multi_env_module_spec
from rllib_multienv.nets import NetConfig
from rllib_multienv.spec import EnvSpec, SpaceSpec, resolve_env_specs
from rllib_multienv.transfer import check_transfer


class MultiEnvConfigMixin(ConnectorPipelinesMixin, CommonSettings):
    """Methods and checks of every algorithm's configuration; it comes before RLlib's class.

    Attributes:
        shared_module_class: The module that owns the parameters.
        space_specs: Spaces of the environments, by env id; :meth:`validate` fills it.
    """

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

        Those with the name of a world (`EnvSpec.world`) are members of it.

        Raises:
            ValueError: The environments do not fit the network, the settings, or each other.
        """
        config = self.copy(copy_frozen=False)
        ids = {spec.id for spec in envs}
        worlds = dict(self.worlds)
        for spec in envs:
            if spec.world in worlds and spec.id not in worlds[spec.world].env_ids:
                worlds[spec.world] = worlds[spec.world].having(spec)
        left = {name: world.without(set(world.env_ids) - ids) for name, world in worlds.items()}
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
        self._validate_adaptation()

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

    def _validate_adaptation(self) -> None:
        if self.adaptation is None or self.in_evaluation:
            return
        steps = self.adaptation.get("inner_loop")
        chosen_way(self.adapter, steps)
        if steps is not None and self.network_config.memory is not None:
            self._value_error("adaptation: a network with memory does not adapt by steps. Leave inner_loop out.")
        known, env = {spec.id: spec for spec in self.env_specs}, self.adaptation.get("env")
        if env is None:
            if not any(map(is_task_family, known.values())):
                self._value_error(f"adaptation={self.adaptation!r}: no environment is a task family. Leave it out.")
            return
        for one in env if isinstance(env, list | tuple) else [env]:
            (spec,) = [known[one]] if isinstance(one, str) and one in known else resolve_env_specs([one])
            if not is_task_family(spec):
                self._value_error(f"adaptation={self.adaptation!r}: environment {spec.id!r} is no task family.")

    def require_trials(self) -> None:
        """Raise a ValueError if no environment has trials: nothing would be known of a task when an episode begins."""
        if not self.in_evaluation and not any(spec.trial_episodes for spec in self.env_specs):
            self._value_error(
                f"No environment has trials, in which {self.algo_class.__name__} adapts to a task. Write "
                "EnvSpec(..., trial_episodes=4)."
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
        given = {spec.id: spec for spec in (resolve_env_specs(self.envs) if specs else ())}  # trials may follow
        self.envs: Any = tuple(given.get(spec.id, spec) for spec, _ in found)
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
        if network.algorithm not in (None, *(base.__name__ for base in self.algo_class.__mro__)):
            self._value_error(
                f"model_config: a network of type {network.type!r} is trained by {network.algorithm}, not by "
                f"{self.algo_class.__name__}."
            )
        if network.inputs and not self.samples_online:
            self._value_error(f"inputs={network.inputs!r}: data sets have no previous inputs. Leave them out.")
        network.check_environments(self.space_specs)
        if self.in_evaluation or (network.for_any and not self.frozen_parts and self.initial_checkpoint is None):
            return  # a large network takes seconds to build, and these fit any environments
        check_transfer(
            network.build(self.space_specs),
            network,
            self.space_specs,
            path=self.initial_checkpoint,
            freeze=self.frozen_parts,
            reset=self.reset_parts,
        )
