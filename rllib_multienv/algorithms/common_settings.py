"""Settings that all algorithms share: environments, network, training, workers, evaluation, reports, transfer."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from rllib_multienv.agent import MultiEnvAgent
from rllib_multienv.algorithms.no_effect import NO_EFFECT
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
    strings,
)
from rllib_multienv.checkpoints import find_checkpoint, read_checkpoint
from rllib_multienv.evaluation.adaptation import check_adaptation
from rllib_multienv.experience.registry import registered_envs
from rllib_multienv.experience.schedule import make_schedule
from rllib_multienv.gym_ids import did_you_mean
from rllib_multienv.learners.combine import make_combiner
from rllib_multienv.nets import AgnosticNetConfig, NetConfig, net_config_from_dict
from rllib_multienv.opponents import RANDOM
from rllib_multienv.spec import EnvSpec, resolve_env_specs
from rllib_multienv.worlds import join_worlds, resolve_worlds

#: Who may play the other seats of games while training.
OPPONENT_KINDS = ("self", "pool", "random")


def _taken_by(function: Callable[[Any], Any]) -> Converted:
    """A setting that is kept as it is given; ``function``, which takes it later, raises where it is wrong."""

    def checked(value: Any) -> Any:
        function(value)
        return value

    return Converted(checked)


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


def _checkpoint_path(path: Any) -> str:
    return str(find_checkpoint(path).absolute())


def _checkpoint(value: Any) -> str | None:
    if value is None:
        return None
    path = _checkpoint_path(value)
    read_checkpoint(path, weights=False)
    return path


def _opponents(value: Any) -> tuple[str, ...]:
    names = (value,) if isinstance(value, str | Path) else tuple(value)
    return tuple(name if name == RANDOM else _checkpoint_path(name) for name in names)


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


class CommonSettings(SettingsMixin):
    """The settings of every algorithm's configuration."""

    NO_EFFECT: ClassVar[Mapping[str, Mapping[str, str]]] = NO_EFFECT
    WIDER: ClassVar[frozenset[str]] = frozenset({"grad_clip_by"})

    @settings
    def environment(
        self,
        envs: Annotated[Any, Converted(_environments)] = (),
        *,
        worlds: Annotated[Any, Converted(resolve_worlds)] = {},  # noqa: B006 (copied for each configuration)
        on_nonfinite: Literal["raise", "drop"] = "raise",
        include: Annotated[Any, Converted(strings)] = (),
        exclude: Annotated[Any, Converted(strings)] = (),
        schedule: Annotated[Any, _taken_by(make_schedule)] = None,
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
        model_config: Annotated[Any, _taken_by(network_config), Attribute("_model_config")] = None,
        **rllib: Any,
    ) -> None:
        """Set the network.

        Args:
            model_config: An :class:`~rllib_multienv.nets.AgnosticNetConfig` or
                :class:`~rllib_multienv.nets.GeneratedNetConfig`; for several environments also a
                :class:`~rllib_multienv.nets.SpecificNetConfig`, for one a :class:`~rllib_multienv.nets.SingleNetConfig`
                or :class:`~rllib_multienv.nets.MLPNetConfig`; or a mapping of their fields with ``type`` ``"agnostic"``
                (where not given), ``"generated"``, ``"specific"``, ``"single"``, ``"mlp"`` or another
                (docs/networks.md). None: the network of the agent that :meth:`initialize_from` names, or
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
        gradient_combiner: Annotated[Any, _taken_by(make_combiner)] = "weighted_sum",
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
